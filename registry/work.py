"""Work: who acts, in which transaction, at what time.

Every verb of the registry takes a Work first. Leaving the block commits rows, audit entries and quota together; an
exception rolls all of it back, and a refusal is then recorded by itself, in a commit of its own: the log must also
know what did not happen.

    async with system.begin(actor, origin) as work:
        work.attempt("organization.create", "acme")     # how a refusal would be recorded
        work.require("create_organization", account)    # the one decision point
        ...
        work.charge(Key.ORGANIZATIONS, 1, account)      # quotas, with the commit
        work.record(changes={"name": [None, "acme"]})   # completes the attempt
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

import asyncpg
from sqlmodel import SQLModel

from policies.access import Law
from policies.quotas import Key
from registry import deciding
from registry.actors import INSIDE, Actor, Origin
from registry.clock import Clock
from registry.dues import Dues
from registry.errors import Denied, NotFound, QuotaExceeded, Refusal
from registry.events import Event, Grounds, Outcome, Traffic
from registry.places import PLATFORM, Place
from registry.settings import Settings
from registry.storage.blobs import BlobStore
from registry.storage.database import (
    Connection,
    DatabaseUnavailable,
    Pool,
    Statement,
    insertion,
    is_lost,
    is_open,
    rendered,
)
from registry.storage.turns import Turns
from registry.telemetry import Telemetry


class Ledger(Protocol):
    """Where audit entries go."""

    async def write(self, connection: Connection, events: list[Event]) -> None:
        """Writes within the transaction of the change."""

    async def append(self, event: Event, pull: Traffic | None = None) -> None:
        """Writes by itself; returns once it is committed. Raises `Unavailable` rather than let an entry go."""

    def count(self, traffic: Traffic) -> None:
        """Counts what left, with one of the next commits."""

    async def catch_up(self) -> None:
        """Numbers what waits, so that a reader finds what was written before it asked. Gives up after a moment."""


class Meter(Protocol):
    """Where leave is got for traffic."""

    def at_hand(
        self, place: Place, tag: str | None, user_id: UUID | None, at: datetime, pulls: int, size: int
    ) -> Traffic | None:
        """What leaves, if that needs no question to the database."""

    async def let_through(self, work: "Work", place: Place, tag: str | None, pulls: int, size: int) -> Traffic:
        """As `at_hand`, but asks. Raises `QuotaExceeded`."""

    def unsent(self, traffic: Traffic, size: int) -> Traffic:
        """Takes back bytes that did not leave after all; returns what is to be counted for it."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every Work stands on; `registry.system` lays it. `sealing` is the key that wraps those of sealed persons,
    `settle` charges what a Work owes, and `here` says who sits at the machine, where it is a command that runs."""

    settings: Settings
    clock: Clock
    pool: Pool
    blobs: BlobStore
    law: Law
    ledger: Ledger
    meter: Meter
    telemetry: Telemetry
    sealing: bytes
    settle: "Callable[[Work], Awaitable[None]]"
    here: Origin = INSIDE
    turns: Turns = field(default_factory=Turns)

    def begin(self, actor: Actor, origin: Origin) -> "Work":
        """A change: one transaction, committed when the block is left without an exception."""
        return Work(self, actor, origin, CHANGE)

    def promise(self, actor: Actor, origin: Origin) -> "Work":
        """A change that a crash of the database may undo as a whole, such as a hold: its commit waits for no disk, so
        the counters it locks are free again at once. With an entry for the log it is a change like any other."""
        return Work(self, actor, origin, PROMISE)

    def view(self, actor: Actor, origin: Origin) -> "Work":
        """A look at one snapshot, for queries of several statements."""
        return Work(self, actor, origin, SNAPSHOT)

    def glance(self, actor: Actor, origin: Origin) -> "Work":
        """Statements each for itself, without the two round trips of a transaction; for the pull path."""
        return Work(self, actor, origin, EACH)


@dataclass(slots=True)
class Attempt:
    """`announced` by the verb that makes it; an unannounced look is worth an entry only when it was denied."""

    action: str
    target: str
    place: Place | None = None
    digest: str | None = None
    announced: bool = True
    about: str | None = None
    about_id: UUID | None = None


GLANCE_SECONDS = 5

# How a Work's statements hang together: each for itself, one snapshot, or one change.
EACH = ""
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
CHANGE = "BEGIN"
PROMISE = "BEGIN; SET LOCAL synchronous_commit TO off"
CHANGES = (CHANGE, PROMISE)
COMMIT, KEPT_COMMIT = "COMMIT", "SET LOCAL synchronous_commit TO on; COMMIT"
AT_ONCE, NOT_AT_ONCE = "SAVEPOINT before; {}; COMMIT", "ROLLBACK TO SAVEPOINT before"
UNSAID = "TW001"
"""The SQLSTATE of a statement that will not be the last one."""


class Work:
    """One connection, taken at the first statement; statements of concurrent resolvers queue for it. `patience` is how
    many seconds one may take; none: as many as the pool's."""

    def __init__(self, foundation: Foundation, actor: Actor, origin: Origin, mode: str) -> None:
        self.foundation = foundation
        self.settings = foundation.settings
        self.law = foundation.law
        self.actor = actor
        self.origin = origin
        self.now: datetime = foundation.clock.now()
        self.stated: str | None = None
        self.dues = Dues()
        self.tentative = False
        self.patience: float | None = None if mode else GLANCE_SECONDS
        self._mode = mode
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._attempt: Attempt | None = None
        self._completed: Attempt | None = None
        self._decided: tuple[Place, Grounds] | None = None
        self._events: list[Event] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._mode in CHANGES:
                await self._complete()
            await self._close("ROLLBACK" if error else self._ending)
        except BaseException as late:
            await self._close("ROLLBACK")
            if isinstance(late, Denied):
                await self.refused(late)
            raise
        if isinstance(error, Refusal):
            await self.refused(error)

    async def _complete(self) -> None:
        """What comes last in a change: it is charged, and put on the books."""
        try:
            await self.foundation.settle(self)
        except Denied:
            self._attempt = self._attempt or self._completed
            raise
        if self._events:
            connection = await self._connected()
            with _reachable(connection):
                await self.foundation.ledger.write(connection, self._events)

    @property
    def _ending(self) -> str:
        return KEPT_COMMIT if self._mode == PROMISE and self._events else COMMIT

    # What is decided and recorded

    def attempt(
        self,
        action: str,
        target: str,
        *,
        place: Place | None = None,
        digest: str | None = None,
        about: str | None = None,
    ) -> None:
        """Says what is about to be done, so that it can be recorded even when it is refused. `about` is the name of a
        user that stands in the target: a person, whom the log must be able to forget."""
        self._attempt = Attempt(action, target, place, digest, about=about)

    def concerns(self, user_id: UUID) -> None:
        """Says which user the attempt is about, once that is known."""
        assert self._attempt is not None, "concerns() completes an attempt()"  # noqa: S101
        self._attempt.about_id = user_id

    def require(self, act: str, place: Place) -> None:
        """The one decision point of both doors. Raises what `deciding.decide` raises."""
        attempt = self._attempt
        if attempt is None or not attempt.announced:
            self._attempt = Attempt(f"{place.kind}.{act}", place.name, place, announced=False)
        elif attempt.place is None:
            attempt.place = place
        try:
            verdict = deciding.decide(self.law, self.actor, act, place)
        except Refusal:
            self._decided = place, deciding.grounds(self.law, self.actor, act, place)
            self.foundation.telemetry.decision(place.kind, act, False)
            raise
        self._decided = place, Grounds(verdict.text)
        self.foundation.telemetry.decision(place.kind, act, True)

    def allows(self, act: str, place: Place) -> bool:
        """Whether `require` would pass; for lists and for what a user interface shows."""
        return deciding.allows(self.law, self.actor, act, place)

    def record(
        self,
        *,
        place: Place | None = None,
        changes: Mapping[str, Any] | None = None,
        digest: str | None = None,
        reason: str | None = None,
        media_type: str | None = None,
        size: int | None = None,
        outcome: Outcome = Outcome.ALLOWED,
    ) -> Event:
        """Completes the attempt: it was done, or as `outcome` says. The entry is written with the commit."""
        assert self._attempt is not None, "record() completes an attempt()"  # noqa: S101
        attempt = replace(self._attempt, place=place or self._attempt.place, digest=digest or self._attempt.digest)
        event = self._event(outcome, attempt)
        event = replace(event, changes=changes or {}, reason=reason, media_type=media_type, size=size)
        self._events.append(event)
        self._attempt, self._completed = None, self._attempt
        return event

    def also(
        self,
        action: str,
        place: Place,
        changes: Mapping[str, Any],
        *,
        target: str | None = None,
        digest: str | None = None,
        media_type: str | None = None,
        size: int | None = None,
    ) -> None:
        """Records what was done on the way to the attempt, or besides it. Without a target, it is the content of the
        digest, or else the place."""
        target = target or (place.name if digest is None else f"{place.name}@{digest}")
        event = self._event(Outcome.ALLOWED, Attempt(action, target, place, digest))
        self._events.append(replace(event, changes=changes, media_type=media_type, size=size))

    def look(
        self,
        action: str,
        place: Place,
        target: str | None = None,
        digest: str | None = None,
        *,
        about_id: UUID | None = None,
    ) -> Event:
        """What an allowed look leaves in the log, at the place itself if no target is named; `about_id` is the user
        whose name the target is. The caller appends it."""
        about = target if about_id else None
        attempt = Attempt(action, target or place.name, place, digest, about=about, about_id=about_id)
        event = self._event(Outcome.ALLOWED, attempt)
        # Many looks share one work, and the last decision was on one of them.
        return event if self._decided and self._decided[0] is place else replace(event, grounds=None)

    def charge(self, key: Key, amounts: int | Mapping[str, int], place: Place) -> None:
        """What the change adds at each scope of the key that the place lies in, by its kind where they differ; what it
        takes out is negative. Leaving the block raises `QuotaExceeded` where there is no room."""
        self.dues.add(key, place, amounts)

    # The database

    async def fetch(self, statement: Statement, *arguments: Any) -> list[asyncpg.Record]:
        text, values = rendered(statement, arguments)
        return await self._run("fetch", text, values)  # type: ignore[no-any-return]

    async def fetchrow(self, statement: Statement, *arguments: Any) -> asyncpg.Record | None:
        text, values = rendered(statement, arguments)
        return await self._run("fetchrow", text, values)  # type: ignore[no-any-return]

    async def fetchval(self, statement: Statement, *arguments: Any) -> Any:
        row = await self.fetchrow(statement, *arguments)
        return None if row is None else row[0]

    async def execute(self, statement: Statement, *arguments: Any) -> int:
        """The number of rows that were touched."""
        text, values = rendered(statement, arguments)
        status: str = await self._run("execute", text, values)
        tail = status.rpartition(" ")[2]
        return int(tail) if tail.isdigit() else 0

    async def commit_with(self, text: str) -> bool:
        """Ends a promise with a last statement, in one round trip with the commit: what it locks is locked for no
        longer. False, and nothing is done, where it fails with `UNSAID`, and where this is more than a promise."""
        if self._mode != PROMISE or self._events:
            return False
        async with self._lock:
            connection = await self._connected()
            try:
                with self.foundation.telemetry.statement(), _reachable(connection):
                    await connection.execute(AT_ONCE.format(text))
            except asyncpg.PostgresError as error:
                if error.sqlstate != UNSAID:
                    raise
                with _reachable(connection):
                    await connection.execute(NOT_AT_ONCE)
                return False
        self._mode = EACH
        return True

    async def add(self, row: SQLModel) -> None:
        await self.execute(*_statement(insertion(row)))

    def later(self, **duration: float) -> datetime:
        return self.now + timedelta(**duration)

    async def _run(self, verb: str, text: str, values: Any) -> Any:
        async with self._lock:
            connection = await self._connected()
            with self.foundation.telemetry.statement(), _reachable(connection):
                return await getattr(connection, verb)(text, *values, timeout=self.patience)

    async def _connected(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = await self.foundation.turns.take(self.foundation.pool)
            except (TimeoutError, OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError) as error:
                raise _unavailable() from error
            if self._mode:
                with _reachable(self._connection):
                    await self._connection.execute(self._mode)
        return self._connection

    async def _close(self, ending: str) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        await asyncio.shield(_end(self.foundation, connection, ending if self._mode else ""))

    # What is recorded

    async def refused(self, refusal: Refusal) -> None:
        """Records a refusal by itself. Leaving the block does this; a reader that goes on after one calls it.

        Of a Work that is `tentative`, that there is no room is no refusal yet: it may be tried again.
        """
        if self.tentative and isinstance(refusal, QuotaExceeded):
            return
        attempt = self._attempt
        denied = deciding.is_denial(refusal)
        if attempt is None or not deciding.is_recorded(self.actor, refusal) or not (denied or attempt.announced):
            return
        outcome = Outcome.DENIED if denied else Outcome.FAILED
        event = self._event(outcome, attempt)
        if attempt.place is None and isinstance(refusal, NotFound):
            event = replace(event, account_id=None)  # for the same reason as in `_account`
        why = refusal.truth or refusal.message
        await self.foundation.ledger.append(replace(event, reason_code=refusal.code, reason=why))

    def _account(self, place: Place | None) -> UUID | None:
        """Whose log it stands in: that of who owns the place. What is absent is nobody's: if it stood in one's own log,
        it would tell it apart from what others hide, which stands in theirs."""
        return self.actor.account_id if place is None or place.kind == PLATFORM else place.account_id

    def _event(self, outcome: Outcome, attempt: Attempt) -> Event:
        place = attempt.place
        return Event(
            at=self.now,
            action=attempt.action,
            outcome=outcome,
            actor=self.actor,
            origin=self.origin,
            target=attempt.target,
            account_id=self._account(place),
            organization_id=place.organization_id if place else None,
            repository_id=place.repository_id if place else None,
            digest=attempt.digest,
            grounds=self._decided[1] if self._decided else None,
            stated=self.stated,
            about=attempt.about,
            about_id=attempt.about_id,
        )


def _statement(pair: tuple[str, list[Any]]) -> tuple[Any, ...]:
    text, values = pair
    return text, *values


@contextmanager
def _reachable(connection: Connection) -> Iterator[None]:
    """A connection that does not answer is given up at once: to be polite to it would take as long again.

    Raises `DatabaseUnavailable`.
    """
    try:
        yield
    except Exception as error:
        if not is_lost(error, connection):
            raise
        if is_open(connection):
            connection.terminate()
        raise _unavailable() from error


def _unavailable() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database does not answer; try again shortly.", retry_after=5)


async def _end(foundation: Foundation, connection: Connection, ending: str) -> None:
    """What a lost connection had begun is rolled back by the database itself."""
    try:
        if ending in {COMMIT, KEPT_COMMIT} or (ending and is_open(connection)):
            with _reachable(connection):
                await connection.execute(ending)
    except BaseException:
        if is_open(connection):
            connection.terminate()
        raise
    finally:
        await foundation.turns.give_back(foundation.pool, connection)
