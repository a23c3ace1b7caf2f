"""What counts against a scope and is not content: uploads on their way, traffic let through ahead, and what has been
given back and not been taken off yet. With what is used it makes up what is charged."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies.quotas import Key
from registry.places import Place
from registry.quotas.scopes import WITHIN
from registry.work import Work

UPLOADS = """
    SELECT o.name AS organization, r.name AS repository, p.name AS user_name, u.client, u.received, u.held,
        u.started_at, u.held_until, u.expires_at
    FROM upload u JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id
    LEFT JOIN users p ON p.id = u.user_id
    WHERE {within} ORDER BY u.held DESC, u.started_at, u.id LIMIT $2
"""
LEASES = """
    SELECT key, amount, used, expires_at FROM quota_lease
    WHERE organization_id = $2 AND $1 = 'organization' ORDER BY amount - used DESC, id LIMIT $3
"""
REFUNDS = """
    SELECT f.key, sum(f.amount)::bigint AS amount
    FROM quota_refund f JOIN quota_counter q USING (scope_kind, scope_id, key, period)
    WHERE f.scope_kind = $1 AND f.scope_id = $2 GROUP BY f.key ORDER BY f.key
"""


@dataclass(frozen=True, slots=True)
class HeldUpload:
    organization: str
    repository: str
    user_name: str | None
    client: str | None
    received: int
    held: int
    started_at: datetime
    held_until: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    key: Key
    amount: int
    used: int
    expires_at: datetime


async def uploads(work: Work, place: Place, first: int) -> list[HeldUpload]:
    """Those that hold most come first."""
    rows = await work.fetch(UPLOADS.format(within=WITHIN[place.kind]), place.id, first)
    return [HeldUpload(**row) for row in rows]


async def leases(work: Work, place: Place, first: int) -> list[Lease]:
    """Only organizations have traffic."""
    return [_lease(row) for row in await work.fetch(LEASES, place.kind, place.id, first)]


async def refunds(work: Work, place: Place) -> dict[Key, int]:
    return {Key(row["key"]): row["amount"] for row in await work.fetch(REFUNDS, place.kind, place.id)}


def _lease(row: Any) -> Lease:
    return Lease(Key(row["key"]), row["amount"], row["used"], row["expires_at"])
