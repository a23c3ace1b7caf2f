"""Sealing what tells of a person, so that it can be forgotten though the log is never changed.

Each person has a key of their own; strangers share one a month. What is sealed under it becomes part of the hashed
bytes, so an entry and its proofs stay what they are when the key is thrown away, and what was sealed is gone. Each
event is sealed under a key derived from its subject's and its own salt: it may be handed to an auditor, and opens
nothing else. Keys lie in the database, wrapped by the installation's; a backup of the one without the other opens
nothing.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry.events import Event
from registry.storage.database import Connection, Fetch

KEY_BYTES = 32
NONCE = bytes(12)  # each key seals one event only, so its nonce need not differ
FETCH = "SELECT subject, wrapped FROM audit_subject WHERE subject = ANY($1::text[])"
ADD = """
    INSERT INTO audit_subject (subject, wrapped) SELECT * FROM unnest($1::text[], $2::bytea[])
    ON CONFLICT (subject) DO NOTHING
"""

Keys = dict[str, bytes | None]
"""The keys of subjects. None: forgotten, nothing is sealed under it any more."""


class Unsealable(ValueError):
    """The sealed bytes were not sealed under this key."""


def subject_of(event: Event) -> str:
    user = event.actor.user_id
    return subject_of_user(user) if user else f"strangers:{event.at:%Y-%m}"


def subject_of_user(user: UUID) -> str:
    return f"user:{user.hex}"


def subject_in(event: Mapping[str, Any]) -> str:
    """Under whose key the private part of this body is sealed."""
    return event["subject"] if "subject" in event else f"user:{event['actor'].get('id', '')}"


def event_key(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, b"event:" + salt, hashlib.sha256)


def tag(key: bytes, kind: str, text: str) -> str:
    """16 hex digits by which a holder of the subject's key finds entries with this text; nothing to anybody else."""
    return hmac.digest(key, f"{kind}:{text}".encode("utf-8", "replace"), hashlib.sha256).hex()[:16]


def seal(key: bytes, private: dict[str, Any]) -> bytes:
    """`key` is the event's own."""
    return AESGCM(key).encrypt(NONCE, orjson.dumps(private, option=orjson.OPT_SORT_KEYS), None)


def unseal(key: bytes, sealed: bytes) -> dict[str, Any]:
    """Raises `Unsealable`."""
    try:
        opened: dict[str, Any] = orjson.loads(AESGCM(key).decrypt(NONCE, sealed, None))
    except (InvalidTag, ValueError) as error:
        raise Unsealable("The sealed part was not sealed under this key.") from error
    if not isinstance(opened, dict) or not all(map(_is_plain, opened.values())):
        raise Unsealable("What was sealed is nothing that this log seals.")
    return opened


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


async def keys_of(fetch: Fetch, master: bytes, subjects: Iterable[str]) -> Keys:
    """The keys as they stand now; who has none is left out. Raises `InvalidTag` for one that was not wrapped here: what
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
        with suppress(InvalidTag, ValueError):
            found[row["subject"]] = _unwrap(master, row["subject"], row["wrapped"])
    return found


async def make_keys(connection: Connection, master: bytes, subjects: Iterable[str]) -> Keys:
    """Makes keys for these subjects, unless somebody just did. In one order, so that two never wait in a circle."""
    wanted = sorted(set(subjects))
    await connection.execute(ADD, wanted, [_wrap(master, one, os.urandom(KEY_BYTES)) for one in wanted])
    return await keys_of(connection.fetch, master, wanted)


def _wrap(master: bytes, subject: str, key: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(master).encrypt(nonce, key, subject.encode())


def _unwrap(master: bytes, subject: str, wrapped: bytes | None) -> bytes | None:
    return None if wrapped is None else AESGCM(master).decrypt(wrapped[:12], wrapped[12:], subject.encode())
