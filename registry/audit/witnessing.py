"""Witnessing: keeping watch over a log from outside.

A witness remembers one checkpoint a log and takes a new one only when it is proven that nothing of what it saw before
was rewritten. It remembers before it says anything, so that not even two looks at once can make it say two things that
contradict each other. What contradicts is kept as evidence: two signatures of one key that cannot both be honest.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.transparency import checkpoints, tiles
from registry.transparency.checkpoints import Checkpoint, CheckpointInvalid
from registry.transparency.merkle import HASH_BYTES, ProofInvalid, verify_consistency
from registry.transparency.notes import NoteInvalid, VerifierKey, open_note, split_note
from registry.transparency.tiles import WIDTH, Tile

Read = Callable[[str], bytes]
"""The bytes at a path below /audit/. Raises OSError when they cannot be had."""


class Contradiction(Exception):
    """The log is not the continuation of what was seen before. `notes` are the evidence."""

    def __init__(self, sentence: str, notes: Sequence[str]) -> None:
        super().__init__(sentence)
        self.notes = tuple(notes)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `before` is the size seen last, None at the first look. `ended` is the earlier log of the same
    place, if it was watched: none of its checkpoints will come any more."""

    checkpoint: Checkpoint
    note: str
    before: int | None
    ended: Checkpoint | None = None


def visit(read: Read, keys: Sequence[VerifierKey], state: Path) -> Look:
    """Raises `Contradiction`, and OSError when the log or the state cannot be read."""
    with _kept(state) as seen:
        note = _note(read("checkpoint"))
        new = _opened(note, keys, ())
        kept = seen.get(new.origin)
        if kept is not None:
            old = _opened(kept, keys, (note,))
            _compare(read, old, new, (kept, note))
        ended = _ended(seen, new.origin) if kept is None else None
        seen[new.origin] = note
    return Look(new, note, None if kept is None else old.size, ended)


def _note(served: bytes) -> str:
    """Raises OSError for what is no note at all, such as the page of a proxy: that proves nothing of the log."""
    note = served.decode("utf-8", "replace")
    try:
        split_note(note)
    except NoteInvalid as error:
        raise OSError(f"what is served as its checkpoint is none ({error})") from error
    return note


def _ended(seen: dict[str, str], origin: str) -> Checkpoint | None:
    """A log that is opened after a fork bears the name of the one before, but for its number. What was seen before was
    verified then."""
    base = origin.rpartition("/")[0]
    before = sorted((name for name in seen if name.rpartition("/")[0] == base), key=lambda name: (len(name), name))
    return checkpoints.parse(split_note(seen[before[-1]])[0]) if before else None


def keep_evidence(state: Path, contradiction: Contradiction) -> Path:
    """Beside the state, under a name of its own."""
    number = 1
    while (path := state.with_name(f"{state.name}.evidence-{number}")).exists():
        number += 1
    path.write_text(f"{contradiction}\n\n" + "\n\n".join(contradiction.notes))
    return path


def _compare(read: Read, old: Checkpoint, new: Checkpoint, notes: Sequence[str]) -> None:
    if new.size < old.size:
        raise Contradiction(f"The log had {old.size} entries, and now has {new.size}: its end was cut off.", notes)
    if new.size == old.size:
        if new.root != old.root:
            raise Contradiction(f"Two logs of {new.size} entries were signed, and they differ.", notes)
        return
    if old.size == 0:
        return
    wanted = {*tiles.tiles_for_consistency(old.size, new.size), *tiles.tiles_for_range(old.size)}
    found = {spot: _tile(read, spot, new.size) for spot in sorted(wanted)}
    try:
        proof = tiles.consistency_proof(old.size, new.size, found)
        verify_consistency(old.size, new.size, proof, old.root, new.root)
    except (ProofInvalid, ValueError) as error:
        raise Contradiction(
            f"The first {old.size} entries of the log are not those that were signed before: {error}", notes
        ) from error


def _tile(read: Read, spot: tuple[int, int], size: int) -> bytes:
    level, index = spot
    width = min(WIDTH, (size >> 8 * level) - index * WIDTH)
    data = read(Tile(level, index, width).path)
    if len(data) != width * HASH_BYTES:
        raise OSError(f"tile {index} of level {level} has {len(data)} bytes")
    return data


def _opened(note: str, keys: Sequence[VerifierKey], others: Sequence[str]) -> Checkpoint:
    try:
        return checkpoints.parse(open_note(note, keys).text)
    except (NoteInvalid, CheckpointInvalid) as error:
        raise Contradiction(
            f"The checkpoint is not signed by a key that was given: {error}", (*others, note)
        ) from error


@contextmanager
def _kept(state: Path) -> Iterator[dict[str, str]]:
    """The notes seen last, by the log's name; what is changed is on the disk when the block is left. One look at a
    time: the lock is a file of its own, since the state itself is replaced."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.with_name(f"{state.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen: dict[str, str] = json.loads(state.read_text()) if state.exists() else {}
        if not isinstance(seen, dict) or not all(isinstance(note, str) for note in seen.values()):
            raise OSError(f"the state file {state} holds no checkpoints")
        before = dict(seen)
        yield seen
        if seen != before:
            fresh = state.with_name(f"{state.name}.{os.getpid()}")
            with fresh.open("w") as file:
                json.dump(seen, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(state)
