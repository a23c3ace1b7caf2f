"""Sequencing: what waits in the inbox gets its number and becomes a leaf of the tree.

Every server tries; a lock that lives as long as one transaction lets one of them do it, so the next takes over where
another was killed. An event leaves the inbox only by being numbered, in the same transaction, so none is lost or
numbered twice. Whatever was acknowledged before another was begun has the smaller id in the inbox and is visible
whenever the other is: numbers follow that order.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import structlog

from registry.audit import entries, tiling
from registry.audit.admitting import Admitted, admit
from registry.audit.entries import Wrapped, read_time, wrap, written_time
from registry.audit.publishing import Publisher, system_body
from registry.audit.tiling import Tree
from registry.audit.turns import Turns
from registry.clock import Clock
from registry.storage.database import SEQUENCER_ROLE, Connection, OwnConnection, prepare
from registry.telemetry import Telemetry
from registry.transparency import tiles
from registry.transparency.merkle import leaf_hash

BATCH = 2048
PAUSE = 0.2
READERS_PATIENCE = 1.0
LOOK_EVERY = 5.0
STEP_SECONDS = 60
OVERRUN = 5_000_000
CLOCK_SLACK = timedelta(seconds=1)
LOCK = 0x71DE_1069
TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
# The smallest id is read from the index; looking for any row would go through all that were taken out before.
OLDEST = "SELECT min(id) FROM audit_inbox"
TAKE = """
    DELETE FROM audit_inbox WHERE id = ANY(ARRAY(SELECT id FROM audit_inbox ORDER BY id LIMIT $1))
    RETURNING id, body
"""
HEADS = "SELECT organization_id, org_seq FROM audit_org_head WHERE organization_id = ANY($1::uuid[])"
SET_HEADS = """
    INSERT INTO audit_org_head AS head (organization_id, org_seq) SELECT * FROM unnest($1::uuid[], $2::bigint[])
    ON CONFLICT (organization_id) DO UPDATE SET org_seq = excluded.org_seq
"""
ADD_TILES = """
    INSERT INTO audit_tile (level, idx, data, last_at)
    SELECT level, idx, data, $4 FROM unnest($1::smallint[], $2::bigint[], $3::bytea[]) AS t (level, idx, data)
"""
GROW = "UPDATE audit_tree SET size = $1, edge = $2, last_at = $3 WHERE size = $4"
WAITING = """
    SELECT coalesce(max(id) - min(id) + 1, 0) AS length, (SELECT body FROM audit_inbox ORDER BY id LIMIT 1) AS oldest
    FROM audit_inbox
