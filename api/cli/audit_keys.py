"""audit key: the keys that sign checkpoints. To print them needs no database, nor anything of one."""

from typing import Annotated

import typer

from api.cli.running import run
from registry import keys
from registry.audit.reasons import stated
from registry.settings import Settings
from registry.transparency.notes import VerifierKey


def key(
    every: Annotated[bool, typer.Option("--all", help="All that sign or have signed, the newest first.")] = False,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key; both sign till one retires.")] = False,
    retire: Annotated[bool, typer.Option("--retire", help="Keep the newest key only.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; stands in the audit log.")] = None,
) -> None:
    """Print the verifier key, with which anybody checks what this log has signed."""
    if rotate and retire:
        raise typer.BadParameter("rotate now; retire the old key when everybody knows the new one")

    async def act(settings: Settings) -> list[VerifierKey]:
        folder, why = settings.data / "keys", stated(reason)
        if rotate or retire:
            from api.cli.audit_rekeying import changed

            await changed(settings, rotate=rotate, why=why)
        return [*(signer.verifier for signer in keys.read_signers(folder)), *keys.read_retired(folder)]

    known = run(act)
    for verifier in known if every else known[:1]:
        typer.echo(str(verifier))
    if rotate or retire:
        typer.echo("Running servers take the change up with their next checkpoint.", err=True)
