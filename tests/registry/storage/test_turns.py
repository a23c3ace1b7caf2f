"""A crowd at the pool is told from a database that hangs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from registry.storage.database import Pool, open_pool
from registry.storage.turns import Turns
from tests.support.books import new_database
from tests.support.server import Server


@pytest.fixture
async def pool(tidewaiter: Server) -> AsyncIterator[Pool]:
    """Of a single connection."""
    async with new_database(tidewaiter) as dsn:
        pool = await open_pool(dsn, 1)
        yield pool
        await pool.close()


async def is_usable(turns: Turns, pool: Pool) -> bool:
    """Nobody took its connection along."""
    again = await turns.take(pool)
    try:
        return bool(await again.fetchval("SELECT true"))
    finally:
        await turns.give_back(pool, again)


async def test_who_waits_for_longer_than_patience_gets_a_turn_while_connections_go_round(pool: Pool) -> None:
    turns = Turns(patience=2)

    async def work() -> int:
        connection = await turns.take(pool)
        await connection.execute("SELECT pg_sleep(0.5)")
        await turns.give_back(pool, connection)
        return 1

    assert sum(await asyncio.gather(*(work() for _ in range(8)))) == 8


async def test_who_waits_while_none_goes_round_is_refused_and_takes_none_along(pool: Pool) -> None:
    turns = Turns(patience=0.1)
    held = await turns.take(pool)
    refused = await asyncio.gather(*(turns.take(pool) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in refused] == [TimeoutError] * 3
    await turns.give_back(pool, held)
    assert await is_usable(turns, pool)


async def test_who_stops_waiting_as_its_turn_comes_takes_none_along(pool: Pool) -> None:
    turns = Turns()
    held = await turns.take(pool)
    waiting = [asyncio.ensure_future(turns.take(pool)) for _ in range(3)]
    await asyncio.sleep(0)
    await turns.give_back(pool, held)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await is_usable(turns, pool)


async def test_a_connection_that_was_lost_is_made_anew(pool: Pool) -> None:
    turns = Turns()
    lost = await turns.take(pool)
    lost.terminate()
    await turns.give_back(pool, lost)
    assert await is_usable(turns, pool)


async def test_a_connection_that_is_lost_as_it_is_given_back_is_made_anew(pool: Pool) -> None:
    """The pool begins to take it back, and hears that it is gone before it has."""
    turns = Turns()
    lost = await turns.take(pool)
    giving = asyncio.ensure_future(turns.give_back(pool, lost))
    await asyncio.sleep(0)
    lost.terminate()
    await giving
    assert await is_usable(turns, pool)
