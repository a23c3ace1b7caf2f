"""Following the log: everybody gets all that is theirs, once, in order, and nothing after their rights have ended."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import pytest

from registry.access.finding import SignInEnded
from registry.actors import SYSTEM, Actor, ActorKind, Origin
from registry.audit import newest, retaining
from registry.audit.filtering import EntryFilter
from registry.audit.following import Step, follow
from registry.audit.months import Month
from registry.audit.newest import Newest
from registry.errors import Denied
from registry.events import Event, Outcome
from registry.system import System
from registry.tending import tidy
from tests.support.books import opened
from tests.support.inside import Household, settle

WANTED = EntryFilter(action="test.happen")
MONTH_SECONDS = 31 * 86_400
SECONDS = 60


@pytest.fixture
async def ships(system: System) -> Household:
    return await settle(system, "ships")


async def write(system: System, count: int, whose: Household | None = None) -> None:
    account = whose.owner.account_id if whose else UUID(int=7)
    foundation = system.foundation
    events = [
        Event(foundation.clock.now(), "test.happen", Outcome.ALLOWED, SYSTEM, Origin(), str(number), account_id=account)
        for number in range(count)
    ]
    for event in events:
        await foundation.ledger.append(event)
    await foundation.ledger.catch_up()


def tail(system: System, who: Actor, start: int | None = 0) -> AsyncIterator[Step]:
    return follow(system.foundation, system.followers, (who, Origin()), WANTED, None, start)


async def taken(steps: AsyncIterator[Step], count: int) -> list[int]:
    """The numbers of so many entries, which have to come."""
    found: list[int] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            step = await anext(steps)
            if step.shown is not None:
                assert step.shown.line.index == step.place - 1
                found.append(step.place - 1)
    return found


async def numbers(system: System, whose: Household | None = None) -> list[int]:
    rows = await system.foundation.pool.fetch(
        "SELECT seq FROM audit_log WHERE action = 'test.happen' AND ($1::uuid IS NULL OR account_id = $1) ORDER BY seq",
        whose and whose.owner.account_id,
    )
    return [row["seq"] for row in rows]


async def administrator(system: System) -> Actor:
    row = await system.foundation.pool.fetchrow("SELECT id, account_id, generation FROM users WHERE name = 'admin'")
    return Actor(ActorKind.USER, "admin", row["id"], row["account_id"], row["generation"])


async def test_a_late_entry_is_not_sent_once_the_rights_have_ended(
    system: System, dsn: str, ships: Household, tmp_path: Path
) -> None:
    """The whole batch was read while all was well, and the reader took the time to be suspended."""
    await write(system, 5, ships)
    async with aclosing(tail(system, ships.owner)) as steps:
        assert len(await taken(steps, 2)) == 2
        async with opened(dsn) as owner:
            await owner.execute("UPDATE users SET suspended_at = now() WHERE id = $1", ships.owner.user_id)
        (tmp_path / "clock").write_text("1")
        with pytest.raises(SignInEnded):
            await taken(steps, 1)


async def test_who_is_no_administrator_any_more_gets_the_rest_of_the_own_only(
    system: System, dsn: str, ships: Household, tmp_path: Path
) -> None:
    await write(system, 3)
    await write(system, 3, ships)
    await write(system, 3)
    async with opened(dsn) as owner:
        await owner.execute("UPDATE users SET platform_admin = true WHERE id = $1", ships.owner.user_id)
    async with aclosing(tail(system, ships.owner)) as steps:
        everything = await numbers(system)
        assert await taken(steps, 2) == everything[:2]
        async with opened(dsn) as owner:
            await owner.execute("UPDATE users SET platform_admin = false WHERE id = $1", ships.owner.user_id)
        (tmp_path / "clock").write_text("1")
        assert await taken(steps, 3) == await numbers(system, ships)


async def test_who_owns_nothing_any_more_is_told_although_nothing_comes(
    system: System, dsn: str, ships: Household, tmp_path: Path
) -> None:
    async with aclosing(tail(system, ships.owner)) as steps:
        await anext(steps)
        async with opened(dsn) as owner:
            await owner.execute("UPDATE users SET owner = false WHERE id = $1", ships.owner.user_id)
        (tmp_path / "clock").write_text("2")
        await write(system, 1)
        with pytest.raises(Denied):
            await taken(steps, 1)


async def test_everybody_gets_all_once_and_in_order_while_it_is_written(system: System, ships: Household) -> None:
    """From places near and far, the newest that are shared among them."""
    chance = random.Random(1)
    await write(system, 2 * newest.MOST, ships)
    before = await numbers(system, ships)
    starts = [chance.randrange(before[-1] + 1) for _ in range(8)]
    tails = [tail(system, ships.owner, start) for start in starts]
    still = [sum(number >= start for number in before) + 200 for start in starts]
    following = [asyncio.create_task(taken(each, count)) for each, count in zip(tails, still, strict=True)]
    await write(system, 200, ships)
    everything = await numbers(system, ships)
    for start, found in zip(starts, following, strict=True):
        assert await found == [number for number in everything if number >= start]
    for each in tails:
        await each.aclose()  # type: ignore[attr-defined]


async def test_a_month_that_was_dropped_is_passed_over(system: System, tmp_path: Path) -> None:
    who = await administrator(system)
    await write(system, 5)
    month = Month(system.foundation.clock.now().date().replace(day=1))
    (tmp_path / "clock").write_text(str(MONTH_SECONDS))
    await tidy(system.foundation)
    await write(system, 3)
    await retaining.archive(system.foundation, system.sequencer, month, tmp_path / "archive")
    await retaining.drop(system.foundation, system.sequencer, month, None)
    left = await numbers(system)
    assert len(left) == 3
    async with aclosing(tail(system, who)) as steps:
        assert await taken(steps, 3) == left
        await write(system, 2)
        assert await taken(steps, 2) == (await numbers(system))[3:]


async def test_the_newest_are_the_same_however_they_are_asked_for(system: System) -> None:
    await write(system, 3 * newest.MOST)
    size = await system.foundation.pool.fetchval("SELECT size FROM audit_tree")
    chance, shared = random.Random(2), Newest()
    async with system.foundation.glance(SYSTEM, Origin()) as work:
        for _ in range(60):
            end = chance.randrange(size + 1)
            begin = max(0, end - chance.randrange(newest.MOST + 1))
            found = await shared.span(work, begin, end)
            assert [one.index for one in found] == list(range(begin, end))
            assert [one.line.index for one in found] == list(range(begin, end))
