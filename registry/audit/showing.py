"""Entries as a person reads them: sealed parts opened where their key still is, and people by the names they have now.

A person who was forgotten shows as such: what was sealed cannot be opened any more, and an id leads to no name.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from registry.audit import sealing
from registry.audit.bodies import FORGOTTEN
from registry.audit.entries import read_time, unwrap
from registry.audit.subjects import Keys, readable_keys_of, subject_in
from registry.audit.targets import Named, named
from registry.work import Work

FORGOTTEN_NAME = "(forgotten)"
USER = re.compile("user_(_*)([0-9a-f]{32})")
MENTIONED = re.compile(b"user_([0-9a-f]{32})")
NAMES = "SELECT id, name FROM users WHERE id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Line:
    """Bytes of the log, and where they stand. `index` is None while the event waits for its number; `number` counts
    within the organization."""

    body: bytes
    index: int | None = None
    logged_at: datetime | None = None
    leaf: bytes | None = None
    number: int | None = None
    entry: bytes | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """`event` as `bodies.encode` laid it down; `private` is empty when there was nothing, or it is forgotten."""

    line: Line
    event: Mapping[str, Any]
    private: Mapping[str, Any]
    names: Mapping[str, str]

    @property
    def time(self) -> datetime:
        return self.line.logged_at or self.occurred_at

    @property
    def occurred_at(self) -> datetime:
        return read_time(self.event["occurred_at"])

    @property
    def actor_name(self) -> str:
        actor = self.event["actor"]
        if actor["kind"] == "user":
            return self.names.get(actor.get("id", ""), FORGOTTEN_NAME)
        if actor["kind"] == "anonymous":
            return str(self.private.get("name") or ("anonymous" if not actor.get("tag") else FORGOTTEN_NAME))
        return str(actor["kind"])

    @property
    def target(self) -> str:
        return self.readable(self.event.get("target", {}).get("name", ""))

    @property
    def named(self) -> Named:
        return named(self.event["action"], self.target)

    @property
    def changes(self) -> dict[str, Any]:
        return {field: self._readable_in(value) for field, value in self.event.get("change", {}).items()}

    def of(self, group: str, name: str) -> Any:
        """A field of a group, such as the code of the reason; None if it is absent."""
        return self.event.get(group, {}).get(name)

    @property
    def reason(self) -> str | None:
        """Why it was refused; else the reason its actor stated, in which nothing stands for a name."""
        text: str | None = self.of("reason", "text")
        stated: str | None = self.of("reason", "stated")
        return self.readable(text) if text else stated

    def readable(self, text: str) -> str:
        """With names in the place of what stands for them."""
        text = USER.sub(self._user, text)
        if FORGOTTEN in text and "private" in self.event and (not self.private or "about" in self.private):
            text = text.replace(FORGOTTEN, str(self.private.get("about", FORGOTTEN_NAME)))
        return text

    def _user(self, found: re.Match[str]) -> str:
        more, user_id = found.groups()
        return f"user{more}{user_id}" if more else self.names.get(user_id, FORGOTTEN_NAME)

    def _readable_in(self, value: Any) -> Any:
        match value:
            case str():
                return self.readable(value)
            case list():
                return [self._readable_in(one) for one in value]
            case dict():
                return {key: self._readable_in(one) for key, one in value.items()}
        return value


def numbered(row: Any) -> Line:
    """The line of a row of `audit_log`."""
    wrapped = unwrap(row["entry"])
    return Line(wrapped.body, row["seq"], row["logged_at"], row["leaf"], wrapped.number, row["entry"])


async def show(work: Work, lines: Sequence[Line]) -> list[Shown]:
    """Two statements, however many lines."""
    events = [orjson.loads(line.body) for line in lines]
    keys = await _keys(work, events)
    names = await _names(work, lines, events)
    return [Shown(line, event, _opened(event, keys), names) for line, event in zip(lines, events, strict=True)]


async def _keys(work: Work, events: Iterable[Mapping[str, Any]]) -> Keys:
    subjects = {subject_in(event) for event in events if "private" in event}
    return await readable_keys_of(work.fetch, work.foundation.sealing, subjects) if subjects else {}


async def _names(work: Work, lines: Sequence[Line], events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    ids = {found.decode() for line in lines for found in MENTIONED.findall(line.body)}
    ids |= {event["actor"]["id"] for event in events if "id" in event["actor"]}
    rows = await work.fetch(NAMES, [UUID(one) for one in ids]) if ids else []
    return {row["id"].hex: row["name"] for row in rows}


def _opened(event: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    key = keys.get(subject_in(event))
    if key is None or "private" not in event:
        return {}
    salt = bytes.fromhex(event["salt"])
    try:
        return sealing.unseal(sealing.event_key(key, salt), b64decode(event["private"]))
    except sealing.Unsealable:
        return {}  # the person was forgotten and came back, under another key
