"""The first start makes the administrator, once."""

import asyncio
from pathlib import Path

from registry.accounts.first_start import first_start
from registry.accounts.signing_in import sign_in
from registry.actors import ANONYMOUS, Origin
from registry.errors import SignInFailed
from registry.system import System
from tests.support.books import in_process, opened
from tests.support.server import PASSWORD


async def signs_in(system: System, password: str) -> bool:
    work = system.foundation.glance(ANONYMOUS, Origin())
    try:
        async with work:
            await sign_in(work, system.gate, "admin", password)
    except SignInFailed:
        return False
    return True


async def test_the_password_that_was_set_is_the_one(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system:
        assert system.generated_password is None
        assert await signs_in(system, PASSWORD)


async def test_one_is_made_up_where_none_was_set_and_is_told_once(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path, admin_password=None) as system:
        made = system.generated_password
        assert made is not None
        assert len(made) >= 20
        assert await signs_in(system, made)
    async with in_process(dsn, tmp_path, admin_password=None) as system:
        assert system.generated_password is None
        assert await signs_in(system, made)


async def test_a_setting_changes_nothing_later(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path):
        pass
    async with in_process(dsn, tmp_path, admin_password="another password") as system:
        assert await signs_in(system, PASSWORD)
        assert not await signs_in(system, "another password")


async def test_two_that_start_at_once_make_one(dsn: str, tmp_path: Path) -> None:
    async with in_process(dsn, tmp_path) as system, opened(dsn) as books:
        await books.execute("DELETE FROM users; DELETE FROM account")
        starts = (first_start(system.foundation, system.gate.passwords) for _ in range(4))
        assert await asyncio.gather(*starts) == [None] * 4
        assert await books.fetchval("SELECT count(*) FROM users WHERE platform_admin") == 1
        assert await books.fetchval("SELECT count(*) FROM account") == 1
