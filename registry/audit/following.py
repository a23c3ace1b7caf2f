"""Following the log as it grows: replay from any number, then what comes, in order, none left out and none twice.

The place of a follower is a number, and the log has no gaps: whoever was cut off says the last number seen and goes on.
Who is far behind reads for itself, by the indexes; the newest entries are read once for all. Rights are read after the
log's size was, so that nothing leaves that was written after they ended; and once more before each entry that leaves
later than a moment after that.

Pushes and pulls come first: few followers read at once, and one entry at a time is made ready to be sent.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlmodel import col

from registry.actors import SYSTEM, Actor, Origin
from registry.audit import newest, reading, tiling
from registry.audit.filtering import EntryFilter, check, sought
from registry.audit.newest import Newest
from registry.audit.showing import Line, Shown, numbered
from registry.audit.tables import AuditRow
from registry.errors import Denied, Invalid
from registry.work import Foundation, Work

BATCH = 100
LOOK_EVERY_SECONDS = 0.2
AT_ONCE, AT_REST = timedelta(seconds=0.2), timedelta(seconds=1)  # how old rights may be when an entry leaves; or none
MOST_FOLLOWERS, MOST_OF_ACCOUNT, MOST_OF_ONE = 200, 50, 10
MOST_READING = 2
LOOK = f"SELECT size, ({reading.PUBLISHED}) AS published FROM audit_tree"


class TooManyFollowers(Denied):
    """`detail` holds the limit."""

    code = "TOO_MANY_FOLLOWERS"


class StartOutOfRange(Invalid):
    code = "START_OUT_OF_RANGE"


class StateNotFollowed(Invalid):
    code = "STATE_NOT_FOLLOWED"


class Followers:
    """All who follow through this server. One look at the log's size serves them all. `published` is how many entries
    stood under a checkpoint then."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.newest = Newest()
        self.reading = asyncio.Semaphore(MOST_READING)
        self.published = 0
        self._of: Counter[tuple[UUID | None, UUID | None]] = Counter()
        self._turns = asyncio.Lock()
        self._size = 0
        self._looked = float("-inf")

    @contextmanager
    def one_more(self, actor: Actor) -> Iterator[None]:
        """Raises `TooManyFollowers`."""
        who = (actor.account_id, actor.user_id)
        of_account = sum(count for (account, _), count in self._of.items() if account == actor.account_id)
        if self._of.total() >= MOST_FOLLOWERS or of_account >= MOST_OF_ACCOUNT or self._of[who] >= MOST_OF_ONE:
            raise TooManyFollowers(
                f"You may follow the log {MOST_OF_ONE} times at once, your account {MOST_OF_ACCOUNT} times, and all "
                f"together {MOST_FOLLOWERS} times. End one of the others first.",
                limit=MOST_OF_ONE,
            )
        self._of[who] += 1
        try:
            yield
        finally:
            self._of[who] -= 1
            self._of += Counter()  # forgets those who follow no more
            if not self._of:
                self.newest.forget()

    async def grown(self, foundation: Foundation, place: int) -> int:
        """The log's size, once it is greater than that; or when this server ends."""
        loop = asyncio.get_running_loop()
        while not self.ended.is_set():
            if (waited := loop.time() - self._looked) >= LOOK_EVERY_SECONDS:
                self._looked = loop.time()
                await self._look(foundation)
            elif self._size > place:
                break
            else:
                await asyncio.sleep(LOOK_EVERY_SECONDS - waited)
        return max(self._size, place)

    async def _look(self, foundation: Foundation) -> None:
        async with foundation.glance(SYSTEM, Origin()) as work:
            row = await work.fetchrow(LOOK)
        assert row is not None  # noqa: S101
        self._size, self.published = row["size"], row["published"] or 0

    async def turn(self) -> None:
        """Returns when it is this follower's turn, in between whose other work goes on."""
        async with self._turns:
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Step:
    """`place` is the number to go on from, before which nothing that is wanted was left out but `shown`. `published` is
    how many entries are."""

    place: int
    shown: Shown | None = None
    published: int = 0


