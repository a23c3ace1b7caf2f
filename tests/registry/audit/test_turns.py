"""Turns of a task in the background: whoever asks for one gets one that began afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from registry.audit.turns import Turns

NEVER = 3600.0
PATIENCE = 20.0


class Worker:
    """Takes turns as a list says: finished or not, or an error. `begun` counts them, `go` lets each end."""

    def __init__(self, *ends: bool | Exception) -> None:
        self.turns = Turns(NEVER)
        self.ends = list(ends)
        self.asked: list[bool] = []
        self.failures: list[Exception] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def turn(self, asked: bool) -> bool:
        self.asked.append(asked)
        self.begun.set()
        await self.go.wait()
        end = self.ends.pop(0) if self.ends else True
        if isinstance(end, Exception):
            raise end
        return end


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    running = asyncio.create_task(worker.turns.run(worker.turn, worker.failures.append))
    try:
        yield
    finally:
        running.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_turn_that_had_begun_does_not_serve_who_asks_later() -> None:
    worker = Worker()
    async with at_work(worker):
        await worker.begun.wait()
        asking = asyncio.create_task(worker.turns.one(PATIENCE))
        await asyncio.sleep(0)
        worker.go.set()
        await asking
    assert worker.asked == [False, True]


async def test_all_who_asked_are_served_by_one_turn() -> None:
    worker = Worker()
    async with at_work(worker):
        await worker.begun.wait()
        asking = [asyncio.create_task(worker.turns.one(PATIENCE)) for _ in range(20)]
        await asyncio.sleep(0)
        worker.go.set()
        await asyncio.gather(*asking)
    assert len(worker.asked) == 2


async def test_what_could_not_be_finished_is_tried_again_for_those_who_wait() -> None:
    worker = Worker(True, False, False, True)
    worker.go.set()
    async with at_work(worker):
        await until(lambda: len(worker.asked) == 1)
        await worker.turns.one(PATIENCE)
    assert worker.asked == [False, True, True, True]


async def test_who_has_left_keeps_nobody_at_work() -> None:
    worker = Worker(True, *[False] * 1000)
    worker.go.set()
    async with at_work(worker):
        asking = asyncio.create_task(worker.turns.one(PATIENCE))
        await until(lambda: worker.asked.count(True) > 2)
        asking.cancel()
        await until(lambda: worker.asked[-1] is False)
        taken = len(worker.asked)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(worker.asked) == taken


async def test_a_failure_is_told_and_the_next_turn_serves() -> None:
    trouble = OSError("the database is gone")
    worker = Worker(trouble)
    worker.go.set()
    async with at_work(worker):
        await worker.turns.one(PATIENCE)
    assert worker.failures == [trouble]
