"""user: what the operator of the machine may do for a user who is locked out."""

import sys
from typing import Annotated

import typer

from api.cli.opening import system_of
from api.cli.running import run
from registry.accounts import managing
from registry.actors import SYSTEM, Origin
from registry.settings import Settings


def password(
    name: Annotated[str, typer.Argument(help="The user's name.")],
    from_stdin: Annotated[bool, typer.Option("--stdin", help="Read the password from standard input.")] = False,
) -> None:
    """Set a user's password; it ends all the user's sign-ins."""
    secret = (
        sys.stdin.readline().rstrip("\n")
        if from_stdin
        else typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    )

    async def act(settings: Settings) -> None:
        async with system_of(settings) as system, system.foundation.begin(SYSTEM, system.foundation.here) as work:
            await managing.reset_password(work, system.gate.passwords, name, secret)

    run(act)
    typer.echo(f"The password of '{name}' is set.")


def list_users() -> None:
    """List users: name, account, and what is particular about them."""

    async def act(settings: Settings) -> list[tuple[str, str, str]]:
        async with system_of(settings) as system, system.foundation.view(SYSTEM, Origin()) as work:
            return await managing.everybody(work)

    for name, account, marks in run(act):
        typer.echo(f"{name:32} {account:32} {marks}")
