"""Entries: the bytes that are hashed, one leaf of the tree each.

The sequencer puts around the untouched body of an event what only it knows: the log's own time, which never
decreases, and the number within the organization, which has no gaps. What the table's columns say of an entry is a
cache for searching; it follows from the bytes by `columns_of`, and whoever verifies derives it again.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from registry.audit.bodies import read_time

LONGEST = 65_535  # what an entry bundle can hold (C2SP tlog-tiles, "Log Entries")
LONGEST_COLUMN = 2100  # LONGEST_TEXT and the sign that it was cut; an index row holds a little more
WRAPPED = re.compile(
    rb'\{"event":(\{.*\}),"logged_at":"([0-9T:.Z-]{27})"(?:,"org_seq":([1-9][0-9]*))?,"v":1\}',
    re.DOTALL,
)
COLUMNS = (
    "event_id",
    "account_id",
    "organization_id",
    "org_seq",
    "repository_id",
    "actor_kind",
    "actor_id",
    "action",
    "outcome",
    "target",
    "stated",
    "request_id",
    "actor_tag",
    "source_tag",
)


class EntryInvalid(ValueError):
    """These bytes are no entry."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """`number` is the entry's within its organization; None when it belongs to none."""

    body: bytes
    logged_at: str
    number: int | None = None


def wrap(wrapped: Wrapped) -> bytes:
    within = b"" if wrapped.number is None else b',"org_seq":%d' % wrapped.number
    return b'{"event":%b,"logged_at":"%b"%b,"v":1}' % (wrapped.body, wrapped.logged_at.encode(), within)


def unwrap(entry: bytes) -> Wrapped:
    """Raises `EntryInvalid`."""
    found = WRAPPED.fullmatch(entry)
    if found is None:
        raise EntryInvalid("The bytes of the entry are not of the form that this log writes.")
    body, logged_at, number = found.groups()
    return Wrapped(body, logged_at.decode(), None if number is None else int(number))


def columns_of(wrapped: Wrapped) -> tuple[Any, ...]:
    """The values of `COLUMNS`. Raises `EntryInvalid` when the body is not one of an event."""
    try:
        event = orjson.loads(wrapped.body)
        if ("organization" in event.get("scope", {})) != (wrapped.number is not None):
            raise ValueError("what belongs to an organization has a number in it, and nothing else has")
        return columns_of_event(event, wrapped.number)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EntryInvalid(f"The entry holds no event: {error!r}.") from error


def columns_of_event(event: dict[str, Any], number: int | None) -> tuple[Any, ...]:
    actor, scope = event["actor"], event.get("scope", {})
    return (
        UUID(event["id"]),
        _uuid(scope.get("account")),
        _uuid(scope.get("organization")),
        number,
        _uuid(scope.get("repository")),
        actor["kind"],
        _uuid(actor.get("id")),
        event["action"],
        event["outcome"],
        event.get("target", {}).get("name", ""),
        event.get("reason", {}).get("stated"),
        event.get("request", {}).get("id"),
        _signed(actor.get("tag")),
        _signed(event.get("source", {}).get("tag")),
    )


def is_storable(columns: tuple[Any, ...]) -> bool:
    """Whether columns and their indexes can hold these values; those of an event of ours always can."""
    return all("\x00" not in one and len(one) <= LONGEST_COLUMN for one in columns if isinstance(one, str))


def time_of(wrapped: Wrapped) -> datetime:
    return read_time(wrapped.logged_at)


def signed_tag(tag: str) -> int:
    """A tag as PostgreSQL's bigint holds it."""
    return int.from_bytes(bytes.fromhex(tag), "big", signed=True)


def _signed(tag: str | None) -> int | None:
    return None if tag is None else signed_tag(tag)


def _uuid(digits: str | None) -> UUID | None:
    return None if digits is None else UUID(digits)
