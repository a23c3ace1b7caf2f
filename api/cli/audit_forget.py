"""audit forget: makes unreadable what tells of a person."""

from typing import Annotated

import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.accounts import forgetting
from registry.actors import SYSTEM
from registry.audit.reasons import stated
from registry.settings import Settings
from registry.wording import counted


def forget(
    user: Annotated[str | None, typer.Argument(help="The name of the user to forget.")] = None,
    strangers_before: Annotated[
        str | None, typer.Option(help="Instead: those who were not signed in, in all months before this one, YYYY-MM.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; stands in the audit log.")] = None,
) -> None:
    """Forget a person for good. Entries and proofs stay valid; name, addresses and clients can be read no more."""
    if (user is None) == (strangers_before is None):
        raise typer.BadParameter("name a user, or give --strangers-before, one of them")

    async def act(settings: Settings) -> str:
        why = stated(reason)
        async with system_of(settings) as system, system.foundation.begin(SYSTEM, system.foundation.here) as work:
            work.stated = why
            if user is not None:
                kept = await forgetting.forget_user(work, user)
                return f"The user is forgotten; what is left is called '{kept.name}'."
            count = await forgetting.forget_strangers(work, strangers_before or "")
            return f"The strangers of {counted(count, 'month', 'months')} are forgotten."

    typer.echo(run(act))
    typer.echo("Backups of the database still hold the keys: see 'Erasure' in the guide.", err=True)
