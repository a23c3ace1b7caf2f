"""How a command runs: settings from the environment, its work in an event loop, and one line for what went wrong."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer
import uvloop

from registry.errors import Refusal, Unable
from registry.settings import Settings, load_settings
from registry.wording import one_line

Result = TypeVar("Result")


class Stopped(Exception):
    """A signal came before the work was done; its text is the signal's number."""


def run(act: Callable[[Settings], Awaitable[Result]], *, unable: int = 1) -> Result:
    """Exits with `unable` and a sentence where the operator can mend it, and as shells have it after a signal; anything
    else is a fault, with its trace."""
    status = unable
    try:
        return uvloop.run(_called(act))
    except* Stopped as stopped:
        status = 128 + int(str(first(stopped)))
    except* (Unable, Refusal, OSError) as errors:
        typer.echo(one_line(f"tidewaiter: {first(errors)}"), err=True)
    except* Exception as errors:
        error = first(errors).__cause__ or first(errors)  # the database's driver says it in an error of its own
        if not isinstance(error, UnicodeError):
            raise
        typer.echo(one_line(f"tidewaiter: What was given is not UTF-8: {error}"), err=True)
    raise typer.Exit(status)


async def _called(act: Callable[[Settings], Awaitable[Result]]) -> Result:
    """A signal cancels the work and does not end the process: what was started for it is stopped on the way out."""
    loop, task, heard = asyncio.get_running_loop(), asyncio.current_task(), list[signal.Signals]()
    assert task is not None  # noqa: S101

    def hear(number: signal.Signals) -> None:
        if not heard:
            task.cancel()
        heard.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)
    try:
        return await act(load_settings())
    except asyncio.CancelledError:
        if heard:
            raise Stopped(str(heard[0].value)) from None
        raise


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong, of what went wrong together."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
