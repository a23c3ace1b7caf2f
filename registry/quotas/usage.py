"""How much of each limit is used, and setting limits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies import quotas
from policies.quotas import Key
from registry.access import finding
from registry.errors import Invalid
from registry.places import Place
from registry.quotas.charging import default_limit, tell
from registry.quotas.metering import end_leases
from registry.quotas.scopes import COLUMNS, held
from registry.work import Work

# In one statement, and so of one moment: what is charged, and how much of that is on its way or has been given back.
COUNTERS = {
    kind: f"""
        SELECT q.key, q.charged, q.explicit, q.hard, q.soft, q.warned, q.period, q.peak,
            coalesce(d.charged - d.owed, 0) AS difference, {held(kind, "q.key", "q.period")} AS held,
            (SELECT coalesce(sum(f.amount), 0) FROM quota_refund f WHERE f.scope_kind = q.scope_kind
                AND f.scope_id = q.scope_id AND f.key = q.key AND f.period = q.period)::bigint AS refunded
        FROM quota_counter q LEFT JOIN quota_difference d USING (scope_kind, scope_id, key)
        WHERE q.scope_kind = '{kind}' AND q.scope_id = $1
    """
    for kind in COLUMNS
}
VERIFIED = "SELECT verified_at FROM quota_recount"
# Makes the counter if need be and locks it: of two changes, each must see what it replaces.
LOCK = """
    INSERT INTO quota_counter AS q (scope_kind, scope_id, key, charged, explicit) VALUES ($1, $2, $3, 0, false)
    ON CONFLICT (scope_kind, scope_id, key) DO UPDATE SET explicit = q.explicit RETURNING *
"""
SET = """
    UPDATE quota_counter SET explicit = $4, hard = $5, soft = $6, warned = $7, soft_warned = $8
    WHERE scope_kind = $1 AND scope_id = $2 AND key = $3
"""


class LimitInvalid(Invalid):
    code = "LIMIT_INVALID"


@dataclass(frozen=True, slots=True)
class Quota:
    """`limit` none: counted but unlimited. `used` is settled, `held` on its way; both in `unit`.

    `told` is the step in per cent that its owner was last told of. `difference` is what the last recount, at
    `verified_at`, found charged beyond what is there. `peak` is the most that was charged since the last sample.
    """

    key: Key
    limit: int | None
    soft_limit: int | None
    used: int
    held: int
    unit: str
    told: int = 0
    verified_at: datetime | None = None
    difference: int = 0
    peak: int = 0

    @property
    def percent(self) -> float | None:
        """Used and held of the limit; a limit of nothing is always full."""
        if self.limit is None:
            return None
        return round(100 * (self.used + self.held) / self.limit, 2) if self.limit else 100.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What to set: `limit` and `soft_limit` are numbers or none (unlimited), where they are named in `given`;
    `default` goes back to what the settings say."""

    given: frozenset[str]
    limit: int | None = None
    soft_limit: int | None = None
    default: bool = False


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
    require_view(work, place)
    return await standings(work, place)


async def standings(work: Work, place: Place) -> list[Quota]:
    """As `quotas_of`, for who has been required to be allowed to see them."""
    rows = {row["key"]: row for row in await work.fetch(COUNTERS[place.kind], place.id)}
    verified = await work.fetchval(VERIFIED)
    keys = [key for key, kinds in quotas.SCOPES.items() if place.kind in kinds]
    return [_quota(work, place, key, rows.get(key), verified) for key in keys]


def require_view(work: Work, place: Place) -> None:
    """Raises what `require` raises."""
    work.require("view" if place.kind == "repository" else "view_quota", place)


