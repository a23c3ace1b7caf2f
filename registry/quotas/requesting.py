"""Asking for another limit, and the answer.

Who manages an organization, or owns the account, asks; a platform administrator approves, which sets the limit in the
same transaction, or declines. At each scope and key one request waits at a time; what is decided stays as it was, and
with its scope a request goes (`charging.forget`).
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Subquery, Text, Uuid, text

from policies.access import Level
from policies.quotas import Key, quantity
from registry.access import finding
from registry.audit.reasons import stated
from registry.deciding import not_found
from registry.errors import Conflict, NotFound
from registry.identifiers import new_id, show_id
from registry.places import Place
from registry.quotas import usage
from registry.quotas.usage import LimitInvalid, Limits, Quota
from registry.work import Work

PREFIX = "request"
# A second one that waits finds the first.
ASK = """
    INSERT INTO quota_request (id, scope_kind, scope_id, account_id, key, wanted, reason, state, requested_by,
        requested_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 'PENDING', $8, $9)
    ON CONFLICT (scope_kind, scope_id, key) WHERE state = 'PENDING' DO NOTHING RETURNING id
"""
SCOPE = """
    SELECT a.name AS account, o.name AS organization, r.name AS repository
    FROM quota_request q JOIN account a ON a.id = q.account_id
    LEFT JOIN repository r ON q.scope_kind = 'repository' AND r.id = q.scope_id
    LEFT JOIN organization o ON o.id = CASE q.scope_kind
        WHEN 'organization' THEN q.scope_id WHEN 'repository' THEN r.organization_id END
    WHERE q.id = $1
"""
LOCK = "SELECT * FROM quota_request WHERE id = $1 FOR UPDATE"
DECIDE = "UPDATE quota_request SET state = $2, decided_by = $3, decided_at = $4, note = $5 WHERE id = $1"
# Those that the actor may see: who sees the quotas of an organization or account sees what is asked for them.
SEEN = f"""
    SELECT q.id, q.scope_kind, q.account_id, a.name AS account, o.id AS organization_id, o.name AS organization,
        r.id AS repository_id, r.name AS repository, q.key, q.wanted, q.reason, q.state, q.note, q.requested_at,
        q.decided_at, asker.name AS requested_by, judge.name AS decided_by
    FROM quota_request q
    JOIN account a ON a.id = q.account_id
    JOIN users u ON u.id = :actor
    LEFT JOIN repository r ON q.scope_kind = 'repository' AND r.id = q.scope_id
    LEFT JOIN organization o ON o.id = CASE q.scope_kind
        WHEN 'organization' THEN q.scope_id WHEN 'repository' THEN r.organization_id END
    LEFT JOIN organization_permission p ON p.organization_id = o.id AND p.user_id = u.id
    LEFT JOIN users asker ON asker.id = q.requested_by
    LEFT JOIN users judge ON judge.id = q.decided_by
    WHERE :able AND (u.platform_admin OR (u.owner AND u.account_id = q.account_id) OR p.level = {Level.MANAGE.value})
