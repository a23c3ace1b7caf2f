"""The lines of an export in JSON Lines, the form that loses nothing. Pure: bytes of an entry in, one line out.

Each line holds the exact bytes that were hashed, and beside them the event as anybody can read it. Every line follows
from the entry alone, so whoever verifies makes it again and compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pybase64 import b64encode

from registry.audit.entries import Wrapped, unwrap


def json_line(seq: int, entry: bytes, leaf: bytes) -> bytes:
    """`seq`, `logged_at`, `org_seq` (within an organization), `leaf`, `entry` and `event`, with a newline."""
    return json_line_of(seq, entry, leaf, unwrap(entry))


def json_line_of(seq: int, entry: bytes, leaf: bytes, wrapped: Wrapped) -> bytes:
    number = b"" if wrapped.number is None else b'"org_seq":%d,' % wrapped.number
    return b'{"seq":%d,"logged_at":"%b",%b"leaf":"%b","entry":"%b","event":%b}\n' % (
        seq,
        wrapped.logged_at.encode(),
        number,
        b64encode(leaf),
        b64encode(entry),
        wrapped.body,
    )


def personal_line(line: bytes, private: dict[str, Any], key: bytes) -> bytes:
    """The line with what was sealed, and the key that proves it is that."""
    more = orjson.dumps({"private": private, "key": b64encode(key).decode()}, option=orjson.OPT_SORT_KEYS)
    return line[:-2] + b"," + more[1:] + b"\n"


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the log under its checkpoint is exported. `before` are the perfect subtrees of what is left out at
    the beginning, `consistency` proves that the log up to `to` is the beginning of that under the checkpoint."""

    since: int = 0
    before: Sequence[bytes] = ()
    to: int | None = None
    consistency: Sequence[bytes] = ()


def checkpoint_line(note: str, span: Span) -> bytes:
    """The last line."""
    told: dict[str, Any] = {"checkpoint": note}
    if span.since:
        told |= {"from": span.since, "before": [b64encode(one).decode() for one in span.before]}
    if span.to is not None:
        told |= {"to": span.to, "consistency": [b64encode(one).decode() for one in span.consistency]}
    return orjson.dumps(told) + b"\n"
