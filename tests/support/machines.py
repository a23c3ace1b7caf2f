"""Machines of random steps over a registry in this process, and faults that they must find.

    async with in_process(dsn, folder) as system, opened(dsn) as books:
        assert await failure(Engine, Scene(system, books), examples=20) is None
    async with planted(books, faulty("quota_take_off", ("-back", "0"))):
        assert isinstance(await failure(Engine, ...), AssertionError)

Hypothesis steps in a thread; what a step does runs in the loop of the test, which waits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio.to_thread
import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from registry.system import System

Result = TypeVar("Result")
Spoil = Callable[[str], str]
FUNCTION = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = $1"


@dataclass
class Scene:
    """`seconds` is how far its clock has been moved."""

    system: System
    books: asyncpg.Connection
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    seconds: int = 0

    def run(self, act: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(act, self.loop).result()


class Machine(RuleBasedStateMachine):
    scene: Scene


async def failure(machine: type[Machine], scene: Scene, examples: int, *, same: bool = False) -> BaseException | None:
    """What went wrong in one of so many runs. `same`: the same runs each time, as where one must be found to fail."""
    told = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=same,
        report_multiple_bugs=False,
    )
    at_work = type(machine.__name__, (machine,), {"scene": scene})

    def run() -> BaseException | None:
        try:
            run_state_machine_as_test(at_work, settings=told)
        except (AssertionError, asyncpg.PostgresError) as found:
            return found
        except Flaky as found:  # it failed, and again in another way: what the fault did in the first run still stands
            return found
        return None

    return await anyio.to_thread.run_sync(run)


def faulty(function: str, *changes: tuple[str, str]) -> Spoil:
    """The function of the database as it is, but for a mistake."""

    def spoil(source: str) -> str:
        for right, wrong in changes:
            assert right in source, (function, right)
            source = source.replace(right, wrong)
        return source

    spoil.__name__ = function
    return spoil


@asynccontextmanager
async def planted(owner: asyncpg.Connection, spoil: Spoil) -> AsyncIterator[None]:
    """The fault is there while the block runs."""
    source = await owner.fetchval(FUNCTION, spoil.__name__)
    await owner.execute(spoil(source))
    try:
        yield
    finally:
        await owner.execute(source)
