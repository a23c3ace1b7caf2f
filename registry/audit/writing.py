"""From events to bodies: what tells of a person is sealed under that person's key, the rest is written out.

Keys are kept in memory for a minute, so that a pull does not cost a statement more. One that is thrown away in that
minute still seals a few entries, which nobody can open any more; readers never keep keys.
"""

import os
from collections.abc import Sequence
from time import monotonic

from registry.audit import bodies, sealing
from registry.audit.subjects import Keys, keys_of, make_keys, subject_of
from registry.events import Event
from registry.storage.database import Connection

SALT_BYTES = 16
KEPT_SECONDS = 60
MOST_KEPT = 10_000


class Scribe:
    """`master` is the installation's key, under which those of the subjects are wrapped."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._kept: dict[str, tuple[bytes | None, float]] = {}

    async def bodies(self, connection: Connection, events: Sequence[Event], *, committed: bool) -> list[bytes]:
        """The bodies in the order of the events. `committed`: the connection has no transaction open that could take
        a key back, so new ones may be kept."""
        told = [(event, bodies.private_of(event)) for event in events]
        keys = await self._keys(connection, {subject_of(event) for event, private in told if private}, committed)
        return [_body(event, private, keys) for event, private in told]

    async def _keys(self, connection: Connection, subjects: set[str], committed: bool) -> Keys:
        now = monotonic()
        found: Keys = {}
        for subject in subjects:
            key, until = self._kept.get(subject, (None, 0.0))
            if until > now:
                found[subject] = key
        if missing := subjects - found.keys():
            there = await keys_of(connection.fetch, self._master, missing)
            self._keep(there, now + KEPT_SECONDS)
            found |= there
        if missing := subjects - found.keys():
            made = await make_keys(connection, self._master, missing)
            if committed:
                self._keep(made, now + KEPT_SECONDS)
            found |= made
        return found

    def _keep(self, made: Keys, until: float) -> None:
        if len(self._kept) + len(made) > MOST_KEPT:
            self._kept.clear()
        self._kept |= {subject: (key, until) for subject, key in made.items()}


def _body(event: Event, private: dict[str, object], keys: Keys) -> bytes:
    salt = os.urandom(SALT_BYTES)
    subject = subject_of(event) if private else None
    key = keys[subject] if subject else None
    if subject is None or key is None:
        return bodies.encode(event, salt, subject, None, {})
    tags: dict[str, str] = {}
    for kind in private.keys() & {"name", "source"}:
        tags[kind] = sealing.tag(key, kind, str(private[kind]))
    sealed = sealing.seal(sealing.event_key(key, salt), private)
    return bodies.encode(event, salt, subject, sealed, tags)
