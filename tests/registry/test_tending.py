"""What a server does by itself: nothing that fails, and no counter that is wrong, keeps it from the rest."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from registry.actors import SYSTEM, Origin
from registry.quotas import recounting
from registry.system import System
from registry.tending import tidy
from tests.support.books import in_process, opened
from tests.support.inside import settle
from tests.support.recount import differences


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn) as connection:
        yield connection


def later(system: System, hours: int) -> None:
    clock = system.foundation.settings.clock_file
    assert clock is not None
    clock.write_text(str(timedelta(hours=hours).total_seconds()))


async def test_what_is_given_back_where_the_counter_says_too_little_stops_nothing(
    dsn: str, data: Path, owner: asyncpg.Connection
) -> None:
    """The sweep gives back more than is charged; the server starts, and the recount repairs."""
    async with in_process(dsn, data) as system:
        ours = await settle(system, "poor")
        await ours.store("web", b"z" * 60)
        await owner.execute("UPDATE quota_counter SET charged = 10 WHERE key = 'STORAGE_BYTES'")
        later(system, hours=25)
        await tidy(system.foundation)
    async with in_process(dsn, data) as system, system.foundation.begin(SYSTEM, Origin()) as work:
        await recounting.repair(work)
    assert await differences(owner) == []


async def test_one_duty_that_fails_keeps_no_other_from_being_done(
    dsn: str, data: Path, owner: asyncpg.Connection
) -> None:
    async with in_process(dsn, data) as system:
        ours = await settle(system, "failing")
        claim = await ours.hold("web", 100)
        await owner.execute("ALTER TABLE blob_sweep RENAME TO blob_swept")
        later(system, hours=1)
        with pytest.raises(ExceptionGroup) as failed:
            await tidy(system.foundation)
        assert [type(error) for error in failed.value.exceptions] == [asyncpg.UndefinedTableError]
        assert await owner.fetchval("SELECT held FROM upload WHERE id = $1", claim.upload) == 0
        assert await owner.fetchval("SELECT count(*) FROM quota_refund") == 0
    async with in_process(dsn, data):
        pass


async def test_more_uploads_than_are_ended_at_once_end(dsn: str, data: Path, owner: asyncpg.Connection) -> None:
    async with in_process(dsn, data) as system:
        ours = await settle(system, "many")
        claim = await ours.hold("web", 1)
        columns = "repository_id, user_id, received, algorithm, held, started_at, expires_at, held_until"
        await owner.execute(
            f"INSERT INTO upload (id, {columns}) SELECT gen_random_uuid(), {columns.replace('held,', '0,')}"
            " FROM upload, generate_series(1, 250) WHERE id = $1",
            claim.upload,
        )
        later(system, hours=24 * 30)
        await tidy(system.foundation)
        assert await owner.fetchval("SELECT count(*) FROM upload") == 0
    assert await differences(owner) == []
