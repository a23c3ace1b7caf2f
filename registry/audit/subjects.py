"""Subjects: the persons under whose keys is sealed what tells of them, and those keys.

Each person has a key of their own; strangers share one a month. Keys lie in the database, wrapped by the
installation's; a backup of the one without the other opens nothing.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry.events import Event
from registry.keys import AUDIT_SEALING
from registry.storage.database import Connection, Fetch

KEY_BYTES = 32
FETCH = "SELECT subject, wrapped FROM audit_subject WHERE subject = ANY($1::text[])"
ADD = """
    INSERT INTO audit_subject (subject, wrapped) SELECT * FROM unnest($1::text[], $2::bytea[])
    ON CONFLICT (subject) DO NOTHING
"""

FIRST = "SELECT subject, wrapped FROM audit_subject WHERE wrapped IS NOT NULL ORDER BY subject LIMIT 1"
WRONG_KEY = (
    f"keys/{AUDIT_SEALING} in the data folder is not the key under which persons are sealed in this database, so what "
    "they do cannot be recorded, and is not done. Put the right file back, and start the servers anew."
)

Keys = dict[str, bytes | None]
"""The keys of subjects. None: forgotten, nothing is sealed under it any more."""


class WrongKey(Exception):
    """What the database holds was not wrapped by the installation's key."""

    def __init__(self) -> None:
        super().__init__(WRONG_KEY)


def subject_of(event: Event) -> str:
    user = event.actor.user_id
    return subject_of_user(user) if user else f"strangers:{event.at:%Y-%m}"


def subject_of_user(user: UUID) -> str:
    return f"user:{user.hex}"


def subject_in(event: Mapping[str, Any]) -> str:
    """Under whose key the private part of this body is sealed."""
    return event["subject"] if "subject" in event else f"user:{event['actor'].get('id', '')}"


async def keys_of(fetch: Fetch, master: bytes, subjects: Iterable[str]) -> Keys:
    """The keys as they stand now; who has none is left out. Raises `WrongKey` for one that was not wrapped here: what
    cannot be sealed is not written."""
    rows = await fetch(FETCH, sorted(set(subjects)))
    return {row["subject"]: _unwrap(master, row["subject"], row["wrapped"]) for row in rows}


async def readable_keys_of(fetch: Fetch, master: bytes, subjects: Iterable[str]) -> Keys:
    """As `keys_of`, for readers: one key that was not wrapped here opens nothing, and does not keep from them what
    others sealed."""
    rows = await fetch(FETCH, sorted(set(subjects)))
    found: Keys = {}
    for row in rows:
        found[row["subject"]] = None
        with suppress(WrongKey):
            found[row["subject"]] = _unwrap(master, row["subject"], row["wrapped"])
    return found


async def make_keys(connection: Connection, master: bytes, subjects: Iterable[str]) -> Keys:
    """Makes keys for these subjects, unless somebody just did. In one order, so that two never wait in a circle.

    Raises `WrongKey`: what is wrapped by another key than the rest would be lost when that is put right.
    """
    await check(connection.fetch, master)
    wanted = sorted(set(subjects))
    await connection.execute(ADD, wanted, [_wrap(master, one, os.urandom(KEY_BYTES)) for one in wanted])
    return await keys_of(connection.fetch, master, wanted)


async def check(fetch: Fetch, master: bytes) -> None:
    """That this is the key of the database, as far as the first of those that it holds tells. Raises `WrongKey`."""
    for row in await fetch(FIRST):
        _unwrap(master, row["subject"], row["wrapped"])


def _wrap(master: bytes, subject: str, key: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(master).encrypt(nonce, key, subject.encode())


def _unwrap(master: bytes, subject: str, wrapped: bytes | None) -> bytes | None:
    """Raises `WrongKey`."""
    if wrapped is None:
        return None
    try:
        return AESGCM(master).decrypt(wrapped[:12], wrapped[12:], subject.encode())
    except (InvalidTag, ValueError) as error:
        raise WrongKey from error
