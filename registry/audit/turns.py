"""Turns: how a task in the background works, and how others wait for what it does.

It takes a turn, rests, and takes the next; who cannot wait that long asks for one. A turn that began after the asking
serves all who asked. One that could not be finished, because another server is at the same work, is tried again soon.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

REST_AFTER_FAILURE = 1.0
WHILE_ANOTHER_WORKS = 0.01


class Turns:
    """`rest` is how many seconds lie between turns that nobody asks for."""

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    async def one(self, patience: float) -> None:
        """Returns after a turn that begins from now on, or after so many seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._asked.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(waiter, patience)

    async def run(self, turn: Callable[[bool], Awaitable[bool]], failed: Callable[[Exception], None]) -> None:
        """Until cancelled. `turn` is told whether somebody waits for it, and says whether it was finished."""
        while True:
            self._asked.clear()
            waiting = [waiter for waiter in self._waiting if not waiter.done()]
            self._waiting = []
            try:
                finished = await turn(bool(waiting))
            except Exception as error:  # whatever it was: what is not done now will be
                failed(error)
                self._waiting += waiting
                await asyncio.sleep(REST_AFTER_FAILURE)
            else:
                await self._end(waiting, finished=finished)

    async def _end(self, waiting: "list[asyncio.Future[None]]", *, finished: bool) -> None:
        if not finished and waiting:
            self._waiting += waiting
            await asyncio.sleep(WHILE_ANOTHER_WORKS)
            return
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._rest)
