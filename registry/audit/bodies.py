"""An event as bytes, encoded once, in the request, and never again.

The bytes are canonical JSON (RFC 8785), narrowed to what cannot be written in two ways: strings, integers up to 2^53,
booleans, null, arrays and objects with ASCII names; times are text in UTC with microseconds. What is absent is left
out. Nothing of a body is a secret, and what tells of a person stands only in its sealed part, `private`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pybase64 import b64encode

from registry.actors import Actor
from registry.audit.entries import written_time
from registry.events import Event, Grounds
from registry.oci.digest import digest_of

VERSION = 1
LONGEST_TEXT = 2000
LONGEST_CHANGES = 16 * 1024
LONGEST_KEPT_VALUE = 512
GREATEST_NUMBER = 2**53
UNDECIDED = Grounds()
FORGOTTEN = "user_~"  # stands in a target for a name that only the sealed part holds
LOOKS_LIKE_A_USER = re.compile("user(_+[0-9a-f]{32})")


def encode(event: Event, salt: bytes, subject: str | None, sealed: bytes | None, tags: Mapping[str, str]) -> bytes:
    """`salt` is what makes the hash of a body unguessable. `subject` is under whose key `sealed` was sealed, which goes
    without saying for a user. `tags` are what the source and the claimed name are found by, with that key."""
    body = {
        "action": event.action,
        "actor": _actor(event.actor, tags.get("name")),
        "change": _changes(event),
        "id": event.id.hex,
        "occurred_at": written_time(event.at),
        "outcome": event.outcome.value.lower(),
        "private": None if sealed is None else b64encode(sealed).decode(),
        "reason": _reason(event),
        "request": _present(
            {"client_id": shortened(event.origin.client_request_id, 128), "id": event.origin.request_id or None}
        ),
        "salt": salt.hex(),
        "scope": _present(
            {
                "account": _hex(event.account_id),
                "organization": _hex(event.organization_id),
                "repository": _hex(event.repository_id),
            }
        ),
        "source": _present({"tag": tags.get("source")}),
        "subject": None if event.actor.user_id else subject,
        "target": _target(event),
        "v": VERSION,
    }
    return orjson.dumps(_present(body), option=orjson.OPT_SORT_KEYS)


def private_of(event: Event) -> dict[str, Any]:
    """What tells of a person: to be sealed. Empty when the event has none of it."""
    origin = event.origin
    claimed = event.actor.name if event.actor.anonymous and event.actor.name != "anonymous" else None
    fields = {
        "about": shortened(event.about) if event.about_id is None else None,
        "agent": shortened(origin.client),
        "forwarded": [shortened(one, 256) for one in origin.forwarded[:16]],
        "name": shortened(claimed, 256),
        "peer": origin.peer if origin.peer != origin.source else None,
        "source": origin.source,
    }
    return _present(fields) or {}


def shortened(text: str | None, longest: int = LONGEST_TEXT) -> str | None:
    """What a stranger may write at will is bounded, and free of what PostgreSQL cannot hold: NUL and surrogates."""
    if text is None:
        return None
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return clean if len(clean) <= longest else clean[:longest] + "…"


def without_name(event: Event) -> str | None:
    """The sentence of a refusal, in which a person's name stands no more than in the target."""
    return None if event.reason is None else _unnamed(event.reason, event)


def typed(text: str) -> str:
    """What looks like the stand-in for a user, and was typed by somebody, has one underscore more, which readers take
    off again."""
    return LOOKS_LIKE_A_USER.sub(r"user_\1", text) if "user_" in text else text


def _unnamed(text: str, event: Event) -> str:
    if not event.about:
        return typed(text)
    around = re.split(rf"(?<![\w.-]){re.escape(event.about)}(?![\w-])", text)
    return _stand_in(event).join(map(typed, around))


def _unnamed_target(event: Event) -> str:
    """A person stands at the end of a target; what stands before may be called alike, and is none."""
    if not event.about or not event.target.endswith(event.about):
        return typed(event.target)
    return typed(event.target.removesuffix(event.about)) + _stand_in(event)


def _stand_in(event: Event) -> str:
    return FORGOTTEN if event.about_id is None else f"user_{event.about_id.hex}"


def _actor(actor: Actor, tag: str | None) -> dict[str, Any] | None:
    """`via` is how the user was known; through a key or token, it acts on behalf of that user."""
    via = "token" if actor.scopes is not None else "access_key" if actor.credential_id else None
    return _present(
        {
            "credential": _hex(actor.credential_id),
            "id": _hex(actor.user_id),
            "kind": actor.kind.value.lower(),
            "tag": tag,
            "via": via or ("password" if actor.user_id else None),
        }
    )


def _reason(event: Event) -> dict[str, Any] | None:
    grounds = event.grounds or UNDECIDED
    return _present(
        {
            "code": event.reason_code,
            "held": grounds.held,
            "law": grounds.law,
            "needed": grounds.needed,
            "rule": grounds.rule,
            "stated": shortened(event.stated),
            "text": shortened(without_name(event)),
        }
    )


def _target(event: Event) -> dict[str, Any] | None:
    name = _unnamed_target(event)
    media_type = shortened(event.media_type, 256)
    return _present({"bytes": event.size, "digest": event.digest, "media_type": media_type, "name": shortened(name)})


def _changes(event: Event) -> dict[str, Any] | None:
    """Changed fields only. What is too long becomes its digest and size: the change is done, so this cannot fail."""
    if not event.changes:
        return None
    plain = {field: _plain(value, event) for field, value in event.changes.items()}
    if len(orjson.dumps(plain)) <= LONGEST_CHANGES:
        return plain
    return {field: _summary(value) for field, value in plain.items()}


def _summary(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2:
        return [_digested(one) for one in value]
    return _digested(value)


def _digested(value: Any) -> Any:
    whole = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return value if len(whole) <= LONGEST_KEPT_VALUE else {"digest": digest_of(whole), "size": len(whole)}


def _plain(value: Any, event: Event) -> Any:
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) <= GREATEST_NUMBER else str(value)
        case str():
            return shortened(_unnamed(value, event), LONGEST_CHANGES)
        case datetime():
            return written_time(value)
        case UUID():
            return value.hex
        case Mapping():
            return {str(key): _plain(one, event) for key, one in value.items()}
        case Sequence() | set() | frozenset():
            return [_plain(one, event) for one in value]
    return str(value)


def _present(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Without what is absent; None if nothing is left."""
    kept = {
        name: value
        for name, value in fields.items()
        if value or (value is not None and not isinstance(value, dict | list))
    }
    return kept or None


def _hex(value: UUID | None) -> str | None:
    return None if value is None else value.hex
