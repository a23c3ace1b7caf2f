"""Leases of traffic: of two servers over one database, of one that is killed, and at the end of a month."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from policies.quotas import Key
from registry.actors import Origin
from registry.errors import TrafficExceeded
from registry.quotas import usage
from registry.quotas.usage import Limits, Quota
from registry.repositories import pulling
from registry.system import System
from registry.tending import tidy
from tests.support.books import in_process
from tests.support.inside import Household, settle
from tests.support.recount import differences

IMAGE = "application/vnd.oci.image.index.v1+json"


def set_clock(system: System, at: datetime) -> None:
    clock = system.foundation.settings.clock_file
    assert clock is not None
    fresh = clock.with_suffix(".new")
    fresh.write_text(str((at - datetime.now(UTC)).total_seconds()))
    fresh.rename(clock)


@pytest.fixture
async def ours(system: System) -> Household:
    await system.foundation.ledger.catch_up()  # what waits for its number has it before the clock moves by months
    set_clock(system, datetime(2027, 3, 10, 12, tzinfo=UTC))
    await tidy(system.foundation)  # the log's months, before anything is recorded in them
    ours = await settle(system, "leased")
    await ours.ensure("web")
    await ours.push("web", "1.0")
    return ours


@asynccontextmanager
async def another_server(system: System, dsn: str, data: Path) -> AsyncIterator[System]:
    """Over the same database, by the same clock."""
    folder = data / "another"
    folder.mkdir()
    (folder / "keys").symlink_to(data / "keys")
    clock = system.foundation.settings.clock_file
    async with in_process(dsn, folder, clock_file=clock) as other:
        yield other


async def pull(ours: Household, server: System | None = None) -> None:
    foundation = (server or ours.system).foundation
    spot = ours.name, "web"
    await pulling.manifest(foundation, ours.owner, Origin(), spot, "1.0", [IMAGE], lambda _: False, look=False)


async def quota(ours: Household, key: Key = Key.PULLS) -> Quota:
    async with ours.begin() as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        return {one.key: one for one in await usage.standings(work, place)}[key]


async def limit(ours: Household, key: Key, most: int) -> None:
    async with ours.system.foundation.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit, hard)"
            " SELECT 'organization', id, $2, 0, true, $3 FROM organization WHERE name = $1"
            " ON CONFLICT (scope_kind, scope_id, key) DO UPDATE SET explicit = true, hard = $3",
            ours.name,
            key.value,
            most,
        )


async def test_two_servers_let_through_the_limit_and_no_more(
    ours: Household, system: System, dsn: str, data: Path, books: asyncpg.Connection
) -> None:
    await limit(ours, Key.PULLS, 100)
    async with another_server(system, dsn, data) as other:
        pulls: list[Awaitable[None]] = [pull(ours, server) for server in (system, other) * 80]
        answers = await asyncio.gather(*pulls, return_exceptions=True)
        through = sum(answer is None for answer in answers)
        assert {type(answer) for answer in answers} == {type(None), TrafficExceeded}
        standing = await quota(ours)
        assert (through, standing.used, standing.held) == (100, 100, 0)
        assert await differences(books) == []


async def test_what_an_idle_server_leased_is_there_for_another(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await pull(ours)
    before = await quota(ours)
    assert (before.used, before.held > 0) == (1, True)
    set_clock(system, datetime(2027, 3, 10, 12, 1, tzinfo=UTC))
    await system.meter.tend(system.foundation)
    after = await quota(ours)
    assert (after.used, after.held) == (1, 0)
    assert await differences(books) == []
    await pull(ours)
    assert (await quota(ours)).used == 2


async def test_the_lease_of_a_killed_server_ends_by_itself(
    ours: Household, system: System, dsn: str, data: Path, books: asyncpg.Connection
) -> None:
    async with another_server(system, dsn, data) as killed:
        await pull(ours, killed)
        killed.meter._leases.clear()  # it forgets what it held, as one that is killed does
    assert (await quota(ours)).held > 0
    set_clock(system, datetime(2027, 3, 10, 12, 10, tzinfo=UTC))
    await system.meter.tend(system.foundation)
    standing = await quota(ours)
    assert (standing.used, standing.held) == (1, 0)
    assert await differences(books) == []


async def test_what_leaves_after_its_lease_has_ended_counts_all_the_same(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    """A server that was stopped for minutes in the midst of a pull."""
    await pull(ours)
    async with ours.begin() as work:
        place = await ours.place(work, "web")
    traffic = system.foundation.meter.at_hand(place, "1.0", None, system.foundation.clock.now(), 1, 10)
    assert traffic is not None
    set_clock(system, datetime(2027, 3, 10, 12, 10, tzinfo=UTC))
    await system.meter.tend(system.foundation)
    await system.meter.tend(system.foundation)
    system.foundation.ledger.count(traffic)
    await pull(ours)
    assert (await quota(ours)).used == 3
    assert await differences(books) == []


async def test_a_month_begins_with_nothing_used(ours: Household, system: System, books: asyncpg.Connection) -> None:
    await limit(ours, Key.PULLS, 2)
    set_clock(system, datetime(2027, 3, 31, 23, 59, tzinfo=UTC))
    await pull(ours)
    await pull(ours)
    with pytest.raises(TrafficExceeded) as refused:
        await pull(ours)
    assert refused.value.detail["resets_at"] == "2027-04-01T00:00:00+00:00"
    set_clock(system, datetime(2027, 4, 1, 0, 0, 1, tzinfo=UTC))
    assert (await quota(ours)).used == 0
    await pull(ours)
    assert (await quota(ours)).used == 1
    assert await differences(books) == []


async def test_refunds_of_last_month_are_no_room_in_this_one(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    set_clock(system, datetime(2027, 3, 31, 23, 59, tzinfo=UTC))
    await pull(ours)
    async with ours.begin() as work:
        place = await ours.place(work, "web")
    set_clock(system, datetime(2027, 4, 1, 0, 0, 1, tzinfo=UTC))
    await pull(ours)
    await system.meter.tend(system.foundation, closing=True)
    set_clock(system, datetime(2027, 4, 1, 0, 10, tzinfo=UTC))
    await system.meter.tend(system.foundation)
    await tidy(system.foundation)
    standing = await quota(ours)
    assert (place.exists, standing.used, standing.held) == (True, 1, 0)
    assert await differences(books) == []


@pytest.mark.parametrize("clocks", [(0, -90), (-90, 0)])
async def test_servers_whose_clocks_differ_at_the_end_of_a_month(
    ours: Household, system: System, dsn: str, data: Path, books: asyncpg.Connection, clocks: tuple[int, int]
) -> None:
    """One is a minute and a half behind, and so still in the month before."""
    midnight = datetime(2027, 4, 1, 0, 0, 30, tzinfo=UTC)
    async with another_server(system, dsn, data) as other:
        for server, behind in zip((system, other), clocks, strict=True):
            set_clock(system, datetime.fromtimestamp(midnight.timestamp() + behind, UTC))
            await pull(ours, server)
        set_clock(system, midnight)
        standing = await quota(ours)
        assert standing.used == (2 if clocks == (0, -90) else 1)
        assert await differences(books) == []


async def test_a_pool_of_one_connection_is_enough(dsn: str, data: Path) -> None:
    async with in_process(dsn, data, database_pool=1) as system:
        ours = await settle(system, "narrow")
        await ours.ensure("web")
        await ours.push("web", "1.0")
        await asyncio.gather(*(pull(ours) for _ in range(20)))
        assert (await quota(ours)).used == 20


async def test_a_lease_is_not_carried_into_the_month_that_another_clock_has_begun(
    ours: Household, system: System, dsn: str, data: Path, books: asyncpg.Connection
) -> None:
    """This server is behind and asks for more of its lease of the old month, when the counter is in the new one."""
    late, early = datetime(2027, 3, 31, 23, 59, tzinfo=UTC), datetime(2027, 4, 1, 0, 0, 30, tzinfo=UTC)
    set_clock(system, late)
    await pull(ours)
    async with another_server(system, dsn, data) as other:
        set_clock(system, early)
        await pull(ours, other)
        set_clock(system, late)
        for _ in range((await held_by(system, ours)) + 1):
            await pull(ours)
        set_clock(system, early)
        await system.meter.tend(system.foundation, closing=True)
        await other.meter.tend(other.foundation, closing=True)
    await tidy(system.foundation)
    assert (await quota(ours)).held == 0
    assert await differences(books) == []


async def held_by(system: System, ours: Household) -> int:
    """How many more pulls the server lets through without asking."""
    async with ours.begin() as work:
        place = await ours.place(work, "web")
    now, count = system.foundation.clock.now(), 0
    while system.foundation.meter.at_hand(place, "1.0", None, now, count + 1, 0) is not None:
        system.foundation.meter._leases[place.organization_id, Key.PULLS].left += count + 1
        count += 1
    return count


@pytest.mark.parametrize("ended", [False, True])
async def test_what_was_taken_back_may_leave_again_before_it_is_counted(
    ours: Household, system: System, books: asyncpg.Connection, ended: bool
) -> None:
    """And the lease may end meanwhile, as that of a server does that was stopped."""
    await limit(ours, Key.EGRESS_BYTES, 3000)
    async with ours.begin() as work:
        place = await ours.place(work, "web")
        taken = await system.meter.let_through(work, place, None, 0, 900)
    system.foundation.ledger.count(taken)
    back = system.meter.unsent(taken, 900)
    system.foundation.ledger.count(system.meter.at_hand(place, None, None, system.foundation.clock.now(), 0, 900))
    await pull(ours)
    if ended:
        set_clock(system, datetime(2027, 3, 10, 12, 10, tzinfo=UTC))
        await system.meter.tend(system.foundation)
        await system.meter.tend(system.foundation)
    system.foundation.ledger.count(back)
    await pull(ours)
    await system.meter.tend(system.foundation, closing=True)
    await tidy(system.foundation)
    standing = await quota(ours, Key.EGRESS_BYTES)
    assert standing.held == 0
    assert await differences(books) == []


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_limit_that_is_lowered_ends_what_is_leased(
    ours: Household, system: System, dsn: str, data: Path, books: asyncpg.Connection, elsewhere: bool
) -> None:
    """At once where nothing leaves; a server that lets something through finds it out with that."""
    async with another_server(system, dsn, data) as other:
        server = other if elsewhere else system
        await pull(ours, server)
        assert (await quota(ours)).held > 0
        async with system.foundation.begin(ours.admin, Origin()) as work:
            place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
            await usage.set_limit(work, place, Key.PULLS, Limits(frozenset({"limit"}), limit=1))
        assert (await quota(ours)).held == 0
        await pull(ours, server)  # it has not heard of it yet
        with pytest.raises(TrafficExceeded):
            await pull(ours, server)
    assert (await quota(ours)).used == 2
    assert await differences(books) == []


async def test_who_is_refused_is_told_all_that_was_asked_for(ours: Household, system: System) -> None:
    """Not what goes beyond what this server may let through."""
    await limit(ours, Key.EGRESS_BYTES, 1_000_000)
    async with ours.begin() as work:
        place = await ours.place(work, "web")
        await system.meter.let_through(work, place, None, 0, 100)
        assert (await quota(ours, Key.EGRESS_BYTES)).held > 100
        with pytest.raises(TrafficExceeded) as refused:
            await system.meter.let_through(work, place, None, 0, 999_950)
    assert refused.value.detail["requested"] == 999_950
    assert refused.value.detail["used"] + refused.value.detail["held"] == 100
