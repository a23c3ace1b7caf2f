"""Admitting: whether bytes in the inbox are an event of ours, before they become an entry for ever.

The inbox takes what any server puts there. A broken or hostile one may lie in an event, which nobody can see from here;
but what is no event must neither stop the log, nor make it look tampered with to those who verify it, nor break those
who read it. An entry says in its place that it was there. Whatever `bodies.encode` writes is admitted.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from registry.actors import ActorKind
from registry.audit.bodies import VERSION, read_time
from registry.audit.entries import DIGITS, LONGEST, TAG, check_storable, columns_of_event, organization_in
from registry.audit.publishing import system_body
from registry.events import Outcome
from registry.oci.digest import digest_of

WRAPPING = 200  # about what `entries.wrap` adds, and a little
LARGEST = 2**63 - 1
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z").fullmatch
SALT = re.compile("(?:[0-9a-f]{32})?").fullmatch
KINDS = frozenset(kind.value.lower() for kind in ActorKind)
OUTCOMES = frozenset(outcome.value.lower() for outcome in Outcome)

Admitted = tuple[bytes, tuple[Any, ...]]
"""A body, and what the table's columns say of it but for the number within its organization."""


class NotAdmitted(ValueError):
    """These bytes are no event of ours."""


def admit(body: bytes, at: datetime) -> Admitted:
    """The body, or the one that tells of it."""
    try:
        return body, _columns(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        told = system_body("audit.unreadable", digest_of(body), at, changes={"size": [None, len(body)]})
        return told, _columns(told)


def _columns(body: bytes) -> tuple[Any, ...]:
    if len(body) + WRAPPING > LONGEST:
        raise NotAdmitted("too long")
    event = orjson.loads(body)
    if orjson.dumps(event, option=orjson.OPT_SORT_KEYS) != body or not _is(SHAPE, event) or not event.keys() >= NEEDED:
        raise NotAdmitted("not of the form that events have")
    columns = columns_of_event(event, None)
    check_storable(columns)
    organization = event.get("scope", {}).get("organization")
    if organization is not None and organization_in(body) != organization.encode():
        raise NotAdmitted("who verifies would take it for another organization's")
    return columns


def _is(shape: Any, value: Any) -> bool:
    """Whether a value is of a shape: a mapping of the names it may have, or what a plain value has to pass."""
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return False
        return all(name in shape and _is(shape[name], one) for name, one in value.items())
    return bool(shape(value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _matching(pattern: Callable[[str], Any]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern(value) is not None


def _time(value: Any) -> bool:
    return isinstance(value, str) and TIME(value) is not None and read_time(value) is not None


def _base64(value: Any) -> bool:
    return isinstance(value, str) and b64decode(value, validate=True) is not None


def _size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


ID, A_TAG = _matching(DIGITS), _matching(TAG)
SHAPE: Mapping[str, Any] = {
    "action": _text,
    "actor": {"credential": ID, "id": ID, "kind": KINDS.__contains__, "tag": A_TAG, "via": _text},
    "change": lambda value: isinstance(value, dict),
    "id": ID,
    "occurred_at": _time,
    "outcome": OUTCOMES.__contains__,
    "private": _base64,
    "reason": dict.fromkeys(("code", "held", "needed", "rule", "stated", "text"), _text),
    "request": {"client_id": _text, "id": _text},
    "salt": _matching(SALT),
    "scope": {"account": ID, "organization": ID, "repository": ID},
    "source": {"tag": A_TAG},
    "subject": _text,
    "target": {"bytes": _size, "digest": _text, "media_type": _text, "name": _text},
    "v": lambda value: type(value) is int and value == VERSION,
}
NEEDED = {"action", "actor", "id", "occurred_at", "outcome", "salt", "v"}
