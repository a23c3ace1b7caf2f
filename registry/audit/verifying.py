"""Verifying an export, with the public key and nothing else of ours: no database, no settings, no network.

Every line must follow from the bytes in it, the bytes must be the leaves of the signed tree, numbers have no gaps and
times never go back. What is not as it should be is named with the number of the entry where it shows first. What a
sound export proves: under that key, this is the log that was signed. What it cannot prove: that the checkpoint in it is
the newest there ever was; for that, give checkpoints that were kept elsewhere.
"""

import json
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from itertools import islice
from typing import Any

import orjson
from pybase64 import b64encode

from registry.audit import sealing
from registry.audit.entries import EntryInvalid, Wrapped, columns_in, columns_of, organization_in, unwrap
from registry.audit.lines import json_line_of
from registry.transparency import checkpoints
from registry.transparency.checkpoints import Checkpoint, CheckpointInvalid
from registry.transparency.merkle import CompactRange, leaf_hash, verify_consistency
from registry.transparency.notes import NoteInvalid, VerifierKey, open_note, split_note

SOUND, TAMPERED, INCOMPLETE = 0, 1, 2
BATCH = 256
READ_AT_ONCE = 256 * 1024
LONGEST_LINE = 1024 * 1024  # an entry has 64 KiB, which stand in its line twice
Read = tuple[int, bytes, bytes, bytes, bytes]
"""Index, leaf, time, number within the organization, and the organization, as bytes of the entry."""
LAST_LINE = b'{"checkpoint":'
ENTRY_BEHIND_LEAF = len(b',"leaf":"","entry":"') + 44


class Tampered(Exception):
    """`index` is the first entry where it shows; None when it cannot be told."""

    def __init__(self, sentence: str, index: int | None = None) -> None:
        super().__init__(sentence)
        self.index = index


class SignedByNone(Tampered):
    """None of the keys given has signed, so that nothing can be told of what was signed."""


class Incomplete(Exception):
    """What was given is not enough to verify."""


@dataclass(slots=True)
class Verdict:
    """`status` is SOUND, TAMPERED or INCOMPLETE; `sentence` says it to a person. `wrong_key` says that none of the keys
    given has signed, which may mean no more than that. `spans` are the first and last numbers of what was there."""

    status: int
    sentence: str
    index: int | None = None
    origin: str | None = None
    size: int = 0
    since: int = 0
    entries: int = 0
    root: bytes = b""
    keys: tuple[str, ...] = ()
    compared: int = 0
    first_at: str | None = None
    last_at: str | None = None
    spans: tuple[tuple[int, int], ...] = ()
    wrong_key: bool = False


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


def verify(lines: Iterable[bytes], keys: Sequence[VerifierKey], outside: Iterable[str] = ()) -> Verdict:
    """`lines` are those of a JSON Lines export, `outside` signed notes that were kept elsewhere."""
    run = Run()
    try:
        last = _read(lines, run, wanted := known_elsewhere(outside, keys))
        return _concluded(run, last, keys, wanted)
    except Tampered as found:
        wrong_key = isinstance(found, SignedByNone)
        return Verdict(TAMPERED, str(found), found.index, entries=run.next - run.since, wrong_key=wrong_key)
    except Incomplete as found:
        return Verdict(INCOMPLETE, str(found), entries=run.next - run.since)


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


def _take_quickly(lines: Sequence[bytes], run: Run) -> int:
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


