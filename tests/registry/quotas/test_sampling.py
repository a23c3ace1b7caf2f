"""The history of counters: what a minute's sample writes down, and whom it keeps waiting: nobody."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from registry.actors import SYSTEM, Origin
from registry.oci.digest import digest_of
from registry.quotas import sampling
from registry.repositories import deleting, uploading
from registry.system import System
from registry.tending import tidy
from tests.support.clocks import set_clock
from tests.support.inside import Household, settle

BEGINNING = datetime(2027, 3, 10, 12, 30, tzinfo=UTC)
ROWS = """
    SELECT u.hour, u.value, u.peak FROM usage_hour u
    WHERE scope_kind = $1 AND key = $2 AND scope_id = CASE $1
        WHEN 'organization' THEN (SELECT id FROM organization WHERE name = $3)
        WHEN 'account' THEN (SELECT id FROM account WHERE name = $3)
        ELSE (SELECT r.id FROM repository r JOIN organization o ON o.id = r.organization_id
            WHERE o.name = $3 AND r.name = 'web') END
    ORDER BY hour
"""
COUNTER = """
    SELECT {} FROM quota_counter q JOIN organization o ON o.id = q.scope_id
    WHERE q.key = 'STORAGE_BYTES' AND o.name = $1
"""


@pytest.fixture
async def ours(system: System, books: asyncpg.Connection) -> Household:
    await system.foundation.ledger.catch_up()
    set_clock(system, BEGINNING)
    await tidy(system.foundation)  # the log's months, before anything is recorded in them
    ours = await settle(system, "sampled")
    await ours.ensure("web")
    await books.execute("UPDATE quota_recount SET sampled_at = NULL")
    return ours


async def sample(system: System, at: timedelta) -> None:
    """So long after the beginning."""
    set_clock(system, BEGINNING + at)
    await sampling.sample(system.foundation)


async def history(
    books: asyncpg.Connection, ours: Household, key: str = "STORAGE_BYTES", kind: str = "organization"
) -> list[tuple[int, int, int]]:
    """The hours since the beginning's, with value and peak."""
    rows = await books.fetch(ROWS, kind, key, ours.name)
    first = BEGINNING.replace(minute=0)
    return [((row["hour"] - first) // timedelta(hours=1), row["value"], row["peak"]) for row in rows]


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@pytest.mark.parametrize("kind", ["repository", "organization", "account"])
async def test_an_hour_says_how_it_ended_and_hours_in_which_nothing_moved_say_nothing(
    ours: Household, system: System, books: asyncpg.Connection, kind: str
) -> None:
    await ours.store("web", b"x" * 100)
    await sample(system, minutes(1))
    await ours.store("web", b"y" * 50)
    await sample(system, minutes(2))
    await sample(system, minutes(90))
    await sample(system, minutes(150))
    await ours.store("web", b"z" * 7)
    await sample(system, minutes(240))
    assert await history(books, ours, kind=kind) == [(0, 150, 150), (4, 157, 157)]


async def test_what_is_held_counts_to_the_peak_and_not_to_what_is_used(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    claim = await ours.hold("web", 1000)
    await sample(system, minutes(1))
    assert await history(books, ours) == [(0, 0, 1000)]
    async with ours.begin() as work:
        await uploading.finish(work, claim, digest_of(b"x" * 1000), 1000)
    await sample(system, minutes(31))
    assert await history(books, ours) == [(0, 0, 1000), (1, 1000, 1000)]


async def test_what_came_and_went_between_two_samples_is_the_peak_of_one_hour(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await sample(system, minutes(1))
    digest = await ours.store("web", b"x" * 400)
    async with ours.begin() as work:
        await deleting.delete_blob(work, await ours.place(work, "web"), digest)
    await sample(system, minutes(2))
    await ours.store("web", b"y" * 30)
    await sample(system, minutes(32))
    assert await history(books, ours) == [(0, 0, 400), (1, 30, 30)]


async def test_other_keys_have_a_history_and_traffic_has_another(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await ours.push("web", "1.0", "2.0")
    await books.execute(
        "INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit, period, peak)"
        " SELECT 'organization', id, 'PULLS', 5, false, '2027-03', 9 FROM organization WHERE name = $1",
        ours.name,
    )
    await sample(system, minutes(1))
    assert await history(books, ours, "TAGS", "repository") == [(0, 2, 2)]
    assert await history(books, ours, "TAGS") == [(0, 2, 2)]
    assert await history(books, ours, "REPOSITORIES") == [(0, 1, 1)]
    assert await history(books, ours, "USERS", "account") == [(0, 1, 1)]
    assert await history(books, ours, "PULLS") == []
    await books.execute("DELETE FROM quota_counter WHERE key = 'PULLS'")


async def test_a_counter_that_is_being_charged_is_not_waited_for_and_keeps_its_peak(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    digest = await ours.store("web", b"x" * 400)
    async with ours.begin() as work:
        await deleting.delete_blob(work, await ours.place(work, "web"), digest)
    async with ours.begin() as charging:
        await charging.execute("UPDATE quota_counter SET charged = charged WHERE key = 'STORAGE_BYTES'")
        await sample(system, minutes(1))
        assert await history(books, ours) == [(0, 0, 400)]
    assert await books.fetchval(COUNTER.format("peak"), ours.name) == 400
    await sample(system, minutes(2))
    assert await books.fetchval(COUNTER.format("peak"), ours.name) == 0


async def test_pushes_and_samples_side_by_side(ours: Household, system: System, books: asyncpg.Connection) -> None:
    """None of them fails or waits in a circle, and the last sample says what the counters say."""

    async def push(number: int) -> None:
        for turn in range(5):
            digest = await ours.store("web", f"{number} {turn}".encode() * 10)
            if turn % 2:
                async with ours.begin() as work:
                    await deleting.delete_blob(work, await ours.place(work, "web"), digest)

    async def look() -> None:
        for _ in range(20):
            async with system.foundation.promise(SYSTEM, Origin()) as work:
                await sampling.sample_counters(work)

    set_clock(system, BEGINNING)
    await asyncio.gather(*(push(number) for number in range(8)), look())
    await sample(system, minutes(60))
    charged = await books.fetchval(COUNTER.format("charged"), ours.name)
    told = await history(books, ours)
    assert told[-1][1] == charged
    assert told[-1][0] in {0, 1}
    assert max(peak for _, _, peak in told) >= charged


async def test_of_two_servers_one_samples_and_not_twice_in_a_minute(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    async def sampled() -> Any:
        return await books.fetchval("SELECT sampled_at FROM quota_recount")

    set_clock(system, BEGINNING + minutes(1))
    await asyncio.gather(*(sampling.sample(system.foundation) for _ in range(4)))
    first = await sampled()
    await ours.store("web", b"x" * 100)
    await sample(system, minutes(1.5))
    assert (await sampled(), await history(books, ours)) == (first, [])
    await sample(system, minutes(2))
    assert await sampled() > first
    assert await history(books, ours) == [(0, 100, 100)]


async def test_a_clock_that_was_set_back_keeps_nobody_from_sampling(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await sample(system, timedelta(days=20))
    await ours.store("web", b"x" * 100)
    await sample(system, minutes(1))
    assert await history(books, ours) == [(0, 100, 100)]


async def test_who_samples_while_another_does_leaves_it_to_the_other(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await ours.store("web", b"x" * 100)
    async with books.transaction():
        await books.execute("SELECT pg_advisory_xact_lock(hashtext('quota_sample'))")
        await sample(system, minutes(1))
    assert await history(books, ours) == []
    await sample(system, minutes(1))
    assert await history(books, ours) == [(0, 100, 100)]
