"""Rekeying: how one signing key takes the place of another, and how a log goes on that was forked.

The order is one that no crash spoils: what is to sign is written down beside what signs, the change is recorded, and
only then it takes its place, by one rename. Recorded first and made afterwards, a key could stand in the log that
nobody has; put in force first, a log could go on under a key that no entry tells of. Whoever repeats what was cut short
takes up the key that it left. `folder` is where the keys lie; hold `alone` meanwhile.
"""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio

from registry import keys
from registry.actors import SYSTEM, Origin
from registry.audit.anchors import AnchorFailed
from registry.audit.exporting import NEWEST, NotSigned
from registry.audit.publishing import Standing
from registry.audit.sequencing import Sequencer
from registry.errors import Conflict
from registry.keys import AUDIT_SIGNING, KeyMissing
from registry.storage.database import Fetch
from registry.transparency.notes import KeyInvalid, SignerKey
from registry.work import Foundation

NEXT = "next"
LAST_NAME = "SELECT origin FROM audit_checkpoint ORDER BY at DESC LIMIT 1"
Signers = tuple[SignerKey, ...]


class NotForked(Conflict):
    code = "LOG_NOT_FORKED"


class KeyNotLost(Conflict):
    code = "KEY_NOT_LOST"


class OnlyKey(Conflict):
    code = "ONLY_KEY"


async def rotate(foundation: Foundation, sequencer: Sequencer, folder: Path, why: str | None) -> Signers:
    before = keys.read_signers(folder)
    after = _written_down(folder, before[0].name, before)
    await _record(foundation, "audit.key_rotate", before, after, why)
    _put_in_force(folder)
    await sequencer.publish_now()
    return after


async def retire(foundation: Foundation, sequencer: Sequencer, folder: Path, why: str | None) -> Signers:
    """What was signed last must bear the key that stays, or the log would not know its own signature.

    Raises `OnlyKey`, `NotSigned`.
    """
    before = keys.read_signers(folder)
    if len(before) == 1:
        raise OnlyKey("Only one key signs the log, so none can retire: make a new one first, with --rotate.")
    after = before[:1]
    await _require_signed(sequencer)
    await _record(foundation, "audit.key_retire", before, after, why)
    await _require_signed(sequencer)
    keys.keep_retired(folder, [signer.verifier for signer in before[1:]])
    keys.keep_signers(folder, after)
    await sequencer.publish_now()
    return after


async def _record(foundation: Foundation, action: str, before: Signers, after: Signers, why: str | None) -> None:
    async with foundation.begin(SYSTEM, foundation.here) as work:
        work.stated = why
        work.attempt(action, before[0].name)
        work.record(changes={"keys": [_shown(before), _shown(after)]})


async def stand_in(fetch: Fetch, folder: Path) -> None:
    """In the place of a key that is lost, one that bears its name. It has signed nothing of the log, which so counts as
    forked, and signs nothing until `reopen`, of which it is the first half.

    Raises `KeyNotLost`, and `KeyMissing` where more is lost.
    """
    gone = keys.missing(folder)
    if others := [name for name in gone if name != AUDIT_SIGNING]:
        raise KeyMissing(folder / others[0])
    rows = await fetch(LAST_NAME)
    if AUDIT_SIGNING not in gone or not rows:
        why = f"{folder / AUDIT_SIGNING} is there" if rows else "nothing was ever signed in this database"
        raise KeyNotLost(f"No key of this log is lost: {why}. Leave --lost-key out.")
    keys.keep_signers(folder, [SignerKey.generate(rows[0]["origin"])])


