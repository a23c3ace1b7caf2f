"""audit reopen, and audit key --rotate and --retire: how one key takes the place of another."""

from typing import Annotated

import asyncpg
import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.audit import rekeying, scrubbing
from registry.audit.anchors import AnchorFailed
from registry.audit.reasons import stated
from registry.audit.rekeying import Signers
from registry.audit.verdicts import SOUND, Verdict
from registry.settings import Settings
from registry.storage.database import connect
from registry.system import System, check_version, database
from registry.transparency.notes import SignerKey


async def changed(settings: Settings, *, rotate: bool, why: str | None) -> Signers:
    """The keys that sign after a rotation, or else after the retirement of all but the newest."""
    folder, change = settings.data / "keys", rekeying.rotate if rotate else rekeying.retire
    async with system_of(settings) as system, rekeying.alone(folder):
        return await change(system.foundation, system.sequencer, folder, why)


def reopen(
    reason: Annotated[str, typer.Option(help="Why; stands in the audit log.")],
    lost_key: Annotated[bool, typer.Option("--lost-key", help="The key that signs is lost for good.")] = False,
) -> None:
    """Open a new log after the old one was forked: under a new name and key, over the entries as they stand.

    Whoever watched the old log sees that it ended. An entry of the new one holds the old one's last checkpoint. Where a
    verification found something, the whole log is verified anew.
    """

    async def act(settings: Settings) -> None:
        folder, why = settings.data / "keys", stated(reason)
        if lost_key:
            await _stand_in(settings)
        async with system_of(settings) as system:
            async with rekeying.alone(folder):
                new = await rekeying.reopen(system.foundation, system.sequencer, folder, why, lost=lost_key)
            standing = system.sequencer.publisher.standing
            trouble = standing.fork or standing.failure
            _tell(new, trouble)
            if await scrubbing.finding(system.foundation):
                await _renew_finding(system, trouble)

    run(act)


async def _stand_in(settings: Settings) -> None:
    """Without a key nothing starts."""
    async with database(settings) as dsn:
        await check_version(dsn)
        connection = await connect(dsn)
        try:
            await rekeying.stand_in(connection.fetch, settings.data / "keys")
        finally:
            await connection.close()


def _tell(new: SignerKey, trouble: str | None) -> None:
    if trouble:
        typer.echo(f"The new key is in force, but signs nothing yet: {trouble}", err=True)
    typer.echo(f"The log goes on as {new.name}. Give its key to all who verify it:\n{new.verifier}")


async def _renew_finding(system: System, trouble: str | None) -> None:
    """What was found of the old log is warned of until the log is verified, which it can be as soon as it is signed."""
    if trouble is None:
        typer.echo(
            "An earlier verification found something, so the whole log is verified anew. It may take long.", err=True
        )
        try:
            typer.echo(_renewed(await scrubbing.verify_database(system.foundation, system.sequencer)), err=True)
            return
        except (AnchorFailed, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            trouble = str(error)
    typer.echo(
        "The servers still warn of what an earlier verification found, and the log could not be verified anew: "
        f"{trouble} Run 'tidewaiter audit verify --database' when that is mended.",
        err=True,
    )


def _renewed(verdict: Verdict) -> str:
    if verdict.status == SOUND:
        return "It is sound under its new name: the servers warn no more."
    return f"It is not sound, and the servers go on warning: {verdict.sentence}"
