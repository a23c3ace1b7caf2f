"""Sealing what tells of a person, so that it can be forgotten though the log is never changed.

What is sealed under the key of its subject becomes part of the hashed bytes, so an entry and its proofs stay what they
are when the key is thrown away, and what was sealed is gone. Each event is sealed under a key derived from its
subject's and its own salt: it may be handed to an auditor, and opens nothing else.
"""

import hashlib
import hmac
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = bytes(12)  # each key seals one event only, so its nonce need not differ


class Unsealable(ValueError):
    """The sealed bytes were not sealed under this key."""


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
