"""How much of each limit is used, and setting limits."""

from dataclasses import dataclass
from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.access import finding
from registry.errors import Invalid
from registry.places import Place
from registry.quotas.reserving import default_limit
from registry.work import Work

COUNTERS = "SELECT key, charged, explicit, hard FROM quota_counter WHERE scope_kind = $1 AND scope_id = $2"
HELD = """
    SELECT coalesce(sum(u.held), 0)::bigint FROM upload u
    JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id
    WHERE CASE $1 WHEN 'account' THEN o.account_id WHEN 'organization' THEN o.id ELSE r.id END = $2
"""
# Makes the counter if need be and locks it: of two changes, each must see what it replaces.
LOCK = """
    INSERT INTO quota_counter AS q (scope_kind, scope_id, key, charged, explicit) VALUES ($1, $2, $3, 0, false)
    ON CONFLICT (scope_kind, scope_id, key) DO UPDATE SET explicit = q.explicit
"""
SET = "UPDATE quota_counter SET explicit = $4, hard = $5 WHERE scope_kind = $1 AND scope_id = $2 AND key = $3"


class LimitInvalid(Invalid):
    code = "LIMIT_INVALID"


@dataclass(frozen=True, slots=True)
class Quota:
    """`limit` none: counted but unlimited. `used` is settled, `held` on its way; both in `unit`."""

    key: Key
    limit: int | None
    used: int
    held: int
    unit: str


async def scope_of(work: Work, *, account: str | None, organization: str | None, repository: str | None) -> Place:
    """The one scope that is named. Raises `LimitInvalid` unless it is exactly one."""
    match account, organization, repository:
        case str(), None, None:
            return await finding.account(work, account)
        case None, str(), None:
            return await finding.organization(work, organization)
        case None, str(), str():
            return await finding.repository(work, organization, repository)
    raise LimitInvalid(
        "A scope is an account, or an organization, or an organization with a repository; give exactly one.",
        path=["scope"],
    )


async def quotas_of(work: Work, place: Place) -> list[Quota]:
    """Every key that is counted at this scope, whether anything was charged yet or not."""
    work.require(_needed(place), place)
    rows = {row["key"]: row for row in await work.fetch(COUNTERS, place.kind, place.id)}
    held = await work.fetchval(HELD, place.kind, place.id)
    keys = [key for key, scopes in quotas.SCOPES.items() if place.kind in scopes]
    return [_quota(work, place, key, rows.get(key), held) for key in keys]


async def set_limit(work: Work, place: Place, key: Key, limit: int | None, *, default: bool = False) -> Quota:
    """Sets the hard limit of a key at a scope; none for unlimited, `default` to go back to what the settings say.

    A limit below what is used is legal: growth is refused from then on, deleting never. Raises `LimitInvalid`.
    """
    work.attempt("quota.set", f"{place.kind} {place.name} {key.value}", place=place)
    work.require("administer", await finding.platform(work))
    work.require("view_quota" if place.kind != "repository" else "view", place)
    if place.kind not in quotas.SCOPES[key]:
        raise LimitInvalid(
            f"{key.value} is not counted at {place.kind}s, but at {' and '.join(quotas.SCOPES[key])}.",
            path=["key"],
        )
    if limit is not None and not 0 <= limit < 2**63:
        raise LimitInvalid("A limit is a whole number from 0, or null for unlimited.", path=["limit"])
    await work.execute(LOCK, place.kind, place.id, key.value)
    before = {quota.key: quota for quota in await quotas_of(work, place)}[key]
    await work.execute(SET, place.kind, place.id, key.value, not default, limit)
    after = {quota.key: quota for quota in await quotas_of(work, place)}[key]
    work.record(place=place, changes={"limit": [before.limit, after.limit]})
    return after


def _needed(place: Place) -> str:
    return "view" if place.kind == "repository" else "view_quota"


def _quota(work: Work, place: Place, key: Key, row: Any | None, held: int) -> Quota:
    on_the_way = held if key is Key.STORAGE_BYTES else 0
    charged = row["charged"] if row else 0
    limit = row["hard"] if row and row["explicit"] else default_limit(work.settings, key, place.kind)
    return Quota(key, limit, charged - on_the_way, on_the_way, quotas.UNITS[key])
