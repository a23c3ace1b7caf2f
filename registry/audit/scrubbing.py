"""Scrubbing: the whole log in the database, checked as an export is, and what only the database has besides.

Every entry against its leaf and its columns, numbers and times, every tile made again and compared, the tree, every
checkpoint ever published, here and at the anchors. Months that were archived and dropped are taken from their tiles.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from registry.actors import SYSTEM, Origin
from registry.audit import tiling
from registry.audit.entries import COLUMNS, EntryInvalid, Wrapped, columns_in, columns_of, unwrap
from registry.audit.kept import NONE, Known, known_elsewhere, origin_of, together
from registry.audit.publishing import Publisher
from registry.audit.sequencing import FINDING, Sequencer, acting
from registry.audit.taking import Run
from registry.audit.tiling import Tree
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED, Incomplete, Tampered, Verdict
from registry.audit.verifying import compare
from registry.events import Outcome
from registry.storage.database import Fetch
from registry.transparency import tiles
from registry.transparency.merkle import HASH_BYTES, leaf_hash
from registry.transparency.notes import VerifierKey
from registry.work import Foundation

BATCH = 1000
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
ROWS = f"""
    SELECT logged_at, seq, entry, leaf, {", ".join(COLUMNS)} FROM audit_log
    WHERE (logged_at, seq) > ($1, $2) AND logged_at >= $1 ORDER BY logged_at, seq LIMIT $3
