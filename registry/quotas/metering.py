"""Traffic: what may still leave this month, and what has left.

A server takes leases: parts of what is left of an organization's month, charged before anything is sent, so that no
number of servers ever lets through more than the limit. What is taken out of a lease is counted by the ledger, a pull
in the commit of its own entry. So a pull costs no statement of its own but once in a while. A lease that is idle goes
back, and one whose server was killed ends by itself.

In memory and in the database a lease differs by what has left and is not counted yet.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from policies import quotas
from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.clock import Clock
from registry.events import Leased, Traffic
from registry.identifiers import new_id
from registry.places import Place
from registry.quotas import reserving
from registry.work import Foundation, Work

# Longer in the database than here: whoever uses a lease must know that it is still theirs.
LASTS, USED_FOR, IDLE = timedelta(minutes=5), timedelta(minutes=4), timedelta(seconds=30)
KEYS = (Key.PULLS, Key.EGRESS_BYTES)
NEVER = datetime.min.replace(tzinfo=UTC)
# In the period that was charged, which is a later one where another server's clock is ahead.
EXTEND = """
    INSERT INTO quota_lease AS l (id, organization_id, key, period, amount, used, expires_at)
    SELECT $1, scope_id, key, period, $4, 0, $5 FROM quota_counter
    WHERE scope_kind = 'organization' AND scope_id = $2 AND key = $3
    ON CONFLICT (id) DO UPDATE SET amount = l.amount + excluded.amount, expires_at = excluded.expires_at
    WHERE l.period = excluded.period RETURNING period, xmax = 0 AS fresh
"""
RETURN = """
    WITH less AS (
        UPDATE quota_lease SET amount = amount - $2 WHERE id = $1 AND amount - used >= $2
        RETURNING organization_id, key, period)
    INSERT INTO quota_refund (scope_kind, scope_id, key, period, amount)
    SELECT 'organization', organization_id, key, period, $2 FROM less
"""
# What did not leave may not be counted yet while what left in its place is.
ENDED = """
    WITH gone AS (
        DELETE FROM quota_lease WHERE {which} RETURNING organization_id, key, period, amount - used AS rest
    ), beyond AS (
        UPDATE quota_counter q SET charged = q.charged - less.rest
        FROM (SELECT organization_id, key, period, sum(rest)::bigint AS rest FROM gone WHERE rest < 0
            GROUP BY organization_id, key, period) AS less
        WHERE q.scope_kind = 'organization' AND q.scope_id = less.organization_id AND q.key = less.key
            AND q.period = less.period)
    INSERT INTO quota_refund (scope_kind, scope_id, key, period, amount)
    SELECT 'organization', organization_id, key, period, rest FROM gone WHERE rest > 0