"""


class RequestNotFound(NotFound):
    code = "NOT_FOUND"


class RequestPending(Conflict):
    code = "REQUEST_PENDING"


class RequestDecided(Conflict):
    code = "REQUEST_DECIDED"


class RequestOvertaken(Conflict):
    code = "REQUEST_OVERTAKEN"


async def ask(work: Work, place: Place, key: Key, limits: Limits) -> UUID:
    """Asks for a higher limit, or none; the reason is the one stated. Raises `LimitInvalid`, `RequestPending`."""
    work.attempt("quota.request", f"{place.kind} {place.name} {key.value}", place=place)
    home = await finding.organization(work, place.name.partition("/")[0]) if place.kind == "repository" else place
    work.require("request_quota", home)
    if not place.exists:
        raise not_found(place)
    usage.check_key(place, key)
    if "limit" not in limits.given:
        raise LimitInvalid("Say which limit to ask for: a number, or null for unlimited.", path=["limit"])
    usage.check_limit(limits.limit, "limit")
    if place.kind != "account":
        await finding.hold(work, place)
    present = await usage.standing_of(work, place, key)
    if not _is_more(limits.limit, present.limit):
        raise LimitInvalid(f"{_said(present, place)} already. Ask for more than that.", path=["limit"])
    request = await _insert(work, place, key, limits.limit)
    work.record(changes={"limit": [present.limit, limits.limit]})
    return request


async def decide(work: Work, request: UUID, *, approve: bool, note: str | None) -> UUID:
    """Sets the limit that was asked for, or declines to; for platform administrators. Raises `RequestNotFound`,
    `RequestDecided`, `RequestOvertaken`."""
    _attempt(work, approve, show_id(PREFIX, request))
    work.require("administer", await finding.platform(work))
    line = stated(note, "note") or ""
    place = await _held_scope(work, request)
    row = await work.fetchrow(LOCK, request)
    if row is None:
        raise _absent()
    key, state = Key(row["key"]), "APPROVED" if approve else "DECLINED"
    _attempt(work, approve, f"{place.kind} {place.name} {key.value}", place)
    if row["state"] != "PENDING":
        raise RequestDecided(f"This request was {row['state'].lower()} at {row['decided_at']:%Y-%m-%d %H:%M:%S UTC}.")
    present = await usage.standing_of(work, place, key)
    if approve and not _is_more(row["wanted"], present.limit):
        raise RequestOvertaken(f"{_said(present, place)} already, no less than was asked for. Decline the request.")
    await work.execute(DECIDE, request, state, work.actor.user_id, work.now, line)
    limit = row["wanted"] if approve else present.limit
    work.record(changes={"state": ["PENDING", state], "limit": [present.limit, limit], "note": [None, line or None]})
    if approve:
        await usage.set_limit(work, place, key, Limits(frozenset({"limit"}), limit=limit))
    return request


def seen(work: Work) -> Subquery:
    """All requests that the actor may see. A token that may not be used to see quotas shows none."""
    ceiling = work.actor.ceiling
    able = ceiling is None or work.law.decide(ceiling, "organization", "view_quota").allowed
    times, names = DateTime(timezone=True), ("account", "organization", "repository", "requested_by", "decided_by")
    return (
        text(SEEN)
        .bindparams(actor=work.actor.user_id, able=able)
        .columns(
            **dict.fromkeys(("id", "account_id", "organization_id", "repository_id"), Uuid()),
            **dict.fromkeys((*names, "scope_kind", "key", "reason", "state", "note"), Text()),
            **dict.fromkeys(("requested_at", "decided_at"), times),
            wanted=BigInteger(),
        )
        .subquery()
    )


def scope_of(row: Any) -> Place:
    """Of a row of `seen`, without what the actor holds there."""
    names: Sequence[str | None] = (row["organization"], row["repository"])
    name = row["account"] if row["scope_kind"] == "account" else "/".join(one for one in names if one)
    return Place(row["scope_kind"], name, True, row["account_id"], row["organization_id"], row["repository_id"])


def _attempt(work: Work, approve: bool, target: str, place: Place | None = None) -> None:
    work.attempt("quota.approve" if approve else "quota.decline", target, place=place)


async def _held_scope(work: Work, request: UUID) -> Place:
    """The scope, kept from being deleted: who deletes it locks it before its requests, too."""
    row = await work.fetchrow(SCOPE, request)
    if row is None:
        raise _absent()
    if row["organization"] is None:
        return await finding.account(work, row["account"])
    if row["repository"] is None:
        place = await finding.organization(work, row["organization"])
    else:
        place = await finding.repository(work, row["organization"], row["repository"])
    await finding.hold(work, place)
    return place


async def _insert(work: Work, place: Place, key: Key, wanted: int | None) -> UUID:
    who = work.actor.user_id, work.now
    values = (place.kind, place.id, place.account_id, key.value, wanted, work.stated or "", *who)
    request: UUID | None = await work.fetchval(ASK, new_id(), *values)
    if request is None:
        raise RequestPending(
            f"Another {key.value} limit of {place.kind} '{place.name}' has been asked for already; wait for the answer "
            "of the platform administrator."
        )
    return request


def _is_more(wanted: int | None, present: int | None) -> bool:
    return present is not None and (wanted is None or wanted > present)


def _said(present: Quota, place: Place) -> str:
    limit = "unlimited" if present.limit is None else f"limited to {quantity(present.key, present.limit)}"
    return f"{present.key.value} of {place.kind} '{place.name}' is {limit}"


def _absent() -> RequestNotFound:
    return RequestNotFound("There is no such request; it may have gone with its scope.", path=["request"])
