"""audit reopen, and audit key --rotate and --retire: how one key takes the place of another."""

from typing import Annotated

import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.audit import rekeying
from registry.audit.reasons import stated
from registry.audit.rekeying import Signers
from registry.settings import Settings
from registry.transparency.notes import SignerKey


async def changed(settings: Settings, *, rotate: bool, why: str | None) -> Signers:
    """The keys that sign after a rotation, or else after the retirement of all but the newest."""
    folder, change = settings.data / "keys", rekeying.rotate if rotate else rekeying.retire
    async with system_of(settings) as system, rekeying.alone(folder):
        return await change(system.foundation, system.sequencer, folder, why)


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
