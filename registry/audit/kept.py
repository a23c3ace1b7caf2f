"""Kept: the files of checkpoints that somebody kept outside the log, to hold it against them later.

A note by itself, several, or the file of an anchor. What is in none of these forms is refused rather than passed over:
nothing would be compared, and it would look as if it had been.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from registry.audit.verdicts import Incomplete, SignedByNone, Tampered
from registry.transparency import checkpoints
from registry.transparency.checkpoints import Checkpoint, CheckpointInvalid
from registry.transparency.notes import NoteInvalid, VerifierKey, open_note, split_note

EMPTY_LINES = re.compile("\n{2,}")
Known = Mapping[int, Sequence[Checkpoint]]
"""Checkpoints whose signatures hold, by size."""
NONE: Known = MappingProxyType({})
NUMBER = re.compile("[0-9]{1,18}").fullmatch


def notes_of(text: str, names: Collection[str]) -> list[str]:
    """The notes of a file that are of the logs so named; the file of an anchor may hold those of a log that ended too.

    Raises `Incomplete` where there is none: nothing would be compared, and it would look as if it had been.
    """
    ours = [note for note in notes_in(text) if origin_of(note) in names]
    if not ours:
        raise Incomplete(f"It is no checkpoint of this log, which is named {' or '.join(sorted(names))}.")
    return ours


def notes_in(text: str) -> Iterator[str]:
    """The signed notes of a file: notes, or an anchor's lines of JSON. Raises `Incomplete` for what is neither."""
    if not text.lstrip().startswith("{"):
        yield from map(_note, _apart(text.replace("\r\n", "\n")))
        return
    for line in text.splitlines():
        if line.strip():
            try:
                yield _note(orjson.loads(line)["note"])
            except (ValueError, KeyError, TypeError) as error:
                raise Incomplete("The file of checkpoints holds a line that is none.") from error


def _apart(text: str) -> list[str]:
    """Notes with empty lines between and around them, as `jq -r .note` prints those of an anchor. The text of a
    checkpoint has no empty line, so text and signatures alternate. The last line must end, or its signature may have
    been cut. Raises `Incomplete`."""
    parts = EMPTY_LINES.split(text.strip("\n"))
    if not text.endswith("\n") or len(parts) % 2:
        raise Incomplete("It is no checkpoint, nor several with empty lines between them, or was cut.")
    return [f"{told}\n\n{signed}\n" for told, signed in zip(parts[::2], parts[1::2], strict=True)]


def _note(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("a note is text")
    try:
        split_note(text)
    except NoteInvalid as error:
        raise Incomplete(f"It is no checkpoint: {error}") from error
    return text


# Whose they are


def origin_of(note: str) -> str:
    return note.partition("\n")[0]


def is_later(origin: str, than: str) -> bool:
    """Of two names of an installation's logs, which count up."""
    (base, _, number), (other, _, known) = origin.rpartition("/"), than.rpartition("/")
    return bool(base == other and NUMBER(number) and NUMBER(known)) and int(number) > int(known)


def keys_for(note: str, keys: Sequence[VerifierKey]) -> list[VerifierKey]:
    """Those of the log that the note is of. A key signs for the log that bears its name and for no other, or whoever
    holds it could give a rewritten log another first line, and it would pass for one that was opened later."""
    return [key for key in keys if key.name == origin_of(note)]


# What their signatures are worth


def opened(note: str, keys: Sequence[VerifierKey], what: str) -> tuple[Checkpoint, tuple[VerifierKey, ...]]:
    """Raises `Tampered`, and `SignedByNone` where none of the keys of its log has signed it."""
    try:
        opened = open_note(note, keys_for(note, keys))
        return checkpoints.parse(opened.text), opened.keys
    except (NoteInvalid, CheckpointInvalid) as error:
        kind = SignedByNone if is_signed_by_none(note, keys) else Tampered
        raise kind(f"{what} is not valid: {error}") from error


def is_signed_by_none(note: str, keys: Sequence[VerifierKey]) -> bool:
    try:
        signed = {(name, signature[:4]) for name, signature in split_note(note)[1]}
    except NoteInvalid:
        return False
    return signed.isdisjoint((key.name, key.id) for key in keys_for(note, keys))


def known_elsewhere(notes: Iterable[str], keys: Sequence[VerifierKey]) -> Known:
    """By size. Two of one size are both kept: they are compared with the same tree. Raises `Tampered`."""
    found: dict[int, list[Checkpoint]] = {}
    for note in notes:
        checkpoint, _ = opened(note, keys, "A checkpoint kept elsewhere")
        found.setdefault(checkpoint.size, []).append(checkpoint)
    return found


def together(*several: Known) -> Known:
    found: dict[int, list[Checkpoint]] = {}
    for known in several:
        for size, each in known.items():
            found.setdefault(size, []).extend(each)
    return found


def of_log(known: Known, origin: str) -> tuple[dict[int, list[Checkpoint]], list[int]]:
    """Those of this log, and the sizes of those of others, which tell nothing of it."""
    ours, others = dict[int, list[Checkpoint]](), list[int]()
    for size, each in known.items():
        if mine := [one for one in each if one.origin == origin]:
            ours[size] = mine
        others += [size] * (len(each) - len(mine))
    return ours, others
