"""Kept: the files of checkpoints that somebody kept outside the log, to hold it against them later.

A note by itself, several, or the file of an anchor. What is in none of these forms is refused rather than passed over:
nothing would be compared, and it would look as if it had been.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import orjson

from registry.audit.verdicts import Incomplete, SignedByNone, Tampered
from registry.transparency import checkpoints
from registry.transparency.checkpoints import Checkpoint, CheckpointInvalid
from registry.transparency.notes import NoteInvalid, VerifierKey, open_note, split_note

EMPTY_LINES = re.compile("\n{2,}")


def notes_of(text: str, names: Collection[str]) -> list[str]:
    """The notes of a file that are of the logs so named; the file of an anchor may hold those of a log that ended too.

    Raises `Incomplete` where there is none: nothing would be compared, and it would look as if it had been.
    """
    ours = [note for note in notes_in(text) if note.partition("\n")[0] in names]
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


# What their signatures are worth


def opened(note: str, keys: Sequence[VerifierKey], what: str) -> tuple[Checkpoint, tuple[VerifierKey, ...]]:
    try:
        opened = open_note(note, keys)
        return checkpoints.parse(opened.text), opened.keys
    except (NoteInvalid, CheckpointInvalid) as error:
        kind = SignedByNone if is_signed_by_none(note, keys) else Tampered
        raise kind(f"{what} is not valid: {error}") from error


def is_signed_by_none(note: str, keys: Sequence[VerifierKey]) -> bool:
    try:
        signed = {(name, signature[:4]) for name, signature in split_note(note)[1]}
    except NoteInvalid:
        return False
    return signed.isdisjoint((key.name, key.id) for key in keys)


def known_elsewhere(notes: Iterable[str], keys: Sequence[VerifierKey]) -> dict[int, list[Checkpoint]]:
    """By size. Two of one size are both kept: they are compared with the same tree. Raises `Tampered`."""
    found: dict[int, list[Checkpoint]] = {}
    for note in notes:
        checkpoint, _ = opened(note, keys, "A checkpoint kept elsewhere")
        found.setdefault(checkpoint.size, []).append(checkpoint)
    return found
