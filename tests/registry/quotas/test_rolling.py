"""What becomes of old history: hours turn into days, days are dropped, and not a byte is lost or counted twice."""

import secrets
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from registry.quotas import rolling, sampling
from registry.repositories import deleting
from registry.system import System
from registry.tending import tidy
from tests.support.clocks import set_clock
from tests.support.inside import Household, settle
from tests.support.recount import differences

NOW = datetime(2027, 3, 10, 12, 30, tzinfo=UTC)
FIRST_HOUR = datetime(2026, 12, 10, tzinfo=UTC)
"""The first that is kept as an hour."""
NOBODY = UUID(int=0)
SUMS = """
    SELECT day, repository_id, tag, user_id, sum(pulls)::bigint, sum(bytes)::bigint FROM (
        SELECT organization_id, (hour AT TIME ZONE 'UTC')::date AS day, repository_id, tag, user_id, pulls, bytes
        FROM traffic_hour UNION ALL TABLE traffic_day) AS every
    WHERE organization_id = $1 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


@pytest.fixture
async def ours(system: System, books: asyncpg.Connection) -> Household:
    await system.foundation.ledger.catch_up()
    set_clock(system, NOW)
    await tidy(system.foundation)  # the log's months, before anything is recorded in them
    ours = await settle(system, "rolled")
    await ours.ensure("web")
    return ours


@pytest.fixture
async def organization(ours: Household, books: asyncpg.Connection) -> UUID:
    found: UUID = await books.fetchval("SELECT id FROM organization WHERE name = $1", ours.name)
    return found


async def roll(system: System, books: asyncpg.Connection, at: datetime = NOW) -> None:
    """As a server does on the first occasion of a day."""
    set_clock(system, at)
    await books.execute("UPDATE quota_recount SET sampled_at = NULL, rolled_at = NULL")
    await sampling.sample(system.foundation)
    await rolling.roll(system.foundation)


async def flowed(
    books: asyncpg.Connection, organization: UUID, hour: datetime, pulls: int, sent: int, **where: Any
) -> None:
    of = {"repository": NOBODY, "tag": "1.0", "user": NOBODY} | where
    await books.execute(
        "INSERT INTO traffic_hour VALUES ($1, $2, $3, $4, $5, $6, $7)",
        organization, hour, of["repository"], of["tag"], of["user"], pulls, sent,
    )  # fmt: skip


async def stood(books: asyncpg.Connection, scope: UUID, hour: datetime, value: int, peak: int) -> None:
    await books.execute(
        "INSERT INTO usage_hour VALUES ('organization', $1, 'STORAGE_BYTES', $2, $3, $4)", scope, hour, value, peak
    )


async def days(books: asyncpg.Connection, scope: UUID, key: str) -> list[tuple[date, int, int]]:
    statement = "SELECT day, value, peak FROM usage_day WHERE scope_id = $1 AND key = $2 ORDER BY day"
    return [tuple(row) for row in await books.fetch(statement, scope, key)]


async def test_traffic_is_the_same_before_and_after(
    system: System, books: asyncpg.Connection, organization: UUID
) -> None:
    """Also of a day whose first half had been rolled up when more of it came."""
    random = secrets.SystemRandom()
    repositories, users = [uuid4() for _ in range(3)], [NOBODY, uuid4()]
    for number in range(300):
        where = {"repository": random.choice(repositories), "user": random.choice(users), "tag": f"{number}"}
        hour = FIRST_HOUR + timedelta(hours=random.randint(-100, 100))
        await flowed(books, organization, hour, random.randint(0, 9), random.randint(0, 10**12), **where)
    before = await books.fetch(SUMS, organization)
    await roll(system, books)
    assert await books.fetch(SUMS, organization) == before
    assert await books.fetchval("SELECT min(hour) FROM traffic_hour") >= FIRST_HOUR
    assert await books.fetchval("SELECT max(day) FROM traffic_day") < FIRST_HOUR.date()
    await flowed(books, organization, FIRST_HOUR - timedelta(hours=99), 1, 1, tag="late")
    before = await books.fetch(SUMS, organization)
    for _ in range(2):
        await roll(system, books)
        assert await books.fetch(SUMS, organization) == before


async def test_the_busiest_hour_of_a_day_is_kept_for_organization_and_account(
    ours: Household, system: System, books: asyncpg.Connection, organization: UUID
) -> None:
    day = FIRST_HOUR - timedelta(days=1)
    for hour, pulls, sent in ((3, 2, 100), (9, 5, 70), (23, 1, 40)):
        await flowed(books, organization, day + timedelta(hours=hour), pulls, sent)
        await flowed(books, organization, day + timedelta(hours=hour), pulls, sent, tag="2.0")
    await roll(system, books)
    for scope in (organization, ours.owner.account_id):
        assert scope is not None
        assert await days(books, scope, "EGRESS_BYTES") == [(day.date(), 420, 200)]
        assert await days(books, scope, "PULLS") == [(day.date(), 16, 10)]


async def test_a_day_ends_as_its_last_hour_did(system: System, books: asyncpg.Connection, organization: UUID) -> None:
    day = FIRST_HOUR - timedelta(days=2)
    for hour, value, peak in ((0, 5, 50), (7, 90, 90), (22, 60, 80), (24, 10, 70), (47, 20, 20), (48, 1, 2)):
        await stood(books, organization, day + timedelta(hours=hour), value, peak)
    await roll(system, books)
    first = day.date()
    assert await days(books, organization, "STORAGE_BYTES") == [(first, 60, 90), (first + timedelta(days=1), 20, 70)]
    kept = await books.fetch("SELECT hour, value, peak FROM usage_hour WHERE hour < $1", NOW - timedelta(days=1))
    assert [tuple(row) for row in kept] == [(FIRST_HOUR, 1, 2)]


async def test_the_sum_of_what_every_hour_added_is_what_is_there(
    ours: Household, system: System, books: asyncpg.Connection, organization: UUID
) -> None:
    """Before and after the hours are days."""
    for hour in range(60):
        await ours.store("web", secrets.token_bytes(hour + 1))
        set_clock(system, NOW + timedelta(hours=hour))
        await sampling.sample(system.foundation)
    statement = "SELECT value FROM usage_hour WHERE scope_id = $1 AND key = 'STORAGE_BYTES' ORDER BY hour"
    values = [0, *(row["value"] for row in await books.fetch(statement, organization))]
    assert sum(later - earlier for earlier, later in pairwise(values)) == sum(range(1, 61))
    await roll(system, books, NOW + timedelta(days=100))
    told = await days(books, organization, "STORAGE_BYTES")
    assert [value for _, value, _ in told] == [sum(range(1, n + 1)) for n in (12, 36, 60)]
    assert await books.fetchval(statement, organization) is None


async def test_days_are_kept_for_five_years(system: System, books: asyncpg.Connection, organization: UUID) -> None:
    for day in (date(2022, 3, 8), date(2022, 3, 9), date(2024, 2, 29)):
        await books.execute(
            "INSERT INTO usage_day VALUES ('organization', $1, 'STORAGE_BYTES', $2, 1, 1)", organization, day
        )
        await books.execute("INSERT INTO traffic_day VALUES ($1, $2, $1, '', $1, 1, 1)", organization, day)
    await roll(system, books)
    kept = [date(2022, 3, 9), date(2024, 2, 29)]
    assert [day for day, _, _ in await days(books, organization, "STORAGE_BYTES")] == kept
    rows = await books.fetch("SELECT day FROM traffic_day WHERE organization_id = $1 ORDER BY day", organization)
    assert [row["day"] for row in rows] == kept


async def test_what_is_gone_has_no_history_but_what_was_pulled_from_it_has(
    ours: Household, system: System, books: asyncpg.Connection, organization: UUID
) -> None:
    await ours.store("web", b"x" * 100)
    async with ours.begin() as work:
        web = (await ours.place(work, "web")).id
    gone, yesterday = uuid4(), NOW - timedelta(days=1)
    await flowed(books, organization, yesterday, 1, 10, repository=web)
    await flowed(books, gone, yesterday, 1, 10)
    await books.execute("INSERT INTO traffic_day VALUES ($1, '2026-01-01', $1, '', $1, 1, 1)", gone)
    await roll(system, books)
    async with ours.begin() as work:
        await deleting.delete_repository(work, await ours.place(work, "web"))
    await roll(system, books, NOW + timedelta(days=1))
    histories = await books.fetch("SELECT DISTINCT scope_id FROM usage_hour WHERE key = 'STORAGE_BYTES'")
    assert {row["scope_id"] for row in histories} & {web, organization} == {organization}
    traffic = await books.fetch("SELECT organization_id, repository_id FROM traffic_hour WHERE hour = $1", yesterday)
    assert [tuple(row) for row in traffic] == [(organization, web)]
    assert await books.fetchval("SELECT count(*) FROM traffic_day WHERE organization_id = $1", gone) == 0


async def test_a_month_that_is_over_is_no_difference_when_its_hours_are_days(
    system: System, books: asyncpg.Connection, organization: UUID
) -> None:
    await flowed(books, organization, FIRST_HOUR + timedelta(hours=5), 7, 70)
    await flowed(books, organization, FIRST_HOUR - timedelta(hours=5), 3, 30)
    await books.execute(
        "INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit, period, peak, warned, soft_warned)"
        " VALUES ('organization', $1, 'PULLS', 10, false, '2026-12', 10, 80, true)",
        organization,
    )
    assert await differences(books) == []
    await roll(system, books)
    assert await differences(books) == []
    row = await books.fetchrow(
        "SELECT period, charged, peak, warned, soft_warned FROM quota_counter WHERE scope_id = $1 AND key = 'PULLS'",
        organization,
    )
    assert tuple(row) == ("2027-03", 0, 0, 0, False)


async def test_what_is_old_is_rolled_up_once_a_day_on_the_first_occasion(
    system: System, books: asyncpg.Connection, organization: UUID
) -> None:
    await roll(system, books, NOW)
    await stood(books, organization, FIRST_HOUR - timedelta(hours=1), 5, 5)
    for minute in (1, 11 * 60):
        set_clock(system, NOW + timedelta(minutes=minute))
        await rolling.roll(system.foundation)
        assert await days(books, organization, "STORAGE_BYTES") == []
    set_clock(system, NOW.replace(hour=0, minute=1) + timedelta(days=1))
    await rolling.roll(system.foundation)
    assert await days(books, organization, "STORAGE_BYTES") == [(FIRST_HOUR.date() - timedelta(days=1), 5, 5)]
