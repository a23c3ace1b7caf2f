"""audit key: the keys that sign checkpoints, and how one takes the place of another."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.audit import app
from api.cli.running import run, system_of
from registry import keys
from registry.actors import SYSTEM, Origin
from registry.errors import Conflict
from registry.settings import Settings
from registry.system import System
from registry.transparency.notes import SignerKey


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

    async def act(settings: Settings) -> tuple[SignerKey, ...]:
        folder = settings.data / "keys"
        if not rotate and not retire:
            return keys.read_signers(folder)
        async with system_of(settings) as system:
            return await _change(system, folder, rotate=rotate, reason=reason)

    signers = run(act)
    for signer in signers if every else signers[:1]:
        typer.echo(str(signer.verifier))
    if rotate or retire:
        typer.echo("Running servers take the change up with their next checkpoint.", err=True)


async def _change(system: System, folder: Path, *, rotate: bool, reason: str | None) -> tuple[SignerKey, ...]:
    signers = keys.read_signers(folder)
    changed = (SignerKey.generate(signers[0].name), *signers) if rotate else signers[:1]
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        work.stated = reason
        work.attempt("audit.key_rotate" if rotate else "audit.key_retire", signers[0].name)
        work.record(changes={"keys": [_shown(signers), _shown(changed)]})
    keys.keep_signers(folder, changed)
    return changed


def _shown(signers: tuple[SignerKey, ...]) -> list[str]:
    return [str(signer.verifier) for signer in signers]


@app.command()
def reopen(
    reason: Annotated[str, typer.Option(help="Why; stands in the audit log.")],
) -> None:
    """Open a new log after the old one was forked: under a new name and key, over the entries as they stand.

    Whoever watched the old log sees that it ended. The first entry of the new one holds the old one's last checkpoint.
    """

    async def act(settings: Settings) -> SignerKey:
        folder = settings.data / "keys"
        async with system_of(settings) as system:
            await system.sequencer.publish_now()
            fork = system.sequencer.publisher.standing.fork
            if fork is None:
                raise NotForked("The log is the one that was signed, so it goes on; there is nothing to reopen.")
            old = keys.read_signers(folder)
            new = SignerKey.generate(_next_name(old[0].name))
            last = [await anchor.newest() for anchor in system.sequencer.publisher.anchors]
            async with system.foundation.begin(SYSTEM, Origin()) as work:
                work.stated = reason
                work.attempt("audit.reopen", new.name)
                changes = {"log": [old[0].name, new.name], "key": [_shown(old), _shown((new,))], "last": last}
                work.record(reason=fork, changes=changes)
            keys.keep_signers(folder, (new,))
            await system.sequencer.publish_now()
        return new

    signer = run(act)
    typer.echo(f"The log goes on as {signer.name}. Give its key to all who verify it:\n{signer.verifier}")


class NotForked(Conflict):
    code = "LOG_NOT_FORKED"


def _next_name(name: str) -> str:
    base, _, number = name.rpartition("/")
    return f"{base}/{int(number) + 1}"
