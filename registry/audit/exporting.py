"""Exporting: the log as a file, in the order of its numbers, under the checkpoint that is its last line.

What is exported is what was signed: everything is numbered and signed first, and the export stops where the newest
checkpoint does. It reads one snapshot in batches, so it needs little memory however long the log is.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from registry.actors import SYSTEM, Origin
from registry.audit import formats, reading, sealing, tiling
from registry.audit.lines import Span, checkpoint_line, json_line, personal_line
from registry.audit.sequencing import Sequencer
from registry.audit.showing import Shown, numbered, show
from registry.audit.subjects import Keys, readable_keys_of, subject_in
from registry.errors import Conflict, Unavailable
from registry.transparency import tiles
from registry.wording import counted
from registry.work import Foundation, Work

BATCH = 2000
NEWEST = "SELECT size, note, at, origin FROM audit_checkpoint WHERE origin = $1 ORDER BY size DESC, at DESC LIMIT 1"
FIRST = "SELECT seq FROM audit_log WHERE logged_at >= $1 ORDER BY logged_at, seq LIMIT 1"
ROWS = """
    SELECT seq, logged_at, entry, leaf, account_id FROM audit_log
    WHERE (logged_at, seq) > ($1, $2) AND logged_at >= $1 AND seq < $3 ORDER BY logged_at, seq LIMIT $4
"""
GAP = """
    SELECT month, archive FROM audit_segment WHERE dropped_at IS NOT NULL AND last_seq >= $1 AND first_seq < $2
    ORDER BY month DESC LIMIT 1
"""
DROPPED = """
    SELECT month, archive FROM audit_segment WHERE dropped_at IS NOT NULL AND last_seq < $1
        AND ($2::timestamptz IS NULL OR month + interval '1 month' > $2 AT TIME ZONE 'UTC')
    ORDER BY month
"""
ACKNOWLEDGED = "SELECT size + (SELECT count(*) FROM audit_inbox) FROM audit_tree"
BEGINNING = "SELECT logged_at FROM audit_log ORDER BY logged_at, seq LIMIT 1"


class Format(StrEnum):
    JSONL = "jsonl"
    OCSF = "ocsf"
    CLOUDEVENTS = "cloudevents"


class NotSigned(Unavailable):
    """There is no checkpoint that an export could be made under."""

    code = "AUDIT_NOT_SIGNED"


class PartlyArchived(Conflict):
    """Entries in the midst of those that are wished for are not in the database any more."""

    code = "AUDIT_PARTLY_ARCHIVED"


@dataclass(frozen=True, slots=True)
class Wish:
    """`since` and `until` bound the entries by the log's time, `until` exclusively; `personal` opens what is sealed."""

    format: Format = Format.JSONL
    since: datetime | None = None
    until: datetime | None = None
    personal: bool = False

    @property
    def opens_persons(self) -> bool:
        """The forms for other systems hold names, addresses and clients whether that was said or not."""
        return self.personal or self.format is not Format.JSONL


@dataclass(slots=True)
class Shortfall:
    """What an export does not hold although it was wished for, as sentences: `unsigned` because of a failure, and
    `archived` because it left the database."""

    unsigned: str | None = None
    archived: str | None = None


async def export(
    foundation: Foundation, sequencer: Sequencer, wish: Wish, short: Shortfall | None = None
) -> AsyncGenerator[bytes, None]:
    """The lines; `short` is filled in before the first. The export itself is the last thing that is recorded before
    them. Raises `NotSigned`."""
    await _record(foundation, wish)
    acknowledged = await publish(foundation, sequencer)
    if sequencer.publisher.standing.fork:
        raise NotSigned(
            f"The log is not signed any more, so it cannot be exported. {sequencer.publisher.standing.fork}"
        )
    async with foundation.view(SYSTEM, Origin()) as work:
        checkpoint = await work.fetchrow(NEWEST, sequencer.publisher.origin)
        if checkpoint is None:
            reason = sequencer.publisher.standing.failure or "Another server is at it; try again."
            raise NotSigned(f"No checkpoint has been published yet. {reason}")
        if short is not None:
            short.unsigned = await left_out(work, sequencer, checkpoint["size"], acknowledged)
            short.archived = await _left_before(work, wish.since, checkpoint["size"])
        async for line in lines(work, checkpoint, wish):
            yield line


async def _record(foundation: Foundation, wish: Wish) -> None:
    asked = {"format": wish.format.value, "since": wish.since, "personal": wish.opens_persons}
    async with foundation.begin(SYSTEM, foundation.here) as work:
        work.attempt("audit.export", "audit log")
        work.record(changes={name: [None, value] for name, value in asked.items() if value is not None})


async def publish(foundation: Foundation, sequencer: Sequencer) -> int:
    """Has signed what can be, and returns how many entries had been acknowledged before."""
    async with foundation.glance(SYSTEM, Origin()) as work:
        acknowledged: int = await work.fetchval(ACKNOWLEDGED)
    await sequencer.publish_now()
    return acknowledged


