"""Witnessing: keeping watch over a log from outside.

A witness remembers one checkpoint a log and takes a new one only when it is proven that nothing of what it saw before
was rewritten. It remembers before it says anything, so that not even two looks at once can make it say two things that
contradict each other. What contradicts is kept as evidence: two signatures of one key that cannot both be honest.

A signed checkpoint that is shown without the tiles that would prove it is kept too, beside what was seen, and whatever
is shown later must continue both: else a log that was rewritten had only to hide its tiles until it is put back.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from registry.audit.kept import is_later, is_signed_by_none, keys_for, origin_of
from registry.transparency import checkpoints, tiles
from registry.transparency.checkpoints import Checkpoint, CheckpointInvalid
from registry.transparency.merkle import HASH_BYTES, ProofInvalid, verify_consistency
from registry.transparency.notes import NoteInvalid, VerifierKey, open_note, split_note
from registry.transparency.tiles import WIDTH, Tile

MOST_UNPROVEN = 30  # a server that hides for ever must not fill the disk

Read = Callable[[str], bytes]
"""The bytes at a path below /audit/. Raises OSError when they cannot be had."""

Signed = tuple[str, Checkpoint]
"""A note, and what it says."""


class Contradiction(Exception):
    """The log is not the continuation of what was seen before. `notes` are the evidence."""

    def __init__(self, sentence: str, notes: Sequence[str]) -> None:
        super().__init__(sentence)
        self.notes = tuple(notes)


class SignedByNone(Contradiction):
    """None of the keys given has signed it, which may mean no more than that there is a new one."""


class Damaged(OSError):
    """What the witness itself keeps is not what it wrote, which tells nothing of the log."""


class Unproven(OSError):
    """The log shows a signed checkpoint, and not what would prove that it continues what was seen before."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `before` is the size seen last, None at the first look. `ended` is the earlier log of the same
    place, if it was watched: none of its checkpoints will come any more."""

    checkpoint: Checkpoint
    note: str
    before: int | None
    ended: Checkpoint | None = None


def visit(read: Read, keys: Sequence[VerifierKey], state: Path) -> Look:
    """Raises `Contradiction`, `Unproven`, `Damaged`, and OSError when the log or the state cannot be read."""
    with _kept(state) as (seen, unproven):
        note = _note(read("checkpoint"))
        new = _opened(note, keys, ())
        _refuse_what_ended(seen, note)
        kept, waiting = seen.get(new.origin), unproven.pop(new.origin, [])
        earlier = [(one, _remembered(one, keys, note, state)) for one in [*([kept] if kept else []), *waiting]]
        if failure := _compare_all(cache(read), earlier, (note, new)):
            unproven[new.origin] = list(dict.fromkeys([*waiting, note]))[:MOST_UNPROVEN]
        else:
            ended = None if kept else _ended(seen, new.origin)
            seen[new.origin] = note
    if failure:
        raise Unproven(f"{failure} {_where(state, is_kept=note in unproven[new.origin])}")
    return Look(new, note, earlier[0][1].size if kept else None, ended)


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
    before = sorted((name for name in seen if is_later(origin, name)), key=lambda name: (len(name), name))
    return checkpoints.parse(split_note(seen[before[-1]])[0]) if before else None


def _refuse_what_ended(seen: dict[str, str], note: str) -> None:
    """Raises `Contradiction`: nothing is appended to a log any more after another was opened in its place."""
    origin = origin_of(note)
    for name, newer in seen.items():
        if is_later(name, origin):
            raise Contradiction(f"{origin} is served, which had ended: {name} was seen in its place.", (newer, note))


def keep_evidence(state: Path, contradiction: Contradiction) -> Path:
    """Beside the state, under a name of its own."""
    number = 1
    while (path := state.with_name(f"{state.name}.evidence-{number}")).exists():
        number += 1
    path.write_text(f"{contradiction}\n\n" + "\n\n".join(contradiction.notes))
    return path


def _compare_all(read: Read, earlier: Sequence[Signed], now: Signed) -> str | None:
    """Why it is not proven that the log continues all of these; None when it is. What signatures alone tell comes
    first, since no server can hide that. Raises `Contradiction`."""
    for note, old in earlier:
        _compare(old, now[1], (note, now[0]))
    for note, old in earlier:
        try:
            _prove(read, old, now[1], (note, now[0]))
        except OSError as error:
            entries = f"the log of {now[1].size} entries continues the {old.size} that were signed before"
            return f"It is not proven that {entries}: {error}."
    return None


def _compare(old: Checkpoint, new: Checkpoint, notes: Sequence[str]) -> None:
    if new.size < old.size:
        raise Contradiction(f"The log had {old.size} entries, and now has {new.size}: its end was cut off.", notes)
    if new.size == old.size and new.root != old.root:
        raise Contradiction(f"Two logs of {new.size} entries were signed, and they differ.", notes)


def _prove(read: Read, old: Checkpoint, new: Checkpoint, notes: Sequence[str]) -> None:
    """Raises `Contradiction`, and OSError when what would prove it cannot be had."""
    if old.size in (0, new.size):
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


def _remembered(kept: str, keys: Sequence[VerifierKey], served: str, state: Path) -> Checkpoint:
    """Whose signature was right once, and is wrong now, was damaged here. Raises `SignedByNone`, `Damaged`."""
    try:
        return _opened(kept, keys, (served,))
    except SignedByNone:
        raise
    except Contradiction as error:
        raise Damaged(f"What {state} or {_beside(state)} holds was damaged: {error}") from error


def _opened(note: str, keys: Sequence[VerifierKey], others: Sequence[str]) -> Checkpoint:
    try:
        return checkpoints.parse(open_note(note, keys_for(note, keys)).text)
    except (NoteInvalid, CheckpointInvalid) as error:
        kind = SignedByNone if is_signed_by_none(note, keys) else Contradiction
        raise kind(f"The checkpoint is not signed by a key that was given: {error}", (*others, note)) from error


@contextmanager
def _kept(state: Path) -> Iterator[tuple[dict[str, str], dict[str, list[str]]]]:
    """The notes seen last, and those that are not proven yet, by the log's name; what is changed is on the disk when
    the block is left without an exception. One look at a time: the lock is a file of its own, since the others are
    replaced."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.with_name(f"{state.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen, unproven = _read(state, _is_note), _read(_beside(state), _are_notes)
        before = deepcopy((seen, unproven))
        yield seen, unproven
        for path, now, then in zip((state, _beside(state)), (seen, unproven), before, strict=True):
            if now != then:
                _write(path, now)


def _beside(state: Path) -> Path:
    return state.with_name(f"{state.name}.unproven")


def _where(state: Path, *, is_kept: bool) -> str:
    if is_kept:
        return f"The new checkpoint is kept in {_beside(state)}, and what comes next is held against it too."
    return f"{MOST_UNPROVEN} such checkpoints are in {_beside(state)} already, and no more are kept."


def _read(path: Path, is_right: Callable[[str, Any], bool]) -> dict[str, Any]:
    """Raises `Damaged` for a file that is none of ours."""
    try:
        found = json.loads(path.read_bytes().decode()) if path.exists() else {}
    except (ValueError, RecursionError) as error:
        raise Damaged(f"The state file {path} holds no checkpoints: it is not JSON in UTF-8.") from error
    if not isinstance(found, dict) or not all(is_right(name, value) for name, value in found.items()):
        raise Damaged(f"The state file {path} holds no checkpoints, or under another name than their own.")
    return found


def _is_note(name: str, value: Any) -> bool:
    try:
        value.encode()
        return checkpoints.parse(split_note(value)[0]).origin == name
    except (AttributeError, ValueError):
        return False


def _are_notes(name: str, value: Any) -> bool:
    return isinstance(value, list) and all(_is_note(name, one) for one in value)


def _write(path: Path, notes: dict[str, Any]) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with fresh.open("w") as file:
        json.dump(notes, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
