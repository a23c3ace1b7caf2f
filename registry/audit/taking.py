"""Taking the lines of an export in, one after the other.

Each line must follow from the bytes of the entry in it, numbers have no gaps, within an organization neither, and times
never go back. A line of ours is held against what we would write, which is quick; any other is taken apart.
"""

import json
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any

import orjson
from pybase64 import b64encode

from registry.audit import sealing
from registry.audit.entries import Wrapped, organization_in, unwrap
from registry.audit.lines import json_line_of
from registry.audit.verdicts import Incomplete, Tampered
from registry.transparency.merkle import CompactRange, leaf_hash

READ_AT_ONCE = 256 * 1024
LONGEST_LINE = 1024 * 1024  # an entry has 64 KiB, which stand in its line twice
Read = tuple[int, bytes, bytes, bytes, bytes]
"""Index, leaf, time, number within the organization, and the organization, as bytes of the entry."""
ENTRY_BEHIND_LEAF = len(b',"leaf":"","entry":"') + 44


@dataclass(slots=True)
class Run:
    """What is known of the log after so many lines. `heads` holds the number that comes next in each organization."""

    tree: CompactRange = field(default_factory=CompactRange)
    since: int = 0
    leaves: list[bytes] = field(default_factory=list)
    heads: dict[bytes, int] = field(default_factory=dict)
    first_at: bytes = b""
    last_at: bytes = b""
    next: int = 0

    def take(self, index: int, leaf: bytes, logged_at: bytes, within: bytes, organization: bytes) -> None:
        """One entry more; `within` is its number within the organization as it stands in the entry, empty if it has
        none. Raises `Tampered`."""
        if index != self.next:
            raise Tampered(f"Entry {self.next} is missing: entry {index} stands in its place.", self.next)
        if logged_at < self.last_at:
            raise Tampered(f"Entry {index} is dated before the one ahead of it.", index)
        if within:
            number = int(within[11:])
            if self.heads.get(organization, number if self.since else 1) != number:
                raise Tampered(f"Entry {index} has not the next number within its organization.", index)
            self.heads[organization] = number + 1
        self.last_at = logged_at
        self.leaves.append(leaf)
        self.next = index + 1


def lines_of(read: Callable[[int], bytes], at_once: int = READ_AT_ONCE) -> Iterator[bytes]:
    """The lines of what is given for an export, in memory that is bounded whatever that is. Raises `Incomplete`."""
    rest = b""
    while piece := read(at_once):
        lines = BytesIO(rest + piece).readlines()
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        if max(map(len, (rest, *lines))) > LONGEST_LINE:
            raise Incomplete(f"A line is longer than {LONGEST_LINE} bytes, which none of an export is.")
        yield from lines
    if rest:
        yield rest


def take_quickly(lines: Sequence[bytes], run: Run) -> int:
    """Takes lines in as long as nothing is wrong with them and they are written as we write them; how many that was.

    Entry and line are made again from the event, the time and the number in it, and the line is held against what is
    there. That costs a third of what decoding and parsing would, and a log has millions of lines. Only a line that
    differs is taken apart.
    """
    if not run.first_at:
        return 0  # the first line says where the export begins
    heads, leaves, following, last_at = run.heads, run.leaves, run.next, run.last_at
    for line in lines:
        begin = b'{"seq":%d,"logged_at":"' % following
        stamp = line[len(begin) : (leaf_at := line.find(b',"leaf":"', len(begin)))]
        body = line[line.find(b'"', leaf_at + ENTRY_BEHIND_LEAF) + 10 : -2]
        entry = b"".join((b'{"event":', body, b',"logged_at":"', stamp, b',"v":1}'))
        leaf = sha256(b"\x00" + entry).digest()
        parts = (b',"leaf":"', b2a_base64(leaf, newline=False), b'","entry":"', b64encode(entry), b'","event":', body)
        if b"".join((begin, stamp, *parts, b"}\n")) != line or (logged_at := stamp[:27]) < last_at:
            break
        if (within := stamp[27:]) != b'"':
            number = heads.get(organization := organization_in(body))
            if number is None or within != b'","org_seq":%d' % number:
                break
            heads[organization] = number + 1
        leaves.append(leaf)
        last_at, following = logged_at, following + 1
    taken, run.next, run.last_at = following - run.next, following, last_at
    return taken


def taken_apart(line: bytes) -> Read:
    seq = _seq_of(line)
    try:
        text = orjson.loads(line)["entry"]
        entry = b64decode(text, validate=True)
        wrapped = unwrap(entry)
        organization = orjson.loads(wrapped.body).get("scope", {}).get("organization", "").encode()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if not line.endswith(b"\n"):
            raise Incomplete(f"The line of entry {seq} was cut.") from error
        raise Tampered(f"Entry {seq} cannot be read: {error}", seq) from error
    leaf = leaf_hash(entry)
    _check_fields(line, seq, entry, wrapped)
    within = b"" if wrapped.number is None else b',"org_seq":%d' % wrapped.number
    return seq, leaf, wrapped.logged_at.encode(), within, organization


def _seq_of(line: bytes) -> int:
    if line.startswith(b'{"seq":'):
        digits = line[7 : line.find(b",", 7, 30)]
        if digits.isdigit() and len(digits) <= 18:
            return int(digits)
    try:
        told = orjson.loads(line)["seq"]
    except (ValueError, KeyError, TypeError):
        raise Incomplete(
            "A line is no entry of an export: it was cut, or the file is not in the format jsonl, which alone can be "
            "verified."
        ) from None
    if not isinstance(told, int) or not 0 <= told < 1 << 63:
        raise Tampered("The number of an entry is no number.")
    return told


def _check_fields(line: bytes, seq: int, entry: bytes, wrapped: Wrapped) -> None:
    """A line may be written in another way, and may hold the opened private part, but must say the same to every
    reader: types count, and no field stands there twice."""
    try:
        told = _loaded(line)
        opened, key = told.pop("private", None), told.pop("key", None)
        expected = orjson.loads(json_line_of(seq, entry, leaf_hash(entry), wrapped))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Tampered(f"The line of entry {seq} is damaged: {error}", seq) from error
    for name in sorted(expected.keys() | told.keys()):
        if not (name in told and name in expected and _canonical(told[name]) == _canonical(expected[name])):
            raise Tampered(f"Entry {seq}: '{name}' is not what the entry's bytes say.", seq)
    if opened is not None or key is not None:
        _check_private(expected["event"], opened, key, seq)


def _canonical(value: Any) -> bytes:
    """Equal only for what is the same in JSON: to Python, True is 1."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _loaded(line: bytes) -> Any:
    """Raises ValueError, also where a field stands twice, and RecursionError. A line that is as we would write what was
    read from it holds nothing that was not read; that is quickly told."""
    told = orjson.loads(line)
    if orjson.dumps(told) != line.strip():
        json.loads(line, object_pairs_hook=_once)
    return told


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _check_private(event: dict[str, Any], opened: Any, key: Any, seq: int) -> None:
    try:
        found = sealing.unseal(b64decode(key, validate=True), b64decode(event["private"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"Entry {seq}: the key given does not open what was sealed.", seq) from error
    if _canonical(found) != _canonical(opened):
        raise Tampered(f"Entry {seq}: 'private' is not what was sealed.", seq)
