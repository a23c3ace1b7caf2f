"""Bytes on their way: held before they move, settled when their blob is linked, given back when they never arrive.

A hold counts against every limit above it from the moment it is made. Settling touches no counter: what was held
beyond what is new goes into a queue of refunds, which the janitor takes off (`apply_refunds`), or earlier who needs the
room. So the counters that everybody needs are never locked while a commit waits for the disk.
"""

from collections.abc import Sequence
from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.dues import Line, dues_of
from registry.places import Place
from registry.quotas import charging
from registry.work import Foundation, Work

RESERVE = "SELECT * FROM quota_reserve($1, $2, $3, $4, $5, $6, $7, $8)"
REFUNDED = "SELECT DISTINCT scope_kind, scope_id, key FROM quota_refund"
APPLY = "SELECT quota_apply($1, $2, $3)"


def hold(work: Work, amount: int, place: Place, before: int = 0) -> None:
    """Holds bytes that are about to move, beside those that were held before for the same; whoever holds writes the
    amount down (`upload.held`)."""
    work.charge(Key.STORAGE_BYTES, amount, place)
    work.dues.held += amount
    work.dues.before = before


async def reserve(
    work: Work,
    key: Key,
    place: Place,
    wanted: int,
    needed: int,
    before: int,
    *,
    share: int,
    within: str = RESERVE,
    more: Sequence[Any] = (),
) -> int:
    """Charges at once what is wanted, or less where that would be more than a share of what is left, but always what
    is needed beside what was charged before for the same; returns it. Raises `QuotaExceeded` when not even that has
    room; the Work must then be left.

    `within` is a statement that does it and more, with the arguments `more`; 0 where it found nothing to reserve for.
    """
    dues = dues_of(key, place)
    period = quotas.period_of(key, work.now)
    defaults = [charging.default_limit(work.settings, key, due.kind) for due in dues]
    kinds, ids = [due.kind for due in dues], [due.scope for due in dues]
    asked = kinds, ids, key.value, period, defaults, wanted, needed, share
    rows = await work.fetch(within, *asked, *more)
    if not rows:
        return 0
    amount: int = rows[0]["charged"]
    if key is Key.STORAGE_BYTES:
        work.dues.held += amount
    work.dues.before = before
    await charging.read_charged(work, [Line(due, place, amount) for due in dues], rows[1:])
    return amount


async def apply_refunds(foundation: Foundation) -> None:
    """Takes off what has been given back, a counter at a time; any server may do this at any time."""
    async with foundation.glance(SYSTEM, Origin()) as work:
        rows: list[Any] = await work.fetch(REFUNDED)
    for row in rows:
        async with foundation.promise(SYSTEM, Origin()) as work:
            await work.execute(APPLY, row["scope_kind"], row["scope_id"], row["key"])
