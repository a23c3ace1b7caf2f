"""Verifying an export, with the public key and nothing else of ours: no database, no settings, no network.

Every line must be sound in itself and behind the one before (`taking`), and all together must be the leaves of the
signed tree. What is not as it should be is named with the number of the entry where it shows first. What a sound export
proves: under that key, this is the log that was signed. What it cannot prove: that the checkpoint in it is the newest
there ever was; for that, give checkpoints that were kept elsewhere.
"""

from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from registry.audit.kept import NONE, Known, of_log, opened
from registry.audit.taking import Read, Run, take_quickly, taken_apart
from registry.audit.verdicts import INCOMPLETE, SOUND, TAMPERED, Incomplete, SignedByNone, Tampered, Verdict
from registry.transparency.checkpoints import Checkpoint
from registry.transparency.merkle import CompactRange, verify_consistency
from registry.transparency.notes import VerifierKey

BATCH = 256
LAST_LINE = b'{"checkpoint":'


@dataclass(slots=True)
class Elsewhere:
    """The checkpoints that were kept elsewhere. Only the last line says which log the export is of: where it may be one
    of several, what differs is noted until then, by the log's name."""

    wanted: Known
    one_log: bool
    differing: dict[str, Tampered] = field(default_factory=dict)

    def compare(self, run: Run) -> None:
        """Raises `Tampered`."""
        for origin, differs in _differences(run, self.wanted):
            if self.one_log:
                raise differs
            self.differing.setdefault(origin, differs)

    def of(self, origin: str) -> tuple[dict[int, list[Checkpoint]], list[int]]:
        """As `of_log`. Raises `Tampered`."""
        if origin in self.differing:
            raise self.differing[origin]
        return of_log(self.wanted, origin)


def verify(lines: Iterable[bytes], keys: Sequence[VerifierKey], known: Known = NONE) -> Verdict:
    """`lines` are those of a JSON Lines export, `known` the checkpoints that were kept elsewhere."""
    run = Run()
    try:
        elsewhere = Elsewhere(known, len({key.name for key in keys}) == 1)
        last = _read(lines, run, elsewhere)
        return _concluded(run, last, keys, elsewhere)
    except Tampered as found:
        wrong_key = isinstance(found, SignedByNone)
        return Verdict(TAMPERED, str(found), found.index, entries=run.next - run.since, wrong_key=wrong_key)
    except Incomplete as found:
        return Verdict(INCOMPLETE, str(found), entries=run.next - run.since)


def _read(lines: Iterable[bytes], run: Run, elsewhere: Elsewhere) -> dict[str, Any]:
    """Takes all entries in, and returns the last line."""
    left = iter(lines)
    while batch := list(islice(left, BATCH)):
        while batch := batch[take_quickly(batch, run) :]:
            if batch[0].startswith(LAST_LINE):
                if len(batch) > 1 or next(left, None) is not None:
                    raise Incomplete("Lines follow the checkpoint, which is the last of an export.")
                return _last_line(batch[0])
            _take(taken_apart(batch[0]), run)
            del batch[0]
        if not run.since:
            elsewhere.compare(run)
    raise Incomplete("The export does not end with a checkpoint: it was cut, or it is none.")


def _take(read: Read, run: Run) -> None:
    if not run.first_at:
        run.since, run.next, run.first_at = read[0], read[0], read[2]
    run.take(*read)


def _concluded(run: Run, last: dict[str, Any], keys: Sequence[VerifierKey], elsewhere: Elsewhere) -> Verdict:
    checkpoint, signers = opened(last["checkpoint"], keys, "The checkpoint of the export")
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
    elsewhere.compare(run)
    wanted, others = elsewhere.of(checkpoint.origin)
    if not _leads_to(run.tree, checkpoint, last):
        raise Tampered(_narrowed(since, end, wanted), since)
    if larger := [size for size in wanted if size > end]:
        raise Incomplete(
            f"A checkpoint kept elsewhere covers {max(larger)} entries, the export goes to {end}: it is older than "
            "that checkpoint, is only a part of the log, or its end was removed. Make a fresh export."
        )
    if end == since and checkpoint.size:
        raise Incomplete(f"The export holds none of the log's {checkpoint.size} entries: there is nothing to verify.")
    return Verdict(
        SOUND,
        "Sound.",
        origin=checkpoint.origin,
        size=checkpoint.size,
        since=since,
        entries=run.next - since,
        root=checkpoint.root,
        keys=tuple(map(str, signers)),
        compared=sum(len(each) for size, each in wanted.items() if size >= since),
        compared_to=max((size for size in wanted if size >= since), default=0),
        passed_over=tuple(sorted({*others, *(size for size in wanted if size < since)})),
        first_at=run.first_at.decode() or None,
        last_at=run.last_at.decode() or None,
    )


def compare(run: Run, wanted: Known) -> None:
    """Puts what was read into the tree, and holds it against checkpoints from elsewhere, all of them of this log.

    Raises `Tampered`.
    """
    for _, differs in _differences(run, wanted):
        raise differs


def _differences(run: Run, wanted: Known) -> Iterator[tuple[str, Tampered]]:
    """Puts what was read into the tree, stopping where a checkpoint from elsewhere is to be compared."""
    leaves, run.leaves = run.leaves, []
    end = run.tree.size + len(leaves)
    done = 0
    for size in [*sorted(one for one in wanted if run.tree.size <= one <= end), end]:
        count = size - run.tree.size
        run.tree.extend(leaves[done : done + count])
        done += count
        for known in wanted.get(size, ()):
            if run.tree.root() != known.root:
                yield known.origin, _differs(size, max(_smaller(size, known.origin, wanted), default=run.since))


def _smaller(size: int, origin: str, wanted: Known) -> Iterator[int]:
    return (one.size for each in wanted.values() for one in each if one.origin == origin and one.size < size)


def _differs(size: int, agreed: int) -> Tampered:
    return Tampered(
        f"The first {size} entries are not those for which a checkpoint kept elsewhere was signed; the change is in "
        f"the entries from {agreed} to {size - 1}.",
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


def _narrowed(since: int, end: int, wanted: Known) -> str:
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


def _last_line(line: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(line)
        if isinstance(told["checkpoint"], str) and all(isinstance(told.get(name, 0), int) for name in ("from", "to")):
            return dict(told)
    except (ValueError, KeyError, TypeError):
        pass
    raise Incomplete("The line of the checkpoint was cut.")