"""
FINDING = "SELECT finding FROM audit_scrub"
RECORD = "INSERT INTO audit_inbox (body) VALUES ($1)"
ORGANIZATION, NUMBER = entries.COLUMNS.index("organization_id"), entries.COLUMNS.index("org_seq")
log = structlog.get_logger("audit")


@dataclass
class Backlog:
    """What waits in the inbox: about how many, and since when the oldest."""

    length: int = 0
    seconds: float = 0.0


class Sequencer:
    """`run` works until cancelled, on a connection under the sequencer's role."""

    def __init__(self, dsn: str, clock: Clock, telemetry: Telemetry, publisher: Publisher) -> None:
        self.publisher = publisher
        self.backlog = Backlog()
        self.dsn = dsn
        self._clock = clock
        self._telemetry = telemetry
        self._own = OwnConnection(dsn, SEQUENCER_ROLE, STEP_SECONDS)
        self._turns = Turns(PAUSE)
        self._looked = 0.0
        self._behind = False

    @property
    def overrun(self) -> bool:
        """Whether so much waits that nothing more may be changed."""
        return self.backlog.length > OVERRUN

    async def catch_up(self) -> None:
        """Returns when all that was committed before the call has its number, or after a second at most."""
        await self._turns.one(READERS_PATIENCE)

    async def publish_now(self) -> None:
        """Numbers what waits, and has it signed."""
        await self.catch_up()
        await self.publisher.publish_now()

    async def run(self) -> None:
        try:
            await self._turns.run(self._turn, self._failed)
        finally:
            self._own.drop()

    async def _turn(self, _: bool) -> bool:
        """Numbers all that waits; False when another server is at it."""
        connection, count = await self._own.get(), BATCH
        await self._look(connection)  # first: how far it is behind is to be known above all when it cannot be done
        while count == BATCH:
            numbered = await self.step(connection)
            if numbered is None:
                return False
            count = numbered
        return True

    def _failed(self, error: Exception) -> None:
        log.error("entries could not be numbered", error=repr(error))
        self._own.drop()

    async def step(self, connection: Connection) -> int | None:
        """Numbers one batch, and says how many; None when another server is at it."""
        if await connection.fetchval(OLDEST) is None:
            return 0
        async with connection.transaction():
            if not await connection.fetchval(TRY_LOCK, LOCK):
                return None
            tree = await tiling.tree_of(connection.fetch, " FOR UPDATE")
            rows = await connection.fetch(TAKE, BATCH)
            with self._telemetry.audit_step(len(rows)):
                await self._integrate(connection, tree, [row["body"] for row in sorted(rows, key=_id)])
        return len(rows)

    async def _integrate(self, connection: Connection, tree: Tree, found: Sequence[bytes]) -> None:
        at = await self._time(connection, tree)
        events, time = [admit(body, at) for body in found], written_time(at)
        heads = await self._heads(connection, {columns[ORGANIZATION] for _, columns in events} - {None})
        numbered = [_numbered(tree.size + place, at, time, one, heads) for place, one in enumerate(events)]
        columns = ("logged_at", "seq", "entry", "leaf", *entries.COLUMNS)
        await connection.copy_records_to_table("audit_log", records=numbered, columns=columns)
        await connection.execute(SET_HEADS, [UUID(one) for one in heads], list(heads.values()))
        await self._grow(connection, tree, [row[3] for row in numbered], at)

    async def _grow(self, connection: Connection, tree: Tree, leaves: Sequence[bytes], at: datetime) -> None:
        growth = tiles.grow(tree.size, tree.edge, leaves)
        if growth.full:
            levels, indexes, data = zip(*growth.full, strict=True)
            await connection.execute(ADD_TILES, levels, indexes, data, at)
        grown = await connection.execute(GROW, growth.size, growth.edge, at, tree.size)
        assert grown == "UPDATE 1", "the row of the tree was locked"  # noqa: S101

    async def _time(self, connection: Connection, tree: Tree) -> datetime:
        """The log's own time never goes back; when the clock does, that is recorded."""
        now = self._clock.now()
        if tree.size == 0 or now >= tree.last_at:
            self._behind = False
            return now
        if not self._behind and tree.last_at - now > CLOCK_SLACK:
            self._behind = True
            told = system_body("audit.clock", "clock", now, changes={"time": [tree.last_at, now]})
            await connection.execute(RECORD, told)
        return tree.last_at

    async def _heads(self, connection: Connection, organizations: set[str]) -> dict[str, int]:
        """The last number of each organization, which numbering then counts on."""
        rows = await connection.fetch(HEADS, [UUID(one) for one in organizations])
        there = {row["organization_id"].hex: row["org_seq"] for row in rows}
        return {one: there.get(one, 0) for one in sorted(organizations)}

    async def _look(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        row = await connection.fetchrow(WAITING)
        assert row is not None  # noqa: S101
        self._warn(await connection.fetchval(FINDING))
        self.backlog = Backlog(row["length"], self._age(row["oldest"]))

    def _warn(self, finding: str | None) -> None:
        """Of what was found when the log was last verified, by whichever server or command."""
        if finding is not None and finding != self.publisher.standing.tampered:
            log.critical("the audit log was tampered with", finding=finding)
        self.publisher.standing.tampered = finding

    def _age(self, body: bytes | None) -> float:
        if body is None:
            return 0.0
        try:
            return max(0.0, (self._clock.now() - read_time(orjson.loads(body)["occurred_at"])).total_seconds())
        except (ValueError, KeyError, TypeError):
            return 0.0


@asynccontextmanager
async def acting(dsn: str) -> AsyncIterator[Connection]:
    """One transaction under the sequencer's role, on a connection of its own."""
    connection: Connection = await asyncpg.connect(dsn, timeout=5, command_timeout=60)
    try:
        await prepare(connection, SEQUENCER_ROLE)
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


def _numbered(seq: int, at: datetime, time: str, admitted: Admitted, heads: dict[str, int]) -> tuple[Any, ...]:
    body, columns = admitted
    organization = columns[ORGANIZATION]
    number = None
    if organization is not None:
        number = heads[organization] = heads[organization] + 1
    entry = wrap(Wrapped(body, time, number))
    return (at, seq, entry, leaf_hash(entry), *columns[:NUMBER], number, *columns[NUMBER + 1 :])


def _id(row: Any) -> int:
    found: int = row["id"]
    return found
