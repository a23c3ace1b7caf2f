"""Writing the log: within the transaction of a change, or many pulls and refusals under one commit.

The group commit has no timer: what arrives while one commit is on its way to the disk, and in the turns of the event
loop that bring still more, forms the next batch. So a lone pull waits for one commit only, and a thousand share a few.
Whoever appends waits for the commit: no answer leaves for a thing that is not on the books. The queue is bounded in
entries and bytes; when the database cannot keep up the caller is refused rather than an entry lost.

Denials that come in floods are only counted (`floods`). Who gets one of those waits for nothing; what was counted is
written by `count_floods` when its minute is over, when a reader asks, and at a clean stop. A server that is killed
loses the counts of its last minute, whose beginning stands in the log.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from registry.audit.floods import Floods
from registry.audit.sequencing import Sequencer
from registry.audit.subjects import WrongKey
from registry.audit.writing import Scribe
from registry.clock import Clock, SystemClock
from registry.errors import Unavailable
from registry.events import Event, Outcome, Traffic
from registry.storage.database import APP_ROLE, Connection, OwnConnection
from registry.telemetry import Telemetry

BATCH = 256
LONGEST_QUEUE = 4096
HEAVIEST_QUEUE = 8 * 1024 * 1024
LOOK_EVERY = 1.0
COMMIT_SECONDS = 5
NOBODY = UUID(int=0)
SYSTEM_CLOCK = SystemClock()
log = structlog.get_logger("audit")

INSERT = "INSERT INTO audit_inbox (body) SELECT unnest($1::bytea[])"
# Rows of counts are touched in one order, so that two workers' batches cannot wait for each other in a circle.
INSERT_AND_COUNT = f"""
    WITH written AS ({INSERT}), counted AS (
        INSERT INTO pull_count AS c (repository_id, tag, pulls, last_pulled_at)
        SELECT * FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[])
        ON CONFLICT (repository_id, tag) DO UPDATE
        SET pulls = c.pulls + excluded.pulls, last_pulled_at = greatest(c.last_pulled_at, excluded.last_pulled_at))
    SELECT traffic_count($6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""


class LogUnavailable(Unavailable):
    """The log cannot take the entry, so what it would record does not happen."""

    code = "AUDIT_UNAVAILABLE"


@dataclass(slots=True)
class Waiting:
    """An entry with the traffic it allowed; or no entry, and the traffic that nobody waits for."""

    event: Event | None
    traffic: list[Traffic]
    weight: int
    written: "asyncio.Future[None]"


class Ledger:
    """One connection and one flusher of this process. `run` works until cancelled; from then on entries are refused.

    `ended` is told of leases that traffic was taken from and that are no more.
    """

    def __init__(
        self,
        dsn: str,
        telemetry: Telemetry,
        scribe: Scribe,
        sequencer: Sequencer,
        clock: Clock = SYSTEM_CLOCK,
        ended: Callable[[Collection[UUID]], None] = lambda _: None,
    ) -> None:
        self._lease_ended = ended
        self._own = OwnConnection(dsn, APP_ROLE, COMMIT_SECONDS)
        self._clock = clock
        self._floods = Floods()
        self._owing = asyncio.Event()
        self._telling = asyncio.Lock()
        self._telemetry = telemetry
        self._scribe = scribe
        self._sequencer = sequencer
        self._weight = 0
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(LONGEST_QUEUE)
        self._on_the_way = 0
        self._traffic: list[Traffic] = []
        self._ended = False

    @property
    def length(self) -> int:
        """Entries that wait for their commit."""
        return self._queue.qsize() + self._on_the_way

    async def write(self, connection: Connection, events: Sequence[Event]) -> None:
        """Raises `LogUnavailable` when so many entries wait for their number that no more changes may be made, and when
        nothing can be sealed."""
        if self._sequencer.overrun:
            raise _unavailable()
        try:
            bodies = await self._scribe.bodies(connection, events, committed=False)
        except WrongKey as error:
            log.error("audit entries could not be written", entries=len(events), error=repr(error))
            raise _unavailable() from error
        await connection.execute(INSERT, bodies)

    async def append(self, event: Event, pull: Traffic | None = None) -> None:
        """Returns once the entry is committed, or counted as part of a flood. Raises `LogUnavailable`."""
        if event.outcome is Outcome.DENIED and self._floods.swallows(event, self._clock.now()):
            if self._floods.owed:
                self._owing.set()
            return
        await self._append(event, pull)

    def count(self, traffic: Traffic) -> None:
        """With the next commit, or within a second by one of its own. Nobody waits for it: a server that is killed may
        lose the bytes that it sent in its last second, but no pull."""
        self._traffic.append(traffic)

    def _carried(self) -> Waiting:
        """What is to be counted, as one that waits. Where it could not be written it is counted with another commit."""
        traffic, self._traffic = self._traffic, []
        written = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda done: self._traffic.extend(traffic if done.exception() else ()))
        return Waiting(None, traffic, 0, written)

    async def _append(self, event: Event, pull: Traffic | None = None) -> None:
        weight = _weight(event)
        if self._ended or self._queue.full() or self._weight + weight > HEAVIEST_QUEUE:
            raise _unavailable()
        waiting = Waiting(event, [pull] if pull else [], weight, asyncio.get_running_loop().create_future())
        self._weight += weight
        self._queue.put_nowait(waiting)
        await waiting.written

    async def catch_up(self) -> None:
        # Whoever stops waiting here must not take with them what is owed.
        await asyncio.shield(self._tell_floods())
        await self._sequencer.catch_up()

    async def count_floods(self) -> None:
        """Writes what floods owe, until cancelled: at once that one has begun, and soon after the end of a minute how
        many there were."""
        while True:
            self._owing.clear()
            self._carry()
            if await self._tell_floods():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._owing.wait(), LOOK_EVERY)
            else:
                await asyncio.sleep(LOOK_EVERY)

    def _carry(self) -> None:
        if self._traffic and not self._queue.full():
            self._queue.put_nowait(self._carried())

    async def _tell_floods(self) -> bool:
        """False when something could not be written; it is owed further. One whose commit was cut short may come
        twice, under one id."""
        self._floods.pass_time(self._clock.now())
        queue = self._floods.owed
        async with self._telling:
            while owed := [queue.popleft() for _ in range(min(BATCH, len(queue)))]:
                came = await asyncio.gather(*map(self._append, owed), return_exceptions=True)
                failed = [event for event, error in zip(owed, came, strict=True) if error is not None]
                queue.extendleft(reversed(failed))
                if failed:
                    return False
        return True

    async def run(self) -> None:
        """Writes batch after batch. One that fails is refused to all who wait for it, and the next is tried on a new
        connection."""
        try:
            while True:
                batch: list[Waiting] = []
                try:
                    await self._gather(batch)
                    await self._settle(batch)
                finally:
                    self._finish(batch)
        finally:
            self._ended = True
            while not self._queue.empty():
                self._finish([self._queue.get_nowait()])
            self._own.drop()

    async def drain(self) -> None:
        """Returns when everything queued or counted so far is written; for a clean stop."""
        self._floods.end()
        if not await self._tell_floods():
            log.error("counts of denials could not be written", entries=len(self._floods.owed))
        self._carry()
        await self._queue.join()

    async def _gather(self, batch: list[Waiting]) -> None:
        """As long as one more comes with each turn of the event loop, others are on their way, and worth a turn."""
        batch.append(await self._queue.get())
        self._carry()
        came = 1
        while came and len(batch) < BATCH:
            self._on_the_way = len(batch)
            await asyncio.sleep(0)
            came = min(self._queue.qsize(), BATCH - len(batch))
            batch += [self._queue.get_nowait() for _ in range(came)]

    async def _settle(self, batch: list[Waiting]) -> None:
        try:
            await self._commit(batch)
        except Exception as error:
            if len(batch) > 1 and self._is_content(error):
                # The database does not take one of them; the others shall not suffer for it.
                for waiting in batch:
                    await self._settle([waiting])
                return
            log.error("audit entries could not be written", entries=len(batch), error=repr(error))
            self._own.drop()
        else:
            _tell(batch, None)

    def _is_content(self, error: Exception) -> bool:
        return self._own.is_open and not isinstance(error, OSError | TimeoutError)

    def _finish(self, batch: list[Waiting]) -> None:
        """Whoever still waits gets no entry, whether its commit failed or was cut short."""
        _tell(batch, _unavailable())
        for waiting in batch:
            self._queue.task_done()
            self._weight -= waiting.weight
        self._on_the_way = 0

    async def _commit(self, batch: list[Waiting]) -> None:
        connection = await self._own.get()
        events = [waiting.event for waiting in batch if waiting.event]
        bodies = await self._scribe.bodies(connection, events, committed=True)
        traffic = [one for waiting in batch for one in waiting.traffic]
        with self._telemetry.audit_batch(len(events)):
            if traffic:
                counted = *counts(traffic), *sums(traffic), *leased(traffic)
                if gone := await connection.fetchval(INSERT_AND_COUNT, bodies, *counted):
                    self._lease_ended(gone)
            else:
                await connection.execute(INSERT, bodies)


