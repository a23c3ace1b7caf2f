"""What is looked for in the log: filters as people write them, and what they come down to.

People are asked for by name and stand in the log by id; what is sealed is asked for by its tag under each key that may
have sealed it. What a filter comes down to can be asked of the table, by `alternatives`, and of an event that has no
number yet, by `holds`: both mean the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, func, or_, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col

from registry.audit import sealing
from registry.audit.bodies import typed
from registry.audit.entries import signed_tag
from registry.audit.subjects import readable_keys_of
from registry.audit.tables import ACTION, INDEXED_TEXT, NO_PULL, PULL, STATED, TARGET, AuditRow
from registry.errors import Invalid
from registry.work import Work

USER = "SELECT id FROM users WHERE name = $1"
SUBJECTS_OF_ACCOUNT = """
    SELECT subject FROM audit_subject
    WHERE wrapped IS NOT NULL AND ($1::uuid IS NULL OR subject LIKE 'strangers:%'
        OR subject IN (SELECT 'user:' || replace(id::text, '-', '') FROM users WHERE account_id = $1 OR platform_admin))
"""
# Each tag is looked for by itself: few of them ever come from one address.
CLAIMED, FROM_THERE = (
    f"""
    SELECT tag FROM unnest($1::bigint[]) AS t (tag)
    CROSS JOIN LATERAL (SELECT FROM audit_log WHERE {column} = tag LIMIT 1) AS found
    """
    for column in ("actor_tag", "source_tag")
)
MOST_WAYS = 16
NOBODY = ("system", "anonymous")


class FilterInvalid(Invalid):
    """It quotes nothing of the filter: what is looked for may tell of a person, and refusals stand in the log."""

    code = "FILTER_INVALID"


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """All that is given must hold. `action`, `target` and `reason` may end in `*`, `reason` may begin with one too;
    `source` is an address; `until` is exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    source: str | None = None
    request_id: str | None = None
    reason: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Sought:
    """A filter, and whose log it is asked of; None for all. An actor is one of that kind, that id or those tags."""

    plain: EntryFilter
    whose: UUID | None
    targets: tuple[str, ...] | None = None
    actor_kind: str | None = None
    actor_id: UUID | None = None
    actor_tags: tuple[int, ...] = ()
    source_tags: tuple[int, ...] | None = None

    @property
    def by_person(self) -> bool:
        return self.plain.actor is not None and self.plain.actor not in NOBODY


def check(wanted: EntryFilter) -> None:
    """That it can mean what was asked: what no entry can hold would find nothing, and read as if nothing had happened.

    Raises `FilterInvalid`.
    """
    if wanted.source is not None:
        _address(wanted.source)
    if "*" in (wanted.actor or ""):
        raise _refused("actor", "No name has a `*` in it: give the whole name.")
    for field in ("action", "target"):
        if "*" in (getattr(wanted, field) or "").removesuffix("*"):
            raise _refused(field, "A `*` stands at the end only, for whatever follows: give the beginning.")
    if "*" in (wanted.reason or "").removeprefix("*").removesuffix("*"):
        raise _refused("reason", "A `*` stands at the ends only: give the beginning, the end, or what is between.")


def _refused(field: str, why: str) -> FilterInvalid:
    return FilterInvalid(f"Nothing was looked for: this is no `{field}` to look for. {why}", path=["filter", field])


def _address(source: str) -> str:
    """As addresses are usually written. Raises `FilterInvalid`."""
    try:
        return str(ip_address(source))
    except ValueError:
        why = "Give one IP address, such as 192.0.2.7; entries are not found by a network or a host's name."
        raise _refused("source", why) from None


async def sought(work: Work, wanted: EntryFilter, whose: UUID | None) -> Sought:
    """Raises `FilterInvalid`."""
    check(wanted)
    found = Sought(wanted, whose)
    if wanted.target is not None:
        found = replace(found, targets=await _targets(work, wanted.target))
    if wanted.actor in NOBODY:
        found = replace(found, actor_kind=wanted.actor)
    elif wanted.actor is not None or wanted.source is not None:
        found = await _personal(work, wanted, found)
    return found


async def _targets(work: Work, target: str) -> tuple[str, ...]:
    """A user at the end of a target stands there by id."""
    place, colon, name = target.rpartition(":")
    user_id = None if target.endswith("*") else await work.fetchval(USER, name)
    target, place = typed(target), typed(place)
    return (target,) if user_id is None else (target, f"{place}{colon}user_{user_id.hex}")


async def _personal(work: Work, wanted: EntryFilter, found: Sought) -> Sought:
    """Whoever acts under this name, or claimed it when signing in failed; and from this address."""
    subjects = [row["subject"] for row in await work.fetch(SUBJECTS_OF_ACCOUNT, found.whose)]
    keys = await readable_keys_of(work.fetch, work.foundation.sealing, subjects)
    if wanted.actor is not None:
        strangers = [key for subject, key in keys.items() if subject.startswith("strangers:")]
        claimed = _tags("name", wanted.actor, strangers)
        found = replace(found, actor_id=await work.fetchval(USER, wanted.actor), actor_tags=claimed)
    if wanted.source is not None:
        written = dict.fromkeys((wanted.source, _address(wanted.source)))
        tags = [_tags("source", one, keys.values()) for one in written]
        found = replace(found, source_tags=tuple(chain.from_iterable(tags)))
    return found


def _tags(kind: str, text: str, keys: Iterable[bytes | None]) -> tuple[int, ...]:
    return tuple(signed_tag(sealing.tag(key, kind, text)) for key in keys if key)


# Asked of the table