async def left_out(work: Work, sequencer: Sequencer, size: int, acknowledged: int) -> str | None:
    """A sentence if a checkpoint of that size does not cover all that had been acknowledged. What was written since
    then is no failure, so it makes none, but is counted with the rest."""
    if size >= acknowledged:
        return None
    standing = sequencer.publisher.standing
    why = standing.fork or standing.failure or "Why is not known here: look at the server's log, or try again."
    count = await work.fetchval(ACKNOWLEDGED) - size
    return f"{counted(count, 'entry is', 'entries are')} not signed yet, and left out: {why}"


async def _left_before(work: Work, since: datetime | None, size: int) -> str | None:
    """A sentence if months that were wished for are not in the database any more."""
    first = await _first_from(work, since or await work.fetchval(BEGINNING), size)
    months = [f"{row['month']:%Y-%m} ({row['archive']})" for row in await work.fetch(DROPPED, first, since)]
    if not months:
        return None
    return f"Entries of dropped months are left out; they are in their archives: {', '.join(months)}."


async def lines(work: Work, checkpoint: Any, wish: Wish) -> AsyncIterator[bytes]:
    """Of the snapshot that the work looks at. Raises `PartlyArchived`."""
    size, origin = checkpoint["size"], checkpoint["origin"]
    began = wish.since or await work.fetchval(BEGINNING)
    first = await _first_from(work, began, size)
    end = size if wish.until is None else await _first_from(work, wish.until, size)
    if gap := await work.fetchrow(GAP, first, end):
        raise PartlyArchived(
            f"{gap['month']:%Y-%m} was archived to {gap['archive']} and dropped: export what came after it (--since)."
        )
    form = _form(wish, origin)
    last_at, last = began, first - 1
    while last + 1 < end and last_at is not None:
        rows = await work.fetch(ROWS, last_at, last, end, BATCH)
        if not rows:
            break
        for line in await form(work, rows):
            yield line
        last_at, last = rows[-1]["logged_at"], rows[-1]["seq"]
    yield await _last_line(work, checkpoint, wish.format, first, end)


async def _first_from(work: Work, moment: datetime | None, size: int) -> int:
    """The number of the first entry from that time on; the size of the log under the checkpoint if there is none."""
    found: int | None = None if moment is None else await work.fetchval(FIRST, moment)
    return size if found is None else min(found, size)


Form = Callable[[Work, Any], Any]


def _form(wish: Wish, origin: str) -> Form:
    async def plain(_: Work, rows: Any) -> list[bytes]:
        return [json_line(row["seq"], row["entry"], row["leaf"]) for row in rows]

    async def personal(work: Work, rows: Any) -> list[bytes]:
        return [_personal(shown, key) for shown, key in await _opened(work, rows)]

    async def ocsf(work: Work, rows: Any) -> list[bytes]:
        return [formats.ocsf(shown, origin) for shown, _ in await _opened(work, rows)]

    async def cloud_events(work: Work, rows: Any) -> list[bytes]:
        return [formats.cloud_event(shown, origin) for shown, _ in await _opened(work, rows)]

    if wish.format is Format.OCSF:
        return ocsf
    if wish.format is Format.CLOUDEVENTS:
        return cloud_events
    return personal if wish.personal else plain


async def _opened(work: Work, rows: Any) -> list[tuple[Shown, bytes | None]]:
    """Each entry, and the key of what was sealed in it, if it still can be opened."""
    found = await show(work, [numbered(row) for row in rows])
    subjects = {subject_in(one.event) for one in found if one.private}
    keys = await readable_keys_of(work.fetch, work.foundation.sealing, subjects)
    return [(one, _key(one, keys)) for one in found]


def _key(shown: Shown, keys: Keys) -> bytes | None:
    key = keys.get(subject_in(shown.event)) if shown.private else None
    return key and sealing.event_key(key, bytes.fromhex(shown.event["salt"]))


def _personal(shown: Shown, key: bytes | None) -> bytes:
    line = shown.line
    assert line.entry is not None and line.index is not None and line.leaf is not None  # noqa: S101
    text = json_line(line.index, line.entry, line.leaf)
    return text if key is None else personal_line(text, dict(shown.private), key)


async def _last_line(work: Work, checkpoint: Any, format: Format, first: int, end: int) -> bytes:
    note, size, origin = checkpoint["note"], checkpoint["size"], checkpoint["origin"]
    if format is Format.OCSF:
        return formats.ocsf_checkpoint(note, origin, size, int(checkpoint["at"].timestamp() * 1000))
    if format is Format.CLOUDEVENTS:
        return formats.cloud_checkpoint(note, origin, size)
    return checkpoint_line(note, await _span(work, first, end, size))


async def _span(work: Work, first: int, end: int, size: int) -> Span:
    tree = await reading.tree(work)
    before = tiles.compact_range(first, await tiling.read_tiles(work.fetch, tree, tiles.tiles_for_range(first)))
    if end == size:
        return Span(first, before)
    spots = tiles.tiles_for_consistency(end, size)
    proof = tiles.consistency_proof(end, size, await tiling.read_tiles(work.fetch, tree, spots))
    return Span(first, before, end, proof)