def _taken_apart(line: bytes) -> Read:
    seq = _seq_of(line)
    try:
        text = orjson.loads(line)["entry"]
        entry = b64decode(text, validate=True)
        wrapped = unwrap(entry)
        scope = orjson.loads(wrapped.body).get("scope", {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if not line.endswith(b"\n"):
            raise Incomplete(f"The line of entry {seq} was cut.") from error
        raise Tampered(f"Entry {seq} cannot be read: {error}", seq) from error
    leaf = leaf_hash(entry)
    _check_fields(line, seq, entry, wrapped)
    within = b"" if wrapped.number is None else b',"org_seq":%d' % wrapped.number
    return seq, leaf, wrapped.logged_at.encode(), within, scope.get("organization", "").encode()


def _read(lines: Iterable[bytes], run: Run, wanted: dict[int, list[Checkpoint]]) -> dict[str, Any]:
    """Takes all entries in, and returns the last line."""
    left = iter(lines)
    while batch := list(islice(left, BATCH)):
        while batch := batch[_take_quickly(batch, run) :]:
            if batch[0].startswith(LAST_LINE):
                if len(batch) > 1 or next(left, None) is not None:
                    raise Incomplete("Lines follow the checkpoint, which is the last of an export.")
                return _last_line(batch[0])
            _take(_taken_apart(batch[0]), run)
            del batch[0]
        if not run.since:
            compare(run, wanted)
    raise Incomplete("The export does not end with a checkpoint: it was cut, or it is none.")


def _take(read: Read, run: Run) -> None:
    if not run.first_at:
        run.since, run.next, run.first_at = read[0], read[0], read[2]
    run.take(*read)


def _concluded(
    run: Run, last: dict[str, Any], keys: Sequence[VerifierKey], wanted: dict[int, list[Checkpoint]]
) -> Verdict:
    opened = _opened(last["checkpoint"], keys, "The checkpoint of the export")
    checkpoint = opened[0]
    since = last.get("from", 0)
    if run.next == run.since == 0:
        run.since = run.next = since
    if run.since != since:
        raise Tampered(f"Entry {since} is missing: the export begins with entry {run.since}.", since)
    if since:
        run.tree = _before(last, since)
    end = last.get("to", checkpoint.size)
    if run.next < end:
        raise Tampered(f"Entry {run.next} is missing: the export goes to {end - 1}.", run.next)
    if run.next > end or end > checkpoint.size:
        raise Tampered(f"Entry {end} is not under the checkpoint.", end)
    compare(run, wanted)
    if not _leads_to(run.tree, checkpoint, last):
        raise Tampered(_narrowed(since, end, wanted), since)
    if larger := [size for size in wanted if size > end]:
        raise Incomplete(
            f"A checkpoint kept elsewhere covers {max(larger)} entries, the export goes to {end}: it is older than "
            "that checkpoint, is only a part of the log, or its end was removed. Make a fresh export."
        )
    if end == since and checkpoint.size:
        raise Incomplete(f"The export holds none of the log's {checkpoint.size} entries: there is nothing to verify.")
    compared = sum(len(each) for size, each in wanted.items() if size >= since)
    keys_used = tuple(str(key) for key in opened[1])
    return Verdict(
        SOUND, "Sound.", None, checkpoint.origin, checkpoint.size, since, run.next - since, checkpoint.root,
        keys_used, compared, run.first_at.decode() or None, run.last_at.decode() or None,
    )  # fmt: skip


def compare(run: Run, wanted: dict[int, list[Checkpoint]]) -> None:
    """Puts what was read into the tree, stopping where a checkpoint from elsewhere is to be compared.

    Raises `Tampered`.
    """
    leaves, run.leaves = run.leaves, []
    end = run.tree.size + len(leaves)
    done = 0
    for size in [*sorted(one for one in wanted if run.tree.size <= one <= end), end]:
        count = size - run.tree.size
        run.tree.extend(leaves[done : done + count])
        done += count
        for known in wanted.get(size, ()):
            if run.tree.root() != known.root:
                agreed = max((one for one in wanted if one < size), default=run.since)
                raise Tampered(
                    f"The first {size} entries are not those for which a checkpoint kept elsewhere was signed; the "
                    f"change is in the entries from {agreed} to {size - 1}.",
                    agreed,
                )


def _leads_to(tree: CompactRange, checkpoint: Checkpoint, last: dict[str, Any]) -> bool:
    """Whether the tree is the one of the checkpoint, or proven to be its beginning."""
    if tree.size == checkpoint.size:
        return tree.root() == checkpoint.root
    try:
        hashes = [b64decode(one, validate=True) for one in last.get("consistency", ())]
        verify_consistency(tree.size, checkpoint.size, hashes, tree.root(), checkpoint.root)
    except (ValueError, TypeError):
        return tree.size == 0
    return True


def _narrowed(since: int, end: int, wanted: dict[int, list[Checkpoint]]) -> str:
    agreed = max((size for size in wanted if since <= size <= end), default=since)
    return (
        f"The entries are not those that the checkpoint was signed for: one from {agreed} to {end - 1} was changed "
        "together with all that is derived from it."
    )


def _before(last: dict[str, Any], since: int) -> CompactRange:
    try:
        return CompactRange(since, [b64decode(one, validate=True) for one in last["before"]])
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"What stands for the entries before {since} is not of a tree of that size.", since) from error


def _opened(note: str, keys: Sequence[VerifierKey], what: str) -> tuple[Checkpoint, tuple[VerifierKey, ...]]:
    try:
        opened = open_note(note, keys)
        return checkpoints.parse(opened.text), opened.keys
    except (NoteInvalid, CheckpointInvalid) as error:
        kind = SignedByNone if _is_signed_by_none(note, keys) else Tampered
        raise kind(f"{what} is not valid: {error}") from error


def _is_signed_by_none(note: str, keys: Sequence[VerifierKey]) -> bool:
    try:
        signed = {(name, signature[:4]) for name, signature in split_note(note)[1]}
    except NoteInvalid:
        return False
    return signed.isdisjoint((key.name, key.id) for key in keys)


def known_elsewhere(notes: Iterable[str], keys: Sequence[VerifierKey]) -> dict[int, list[Checkpoint]]:
    """By size. Two of one size are both kept: they are compared with the same tree. Raises `Tampered`."""
    found: dict[int, list[Checkpoint]] = {}
    for note in notes:
        checkpoint, _ = _opened(note, keys, "A checkpoint kept elsewhere")
        found.setdefault(checkpoint.size, []).append(checkpoint)
    return found


def _last_line(line: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(line)
        if isinstance(told["checkpoint"], str) and all(isinstance(told.get(name, 0), int) for name in ("from", "to")):
            return dict(told)
    except (ValueError, KeyError, TypeError):
        pass
    raise Incomplete("The line of the checkpoint was cut.")


def _seq_of(line: bytes) -> int:
    if line.startswith(b'{"seq":'):
        digits = line[7 : line.find(b",", 7, 30)]
        if digits.isdigit() and len(digits) <= 18:
            return int(digits)
    try:
        told = orjson.loads(line)["seq"]
    except (ValueError, KeyError, TypeError):
        raise Incomplete("A line of the export is no entry: it was cut, or the file is no export.") from None
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


def check_columns(wrapped: Wrapped, row: Mapping[str, Any], index: int) -> None:
    """That what a row of the table says of an entry follows from its bytes. Raises `Tampered`."""
    try:
        if columns_in(row) == columns_of(wrapped):
            return
    except EntryInvalid as error:
        raise Tampered(f"Entry {index} cannot be read: {error}", index) from error
    raise Tampered(f"Entry {index}: a column of the table is not what the entry's bytes say.", index)
