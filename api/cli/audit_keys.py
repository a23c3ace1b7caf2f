"""audit key and reopen: the keys that sign checkpoints, and how one takes the place of another.

The order is one that no crash spoils: what is to sign is written down beside what signs, the change is recorded, and
only then it takes its place, by one rename. Recorded first and made afterwards, a key could stand in the log that
nobody has; put in force first, a log could go on under a key that no entry tells of. Whoever repeats a command that was
cut short takes up the key that it left.
"""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import anyio
import typer

from api.cli.audit import app
from api.cli.running import run, system_of
from registry import keys
from registry.actors import SYSTEM, Origin
from registry.audit.anchors import AnchorFailed
from registry.audit.exporting import NEWEST, NotSigned
from registry.audit.publishing import Standing
from registry.audit.reasons import stated
from registry.errors import Conflict
from registry.settings import Settings
from registry.system import System
from registry.transparency.notes import KeyInvalid, SignerKey

NEXT = "next"
Signers = tuple[SignerKey, ...]


class NotForked(Conflict):
    code = "LOG_NOT_FORKED"


@app.command()
def key(
    every: Annotated[bool, typer.Option("--all", help="All keys that sign at present, the newest first.")] = False,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key; both sign till one retires.")] = False,
    retire: Annotated[bool, typer.Option("--retire", help="Keep the newest key only.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; stands in the audit log.")] = None,
) -> None:
    """Print the verifier key, with which anybody checks what this log has signed."""
    if rotate and retire:
        raise typer.BadParameter("rotate now; retire the old key when everybody knows the new one")

    async def act(settings: Settings) -> Signers:
        folder, why = settings.data / "keys", stated(reason)
        if not rotate and not retire:
            return keys.read_signers(folder)
        change = _rotate if rotate else _retire
        async with system_of(settings) as system, _alone(folder):
            return await change(system, folder, why)

    signers = run(act)
    for signer in signers if every else signers[:1]:
        typer.echo(str(signer.verifier))
    if rotate or retire:
        typer.echo("Running servers take the change up with their next checkpoint.", err=True)


@app.command()
def reopen(
    reason: Annotated[str, typer.Option(help="Why; stands in the audit log.")],
) -> None:
    """Open a new log after the old one was forked: under a new name and key, over the entries as they stand.

    Whoever watched the old log sees that it ended. An entry of the new one holds the old one's last checkpoint.
    """

    async def act(settings: Settings) -> SignerKey:
        folder, why = settings.data / "keys", stated(reason)
        async with system_of(settings) as system, _alone(folder):
            return await _reopen(system, folder, why)

    signer = run(act)
    typer.echo(f"The log goes on as {signer.name}. Give its key to all who verify it:\n{signer.verifier}")


async def _rotate(system: System, folder: Path, why: str | None) -> Signers:
    before = keys.read_signers(folder)
    after = _written_down(folder, before[0].name, before)
    await _record(system, "audit.key_rotate", before, after, why)
    _put_in_force(folder)
    await system.sequencer.publish_now()
    return after


async def _retire(system: System, folder: Path, why: str | None) -> Signers:
    """What was signed last must bear the key that stays, or the log would not know its own signature."""
    before = keys.read_signers(folder)
    after = before[:1]
    await _require_signed(system)
    await _record(system, "audit.key_retire", before, after, why)
    await _require_signed(system)
    keys.keep_signers(folder, after)
    await system.sequencer.publish_now()
    return after


async def _record(system: System, action: str, before: Signers, after: Signers, why: str | None) -> None:
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        work.stated = why
        work.attempt(action, before[0].name)
        work.record(changes={"keys": [_shown(before), _shown(after)]})


async def _reopen(system: System, folder: Path, why: str | None) -> SignerKey:
    """The entry is numbered before the new key signs, so that its first checkpoint covers it."""
    fork, last = await _fork(system), await _last_notes(system)
    old = keys.read_signers(folder)
    (new,) = _written_down(folder, _next_name(old[0].name), ())
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        work.stated = why
        work.attempt("audit.reopen", new.name)
        changes = {"log": [old[0].name, new.name], "key": [_shown(old), _shown((new,))], "last": [last, None]}
        work.record(reason=fork, changes=changes)
    await system.foundation.ledger.catch_up()
    _put_in_force(folder)
    await system.sequencer.publish_now()
    standing = system.sequencer.publisher.standing
    if trouble := standing.fork or standing.failure:
        typer.echo(f"The new key is in force, but signs nothing yet: {trouble}", err=True)
    return new


async def _standing(system: System) -> Standing:
    """How the log stands, after all was signed that can be. Raises `NotSigned` where that cannot be told."""
    await system.sequencer.publish_now()
    standing = system.sequencer.publisher.standing
    if standing.fork is None and (standing.failure or standing.published_at is None):
        why = standing.failure or "Another server is at it; try again."
        raise NotSigned(f"Nothing can be signed right now, so the keys stay as they are. {why}")
    return standing


async def _fork(system: System) -> str:
    """In what the log differs from what was signed. Raises `NotForked`, `NotSigned`."""
    fork = (await _standing(system)).fork
    if fork is None:
        raise NotForked("The log is the one that was signed, so it goes on; there is nothing to reopen.")
    return fork


async def _require_signed(system: System) -> None:
    """Raises `NotSigned`."""
    if fork := (await _standing(system)).fork:
        raise NotSigned(
            f"The log is not signed any more, so no key of it can retire. {fork} What to do stands in the guide, under "
            "'A restored database'."
        )


async def _last_notes(system: System) -> list[str]:
    """What was signed last: at the anchors, and in the database, which may have forgotten. Raises `NotSigned`."""
    publisher = system.sequencer.publisher
    try:
        found = [await anchor.newest() for anchor in publisher.anchors]
    except AnchorFailed as failure:
        raise NotSigned(f"What was signed last cannot be quoted, so no new log is opened. {failure}") from failure
    async with system.foundation.glance(SYSTEM, Origin()) as work:
        row = await work.fetchrow(NEWEST, publisher.origin)
    return list(dict.fromkeys(note for note in [*found, row and row["note"]] if note))


@asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[None]:
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