async def alternatives(work: Work, wanted: Sought) -> list[list[ColumnElement[bool]]]:
    """Conditions of which one list or another must hold, none together with another. Each is served by an index in the
    order of time: asked for all at once, the database would have to guess how far back the entries lie."""
    if wanted.by_person:
        found = await work.fetch(CLAIMED, wanted.actor_tags)
        ways = [col(AuditRow.actor_tag) == row["tag"] for row in found]
        ways += [] if wanted.actor_id is None else [col(AuditRow.actor_id) == wanted.actor_id]
    elif wanted.source_tags is not None:
        ways = [col(AuditRow.source_tag) == row["tag"] for row in await work.fetch(FROM_THERE, wanted.source_tags)]
    else:
        ways = [true()]
    if len(ways) > MOST_WAYS:
        ways = [or_(*ways)]
    return [[way, *conditions(wanted)] for way in ways]


def conditions(wanted: Sought) -> list[ColumnElement[bool]]:
    plain = wanted.plain
    found = [
        None if wanted.whose is None else col(AuditRow.account_id) == wanted.whose,
        None if plain.since is None else col(AuditRow.logged_at) >= plain.since,
        None if plain.until is None else col(AuditRow.logged_at) < plain.until,
        None if plain.action is None else _action(plain.action),
        None if plain.outcome is None else col(AuditRow.outcome) == plain.outcome.lower(),
        None if plain.request_id is None else col(AuditRow.request_id) == plain.request_id,
        None if plain.reason is None else _stated(plain.reason),
        None if wanted.targets is None else or_(*(_long(TARGET, col(AuditRow.target), one) for one in wanted.targets)),
        None if wanted.actor_kind is None else _nobody(wanted.actor_kind),
        None if wanted.source_tags is None else _tagged(col(AuditRow.source_tag), wanted.source_tags),
    ]
    return [condition for condition in found if condition is not None]


def _action(wanted: str) -> ColumnElement[bool]:
    """Said besides, that it is no pull lets the index without them serve."""
    found = _matches(ACTION, wanted)
    return found if PULL.startswith(wanted.removesuffix("*")) else and_(found, NO_PULL)


def _nobody(kind: str) -> ColumnElement[bool]:
    """Said besides, that there is no id lets the index of those entries serve."""
    return and_(col(AuditRow.actor_kind) == kind, col(AuditRow.actor_id).is_(None))


def _stated(wanted: str) -> ColumnElement[bool]:
    """Anywhere in a reason, it is looked for among all that have one."""
    column: Any = col(AuditRow.stated)
    if not _is_anywhere(wanted):
        return _long(STATED, column, wanted)
    if wanted.endswith("*"):
        return and_(column.is_not(None), column.contains(wanted[1:-1], autoescape=True))
    return and_(column.is_not(None), column.endswith(wanted[1:], autoescape=True))


def _long(indexed: Any, column: Any, wanted: str) -> ColumnElement[bool]:
    """The index has the beginning only."""
    text = wanted.removesuffix("*")
    if len(text) < INDEXED_TEXT:
        return _matches(indexed, wanted)
    whole = column.startswith(text, autoescape=True) if wanted.endswith("*") else column == text
    return and_(indexed == text[:INDEXED_TEXT], whole)


def _matches(column: Any, wanted: str) -> ColumnElement[bool]:
    """Equal, or beginning so where a `*` stands behind: as a range, which an index serves whatever the plan."""
    if not wanted.endswith("*"):
        return column == wanted  # type: ignore[no-any-return]
    beyond = _beyond(wanted[:-1])
    return and_(column >= wanted[:-1], *([] if beyond is None else [column < beyond]))


def _beyond(beginning: str) -> str | None:
    """The least text behind all that begin so, by the order of code points; None if there is none."""
    kept = beginning.rstrip("\U0010ffff")
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if last == 0xD800 else last)


def _tagged(column: Any, tags: tuple[int, ...]) -> ColumnElement[bool]:
    return column == func.any(bindparam(None, tags, type_=ARRAY(BigInteger)))  # type: ignore[no-any-return]


# Asked of an event


def holds(wanted: Sought, event: Mapping[str, Any], at: datetime) -> bool:
    """Of an event as the columns of the table would have it."""
    plain = wanted.plain
    return (
        (wanted.whose is None or event["account_id"] == wanted.whose.hex)
        and (plain.since is None or at >= plain.since)
        and (plain.until is None or at < plain.until)
        and (plain.outcome is None or event["outcome"] == plain.outcome.lower())
        and (plain.request_id is None or event["request_id"] == plain.request_id)
        and (plain.action is None or _is(event["action"], plain.action))
        and (plain.reason is None or _says(event["stated"], plain.reason))
        and (wanted.targets is None or any(_is(event["target"], one) for one in wanted.targets))
        and (wanted.actor_kind is None or event["actor_kind"] == wanted.actor_kind)
        and (not wanted.by_person or _is_person(wanted, event))
        and (wanted.source_tags is None or event["source_tag"] in wanted.source_tags)
    )


def _is_person(wanted: Sought, event: Mapping[str, Any]) -> bool:
    user = wanted.actor_id is not None and event["actor_id"] == wanted.actor_id.hex
    return user or event["actor_tag"] in wanted.actor_tags


def _says(text: str | None, wanted: str) -> bool:
    if text is None or not _is_anywhere(wanted):
        return _is(text, wanted)
    return wanted[1:-1] in text if wanted.endswith("*") else text.endswith(wanted[1:])


def _is_anywhere(wanted: str) -> bool:
    return wanted.startswith("*") and wanted != "*"


def _is(text: str | None, wanted: str) -> bool:
    if text is None:
        return False
    return text.startswith(wanted[:-1]) if wanted.endswith("*") else text == wanted
