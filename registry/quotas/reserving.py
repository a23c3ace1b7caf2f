"""Bytes on their way: held before they move, settled when their blob is linked, given back when they never arrive.

A hold counts against every limit above it from the moment it is made. Settling touches no counter: what was held
beyond what is new goes into a queue of refunds, which the janitor takes off (`apply_refunds`), or earlier who needs the
room. So the counters that everybody needs are never locked while a commit waits for the disk.
"""

from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.dues import Line, dues_of
from registry.places import Place
from registry.quotas import charging
from registry.work import Foundation, Work

RESERVE = "SELECT * FROM quota_reserve($1, $2, $3, $4, $5, $6, $7, $8, $9)"
SETTLE = "SELECT quota_settle($1, $2, $3, $4, $5, $6, $7, $8)"
REFUNDED = "SELECT DISTINCT scope_kind, scope_id, key FROM quota_refund LIMIT 1000"
APPLY = "SELECT quota_apply($1, $2, $3, $4)"


def hold(work: Work, amount: int, place: Place) -> None:
    """Holds bytes that are about to move; whoever holds writes the amount down (`upload.held`)."""
    work.charge(Key.STORAGE_BYTES, amount, place)
    work.dues.held += amount


async def hold_window(work: Work, held: int, needed: int, place: Place) -> int:
    """Holds as much as is wise for an upload that does not say its length, and returns it.

    Raises `QuotaExceeded` when not even the bytes that are needed now have room; the Work must then be left.
    """
    wanted = max(needed, quotas.next_window(held))
    return await reserve(work, Key.STORAGE_BYTES, place, wanted, needed, share=quotas.WINDOW_SHARE, least=0)


async def reserve(work: Work, key: Key, place: Place, wanted: int, needed: int, *, share: int, least: int) -> int:
    """Charges at once what is wanted, or less where that would be more than a share of what is left and more than the
    least, but always what is needed; returns it. Raises as `hold_window`."""
    dues = dues_of(key, place)
    period = quotas.period_of(key, work.now)
    defaults = [charging.default_limit(work.settings, key, due.kind) for due in dues]
    kinds, ids = [due.kind for due in dues], [due.scope for due in dues]
    granted, *rows = await work.fetch(RESERVE, kinds, ids, key.value, period, defaults, wanted, needed, share, least)
    await charging.read_charged(work, [Line(due, place, granted["top"]) for due in dues], rows)
    amount: int = granted["top"]
    return amount


async def settle(work: Work, place: Place, held: int, digest: str, size: int, *, fresh: bool) -> None:
    """A blob that was held is linked: `fresh` if the repository did not hold it before. What was held beyond what is
    new to each scope is given back."""
    scope = place.repository_id, place.organization_id, place.account_id
    await work.execute(SETTLE, *scope, held, fresh, digest, size, work.now)


async def apply_refunds(foundation: Foundation) -> None:
    """Takes off what has been given back, a counter at a time; any server may do this at any time."""
    async with foundation.glance(SYSTEM, Origin()) as work:
        rows: list[Any] = await work.fetch(REFUNDED)
    for row in rows:
        default = charging.default_limit(foundation.settings, Key(row["key"]), row["scope_kind"])
        async with foundation.promise(SYSTEM, Origin()) as work:
            await work.execute(APPLY, row["scope_kind"], row["scope_id"], row["key"], default)