async def set_limit(work: Work, place: Place, key: Key, limits: Limits) -> Quota:
    """Sets the limits of a key at a scope, for platform administrators.

    A limit below what is used is legal: growth is refused from then on, deleting never. Raises `LimitInvalid`.
    """
    work.attempt("quota.set", f"{place.kind} {place.name} {key.value}", place=place)
    work.require("administer", await finding.platform(work))
    require_view(work, place)
    check_key(place, key)
    _check_limits(limits)
    if place.kind != "account":
        await finding.hold(work, place)
    row = await work.fetchrow(LOCK, place.kind, place.id, key.value)
    assert row is not None  # noqa: S101
    if key in quotas.MONTHLY:
        await end_leases(work, place.id, key)
    before = await standing_of(work, place, key)
    explicit = not limits.default and ("limit" in limits.given or row["explicit"])
    hard = limits.limit if "limit" in limits.given else row["hard"]
    soft = limits.soft_limit if "soft_limit" in limits.given else row["soft"]
    effective = hard if explicit else default_limit(work.settings, key, place.kind)
    _tell_steps(work, place, key, row, before.used, effective, soft)
    warned = quotas.standing(row["warned"], before.used, effective)
    soft_warned = quotas.soft_standing(row["soft_warned"], before.used, soft)
    await work.execute(SET, place.kind, place.id, key.value, explicit, hard, soft, warned, soft_warned)
    after = await standing_of(work, place, key)
    changes = {"limit": [before.limit, after.limit], "softLimit": [before.soft_limit, after.soft_limit]}
    work.record(place=place, changes={name: change for name, change in changes.items() if change[0] != change[1]})
    return after


def check_key(place: Place, key: Key) -> None:
    """Raises `LimitInvalid` where the key is not counted at such a scope."""
    if place.kind not in quotas.SCOPES[key]:
        kinds = " and ".join(f"{kind}s" if kind[-1] != "y" else f"{kind[:-1]}ies" for kind in quotas.SCOPES[key])
        raise LimitInvalid(
            f"{key.value} is not counted for {place.kind} '{place.name}', but for {kinds}.", path=["key"]
        )


def check_limit(limit: int | None, field: str) -> None:
    """Raises `LimitInvalid`."""
    if limit is not None and not 0 <= limit < 2**63:
        raise LimitInvalid("A limit is a whole number from 0, or null for unlimited.", path=[field])


def _check_limits(limits: Limits) -> None:
    if not limits.given and not limits.default:  # a forgotten variable must not take a limit away
        raise LimitInvalid("Say which limit to set: a number, or null for unlimited.", path=["limit"])
    if limits.default and "limit" in limits.given:
        raise LimitInvalid("Either a limit is set, or it follows the default; say one of the two.", path=["limit"])
    check_limit(limits.limit, "limit")
    check_limit(limits.soft_limit, "softLimit")


async def standing_of(work: Work, place: Place, key: Key) -> Quota:
    """Of one key that is counted at this scope."""
    return {quota.key: quota for quota in await standings(work, place)}[key]


def _tell_steps(work: Work, place: Place, key: Key, row: Any, used: int, limit: int | None, soft: int | None) -> None:
    """A limit that comes near because it was lowered is told like one that comes near because more is there."""
    reached = quotas.level(used, limit)
    for step in quotas.STEPS:
        if row["warned"] < step <= reached and limit is not None:
            tell(work, place, key, step, limit, used)
    if soft is not None and used >= soft and not row["soft_warned"]:
        tell(work, place, key, 0, soft, used)


def _quota(work: Work, place: Place, key: Key, row: Any | None, verified: datetime | None) -> Quota:
    limit, soft = default_limit(work.settings, key, place.kind), None
    if row is None:
        return Quota(key, limit, soft, 0, 0, quotas.UNITS[key], verified_at=verified)
    limit, soft = row["hard"] if row["explicit"] else limit, row["soft"]
    if row["period"] < quotas.period_of(key, work.now):
        return Quota(key, limit, soft, 0, 0, quotas.UNITS[key], verified_at=verified)
    used = row["charged"] - row["held"] - row["refunded"]
    told, difference = row["warned"], row["difference"]
    return Quota(key, limit, soft, used, row["held"], quotas.UNITS[key], told, verified, difference, row["peak"])
