"""How a command opens the registry: for what cannot be done without its database."""

import getpass
import os
import platform
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import typer

from registry import logging
from registry.actors import Origin
from registry.settings import Settings
from registry.system import System, database, running
from registry.telemetry import configure


def here() -> Origin:
    """Who sits at the machine, as far as its system tells: what the log shows as the client of a command."""
    words = " ".join(sys.argv[1:3])
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        name = f"user {os.getuid()}"
    return Origin(client=f"tidewaiter {words}, by {name} on {platform.node() or 'this machine'}")


@asynccontextmanager
async def system_of(settings: Settings) -> AsyncIterator[System]:
    """The registry as a command uses it: what a server would tell of its own start is no answer to a command."""
    logging.set_up_logging(settings.model_copy(update={"log_level": "warning"}))
    async with database(settings) as dsn, running(settings, configure(), dsn, here()) as system:
        if system.generated_password:
            made = f"The user 'admin' was made, with the password {system.generated_password}"
            typer.echo(f"{made} (shown only now; keep it).", err=True)
        yield system
