"""Retaining: a month that is over is archived, read back and verified; only then may it leave the database.

Without a wish of the operator nothing ever leaves. What leaves is a whole month: single entries cannot be taken out.
The tiles stay for good, so proofs made before and after hold, and an archived entry still can be proven. The one way
out is a function of the database that looks for itself whether the month is archived, verified and not held.
"""

import gzip
import hashlib
import os
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import structlog

from registry.actors import SYSTEM, Origin
from registry.audit import exporting
from registry.audit.exporting import NEWEST, NotSigned, Wish
from registry.audit.months import FILLED, MONTHS, Month, MonthNotOver
from registry.audit.publishing import RECORD
from registry.audit.sequencing import Sequencer, acting
from registry.audit.taking import lines_of
from registry.audit.verdicts import SOUND
from registry.audit.verifying import verify
from registry.audit.writing import Scribe
from registry.errors import Conflict
from registry.events import Event, Outcome
from registry.storage.database import Connection
from registry.transparency.notes import VerifierKey
from registry.work import Foundation

BOUNDS = "SELECT min(seq) AS first, max(seq) AS last FROM audit_log WHERE logged_at >= $1 AND logged_at < $2"
KEEP = """
    INSERT INTO audit_segment (month, first_seq, last_seq, archive, digest, verified_at, legal_hold)
    VALUES ($1, $2, $3, $4, $5, $6, false)
    ON CONFLICT (month) DO UPDATE SET first_seq = $2, last_seq = $3, archive = $4, digest = $5, verified_at = $6
    WHERE audit_segment.dropped_at IS NULL
"""
HOLD = """
    INSERT INTO audit_segment (month, legal_hold) VALUES ($1, $2)
    ON CONFLICT (month) DO UPDATE SET legal_hold = $2
"""
THERE = "SELECT min(logged_at) AT TIME ZONE 'UTC' AS first, max(logged_at) AT TIME ZONE 'UTC' AS last FROM audit_log"
SEGMENT = "SELECT * FROM audit_segment WHERE month = $1"

log = structlog.get_logger("audit")


class MonthEmpty(Conflict):
    code = "MONTH_EMPTY"


class ArchiveUnsound(Conflict):
    code = "ARCHIVE_UNSOUND"


class MonthKept(Conflict):
    """It stays in the database; its text says why."""

    code = "MONTH_KEPT"


class MonthGrown(MonthKept):
    """There are entries that its archive has not."""


async def archive(foundation: Foundation, sequencer: Sequencer, month: Month, folder: Path) -> Path:
    """Writes the month to a file of the folder, reads it back and verifies it. Doing it again makes it again.

    Raises `MonthNotOver`, `MonthEmpty`, `ArchiveUnsound`, `NotSigned`.
    """
    if foundation.clock.now() < month.end:
        raise MonthNotOver(f"{month.text} is not over yet.", path=["month"])
    path = folder / f"audit-{month.text}.jsonl.gz"
    first, last = await _write(foundation, sequencer, month, path)
    digest = await anyio.to_thread.run_sync(_checked, path, sequencer.publisher.known)
    async with acting(sequencer.dsn) as connection:
        await connection.execute(KEEP, month.first, first, last, str(path), digest, foundation.clock.now())
        told = {"entries": [None, [first, last]], "archive": [None, str(path)], "digest": [None, digest]}
        await connection.execute(RECORD, await _body(foundation, "audit.archive", month, told))
    return path


async def drop(foundation: Foundation, sequencer: Sequencer, month: Month, reason: str | None = None) -> None:
    """Takes the month out of the database, after its archive was looked at once more. Raises `MonthKept`,
    `ArchiveUnsound`."""
    await sequencer.publish_now()
    _check_standing(sequencer)
    async with acting(sequencer.dsn) as connection:
        row = _droppable(month, await connection.fetchrow(SEGMENT, month.first))
        await _check_whole(connection, month, row)
        digest = await anyio.to_thread.run_sync(_checked, Path(row["archive"]), sequencer.publisher.known)
        if digest != row["digest"]:
            raise ArchiveUnsound(f"{row['archive']} is not the file that was verified; archive the month again.")
        await connection.execute("SELECT audit_drop($1)", month.first)
        entries = [row["first_seq"], row["last_seq"]]
        told = {"entries": [entries, None], "archive": [None, row["archive"]], "digest": [None, digest]}
        await connection.execute(RECORD, await _body(foundation, "audit.drop", month, told, reason))


async def hold(foundation: Foundation, sequencer: Sequencer, month: Month, *, on: bool, reason: str | None) -> None:
    """A month under a legal hold does not leave the database, whatever else is wished. What is held can be let go of,
    whichever month it is. Raises `MonthKept`, `MonthEmpty`."""
    async with acting(sequencer.dsn) as connection:
        row = await connection.fetchrow(SEGMENT, month.first)
        if row is not None and row["dropped_at"] is not None:
            raise _dropped(month, row)
        before = bool(row and row["legal_hold"])
        if not before:
            await _check_holdable(connection, month, foundation.clock.now())
        await connection.execute(HOLD, month.first, on)
        body = await _body(foundation, "audit.hold", month, {"legalHold": [before, on]}, reason)
        await connection.execute(RECORD, body)