"""
EXPIRE, END = ENDED.format(which="expires_at <= $1"), ENDED.format(which="organization_id = $1 AND key = $2")


@dataclass(slots=True)
class Lease:
    """What this server may still let through of a key, until `until`, and in the month that begins at `begins`. `block`
    is how much it took last."""

    id: UUID
    period: str = ""
    left: int = 0
    block: int = 0
    begins: datetime = NEVER
    until: datetime = NEVER
    touched: datetime = NEVER
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Meter:
    """The leases of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[tuple[UUID, Key], Lease] = {}

    def at_hand(
        self, place: Place, tag: str | None, user_id: UUID | None, at: datetime, pulls: int, size: int
    ) -> Traffic | None:
        """Takes what leaves out of the leases; None where they do not hold enough."""
        assert place.organization_id is not None  # noqa: S101
        assert place.repository_id is not None  # noqa: S101
        at = self._moment(place.organization_id, at)
        wanted = [(key, amount) for key, amount in zip(KEYS, (pulls, size), strict=True) if amount]
        taken = []
        for key, amount in wanted:
            lease = self._leases.get((place.organization_id, key))
            if lease is None or not _holds(lease, at, amount):
                return None
            taken.append((lease, key, amount))
        for lease, _, amount in taken:
            lease.left -= amount
            lease.touched = at
        leased = tuple(Leased(lease.id, key.value, lease.period, amount) for lease, key, amount in taken)
        return Traffic(place.organization_id, place.repository_id, tag, user_id, at, pulls, size, leased)

    def _moment(self, organization_id: UUID, at: datetime) -> datetime:
        """When something leaves: not before the month has begun that any of its leases is for, as where another
        server's clock is ahead. So what leaves at once is of one month."""
        leases = (self._leases.get((organization_id, key)) for key in KEYS)
        return max([at, *(lease.begins for lease in leases if lease is not None)])

    async def let_through(self, work: Work, place: Place, tag: str | None, pulls: int, size: int) -> Traffic:
        """Asks the database for what the leases do not hold. Raises `QuotaExceeded` when the month is used up.

        The Work must hold no connection yet: one that waits for a second may wait for ever.
        """
        assert place.organization_id is not None  # noqa: S101
        while (found := self.at_hand(place, tag, work.actor.user_id, work.now, pulls, size)) is None:
            for key, amount in zip(KEYS, (pulls, size), strict=True):
                lease = self._leases.setdefault((place.organization_id, key), Lease(new_id()))
                async with lease.renewing:
                    if amount and not _holds(lease, self._moment(place.organization_id, work.now), amount):
                        await self._renew(work, place, key, lease, amount)
        return found

    def unsent(self, traffic: Traffic, size: int) -> Traffic:
        """Puts bytes back that did not leave; returns what is to be counted for it."""
        back = [part for part in traffic.leased if part.key == Key.EGRESS_BYTES]
        for part in back:
            lease = self._leases.get((traffic.organization_id, Key.EGRESS_BYTES))
            if lease is not None and lease.id == part.lease:
                lease.left += size
        less = tuple(Leased(part.lease, part.key, part.period, -size) for part in back)
        return Traffic(
            traffic.organization_id, traffic.repository_id, traffic.tag, traffic.user_id, traffic.at, 0, -size, less
        )

    def forget(self, ended: Collection[UUID]) -> None:
        """Leases that are no more: whoever needs one asks anew."""
        for lease in self._leases.values():
            if lease.id in ended:
                lease.until = NEVER

    async def tend(self, foundation: Foundation, *, closing: bool = False) -> None:
        """Gives back leases that are idle, or all of them, and ends those whose server is gone."""
        now = self._clock.now()
        for name, lease in list(self._leases.items()):
            if (closing or now - lease.touched > IDLE) and not lease.renewing.locked():
                del self._leases[name]
                if lease.left:
                    async with foundation.promise(SYSTEM, Origin()) as work:
                        await work.execute(RETURN, lease.id, lease.left)
        async with foundation.promise(SYSTEM, Origin()) as work:
            await work.execute(EXPIRE, now)

    async def _renew(self, asking: Work, place: Place, key: Key, lease: Lease, amount: int) -> None:
        """Charges another block. In a Work of its own, which ends at once: the answer to a pull takes longer."""
        async with asking.foundation.promise(asking.actor, asking.origin) as work:
            if lease.until <= work.now:
                lease.id, lease.left, lease.block = new_id(), 0, 0
            needed = max(amount - lease.left, 0)
            wanted = max(needed, quotas.next_lease(key, lease.block))
            scope = Place("organization", "", True, place.account_id, place.organization_id)
            granted = await reserving.reserve(work, key, scope, wanted, needed, lease.left, share=quotas.LEASE_SHARE)
            row = await self._extend(work, lease, scope, key, granted)
        lease.left = granted if row["fresh"] else lease.left + granted
        lease.period, lease.begins = row["period"], datetime.strptime(row["period"], "%Y-%m").replace(tzinfo=UTC)
        lease.until = min(work.now + USED_FOR, quotas.next_month(max(lease.begins, work.now)))
        lease.block, lease.touched = granted, work.now

    async def _extend(self, work: Work, lease: Lease, scope: Place, key: Key, granted: int) -> Any:
        """Another lease, where another server's clock has begun the next month."""
        given = scope.id, key.value, granted, work.now + LASTS
        row = await work.fetchrow(EXTEND, lease.id, *given)
        if row is None:
            lease.id = new_id()
            row = await work.fetchrow(EXTEND, lease.id, *given)
        assert row is not None, "the counter has been charged"  # noqa: S101
        return row


async def end_leases(work: Work, organization_id: UUID, key: Key) -> None:
    """Every server's, so that all ask anew: each finds it out with the next that it lets through."""
    await work.execute(END, organization_id, key.value)


def _holds(lease: Lease, at: datetime, amount: int) -> bool:
    return lease.left >= amount and at < lease.until