class Follower:
    """One who follows: what is wanted, and whose entries may be read, as was found last."""

    def __init__(
        self,
        foundation: Foundation,
        followers: Followers,
        who: tuple[Actor, Origin],
        wanted: EntryFilter,
        account: str | None,
    ) -> None:
        self._foundation, self._followers, self._who = foundation, followers, who
        self._wanted, self._account = wanted, account
        self._whose: UUID | None = None
        self._asked_at = datetime.min.replace(tzinfo=UTC)

    async def begin(self, start: int | None, entered: Callable[[], None]) -> int:
        """The number that comes first. That the log is followed is recorded; `entered` is called once that is allowed.
        Raises `StartOutOfRange`, what `entered` raises, and what `reading.scope` raises."""
        await self._foundation.ledger.catch_up()
        async with self._foundation.view(*self._who) as work:
            work.attempt("audit.follow", self._account or "audit log")
            await self._ask(work)
            entered()
            size = (await tiling.tree_of(work.fetch)).size
            if start is not None and not 0 <= start <= size:
                raise StartOutOfRange(f"The log has {size} entries: begin at 0 to {size}.", path=["from"])
            place = size if start is None else start
            event = work.record(changes={"from": place})
        await self._foundation.ledger.append(event)
        return place

    async def batch(self, place: int, size: int) -> tuple[list[Shown], int]:
        """What is wanted from a number on, of a log that has grown to that size, and the number behind."""
        async with self._followers.reading, self._foundation.glance(*self._who) as work:
            if size - place > newest.MOST:
                return await self._replayed(work, place, size)
            lines = await self._kept(work, place, size)
            if lines or not self._asked_within(AT_REST):
                before = self._whose
                if await self._ask(work) != before:
                    lines = await self._kept(work, place, size)
            return await self._followers.newest.shown(work, lines) if lines else [], size

    async def may_go_on(self) -> bool:
        """Whether the next entry may leave now; if not, the rights have changed, and it has to be looked for anew.

        Raises what `reading.scope` raises.
        """
        await self._followers.turn()
        if self._asked_within(AT_ONCE):
            return True
        before = self._whose
        async with self._followers.reading, self._foundation.glance(*self._who) as work:
            return await self._ask(work) == before

    async def _replayed(self, work: Work, place: int, size: int) -> tuple[list[Shown], int]:
        statements = await reading.entries_of(work, self._wanted, await self._ask(work))
        since = await work.fetchval(reading.TILE_BEFORE, place)
        later = [] if since is None else [col(AuditRow.logged_at) >= since]
        span = [col(AuditRow.seq) >= place, col(AuditRow.seq) < size, *later]
        rows = await work.fetch(reading.first_of(statements, *span, limit=BATCH, newest=False))
        end = rows[-1]["seq"] + 1 if len(rows) == BATCH else size
        return await self._followers.newest.shown(work, [numbered(row) for row in rows]), end

    async def _kept(self, work: Work, place: int, size: int) -> list[Line]:
        entries: Sequence[newest.Read] = await self._followers.newest.span(work, place, size)
        return newest.among(entries, await sought(work, self._wanted, self._whose))

    async def _ask(self, work: Work) -> UUID | None:
        self._whose = await reading.scope(work, self._account)
        self._asked_at = work.now
        return self._whose

    def _asked_within(self, age: timedelta) -> bool:
        """A clock that was set back makes nothing younger."""
        return timedelta() <= self._foundation.clock.now() - self._asked_at <= age


async def follow(
    foundation: Foundation,
    followers: Followers,
    who: tuple[Actor, Origin],
    wanted: EntryFilter,
    account: str | None,
    start: int | None,
) -> AsyncIterator[Step]:
    """What is wanted, oldest first, and in between how far the log was gone through. `start` is the first number that
    is wanted; without it, what comes from now on. Ends when the server does. Raises `StateNotFollowed`,
    `FilterInvalid`, and what `reading.scope` raises, at any time."""
    check(wanted)
    if wanted.state is not None:
        raise StateNotFollowed(
            "The tail gives each entry as soon as it has its number, so none can be asked for by its state: leave it "
            "out, and look at the state of what comes.",
            path=["filter", "state"],
        )
    follower = Follower(foundation, followers, who, wanted, account)
    with ExitStack() as entered:
        place = await follower.begin(start, lambda: entered.enter_context(followers.one_more(who[0])))
        yield Step(place)
        while not followers.ended.is_set():
            size = await followers.grown(foundation, place)
            shown, end = await follower.batch(place, size)
            for one in shown:
                assert one.line.index is not None  # noqa: S101
                if not await follower.may_go_on():
                    end = one.line.index
                    break
                yield Step(one.line.index + 1, one, followers.published)
            place = end
            yield Step(place)
