"""Taking a connection of the pool in turn: a crowd is no outage.

Where all connections are at work, whoever needs one waits as long as they go round. When none was given back for a few
seconds the database hangs, and who waits is refused.
"""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Any

import asyncpg

from registry.storage.database import Connection, Pool, is_open

PATIENCE_SECONDS, LONGEST_SECONDS = 3.0, 30.0


class Turns:
    """Of one pool: when a connection was last given back."""

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._last = 0.0
        self._returning: set[asyncio.Future[None]] = set()

    async def take(self, pool: Pool) -> Connection:
        """Raises TimeoutError when none goes round, and what connecting raises."""
        taking: asyncio.Future[Any] = asyncio.ensure_future(pool.acquire())
        try:
            return await self._wait(taking)
        except BaseException:
            taking.add_done_callback(lambda late: self._return(pool, late))
            taking.cancel()
            raise

    async def give_back(self, pool: Pool, connection: Connection) -> None:
        """One that was lost is no sign that others will be free."""
        if is_open(connection):
            self._last = monotonic()
        with suppress(asyncpg.InternalClientError):  # lost at this very moment, it has gone back by itself
            await pool.release(connection)  # type: ignore[arg-type]

    async def _wait(self, taking: asyncio.Future[Connection]) -> Connection:
        began = monotonic()
        left = self._patience
        while left > 0:
            done, _ = await asyncio.wait({taking}, timeout=left)
            if done:
                return taking.result()
            turn = max(began, self._last) + self._patience
            left = min(turn, began + LONGEST_SECONDS) - monotonic()
        raise TimeoutError

    def _return(self, pool: Pool, late: asyncio.Future[Any]) -> None:
        """What came when nobody waited for it any more."""
        if not late.cancelled() and late.exception() is None:
            returning = asyncio.ensure_future(self.give_back(pool, late.result()))
            self._returning.add(returning)  # a task that nobody holds may vanish before it is done
            returning.add_done_callback(self._returning.discard)
