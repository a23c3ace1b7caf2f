"""How a command runs: settings from the environment, its work in an event loop, and one line for what went wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import typer
import uvloop

from registry import logging
from registry.errors import Refusal
from registry.migrating import DatabaseTooOld
from registry.settings import Settings, SettingsError, load_settings
from registry.storage.embedded import CannotStart
from registry.system import NotMigrated, System, database, running
from registry.telemetry import configure

Result = TypeVar("Result")


def run(act: Callable[[Settings], Awaitable[Result]]) -> Result:
    """Exits with 1 and a sentence where the operator can mend it; anything else is a fault, with its trace."""
    try:
        return uvloop.run(_called(act))
    except* (SettingsError, CannotStart, NotMigrated, DatabaseTooOld, Refusal) as errors:
        typer.echo(f"tidewaiter: {_first(errors)}", err=True)
    except* OSError as errors:
        typer.echo(f"tidewaiter: {_first(errors)}", err=True)
    raise typer.Exit(1)


@asynccontextmanager
async def system_of(settings: Settings) -> AsyncIterator[System]:
    """The registry as a command uses it: what a server would tell of its own start is no answer to a command."""
    logging.set_up_logging(settings.model_copy(update={"log_level": "warning"}))
    async with database(settings) as dsn, running(settings, configure(), dsn) as system:
        if system.generated_password:
            made = f"The user 'admin' was made, with the password {system.generated_password}"
            typer.echo(f"{made} (shown only now; keep it).", err=True)
        yield system


async def _called(act: Callable[[Settings], Awaitable[Result]]) -> Result:
    return await act(load_settings())


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
