"""audit key and reopen: the keys that sign checkpoints, and how one takes the place of another."""

from typing import Annotated

import typer

from api.cli.audit import app
from api.cli.opening import system_of
from api.cli.running import run
from registry import keys
from registry.audit import rekeying
from registry.audit.reasons import stated
from registry.audit.rekeying import Signers
from registry.settings import Settings
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

    async def act(settings: Settings) -> Signers:
        folder, why = settings.data / "keys", stated(reason)
        if not rotate and not retire:
            return keys.read_signers(folder)
        change = rekeying.rotate if rotate else rekeying.retire
        async with system_of(settings) as system, rekeying.alone(folder):
            return await change(system.foundation, system.sequencer, folder, why)

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

    async def act(settings: Settings) -> tuple[SignerKey, str | None]:
        folder, why = settings.data / "keys", stated(reason)
        async with system_of(settings) as system, rekeying.alone(folder):
            new = await rekeying.reopen(system.foundation, system.sequencer, folder, why)
            standing = system.sequencer.publisher.standing
            return new, standing.fork or standing.failure

    signer, trouble = run(act)
    if trouble:
        typer.echo(f"The new key is in force, but signs nothing yet: {trouble}", err=True)
    typer.echo(f"The log goes on as {signer.name}. Give its key to all who verify it:\n{signer.verifier}")
