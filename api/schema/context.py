"""What the resolvers of one operation share: who asks, one snapshot to read from, and batches for nested lists."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Subquery, func, select
from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from api.schema.paging import Page, keyset
from registry.actors import Actor, Origin
from registry.audit.recording import LogUnavailable
from registry.errors import Refusal, SignInNeeded
from registry.places import PLATFORM, Place
from registry.system import System
from registry.work import SNAPSHOT, Work

Info = StrawberryInfo["Context", None]
MOST_LOOKS = 100
EVERYWHERE = Place(PLATFORM, PLATFORM)


class Unsigned(Work):
    """A change by somebody who has not signed in. It ends where the verb has said what it is about, so that the log
    knows what was tried; its transaction can only read."""

    def attempt(
        self,
        action: str,
        target: str,
        *,
        place: Place | None = None,
        digest: str | None = None,
        about: str | None = None,
    ) -> None:
        super().attempt(action, target, place=place, digest=digest, about=about)
        raise _sign_in_needed()


@dataclass(slots=True)
class Context:
    system: System
    actor: Actor
    origin: Origin
    work: Work = field(init=False)
    loaders: dict[Any, DataLoader[Any, Any]] = field(default_factory=dict)
    looks: dict[tuple[str, str], tuple[Place, UUID | None]] = field(default_factory=dict)
    changing: bool = False
    seen: int | None = None  # of a log that is followed: the last number the client has

    def __post_init__(self) -> None:
        self.work = self.system.foundation.view(self.actor, self.origin)

    @property
    def signed_in(self) -> bool:
        return not self.actor.anonymous

    async def refresh(self) -> None:
        """A new snapshot, for what is read after a change."""
        await self.close()
        self.loaders.clear()
        self.work = self.system.foundation.view(self.actor, self.origin)

    async def close(self) -> None:
        await self.work.__aexit__(None, None, None)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Work]:
        """A change of its own. For those who have not signed in it ends with `SignInNeeded`, come what may."""
        if not self.actor.anonymous:
            self.changing = True
            async with self.system.foundation.begin(self.actor, self.origin) as work:
                yield work
            return
        async with Unsigned(self.system.foundation, self.actor, self.origin, SNAPSHOT) as work:
            try:
                yield work
            except Refusal:
                raise _sign_in_needed() from None
            raise _sign_in_needed()

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Work]:
        """The snapshot, for a read that the law may refuse; the refusal is recorded."""
        try:
            yield self.work
        except Refusal as refusal:
            await self.work.refused(refusal)
            raise

    def looked(self, action: str, place: Place, target: str | None = None, *, about_id: UUID | None = None) -> None:
        """Notes a look that was allowed: one entry for action and target, however many resolvers say so. `about_id` is
        the user whose name the target is."""
        if self.system.foundation.settings.audit_reads == "all":
            self.looks.setdefault((action, target or place.name), (place, about_id))

    async def record_looks(self) -> None:
        """Returns when all looks of the operation stand in the log: the first hundred by themselves, the rest counted
        by action. Raises `LogUnavailable`: what cannot be recorded is not shown."""
        looks = iter(self.looks.items())
        events = [
            self.work.look(action, place, target, about_id=about_id)
            for (action, target), (place, about_id) in islice(looks, MOST_LOOKS)
        ]
        if more := Counter(action for (action, _), _ in looks):
            counts = {action: [None, count] for action, count in more.items()}
            events.append(replace(self.work.look("look.more", EVERYWHERE), changes=counts))
        try:
            await asyncio.gather(*map(self.system.foundation.ledger.append, events))
        except LogUnavailable as unavailable:
            if not self.changing:
                raise
            raise LogUnavailable(
                "The audit log cannot take entries right now, so what was asked for besides the change is not shown. "
                "The change itself may have been made: look before you repeat it."
            ) from unavailable

    @asynccontextmanager
    async def reading_log(
        self, target: str = "audit log", *, catch_up: bool = True, **asked: Any
    ) -> AsyncIterator[Work]:
        """A snapshot of its own, in which all has its number that was written before the call, unless `catch_up` is
        False. That the log was read, or could not be, is recorded in it; `asked` says what was asked for."""
        ledger = self.system.foundation.ledger
        if catch_up:
            await ledger.catch_up()
        async with self.system.foundation.view(self.actor, self.origin) as work:
            work.attempt("audit.read", target)
            yield work
            event = work.record(changes=asked)
        await ledger.append(event)

    @asynccontextmanager
    async def glancing(self) -> AsyncIterator[Work]:
        """Statements each for itself, so that what is read is as new as can be."""
        async with self.system.foundation.glance(self.actor, self.origin) as work:
            yield work

    async def batched(self, name: Any, key: Any, load: Callable[[list[Any]], Awaitable[Sequence[Any]]]) -> Any:
        """`load` is called once for all keys that resolvers ask for at the same time under this name."""
        if name not in self.loaders:
            self.loaders[name] = DataLoader(load, max_batch_size=500)
        return await self.loaders[name].load(key)

    async def of_id(self, name: str, id: UUID, rows_of: Callable[[list[UUID]], Executable]) -> Any | None:
        """The row with this value in its column `id`; one statement for all that are asked for at the same time."""

        async def load(ids: list[UUID]) -> list[Any | None]:
            found = {row["id"]: row for row in await self.work.fetch(rows_of(ids))}
            return [found.get(one) for one in ids]

        return await self.batched(name, id, load)

    async def children(
        self,
        name: str,
        selection: Subquery,
        parent: str,
        parent_id: UUID,
        page: Page,
        columns: Sequence[str],
        **order: bool,
    ) -> Sequence[Any]:
        """One page of the rows that belong to a parent; one statement for all parents that ask for such a page.

        `name` stands for the selection: two that are called alike must be alike, since only one of them is read.
        """

        async def load(parents: list[UUID]) -> list[list[Any]]:
            keys = keyset(page, [selection.c[name] for name in columns], **order)
            place = func.row_number().over(partition_by=selection.c[parent], order_by=keys.order_by).label("place")
            ranked = select(selection, place).where(keys.where, selection.c[parent].in_(parents)).subquery()
            statement = select(ranked).where(ranked.c.place <= keys.limit).order_by(ranked.c.place)
            found: dict[UUID, list[Any]] = {one: [] for one in parents}
            for row in await self.work.fetch(statement):
                found[row[parent]].append(row)
            return [found[one] for one in parents]

        asked = (name, parent, page, tuple(columns), tuple(order.items()))
        rows: Sequence[Any] = await self.batched(asked, parent_id, load)
        return rows


def _sign_in_needed() -> SignInNeeded:
    return SignInNeeded("Sign in to change anything.")
