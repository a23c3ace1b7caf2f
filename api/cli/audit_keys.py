"""audit key: the keys that sign checkpoints, and how one takes the place of another."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.audit import app
from api.cli.running import run, system_of
from registry import keys
from registry.actors import SYSTEM, Origin
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
