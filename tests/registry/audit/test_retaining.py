"""Months that are over: archived, read back, verified, and only then taken out; proofs hold on."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from registry.actors import SYSTEM, Origin
from registry.audit import proving, retaining
from registry.audit.retaining import ArchiveUnsound, Month, MonthEmpty, MonthKept, MonthNotOver
from registry.audit.scrubbing import scrub_database
from registry.audit.verifying import SOUND
from registry.events import Event, Outcome
from registry.system import System, tidy
from registry.transparency.merkle import leaf_hash, verify_inclusion
from tests.support.books import in_process, new_database, opened
from tests.support.server import Server

DAY = 86_400


@pytest.fixture
async def dsn(tidewaiter: Server) -> AsyncIterator[str]:
    async with new_database(tidewaiter) as dsn:
        yield dsn


@pytest.fixture
async def system(dsn: str, tmp_path: Path) -> AsyncIterator[System]:
    async with in_process(dsn, tmp_path) as system:
        yield system


async def write(system: System, count: int) -> None:
    for number in range(count):
        at = system.foundation.clock.now()
        await system.foundation.ledger.append(Event(at, "test.happen", Outcome.ALLOWED, SYSTEM, Origin(), str(number)))
    await system.foundation.ledger.catch_up()


async def two_months(system: System, folder: Path) -> tuple[Month, Month]:
    """Entries in this month and the next; the clock stands in the one after."""
    this = Month(system.foundation.clock.now().date().replace(day=1))
    await write(system, 300)
    (folder / "clock").write_text(str(31 * DAY))
    await tidy(system.foundation)
    following = Month(this.plus(1))
    move_into(system, folder, following)
    await tidy(system.foundation)
    await write(system, 20)
    move_into(system, folder, Month(this.plus(2)))
    await tidy(system.foundation)
    return this, following


def move_into(system: System, folder: Path, month: Month) -> None:
    path = folder / "clock"
    ahead = float(path.read_text())
    path.write_text(str(ahead + (month.begin - system.foundation.clock.now()).total_seconds() + DAY))


async def test_a_month_is_archived_dropped_and_still_proven(system: System, dsn: str, tmp_path: Path) -> None:
    this, following = await two_months(system, tmp_path)
    foundation, sequencer = system.foundation, system.sequencer
    path = await retaining.archive(foundation, sequencer, this, tmp_path / "archive")
    assert path.stat().st_mode & 0o777 == 0o600
    async with opened(dsn) as owner:
        entry = await owner.fetchval("SELECT entry FROM audit_log WHERE seq = 5")
        size = await owner.fetchval("SELECT size FROM audit_tree")
    await retaining.drop(foundation, sequencer, this, "it is old")
    async with opened(dsn) as owner:
        assert await owner.fetchval("SELECT min(seq) FROM audit_log") >= 300
        proof = await proving.inclusion(owner.fetch, 5, size)
    verify_inclusion(5, size, leaf_hash(entry), proof.hashes, proof.root)
    await sequencer.publish_now()
    verdict = await scrub_database(foundation, sequencer.publisher)
    assert (verdict.status, verdict.sentence) == (SOUND, "Sound.")
    with pytest.raises(MonthKept, match="was dropped"):
        await retaining.drop(foundation, sequencer, this)
    assert (await retaining.archive(foundation, sequencer, following, tmp_path / "archive")).exists()
    async with opened(dsn) as owner:
        done = await owner.fetch("SELECT action, stated FROM audit_log WHERE action LIKE 'audit.%' ORDER BY seq")
    told = [(row["action"], row["stated"]) for row in done if row["action"] in ("audit.archive", "audit.drop")]
    assert told[:2] == [("audit.archive", None), ("audit.drop", "it is old")]


async def test_what_is_not_over_empty_or_no_month_is_not_archived(system: System, tmp_path: Path) -> None:
    foundation, sequencer = system.foundation, system.sequencer
    now = foundation.clock.now()
    with pytest.raises(MonthNotOver):
        await retaining.archive(foundation, sequencer, Month(now.date().replace(day=1)), tmp_path)
    with pytest.raises(MonthEmpty):
        await retaining.archive(foundation, sequencer, Month.parse("2020-01"), tmp_path)
    for text in ("2020", "2020-13", "x", "2020-01-01"):
        with pytest.raises(MonthNotOver):
            Month.parse(text)


async def test_no_month_leaves_that_is_held_unarchived_or_whose_archive_is_damaged(
    system: System, dsn: str, tmp_path: Path
) -> None:
    this, _ = await two_months(system, tmp_path)
    foundation, sequencer = system.foundation, system.sequencer
    with pytest.raises(MonthKept, match="not archived"):
        await retaining.drop(foundation, sequencer, this)
    path = await retaining.archive(foundation, sequencer, this, tmp_path / "archive")
    await retaining.hold(foundation, sequencer, this, on=True, reason="a lawsuit")
    with pytest.raises(MonthKept, match="legal hold"):
        await retaining.drop(foundation, sequencer, this)
    for role in ({}, {"as_sequencer": True}):
        async with opened(dsn, **role) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="legal hold"):
                await connection.execute("SELECT audit_drop($1)", this.first)
    await retaining.hold(foundation, sequencer, this, on=False, reason=None)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:100] + b"x" + whole[101:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ArchiveUnsound):
            await retaining.drop(foundation, sequencer, this)
    path.write_bytes(whole)
    await retaining.drop(foundation, sequencer, this)


async def test_the_server_itself_may_only_read(dsn: str, system: System) -> None:
    async with opened(dsn, as_app=True) as app:
        for statement in ("SELECT audit_drop('2020-01-01')", "UPDATE audit_segment SET legal_hold = false"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await app.execute(statement)


async def test_what_the_settings_wish_is_done_by_itself(system: System, dsn: str, tmp_path: Path) -> None:
    this, following = await two_months(system, tmp_path)
    folder = tmp_path / "archive"
    assert await retaining.retain(system.foundation, system.sequencer, folder, 1) == [this.text]
    assert {path.name for path in folder.iterdir()} == {f"audit-{month.text}.jsonl.gz" for month in (this, following)}
    assert await retaining.retain(system.foundation, system.sequencer, folder, 1) == []
    assert await retaining.retain(system.foundation, system.sequencer, folder, None) == []
    async with opened(dsn) as owner:
        assert await owner.fetchval("SELECT count(*) FROM audit_segment WHERE dropped_at IS NULL") == 1
