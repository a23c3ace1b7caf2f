"""Months that are over: archived, read back, verified, and only then taken out; proofs hold on."""

from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from registry.actors import SYSTEM, Origin
from registry.audit import exporting, proving, reading, rekeying, retaining, verifying
from registry.audit.exporting import NotSigned, PartlyArchived, Wish
from registry.audit.months import Month, MonthNotOver, segments
from registry.audit.retaining import ArchiveUnsound, MonthEmpty, MonthGrown, MonthKept
from registry.audit.scrubbing import scrub_database
from registry.audit.verdicts import SOUND
from registry.events import Event, Outcome
from registry.system import System
from registry.tending import tidy
from registry.transparency.merkle import leaf_hash, verify_inclusion
from tests.support.books import in_process, opened

DAY = 86_400
SHIPS = UUID(int=7)


async def write(system: System, count: int) -> None:
    for number in range(count):
        at = system.foundation.clock.now()
        event = Event(at, "test.happen", Outcome.ALLOWED, SYSTEM, Origin(), str(number), organization_id=SHIPS)
        await system.foundation.ledger.append(event)
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


async def test_what_is_recorded_of_an_archive_says_what_was_before_and_after(
    system: System, dsn: str, tmp_path: Path
) -> None:
    this, _ = await two_months(system, tmp_path)
    path = await retaining.archive(system.foundation, system.sequencer, this, tmp_path / "archive")
    async with opened(dsn) as owner:
        kept = await owner.fetchrow("SELECT first_seq, last_seq, digest FROM audit_segment")
    await retaining.drop(system.foundation, system.sequencer, this)
    await system.sequencer.catch_up()
    async with opened(dsn) as owner:
        rows = await owner.fetch("SELECT action, entry FROM audit_log WHERE target = $1 ORDER BY seq", this.text)
    told = {row["action"]: orjson.loads(row["entry"])["event"]["change"] for row in rows}
    numbers, archive = [kept["first_seq"], kept["last_seq"]], {"archive": [None, str(path)]}
    digest = {"digest": [None, kept["digest"]]}
    assert told["audit.archive"] == {"entries": [None, numbers]} | archive | digest
    assert told["audit.drop"] == {"entries": [numbers, None]} | archive | digest


async def test_only_months_that_have_begun_are_listed(system: System) -> None:
    """A partition is made ahead of its month. What an operator said of one is shown whenever it is."""
    foundation = system.foundation
    this = Month(foundation.clock.now().date().replace(day=1))
    later = Month(this.plus(1))
    assert [row["month"] for row in await segments(foundation)] == [this.first]
    await retaining.hold(foundation, system.sequencer, later, on=True, reason=None)
    assert [row["month"] for row in await segments(foundation)] == [this.first, later.first]


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
    for damaged in (whole[:-20], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
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


async def test_a_month_in_the_middle_may_leave_while_an_older_one_is_held(
    system: System, dsn: str, tmp_path: Path
) -> None:
    """The log stays sound, and no export pretends that what left was never there."""
    this, following = await two_months(system, tmp_path)
    foundation, sequencer, folder = system.foundation, system.sequencer, tmp_path / "archive"
    await retaining.hold(foundation, sequencer, this, on=True, reason="a lawsuit")
    await write(system, 5)
    assert await retaining.retain(foundation, sequencer, folder, 1) == []
    await retaining.drop(foundation, sequencer, following)
    await write(system, 5)
    await sequencer.publish_now()
    verdict = await scrub_database(foundation, sequencer.publisher)
    assert (verdict.status, verdict.sentence) == (SOUND, "Sound.")
    with pytest.raises(PartlyArchived, match=following.text):
        async for _ in exporting.export(foundation, sequencer, Wish()):
            pass
    since = Month(following.plus(1)).begin
    lines = [line async for line in exporting.export(foundation, sequencer, Wish(since=since))]
    keys = [signer.verifier for signer in sequencer.publisher.signers]
    assert verifying.verify(lines, keys).status == SOUND
    async with opened(dsn) as owner:
        gone = await owner.fetchval("SELECT first_seq FROM audit_segment WHERE dropped_at IS NOT NULL")
    async with foundation.view(SYSTEM, Origin()) as work:
        assert await reading.row_of(work, gone) is None
        assert await reading.row_of(work, gone - 1) is not None
    states = {row["month"]: row["dropped_at"] is not None for row in await segments(foundation)}
    assert (states[this.first], states[following.first]) == (False, True)
    with pytest.raises(MonthKept, match="was dropped"):
        await retaining.hold(foundation, sequencer, following, on=True, reason=None)


async def test_what_came_after_the_archive_does_not_leave_with_it(system: System, dsn: str, tmp_path: Path) -> None:
    """As from a server whose clock is behind. Neither the command nor the database lets it go; archiving again does."""
    this, _ = await two_months(system, tmp_path)
    foundation, sequencer, folder = system.foundation, system.sequencer, tmp_path / "archive"
    await retaining.archive(foundation, sequencer, this, folder)
    async with opened(dsn) as owner:
        await owner.execute("UPDATE audit_segment SET last_seq = last_seq - 1")
        for role in ({}, {"as_sequencer": True}):
            async with opened(dsn, **role) as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="its archive"):
                    await connection.execute("SELECT audit_drop($1)", this.first)
        with pytest.raises(MonthGrown):
            await retaining.drop(foundation, sequencer, this)
        assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'test.happen'") == 320
    assert await retaining.retain(foundation, sequencer, folder, 1) == [this.text]


