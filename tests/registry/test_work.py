"""A Work whose database goes: whoever asked hears that it does not answer, at whatever point it went."""

import asyncpg
import pytest

from registry.actors import SYSTEM, Origin
from registry.identifiers import new_id
from registry.storage.database import DatabaseUnavailable
from registry.system import System
from registry.work import Work
from tests.support.books import opened

ADD = "INSERT INTO account (id, name, created_at) VALUES ($1, 'new', now())"


async def cut(work: Work, dsn: str) -> None:
    """As when the database is stopped under the work."""
    pid = await work.fetchval("SELECT pg_backend_pid()")
    async with opened(dsn) as owner:
        assert await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)


async def added(dsn: str) -> bool:
    async with opened(dsn) as owner:
        return bool(await owner.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = 'new')"))


async def test_a_change_whose_database_goes_is_refused_and_not_made(system: System, dsn: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            await work.execute(ADD, new_id())
            await cut(work, dsn)
            await work.fetchval("SELECT 1")
    assert not await added(dsn)


async def test_a_change_whose_database_goes_before_the_commit_is_refused_and_not_made(system: System, dsn: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            await work.execute(ADD, new_id())
            await cut(work, dsn)
    assert not await added(dsn)


async def test_what_failed_in_between_is_told_as_it_was_though_the_database_went_too(system: System, dsn: str) -> None:
    with pytest.raises(LookupError):
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            await cut(work, dsn)
            raise LookupError


async def test_a_glance_at_a_database_that_goes_is_refused_and_the_next_one_works(system: System, dsn: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with system.foundation.glance(SYSTEM, Origin()) as work:
            await cut(work, dsn)
            await work.fetchval("SELECT 1")
    async with system.foundation.glance(SYSTEM, Origin()) as work:
        assert await work.fetchval("SELECT 1") == 1


async def test_a_statement_that_is_wrong_is_no_trouble_of_the_database(system: System) -> None:
    with pytest.raises(Exception, match="does not exist"):
        async with system.foundation.glance(SYSTEM, Origin()) as work:
            await work.fetchval("SELECT nothing")


async def test_a_statement_takes_no_longer_than_its_work_is_patient(system: System) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with system.foundation.view(SYSTEM, Origin()) as work:
            work.patience = 0.01
            await work.fetchval("SELECT pg_sleep(60)")


UNSAID = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'TW001'; END $$"


async def test_a_promise_that_ends_at_once_is_kept_before_it_is_left(system: System, dsn: str) -> None:
    async with system.foundation.promise(SYSTEM, Origin()) as work:
        await work.execute(ADD, new_id())
        assert await work.commit_with("SELECT 1")
        assert await added(dsn)


async def test_a_last_statement_that_fails_undoes_itself_alone(system: System, dsn: str) -> None:
    async with system.foundation.promise(SYSTEM, Origin()) as work:
        assert not await work.commit_with(f"{ADD.replace('$1', 'gen_random_uuid()')}; {UNSAID}")
        assert not await added(dsn)
        await work.execute(ADD, new_id())
        assert not await work.commit_with(UNSAID)
    assert await added(dsn)


async def test_a_last_statement_that_is_wrong_undoes_all(system: System, dsn: str) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with system.foundation.promise(SYSTEM, Origin()) as work:
            await work.execute(ADD, new_id())
            await work.commit_with("SELECT 1 FROM nowhere")
    assert not await added(dsn)


async def test_a_change_does_not_end_at_once(system: System, dsn: str) -> None:
    """Its entries come last, and its commit waits for the disk."""
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        await work.execute(ADD, new_id())
        assert not await work.commit_with("SELECT 1")
        assert not await added(dsn)
    assert await added(dsn)


async def test_a_promise_whose_database_goes_as_it_ends_is_refused(system: System, dsn: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with system.foundation.promise(SYSTEM, Origin()) as work:
            await work.execute(ADD, new_id())
            await cut(work, dsn)
            await work.commit_with("SELECT 1")
    assert not await added(dsn)
