"""Following the log as it grows: replay from any number, then what comes, in order, none left out and none twice.

The place of a follower is a number, and the log has no gaps: whoever was cut off says the last number seen and goes on.
Rights are read anew for every batch, in the snapshot that the batch itself is read from.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlmodel import col

from registry.actors import Actor, Origin
from registry.audit import reading, tiling
from registry.audit.filtering import EntryFilter
from registry.audit.showing import Shown, numbered, show
from registry.audit.tables import AuditRow
from registry.errors import Denied, Invalid
from registry.work import Foundation, Work

BATCH = 100
LOOK_EVERY_SECONDS = 0.2
MOST_FOLLOWERS, MOST_OF_ACCOUNT, MOST_OF_ONE = 200, 50, 10


class TooManyFollowers(Denied):
    """`detail` holds the limit."""

    code = "TOO_MANY_FOLLOWERS"


class StartOutOfRange(Invalid):
    code = "START_OUT_OF_RANGE"


class Followers:
    """All who follow through this server. One look at the log's size serves them all."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._of: Counter[tuple[UUID | None, UUID | None]] = Counter()
        self._size = 0
        self._looked = 0.0

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

    async def grown(self, foundation: Foundation, size: int) -> None:
        """Returns when the log has more entries than that, or when this server ends."""
        loop = asyncio.get_running_loop()
        while self._size <= size and not self.ended.is_set():
            if (waited := loop.time() - self._looked) < LOOK_EVERY_SECONDS:
                await asyncio.sleep(LOOK_EVERY_SECONDS - waited)
                continue
            self._looked = loop.time()
            self._size = await foundation.pool.fetchval("SELECT size FROM audit_tree")


class StateNotFollowed(Invalid):
    code = "STATE_NOT_FOLLOWED"


async def follow(
    foundation: Foundation,
    followers: Followers,
    who: tuple[Actor, Origin],
    wanted: EntryFilter,
    account: str | None,
    start: int | None,
) -> AsyncIterator[tuple[Sequence[Shown], int, int]]:
    """Batches of entries, oldest first, how many are published, and the number to go on from: also when a batch holds
    none that is wanted. `start` is the first number that is wanted; without
    it, what comes from now on. Ends when the server does. Raises `StateNotFollowed`, and what `reading.entries` raises,
    at any time."""
    if wanted.state is not None:
        raise StateNotFollowed(
            "The tail gives each entry as soon as it has its number, so none can be asked for by its state: leave it "
            "out, and look at the state of what comes.",
            path=["filter", "state"],
        )
    place = await _begin(foundation, who, account, start)
    yield [], 0, place
    with followers.one_more(who[0]):
        while not followers.ended.is_set():
            async with foundation.view(*who) as work:
                rows, size, published = await _batch(work, wanted, account, place)
                shown = await show(work, [numbered(row) for row in rows])
            place = rows[-1]["seq"] + 1 if len(rows) == BATCH else max(size, place)
            yield shown, published, place
            await followers.grown(foundation, place)


async def _begin(foundation: Foundation, who: tuple[Actor, Origin], account: str | None, start: int | None) -> int:
    """That the log is followed is recorded. Raises `StartOutOfRange`, and what `require` raises."""
    await foundation.ledger.catch_up()
    async with foundation.view(*who) as work:
        work.attempt("audit.follow", account or "audit log")
        await reading.scope(work, account)
        size = (await tiling.tree_of(work.fetch)).size
        if start is not None and not 0 <= start <= size:
            raise StartOutOfRange(f"The log has {size} entries: begin at 0 to {size}.", path=["from"])
        place = size if start is None else start
        event = work.record(changes={"from": place})
    await foundation.ledger.append(event)
    return place


async def _batch(work: Work, wanted: EntryFilter, account: str | None, place: int) -> tuple[Sequence[Any], int, int]:
    """The next entries, the log's size in the same snapshot, and how much of it is published."""
    statements = await reading.entries(work, wanted, account)
    size = (await tiling.tree_of(work.fetch)).size
    since = await work.fetchval("SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1", place // 256 - 1)
    where = [col(AuditRow.seq) >= place, *([] if since is None else [col(AuditRow.logged_at) >= since])]
    statement = reading.first_of(statements, *where, limit=BATCH, newest=False)
    return await work.fetch(statement), size, await reading.published(work)