async def retain(foundation: Foundation, sequencer: Sequencer, folder: Path, months: int | None) -> list[str]:
    """Archives every month that is over, and drops those that are older than so many months and not held; without a
    number, none. The months that were dropped."""
    this = Month(foundation.clock.now().date().replace(day=1))
    dropped = []
    for row in await foundation.pool.fetch(MONTHS):
        month = Month(row["month"])
        segment = await foundation.pool.fetchrow(SEGMENT, month.first)
        try:
            if month.first < this.first and (segment is None or segment["verified_at"] is None):
                await archive(foundation, sequencer, month, folder)
            if months is not None and month.first < this.plus(-months):
                await _leave(foundation, sequencer, month, folder)
                dropped.append(month.text)
        except (MonthEmpty, MonthKept):
            continue
        except (ArchiveUnsound, OSError) as error:
            log.error("a month of the audit log cannot be archived", month=month.text, reason=str(error))
    return dropped


async def _check_holdable(connection: Connection, month: Month, now: datetime) -> None:
    """That there are entries to hold, or will be soon. Raises `MonthEmpty`."""
    this = Month(now.date().replace(day=1))
    if month.first > this.plus(1):
        why = f"{month.text} is more than a month ahead."
    elif month.first < this.first and not await connection.fetch(FILLED, [month.first]):
        why = f"{month.text} is over, and has no entries."
    else:
        return
    there = await connection.fetchrow(THERE)
    months = dict.fromkeys(f"{at:%Y-%m}" for at in there or () if at)
    raise MonthEmpty(f"{why} There are entries of {' to '.join(months) or 'no month'} in the database.")


async def _body(
    foundation: Foundation, action: str, month: Month, changes: dict[str, Any], reason: str | None = None
) -> bytes:
    """Of the entry that tells of it, written by the sequencer's role together with what it tells of. Who did it is
    sealed by the server's, since the other can make no keys."""
    now = foundation.clock.now()
    event = Event(now, action, Outcome.ALLOWED, SYSTEM, foundation.here, month.text, stated=reason, changes=changes)
    async with foundation.pool.acquire() as connection:
        (body,) = await Scribe(foundation.sealing).bodies(connection, [event], committed=True)  # type: ignore[arg-type]
    return body


async def _leave(foundation: Foundation, sequencer: Sequencer, month: Month, folder: Path) -> None:
    """While the entries are here, a lost or damaged archive is made again."""
    why = "the retention that is set"
    try:
        await drop(foundation, sequencer, month, why)
    except (ArchiveUnsound, MonthGrown):
        await archive(foundation, sequencer, month, folder)
        await drop(foundation, sequencer, month, why)


async def _write(foundation: Foundation, sequencer: Sequencer, month: Month, path: Path) -> tuple[int, int]:
    """The numbers of the first and last entry. The file is there once it is whole."""
    await sequencer.publish_now()
    _check_standing(sequencer)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    async with foundation.view(SYSTEM, Origin()) as work:
        checkpoint = await work.fetchrow(NEWEST, sequencer.publisher.origin)
        if checkpoint is None:
            raise NotSigned("There is no checkpoint yet that an archive could be made under; try again.")
        bounds = await work.fetchrow(BOUNDS, month.begin, month.end)
        if bounds is None or bounds["first"] is None:
            raise MonthEmpty(f"There are no entries of {month.text} in the database.")
        if bounds["last"] >= checkpoint["size"]:
            raise NotSigned(f"The last entries of {month.text} are not signed yet; try again in a moment.")
        with gzip.GzipFile(fresh, "wb", mtime=0) as file:
            async for line in exporting.lines(work, checkpoint, Wish(since=month.begin, until=month.end)):
                file.write(line)
    _settle(fresh, path)
    return bounds["first"], bounds["last"]


def _settle(fresh: Path, path: Path) -> None:
    descriptor = os.open(fresh, os.O_RDWR)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(path: Path, keys: list[VerifierKey]) -> str:
    """The digest of a file that is whole and sound. Raises `ArchiveUnsound`."""
    try:
        with gzip.open(path) as file:
            verdict = verify(lines_of(file.read), keys)
        if verdict.status != SOUND:
            raise ArchiveUnsound(f"{path} is not sound: {verdict.sentence}")
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveUnsound(f"{path} cannot be read back: {error}") from error


def _droppable(month: Month, row: Any) -> Any:
    """The row of what may leave. Raises `MonthKept`."""
    if row is None or row["verified_at"] is None:
        raise MonthKept(f"{month.text} is not archived: run 'tidewaiter audit archive' first.")
    if row["dropped_at"] is not None:
        raise _dropped(month, row)
    if row["legal_hold"]:
        raise MonthKept(f"{month.text} is under a legal hold.")
    return row


def _dropped(month: Month, row: Any) -> MonthKept:
    return MonthKept(f"{month.text} was dropped on {row['dropped_at']:%Y-%m-%d}; it is in {row['archive']}.")


def _check_standing(sequencer: Sequencer) -> None:
    """What was tampered with is evidence, and stays as it is. Raises `MonthKept`."""
    standing = sequencer.publisher.standing
    if finding := standing.fork or standing.tampered:
        raise MonthKept(f"Nothing is archived or dropped while the log is in doubt: {finding}")


async def _check_whole(connection: Connection, month: Month, row: Any) -> None:
    """That the archive has all entries of the month, and the month a partition. Raises `MonthKept`."""
    bounds = await connection.fetchrow(BOUNDS, month.begin, month.end)
    if bounds is not None and (bounds["first"], bounds["last"]) != (row["first_seq"], row["last_seq"]):
        raise MonthGrown(f"{month.text} was added to after it was archived: archive it again.")
    if await connection.fetchval("SELECT to_regclass($1)", f"audit_log_{month.first:%Y_%m}") is None:
        raise MonthKept(
            f"{month.text} has no partition of its own, since no server ran when it began: it can be archived, and "
            "stays in the database."
        )
