"""Entries: the bytes that are hashed, one leaf of the tree each.

The sequencer puts around the untouched body of an event what only it knows: the log's own time, which never
decreases, and the number within the organization, which has no gaps. What the table's columns say of an entry is a
cache for searching; it follows from the bytes by `columns_of`, and whoever verifies derives it again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson

LONGEST = 65_535  # what an entry bundle can hold (C2SP tlog-tiles, "Log Entries")
LONGEST_NAMES, LONGEST_TEXTS = 200, 4200  # both texts are cut at LONGEST_TEXT; names are ours
WRAPPED = re.compile(
    rb'\{"event":(\{.*\}),"logged_at":"([0-9T:.Z-]{27})"(?:,"org_seq":([1-9][0-9]*))?,"v":1\}',
    re.DOTALL,
)
TAG = re.compile("[0-9a-f]{16}").fullmatch
DIGITS = re.compile("[0-9a-f]{32}").fullmatch
NOTHING: Mapping[str, Any] = MappingProxyType({})
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
    """The values of `COLUMNS`, ids as 32 hexadecimal digits. Raises `EntryInvalid` when the body is not one of an
    event."""
    try:
        event = orjson.loads(wrapped.body)
        if ("organization" in event.get("scope", {})) != (wrapped.number is not None):
            raise ValueError("what belongs to an organization has a number in it, and nothing else has")
        return columns_of_event(event, wrapped.number)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EntryInvalid(f"The entry holds no event: {error!r}.") from error


def columns_of_event(event: dict[str, Any], number: int | None) -> tuple[Any, ...]:
    """As `columns_of`. Raises KeyError, TypeError, AttributeError or ValueError for what is no event."""
    actor, scope, reason = event["actor"], event.get("scope", NOTHING), event.get("reason", NOTHING)
    return (
        _id(event["id"]),
        _id(scope.get("account")),
        _id(scope.get("organization")),
        number,
        _id(scope.get("repository")),
        actor["kind"],
        _id(actor.get("id")),
        event["action"],
        event["outcome"],
        event.get("target", NOTHING).get("name", ""),
        reason.get("stated"),
        event.get("request", NOTHING).get("id"),
        _signed(actor.get("tag")),
        _signed(event.get("source", NOTHING).get("tag")),
    )


def columns_in(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row of the table says, as `columns_of` has it."""
    values = (row[name] for name in COLUMNS)
    return tuple(value.hex if isinstance(value, UUID) else value for value in values)


def check_storable(columns: tuple[Any, ...]) -> None:
    """That the table and its indexes can hold these values; those of an event of ours they always can.

    Raises ValueError, TypeError.
    """
    _, _, _, _, _, kind, _, action, outcome, target, stated, request_id, _, _ = columns
    names = "\n".join((kind, action, outcome, "" if request_id is None else request_id))
    texts = "".join((target, "" if stated is None else stated))
    if len(names) > LONGEST_NAMES or len(texts) > LONGEST_TEXTS or "\x00" in names or "\x00" in texts:
        raise ValueError("a column cannot hold it")


def organization_in(body: bytes) -> bytes:
    """The organization of an event that has one, without parsing it: the log admits no event of which this is not true
    (`admitting`)."""
    place = body.rfind(b'"organization":"') + 16
    return body[place : place + 32]


def written_time(moment: datetime) -> str:
    """Of one width and in one zone, so that times compare as their texts do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def time_of(wrapped: Wrapped) -> datetime:
    return read_time(wrapped.logged_at)


def signed_tag(tag: str) -> int:
    """A tag as PostgreSQL's bigint holds it. Raises ValueError for what is none."""
    if not TAG(tag):
        raise ValueError("a tag has 16 hexadecimal digits")
    value = int(tag, 16)
    return value - (1 << 64) if value >> 63 else value


def _signed(tag: str | None) -> int | None:
    return None if tag is None else signed_tag(tag)


def _id(digits: str | None) -> str | None:
    if digits is not None and not DIGITS(digits):
        raise ValueError("an id has 32 hexadecimal digits")
    return digits