async def test_an_archive_that_was_lost_is_made_again(system: System, tmp_path: Path) -> None:
    this, _ = await two_months(system, tmp_path)
    foundation, sequencer, folder = system.foundation, system.sequencer, tmp_path / "archive"
    path = await retaining.archive(foundation, sequencer, this, folder)
    first = path.read_bytes()
    path.unlink()
    with pytest.raises(ArchiveUnsound, match="cannot be read back"):
        await retaining.drop(foundation, sequencer, this)
    assert await retaining.retain(foundation, sequencer, folder, 1) == [this.text]
    assert len(path.read_bytes()) >= len(first) // 2


async def test_a_crash_between_archive_and_drop_only_means_to_do_it_again(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process(dsn, tmp_path) as system:
        this, following = await two_months(system, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(retaining, "drop", crash)
            with pytest.raises(RuntimeError):
                await retaining.retain(system.foundation, system.sequencer, tmp_path / "archive", 1)
    async with in_process(dsn, tmp_path) as system:
        assert await retaining.retain(system.foundation, system.sequencer, tmp_path / "archive", 1) == [this.text]
        verdict = await scrub_database(system.foundation, system.sequencer.publisher)
        assert verdict.status == SOUND
        files = {path.name for path in (tmp_path / "archive").iterdir()}
        assert files == {f"audit-{month.text}.jsonl.gz" for month in (this, following)}


async def crash(*_: object) -> None:
    raise RuntimeError("the server was killed")


async def test_only_what_is_signed_is_archived(system: System, tmp_path: Path) -> None:
    """An archive under a checkpoint that does not reach the end of the month would not hold it all."""
    foundation, sequencer = system.foundation, system.sequencer
    await sequencer.publish_now()
    anchor = tmp_path / "audit" / "checkpoints.jsonl"
    anchor.unlink()
    anchor.mkdir()  # so that it takes no more
    this, _ = await two_months(system, tmp_path)
    with pytest.raises(NotSigned, match="not signed yet"):
        await retaining.archive(foundation, sequencer, this, tmp_path / "archive")
    assert list((tmp_path / "archive").iterdir()) == []


async def test_a_month_archived_under_a_key_that_retired_since_may_leave(system: System, tmp_path: Path) -> None:
    this, _ = await two_months(system, tmp_path)
    foundation, sequencer, folder = system.foundation, system.sequencer, tmp_path / "keys"
    await retaining.archive(foundation, sequencer, this, tmp_path / "archive")
    async with rekeying.alone(folder):
        await rekeying.rotate(foundation, sequencer, folder, None)
        await rekeying.retire(foundation, sequencer, folder, None)
    await retaining.drop(foundation, sequencer, this)
    verdict = await scrub_database(foundation, sequencer.publisher)
    assert (verdict.status, verdict.sentence) == (SOUND, "Sound.")


async def test_the_only_key_does_not_retire(system: System, dsn: str, tmp_path: Path) -> None:
    """An entry would tell of a change that is none."""
    folder = tmp_path / "keys"
    with pytest.raises(rekeying.OnlyKey, match="--rotate"):
        await rekeying.retire(system.foundation, system.sequencer, folder, None)
    await system.sequencer.catch_up()
    async with opened(dsn) as owner:
        assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'audit.key_retire'") == 0


async def test_nothing_leaves_a_log_that_is_in_doubt(system: System, dsn: str, tmp_path: Path) -> None:
    this, _ = await two_months(system, tmp_path)
    foundation, sequencer = system.foundation, system.sequencer
    await retaining.archive(foundation, sequencer, this, tmp_path / "archive")
    sequencer.publisher.standing.tampered = "Entry 3 is missing."
    for act in (
        retaining.drop(foundation, sequencer, this),
        retaining.archive(foundation, sequencer, this, tmp_path / "archive"),
    ):
        with pytest.raises(MonthKept, match="Entry 3 is missing"):
            await act


async def test_a_month_without_a_partition_is_archived_and_stays(system: System, dsn: str, tmp_path: Path) -> None:
    """No server prepared it: its entries lie in the rest, out of which nothing can be dropped."""
    foundation, sequencer = system.foundation, system.sequencer
    (tmp_path / "clock").write_text("0")
    away = Month(Month(foundation.clock.now().date().replace(day=1)).plus(5))
    move_into(system, tmp_path, away)
    await write(system, 3)
    move_into(system, tmp_path, Month(away.plus(1)))
    await write(system, 1)
    path = await retaining.archive(foundation, sequencer, away, tmp_path / "archive")
    assert path.exists()
    with pytest.raises(MonthKept, match="no partition of its own"):
        await retaining.drop(foundation, sequencer, away)
    async with opened(dsn) as owner:
        with pytest.raises(asyncpg.UndefinedTableError, match="no partition of its own"):
            await owner.execute("SELECT audit_drop($1)", away.first)


async def test_the_owner_can_take_out_no_rows_of_an_archived_month(system: System, dsn: str, tmp_path: Path) -> None:
    this, _ = await two_months(system, tmp_path)
    await retaining.archive(system.foundation, system.sequencer, this, tmp_path / "archive")
    async with opened(dsn) as owner:
        for statement in ("DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET seq = seq"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
                await owner.execute(statement.format(f"audit_log_{this.first:%Y_%m}"))
    async with opened(dsn, as_sequencer=True) as sequencer:
        for statement in ("DROP TABLE {}", "ALTER TABLE audit_log DETACH PARTITION {}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await sequencer.execute(statement.format(f"audit_log_{this.first:%Y_%m}"))
