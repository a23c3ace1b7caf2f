"""Admitting: whether bytes in the inbox are an event of ours, before they become an entry for ever.

The inbox takes what any server puts there. A broken or hostile one may lie in an event, which nobody can see from here;
but what is no event must neither stop the log, nor make it look tampered with to those who verify it, nor break those
who read it. An entry says in its place that it was there. Whatever `bodies.encode` writes is admitted.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from policies.access import Level
from registry.actors import ActorKind
from registry.audit.bodies import VERSION
from registry.audit.entries import LONGEST, check_storable, columns_of_event, organization_in, read_time
from registry.audit.publishing import system_body
from registry.events import Outcome
from registry.oci.digest import digest_of

DEEPEST = 40  # of changes; ours are three or four deep
WRAPPING = 200  # about what `entries.wrap` adds, and a little

Admitted = tuple[bytes, tuple[Any, ...]]
"""A body, and what the table's columns say of it but for the number within its organization."""


class NotAdmitted(ValueError):
    """These bytes are no event of ours."""


# The form of a body, as a pattern over its bytes: ten times as quick as looking at each value. Only `change` may hold
# anything; what else it swallows would be a further name, which is looked for apart.


def _object(shapes: Mapping[str, bytes], needed: frozenset[str] = frozenset()) -> bytes:
    """Names in the order of canonical JSON, each of which may be absent if it is not needed."""
    members = (
        rb'(?:"%b":%b(?:,|(?=\})))' % (name.encode(), shape) + (b"" if name in needed else b"?")
        for name, shape in sorted(shapes.items())
    )
    return b"".join((rb"\{", *members, rb"\}"))


def _one_of(words: type[ActorKind] | type[Outcome]) -> bytes:
    return b'"(?:%b)"' % "|".join(word.value.lower() for word in words).encode()


TEXT = rb'"(?:[^"\\]++|\\.)*+"'
ID, TAG, SALT = rb'"[0-9a-f]{32}"', rb'"[0-9a-f]{16}"', rb'"(?:[0-9a-f]{32})?"'
TIME = rb'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"'
BASE64 = rb'"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"'
A_LEVEL = b'"(?:%b)"' % "|".join(("NONE", *Level.__members__)).encode()
SHAPES = {
    "action": TEXT,
    "actor": _object(
        {"credential": ID, "id": ID, "kind": _one_of(ActorKind), "tag": TAG, "via": TEXT}, frozenset({"kind"})
    ),
    "change": rb"\{.*\}",
    "id": ID,
    "occurred_at": TIME,
    "outcome": _one_of(Outcome),
    "private": BASE64,
    "reason": _object(
        {**dict.fromkeys(("code", "law", "rule", "stated", "text"), TEXT), "held": A_LEVEL, "needed": A_LEVEL}
    ),
    "request": _object({"client_id": TEXT, "id": TEXT}),
    "salt": SALT,
    "scope": _object({"account": ID, "organization": ID, "repository": ID}),
    "source": _object({"tag": TAG}),
    "subject": rb'"(?:user:[0-9a-f]{32}|strangers:[0-9]{4}-[0-9]{2})"',
    "target": _object({"bytes": rb"(?:0|[1-9][0-9]{0,17})", "digest": TEXT, "media_type": TEXT, "name": TEXT}),
    "v": b"%d" % VERSION,
}
NEEDED = frozenset({"action", "actor", "id", "occurred_at", "outcome", "salt", "v"})
BODY = re.compile(_object(SHAPES, NEEDED), re.DOTALL)


def admit(body: bytes, at: datetime) -> Admitted:
    """The body, or the one that tells of it."""
    try:
        return body, _columns(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        told = system_body(
            "audit.unreadable", digest_of(body), at, outcome=Outcome.FAILED, changes={"size": [None, len(body)]}
        )
        return told, _columns(told)


def _columns(body: bytes) -> tuple[Any, ...]:
    if len(body) + WRAPPING > LONGEST or not BODY.fullmatch(body):
        raise NotAdmitted("not of the form that events have")
    event = orjson.loads(body)
    if not event.keys() <= SHAPES.keys() or orjson.dumps(event, option=orjson.OPT_SORT_KEYS) != body:
        raise NotAdmitted("not as canonical JSON writes it")
    if not _is_shallow(event.get("change", {}), DEEPEST):
        raise NotAdmitted("too deep for readers")
    read_time(event["occurred_at"])
    columns = columns_of_event(event, None)
    check_storable(columns)
    organization = event.get("scope", {}).get("organization")
    if organization is not None and organization_in(body) != organization.encode():
        raise NotAdmitted("who verifies would take it for another organization's")
    return columns


def _is_shallow(value: Any, deepest: int) -> bool:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return deepest > 0 and all(_is_shallow(one, deepest - 1) for one in within)