"""
LEAVES = "SELECT data FROM audit_tile WHERE level = 0 AND idx = $1"
DROPPED = "SELECT first_seq, last_seq FROM audit_segment WHERE dropped_at IS NOT NULL AND first_seq IS NOT NULL"
NOTES = "SELECT note FROM audit_checkpoint WHERE origin = ANY($1::text[])"
HEADS = "SELECT organization_id, org_seq FROM audit_org_head"
TILE = "SELECT data FROM audit_tile WHERE level = $1 AND idx = $2"
EVERY = timedelta(days=1)
REST_SECONDS = 0.05
CLAIM = "UPDATE audit_scrub SET begun_at = $1 WHERE begun_at < $2 RETURNING begun_at"
END = "UPDATE audit_scrub SET ended_at = $1, finding = $2"
TILES = "SELECT count(*) AS count FROM audit_tile"


async def scrub(
    fetch: Fetch,
    keys: Sequence[VerifierKey],
    anchored: Iterable[str] = (),
    known: Known = NONE,
    *,
    rest_seconds: float = 0.0,
) -> Verdict:
    """`anchored` are notes that the log itself keeps at its anchors, `known` the checkpoints that others kept. `fetch`
    should look at one snapshot. After each batch it rests, so that others come to their turn."""
    scrubber = Scrubber(fetch, rest_seconds)
    try:
        return await scrubber.whole(keys, anchored, known)
    except Tampered as found:
        return Verdict(TAMPERED, str(found), found.index, entries=scrubber.run.next)
    except Incomplete as found:
        return Verdict(INCOMPLETE, str(found), entries=scrubber.run.next)


class Scrubber:
    def __init__(self, fetch: Fetch, rest_seconds: float) -> None:
        self.run = Run()
        self._fetch = fetch
        self._rest = rest_seconds
        self._growth = tiles.Growth(0, [], [])
        self._tiles = 0
        self._spans: list[tuple[int, int]] = []

    async def whole(self, keys: Sequence[VerifierKey], anchored: Iterable[str], known: Known) -> Verdict:
        tree = await tiling.tree_of(self._fetch)
        names = sorted({key.name for key in keys})
        notes = [row["note"] for row in await self._fetch(NOTES, names)]
        ours = [note for note in anchored if origin_of(note) in names]
        wanted = together(known_elsewhere(dict.fromkeys([*notes, *ours]), keys), known)
        if beyond := [size for size in wanted if size > tree.size]:
            raise Tampered(f"A checkpoint covers {max(beyond)} entries, the log has {tree.size}.", tree.size)
        await self._entries_and_tiles(tree, wanted)
        await self._end(tree)
        return self._verdict(tree, keys, wanted)

    async def _entries_and_tiles(self, tree: Tree, wanted: Known) -> None:
        async for rows in self._batches():
            for row in rows:
                if row["seq"] > self.run.next:
                    await self._dropped(row["seq"], tree, wanted)
                self._take(row)
            await self._grow(tree, wanted)
            await asyncio.sleep(self._rest)
        if self.run.next < tree.size:
            await self._dropped(tree.size, tree, wanted)

    async def _batches(self) -> AsyncIterator[Sequence[Any]]:
        at, last = BEGINNING, -1
        while rows := await self._fetch(ROWS, at, last, BATCH):
            yield rows
            at, last = rows[-1]["logged_at"], rows[-1]["seq"]

    def _take(self, row: Any) -> None:
        index, entry = row["seq"], row["entry"]
        try:
            wrapped = unwrap(entry)
        except EntryInvalid as error:
            raise Tampered(f"Entry {index} cannot be read: {error}", index) from error
        if leaf_hash(entry) != row["leaf"]:
            raise Tampered(f"Entry {index} is not the one whose hash stands beside it.", index)
        if wrapped.logged_at != row["logged_at"].isoformat(timespec="microseconds").replace("+00:00", "Z"):
            raise Tampered(f"Entry {index} stands at another time than its bytes say.", index)
        _check_columns(wrapped, row, index)
        organization = row["organization_id"].hex.encode() if row["organization_id"] else b""
        within = b"" if wrapped.number is None else b',"org_seq":%d' % wrapped.number
        self.run.take(index, row["leaf"], wrapped.logged_at.encode(), within, organization)
        self._count(index)

    def _count(self, index: int) -> None:
        """Which entries are in the database: those before and after a month that was dropped."""
        if self._spans and self._spans[-1][1] == index - 1:
            self._spans[-1] = self._spans[-1][0], index
        else:
            self._spans.append((index, index))

    async def _dropped(self, end: int, tree: Tree, wanted: Known) -> None:
        """Takes the leaves up to `end` from their tiles, if a dropped month explains why the entries are not here."""
        spans = [(row["first_seq"], row["last_seq"]) for row in await self._fetch(DROPPED)]
        while self.run.next < end:
            index = self.run.next
            if not any(first <= index <= last for first, last in spans):
                raise Tampered(f"Entry {index} is missing.", index)
            found = await self._fetch(LEAVES, index // 256)
            data = found[0]["data"] if found else tree.edge[0]
            leaves = [data[place : place + HASH_BYTES] for place in range(0, len(data), HASH_BYTES)]
            taken = leaves[index % 256 : min(256, end - index + index % 256)]
            if not taken:
                raise Tampered(f"The leaf of the dropped entry {index} is missing.", index)
            self.run.leaves += taken
            self.run.next += len(taken)
            self.run.since = self.run.next  # how far an organization had counted is not known from here on
            self.run.heads.clear()
            await self._grow(tree, wanted)

    async def _grow(self, tree: Tree, wanted: Known) -> None:
        """Into the tree, and every tile that becomes full is held against the one in the database."""
        growth = tiles.grow(self._growth.size, self._growth.edge, self.run.leaves)
        for level, index, data in growth.full:
            found = await self._fetch(TILE, level, index)
            if not found or found[0]["data"] != data:
                raise _unlike(level, index, data, found[0]["data"] if found else b"")
            self._tiles += 1
        self._growth = growth
        if growth.size == tree.size:
            self._check_edge(tree)
        compare(self.run, wanted)

    def _check_edge(self, tree: Tree) -> None:
        for level, data in enumerate(tree.edge):
            ours = self._growth.edge[level] if level < len(self._growth.edge) else b""
            if data != ours:
                raise _unlike(level, tree.size >> 8 * (level + 1), ours, data)

    async def _end(self, tree: Tree) -> None:
        if self.run.next > tree.size:
            raise Tampered(f"Entry {tree.size} is not in the tree.", tree.size)
        if (await self._fetch(TILES))[0]["count"] != self._tiles:
            raise Tampered("There are tiles of entries that do not exist.", tree.size)
        for row in await self._fetch(HEADS):
            _check_head(row["organization_id"], row["org_seq"], self.run)

    def _verdict(self, tree: Tree, keys: Sequence[VerifierKey], wanted: Known) -> Verdict:
        compared = sum(len(each) for each in wanted.values())
        entries = sum(last - first + 1 for first, last in self._spans)
        verdict = Verdict(SOUND, "Sound.", size=tree.size, entries=entries, root=tree.root, compared=compared)
        verdict.spans = tuple(self._spans)
        verdict.since = self._spans[0][0] if self._spans else tree.size
        verdict.keys, verdict.origin = tuple(map(str, keys)), keys[0].name
        verdict.last_at = self.run.last_at.decode() or None
        return verdict


def _unlike(level: int, index: int, made: bytes, found: bytes) -> Tampered:
    """A tile that is not what the entries make it. The first hash that differs tells where to look."""
    places = range(0, max(len(made), len(found)), HASH_BYTES)
    place = next(at for at in places if made[at : at + HASH_BYTES] != found[at : at + HASH_BYTES]) // HASH_BYTES
    first = (index * 256 + place) << 8 * level
    return Tampered(f"Tile {index} of level {level} is not made of the entries from {first} on.", first)


def _check_head(organization: UUID, number: int, run: Run) -> None:
    following = run.heads.get(organization.hex.encode())
    if following is None and run.since:
        return
    counted = (following or 1) - 1
    if counted != number:
        raise Tampered(f"Organization {organization} counts {number} entries, and has {counted}.")


def _check_columns(wrapped: Wrapped, row: Any, index: int) -> None:
    """That what a row of the table says of an entry follows from its bytes. Raises `Tampered`."""
    try:
        if columns_in(row) == columns_of(wrapped):
            return
    except EntryInvalid as error:
        raise Tampered(f"Entry {index} cannot be read: {error}", index) from error
    raise Tampered(f"Entry {index}: a column of the table is not what the entry's bytes say.", index)


async def scrub_database(
    foundation: Foundation, publisher: Publisher, known: Known = NONE, *, rest_seconds: float = 0.0
) -> Verdict:
    """One snapshot of the whole log, against all checkpoints here, at the anchors, and those given. It is recorded."""
    anchored = [note for anchor in publisher.anchors async for note in anchor.all()]
    keys = publisher.verifiers
    async with foundation.view(SYSTEM, Origin()) as work:
        verdict = await scrub(work.fetch, keys, anchored, known, rest_seconds=rest_seconds)
    async with foundation.begin(SYSTEM, foundation.here) as work:
        work.attempt("audit.verify", "audit log")
        found = {"sound": verdict.status == SOUND, "entries": verdict.entries, "index": verdict.index}
        changes = {name: [None, value] for name, value in found.items() if value is not None}
        outcome = Outcome.ALLOWED if verdict.status == SOUND else Outcome.FAILED
        work.record(changes=changes, reason=verdict.sentence, outcome=outcome)
    return verdict


async def verify_database(
    foundation: Foundation, sequencer: Sequencer, known: Known = NONE, *, rest_seconds: float = 0.0
) -> Verdict:
    """As `scrub_database`; what is found is what every server warns of until the log is verified again."""
    verdict = await scrub_database(foundation, sequencer.publisher, known, rest_seconds=rest_seconds)
    wrong = None if verdict.status == SOUND else verdict.sentence
    async with acting(sequencer.dsn) as connection:
        await connection.execute(END, foundation.clock.now(), wrong)
    return verdict


async def finding(foundation: Foundation) -> str | None:
    """What every server warns of, since the log was last verified."""
    async with foundation.glance(SYSTEM, Origin()) as work:
        found: str | None = await work.fetchval(FINDING)
    return found


async def nightly(foundation: Foundation, sequencer: Sequencer) -> Verdict | None:
    """Once a day one of the servers verifies the whole log, without haste. None when it is not yet time."""
    now = foundation.clock.now()
    async with acting(sequencer.dsn) as connection:
        if await connection.fetchval(CLAIM, now, now - EVERY) is None:
            return None
    return await verify_database(foundation, sequencer, rest_seconds=REST_SECONDS)
