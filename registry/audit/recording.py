"""Writing the log: within the transaction of a change, or many pulls and refusals under one commit.

The group commit has no timer: what arrives while one commit is on its way to the disk forms the next batch, so a
lone pull waits for one commit only, and a thousand share a few. Whoever appends waits for the commit: no answer
leaves for a thing that is not on the books. The queue is bounded; when the database cannot keep up the caller is
refused rather than an entry lost.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from registry.errors import Unavailable
from registry.events import Event, Pull
from registry.storage.database import Connection, prepare
from registry.telemetry import Telemetry

BATCH = 256
LONGEST_QUEUE = 4096
log = structlog.get_logger("audit")

COLUMNS = (
    ("recorded_at", "timestamptz"),
    ("event_id", "uuid"),
    ("action", "text"),
    ("outcome", "text"),
    ("reason_code", "text"),
    ("reason", "text"),
    ("actor_kind", "text"),
    ("actor_id", "uuid"),
    ("actor_name", "text"),
    ("credential_id", "uuid"),
    ("account_id", "uuid"),
    ("organization_id", "uuid"),
    ("repository_id", "uuid"),
    ("target", "text"),
    ("digest", "text"),
    ("source", "text"),
    ("client", "text"),
    ("request_id", "text"),
    ("changes", "jsonb"),
)
NAMES = ", ".join(name for name, _ in COLUMNS)
ARRAYS = ", ".join(f"${position}::{kind}[]" for position, (_, kind) in enumerate(COLUMNS, 1))
INSERT = f"INSERT INTO audit_log ({NAMES}) SELECT * FROM unnest({ARRAYS})"
COUNTED = len(COLUMNS)
# Rows of counts are touched in one order, so that two workers' batches cannot wait for each other in a circle.
INSERT_AND_COUNT = f"""
    WITH logged AS ({INSERT})
    INSERT INTO pull_count AS c (repository_id, tag, pulls, last_pulled_at)
    SELECT * FROM unnest(${COUNTED + 1}::uuid[], ${COUNTED + 2}::text[], ${COUNTED + 3}::bigint[],
        ${COUNTED + 4}::timestamptz[])
    ON CONFLICT (repository_id, tag)
    DO UPDATE SET pulls = c.pulls + excluded.pulls, last_pulled_at = greatest(c.last_pulled_at, excluded.last_pulled_at)
"""
LONGEST_TEXT = 2000
LONGEST_NAME = 256  # the actor's name stands in an index, whose rows have to fit a third of a page


class LogUnavailable(Unavailable):
    """The log cannot take the entry, so what it would record does not happen."""

    code = "AUDIT_UNAVAILABLE"


@dataclass(slots=True)
class Waiting:
    event: Event
    pull: Pull | None
    written: "asyncio.Future[None]"


class Ledger:
    """One connection and one flusher of this process. `run` works until cancelled; from then on entries are refused."""

    def __init__(self, dsn: str, telemetry: Telemetry) -> None:
        self._dsn = dsn
        self._telemetry = telemetry
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(LONGEST_QUEUE)
        self._connection: Connection | None = None
        self._on_the_way = 0
        self._ended = False

    @property
    def length(self) -> int:
        """Entries that wait for their commit."""
        return self._queue.qsize() + self._on_the_way

    async def write(self, connection: Connection, events: Sequence[Event]) -> None:
        await connection.execute(INSERT, *columns(events))

    async def append(self, event: Event, pull: Pull | None = None) -> None:
        """Returns once the entry is committed. Raises `LogUnavailable`."""
        if self._ended:
            raise _unavailable()
        waiting = Waiting(event, pull, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise _unavailable() from None
        await waiting.written

    async def run(self) -> None:
        """Writes batch after batch. One that fails is refused to all who wait for it, and the next is tried on a new
        connection."""
        try:
            while True:
                batch = await self._next_batch()
                try:
                    await self._settle(batch)
                finally:
                    self._finish(batch)
        finally:
            self._ended = True
            while not self._queue.empty():
                self._finish([self._queue.get_nowait()])
            await self._disconnect()

    async def drain(self) -> None:
        """Returns when everything queued so far is written; for a clean stop."""
        await self._queue.join()

    async def _next_batch(self) -> list[Waiting]:
        batch = [await self._queue.get()]
        while len(batch) < BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        self._on_the_way = len(batch)
        return batch

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
            await self._disconnect()
        else:
            _tell(batch, None)

    def _is_content(self, error: Exception) -> bool:
        connected = self._connection is not None and not self._connection.is_closed()
        return connected and not isinstance(error, OSError | TimeoutError)

    def _finish(self, batch: list[Waiting]) -> None:
        """Whoever still waits gets no entry, whether its commit failed or was cut short."""
        _tell(batch, _unavailable())
        for _ in batch:
            self._queue.task_done()
        self._on_the_way = 0

    async def _commit(self, batch: list[Waiting]) -> None:
        connection = await self._connected()
        events = [waiting.event for waiting in batch]
        pulls = [(waiting.pull, waiting.event) for waiting in batch if waiting.pull]
        with self._telemetry.audit_batch(len(batch)):
            if pulls:
                await connection.execute(INSERT_AND_COUNT, *columns(events), *counts(pulls))
            else:
                await connection.execute(INSERT, *columns(events))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=5)
            await prepare(self._connection)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def columns(events: Sequence[Event]) -> list[list[Any]]:
    """One array a column, in the order of `COLUMNS`."""
    return [list(column) for column in zip(*(_row(event) for event in events), strict=True)]


def counts(pulls: Sequence[tuple[Pull, Event]]) -> list[list[Any]]:
    """Arrays of repository, tag (empty: the repository's own count), pulls and time, sorted."""
    number: Counter[tuple[Any, str]] = Counter()
    last: dict[tuple[Any, str], Any] = {}
    for pull, event in pulls:
        for key in {(pull.repository_id, ""), (pull.repository_id, pull.tag or "")}:
            number[key] += 1
            last[key] = max(event.at, last.get(key, event.at))
    keys = sorted(number)
    return [
        [key[0] for key in keys],
        [key[1] for key in keys],
        [number[k] for k in keys],
        [last[k] for k in keys],
    ]


def _row(event: Event) -> tuple[Any, ...]:
    return (
        event.at,
        event.id,
        event.action,
        event.outcome.value,
        event.reason_code,
        shortened(event.reason),
        event.actor.kind.value,
        event.actor.user_id,
        shortened(event.actor.name, LONGEST_NAME),
        event.actor.credential_id,
        event.account_id,
        event.organization_id,
        event.repository_id,
        shortened(event.target),
        event.digest,
        event.origin.source,
        shortened(event.origin.client),
        event.origin.request_id,
        dict(event.changes),
    )


def shortened(text: str | None, longest: int = LONGEST_TEXT) -> str | None:
    """What a stranger may write at will is bounded, and free of what PostgreSQL cannot hold: NUL and surrogates."""
    if text is None:
        return None
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return clean if len(clean) <= longest else clean[:longest] + "…"


def _tell(batch: list[Waiting], error: Exception | None) -> None:
    for waiting in batch:
        if waiting.written.done():
            continue
        if error is None:
            waiting.written.set_result(None)
        else:
            waiting.written.set_exception(error)


def _unavailable() -> LogUnavailable:
    return LogUnavailable("The audit log cannot take entries right now, so nothing is done; try again.", retry_after=5)