def counts(traffic: Sequence[Traffic]) -> list[list[Any]]:
    """Arrays of repository, tag (empty: the repository's own count), pulls and time of the last, sorted."""
    number: Counter[tuple[Any, str]] = Counter()
    last: dict[tuple[Any, str], Any] = {}
    for one in traffic:
        for key in {(one.repository_id, ""), (one.repository_id, one.tag or "")} if one.pulls else ():
            number[key] += one.pulls
            last[key] = max(one.at, last.get(key, one.at))
    keys = sorted(number)
    return [*_columns(keys, 2), [number[key] for key in keys], [last[key] for key in keys]]


def sums(traffic: Sequence[Traffic]) -> list[list[Any]]:
    """Arrays of organization, hour, repository, tag, user, pulls and bytes, sorted."""
    pulls: Counter[tuple[Any, ...]] = Counter()
    size: Counter[tuple[Any, ...]] = Counter()
    for one in traffic:
        hour = one.at.replace(minute=0, second=0, microsecond=0)
        key = one.organization_id, hour, one.repository_id, one.tag or "", one.user_id or NOBODY
        pulls[key] += one.pulls
        size[key] += one.bytes
    keys = sorted(pulls)
    return [*_columns(keys, 5), [pulls[key] for key in keys], [size[key] for key in keys]]


def leased(traffic: Sequence[Traffic]) -> list[list[Any]]:
    """Arrays of lease, organization, key, period and amount."""
    amounts: Counter[tuple[Any, ...]] = Counter()
    for one in traffic:
        for part in one.leased:
            amounts[part.lease, one.organization_id, part.key, part.period] += part.amount
    keys = sorted(amounts)
    return [*_columns(keys, 4), [amounts[key] for key in keys]]


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[place] for row in rows] for place in range(width)]


def _tell(batch: list[Waiting], error: Exception | None) -> None:
    for waiting in batch:
        if waiting.written.done():
            continue
        if error is None:
            waiting.written.set_result(None)
        else:
            waiting.written.set_exception(error)


def _weight(event: Event) -> int:
    """About how many bytes it keeps: what strangers may make long, and the rest."""
    return 1000 + len(event.target) + len(event.origin.client or "") + len(event.reason or "")


def _unavailable() -> LogUnavailable:
    return LogUnavailable("The audit log cannot take entries right now, so nothing is done; try again.", retry_after=5)