async def reopen(
    foundation: Foundation, sequencer: Sequencer, folder: Path, why: str | None, *, lost: bool = False
) -> SignerKey:
    """The entry is numbered before the new key signs, so that its first checkpoint covers it. Where the key of the old
    log is `lost`, another stands in for it, which is none that anybody has to know."""
    fork, last = await _fork(sequencer), await _last_notes(foundation, sequencer)
    old = keys.read_signers(folder)
    signed = () if lost else old
    (new,) = _written_down(folder, _next_name(old[0].name), ())
    async with foundation.begin(SYSTEM, foundation.here) as work:
        work.stated = why
        work.attempt("audit.reopen", new.name)
        changes = {"log": [old[0].name, new.name], "key": [_shown(signed), _shown((new,))], "last": [last, None]}
        work.record(reason=fork, changes=changes)
    await foundation.ledger.catch_up()
    keys.keep_retired(folder, [signer.verifier for signer in signed])
    _put_in_force(folder)
    await sequencer.publish_now()
    return new


async def _standing(sequencer: Sequencer) -> Standing:
    """How the log stands, after all was signed that can be. Raises `NotSigned` where that cannot be told."""
    await sequencer.publish_now()
    standing = sequencer.publisher.standing
    if standing.fork is None and (standing.failure or standing.tried_at is None):
        why = standing.failure or "Another server is at it; try again."
        raise NotSigned(f"Nothing can be signed right now, so the keys stay as they are. {why}")
    return standing


async def _fork(sequencer: Sequencer) -> str:
    """In what the log differs from what was signed. Raises `NotForked`, `NotSigned`."""
    fork = (await _standing(sequencer)).fork
    if fork is None:
        raise NotForked("The log is the one that was signed, so it goes on; there is nothing to reopen.")
    return fork


async def _require_signed(sequencer: Sequencer) -> None:
    """Raises `NotSigned`."""
    if fork := (await _standing(sequencer)).fork:
        raise NotSigned(
            f"The log is not signed any more, so no key of it can retire. {fork} What to do stands in the guide, under "
            "'A restored database'."
        )


async def _last_notes(foundation: Foundation, sequencer: Sequencer) -> list[str]:
    """What was signed last: at the anchors, and in the database, which may have forgotten. Raises `NotSigned`."""
    publisher = sequencer.publisher
    try:
        found = [await anchor.newest() for anchor in publisher.anchors]
    except AnchorFailed as failure:
        raise NotSigned(f"What was signed last cannot be quoted, so no new log is opened. {failure}") from failure
    async with foundation.glance(SYSTEM, Origin()) as work:
        row = await work.fetchrow(NEWEST, publisher.origin)
    return list(dict.fromkeys(note for note in [*found, row and row["note"]] if note))


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[None]:
    """One change of the keys at a time."""
    with _opened(folder) as descriptor:
        await anyio.to_thread.run_sync(fcntl.flock, descriptor, fcntl.LOCK_EX, abandon_on_cancel=True)
        yield


def _written_down(folder: Path, name: str, others: Signers) -> Signers:
    """What is to sign: a key of that name, the one that was left by a command that was cut short or a new one, and the
    others. It is on the disk."""
    beside, left = folder / NEXT, list[SignerKey]()
    beside.mkdir(mode=0o700, exist_ok=True)
    with suppress(OSError, KeyInvalid):
        left = [one for one in keys.read_signers(beside)[:1] if one.name == name]
    after = (*(left or [SignerKey.generate(name)]), *others)
    keys.keep_signers(beside, after)
    _settle(beside, folder)
    return after


def _put_in_force(folder: Path) -> None:
    """What was written down, by one rename."""
    beside = folder / NEXT
    (beside / keys.AUDIT_SIGNING).replace(folder / keys.AUDIT_SIGNING)
    _settle(beside, folder)
    with suppress(OSError):
        beside.rmdir()


def _settle(*folders: Path) -> None:
    """What was renamed in them is on the disk."""
    for folder in folders:
        with _opened(folder) as descriptor:
            os.fsync(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shown(signers: Signers) -> list[str]:
    return [str(signer.verifier) for signer in signers]


def _next_name(name: str) -> str:
    base, _, number = name.rpartition("/")
    return f"{base}/{int(number) + 1}"
