"""How use has grown, asked of a server whose clock goes on by days, beside which another takes the samples."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from registry.quotas import rolling
from registry.system import System
from registry.tending import tidy
from tests.api.schema.asking import ADMIN, ask, change, code_of
from tests.support import world
from tests.support.books import address_of, in_process, opened
from tests.support.handmade import INDEX, digest_of, index_of, knocking
from tests.support.server import Server, serving
from tests.support.world import Tenant

BEGINNING = datetime(2028, 2, 26, 12, 10, tzinfo=UTC)
USAGE = """
    query($scope: QuotaScope!, $key: QuotaKey!, $from: DateTime!, $to: DateTime!, $interval: UsageInterval! = DAY) {
        usage(scope: $scope, key: $key, from: $from, to: $to, interval: $interval) {
            points { time value peak } limit unit
        }
    }
"""
FORECAST = """
    query($scope: QuotaScope!, $key: QuotaKey!, $from: DateTime!) {
        usage(scope: $scope, key: $key, from: $from, to: $from) { trendPerDay fullInDays }
    }
"""
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("history")) as server:
        yield server


@pytest.fixture(scope="module")
async def sampler(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Another server over the same database, by the same clock."""
    folder: Path = tmp_path_factory.mktemp("sampler")
    (folder / "keys").symlink_to(server.folder / "data" / "keys")
    async with in_process(address_of(server), folder, clock_file=server.folder / "clock") as system:
        await move(server, system, BEGINNING)
        yield system


@pytest.fixture
async def acme(server: Server, sampler: System) -> Tenant:
    return await world.tenant(server, "grown")


@pytest.fixture
async def books(server: Server) -> AsyncIterator[asyncpg.Connection]:
    async with opened(address_of(server)) as connection:
        yield connection


async def move(server: Server, sampler: System, to: datetime) -> None:
    """A sample is taken there, and the log has the month before anything is recorded in it."""
    await sampler.foundation.ledger.catch_up()
    server.advance((to - server.now).total_seconds())
    await tidy(sampler.foundation)
    await rolling.roll(sampler.foundation)


async def later(server: Server, sampler: System, **duration: float) -> datetime:
    """A sample is taken after a minute, and then."""
    await move(server, sampler, server.now + timedelta(minutes=1))
    await move(server, sampler, server.now + timedelta(**duration))
    return server.now


async def push(acme: Tenant, size: int, repository: str = "web") -> str:
    """A manifest of its own, of exactly so many bytes, that needs nothing else; returns its address."""
    bare = index_of(annotations={"mark": secrets.token_hex(4), "padding": ""})
    manifest = bare.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(bare))))
    address = f"{acme.organization}/{repository}"
    async with knocking(acme.tidewaiter, acme.owner) as door:  # type: ignore[arg-type]
        answer = await door.push_manifest(address, digest_of(manifest), manifest, INDEX)
        assert (answer.status_code, len(manifest)) == (201, size), answer.text
    return f"/v2/{address}/manifests/{digest_of(manifest)}"


async def usage(
    acme: Tenant, start: datetime, end: datetime, key: str = "STORAGE_BYTES", interval: str = "DAY", **scope: str
) -> dict[str, Any]:
    scope = scope or {"organization": acme.organization}
    asked = {"scope": scope, "key": key, "from": start.isoformat(), "to": end.isoformat(), "interval": interval}
    found: dict[str, Any] = (await ask(acme.tidewaiter, USAGE, acme.owner, **asked))["usage"]  # type: ignore[arg-type]
    return found


async def points(acme: Tenant, start: datetime, end: datetime, *more: str, **scope: str) -> list[tuple[str, int, int]]:
    """The times, with value and peak."""
    found = await usage(acme, start, end, *more, **scope)
    return [(point["time"], point["value"], point["peak"]) for point in found["points"]]


async def values(acme: Tenant, start: datetime, end: datetime, *more: str, **scope: str) -> list[int]:
    return [value for _, value, _ in await points(acme, start, end, *more, **scope)]


def midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


async def test_days_are_told_across_a_leap_day_and_the_end_of_a_month(
    server: Server, sampler: System, acme: Tenant
) -> None:
    await push(acme, 1000)
    await later(server, sampler, days=2)
    await push(acme, 500)
    await later(server, sampler, days=2)
    told = await points(acme, datetime(2028, 2, 25, tzinfo=UTC), datetime(2028, 3, 2, tzinfo=UTC))
    assert told == [
        ("2028-02-25T00:00:00Z", 0, 0),
        ("2028-02-26T00:00:00Z", 1000, 1000),
        ("2028-02-27T00:00:00Z", 1000, 1000),
        ("2028-02-28T00:00:00Z", 1500, 1500),
        ("2028-02-29T00:00:00Z", 1500, 1500),
        ("2028-03-01T00:00:00Z", 1500, 1500),
    ]
    for kind in ({"account": acme.account}, {"organization": acme.organization, "repository": "web"}):
        assert await points(acme, datetime(2028, 2, 25, tzinfo=UTC), datetime(2028, 3, 2, tzinfo=UTC), **kind) == told


async def test_what_is_now_waits_for_no_sample(server: Server, acme: Tenant) -> None:
    now = server.now
    assert await values(acme, now, now + timedelta(hours=1), "STORAGE_BYTES", "HOUR") == [0]
    await push(acme, 700)
    assert (await points(acme, now - DAY, now + DAY))[-1] == (f"{midnight(now):%Y-%m-%dT%H:%M:%SZ}", 700, 700)
    assert (await values(acme, now - timedelta(hours=2), server.now, "STORAGE_BYTES", "HOUR"))[-1] == 700
    assert await values(acme, now - DAY, now + DAY, "REPOSITORIES") == [0, 1]


async def test_what_came_and_went_is_the_peak_of_its_hour(server: Server, sampler: System, acme: Tenant) -> None:
    start = await later(server, sampler, hours=1)
    location = await push(acme, 900)
    async with knocking(server, acme.owner) as door:
        assert (await door.delete(location)).status_code == 202
    await later(server, sampler, hours=2)
    told = await points(acme, start, server.now, "STORAGE_BYTES", "HOUR")
    assert [point[1:] for point in told] == [(0, 900), (0, 0), (0, 0)]
    assert await points(acme, midnight(start), midnight(start) + DAY) == [(f"{start:%Y-%m-%dT}00:00:00Z", 0, 900)]


async def test_what_was_only_held_is_in_the_peak_alone(server: Server, sampler: System, acme: Tenant) -> None:
    start = await later(server, sampler, hours=1)
    async with knocking(server, acme.owner) as door:
        location = await door.begin_upload(f"{acme.organization}/web")
        assert (await door.patch(location, content=b"x" * 300)).status_code == 202
    ((_, value, peak),) = await points(acme, start, start + timedelta(seconds=1), "STORAGE_BYTES", "HOUR")
    assert (value, peak >= 300) == (0, True)


async def test_days_without_a_sample_are_as_the_day_before(server: Server, sampler: System, acme: Tenant) -> None:
    start = server.now
    await push(acme, 400)
    await later(server, sampler, days=12)
    await push(acme, 200)
    end = await later(server, sampler, days=3)
    assert await values(acme, start, end) == [400] * 12 + [600] * 4


async def test_hours_of_a_level_turn_into_days_and_days_go_on_telling_it(
    server: Server, sampler: System, acme: Tenant, books: asyncpg.Connection
) -> None:
    start = midnight(server.now) + 8 * DAY
    await move(server, sampler, start + timedelta(hours=9))
    await push(acme, 1000)
    await later(server, sampler, days=3)
    await push(acme, 1000)
    before = await points(acme, start - DAY, (await later(server, sampler, days=1)))
    await later(server, sampler, days=100)
    rolled = await books.fetchval("SELECT count(*) FROM usage_hour WHERE hour < $1", server.now - 91 * DAY)
    assert (rolled, await points(acme, start - DAY, start + 5 * DAY)) == (0, before)
    assert (await values(acme, start, server.now))[4:] == [2000] * 101


async def test_another_account_and_repositories_gone_show_nothing(
    server: Server, sampler: System, acme: Tenant
) -> None:
    await push(acme, 500)
    start = server.now
    await later(server, sampler, days=2)
    spot = {"organization": acme.organization, "repository": "web"}
    assert await values(acme, start, server.now, **spot) == [500, 500, 500]
    await change(server, "deleteRepository", acme.owner, organization=acme.organization, name="web", confirm="web")
    asked = {"key": "STORAGE_BYTES", "from": start.isoformat(), "to": server.now.isoformat()}
    assert await code_of(server, USAGE, acme.owner, scope=spot, **asked) == "NOT_FOUND"
    await push(acme, 300)
    assert await values(acme, start, server.now, **spot) == [0, 0, 300]
    assert await values(acme, start, server.now) == [500, 500, 300]


# Spans


async def test_a_span_in_which_nothing_lies_has_no_points(server: Server, acme: Tenant) -> None:
    now = server.now
    for start, end in ((now, now), (now + 3 * DAY, now + 4 * DAY)):
        assert await points(acme, start, end) == []
        assert await points(acme, start, end, "EGRESS_BYTES", "HOUR") == []


async def test_one_hour_is_one_point_and_what_has_not_begun_is_none(server: Server, acme: Tenant) -> None:
    hour = midnight(server.now) - timedelta(hours=1)
    one = [(f"{hour:%Y-%m-%dT%H:%M:%SZ}", 0, 0)]
    assert await points(acme, hour, hour + timedelta(hours=1), "STORAGE_BYTES", "HOUR") == one
    assert await points(acme, hour + timedelta(minutes=59), hour + timedelta(hours=1), "PULLS", "HOUR") == one
    whole = await points(acme, midnight(server.now), midnight(server.now) + 9 * DAY, "STORAGE_BYTES", "HOUR")
    assert len(whole) == server.now.hour + 1


@pytest.mark.parametrize(
    ("start", "end", "interval", "path"),
    [
        (timedelta(0), timedelta(seconds=-1), "DAY", ["from", "to"]),
        (timedelta(hours=-2001), timedelta(0), "HOUR", ["from", "to"]),
        (timedelta(days=-2001), timedelta(0), "DAY", ["from", "to"]),
        (timedelta(days=-100), timedelta(days=-99), "HOUR", ["from"]),
    ],
    ids=["backward", "too many hours", "too many days", "hours that are days"],
)
async def test_spans_that_are_refused(
    server: Server, acme: Tenant, start: timedelta, end: timedelta, interval: str, path: list[str]
) -> None:
    scope, now = {"organization": acme.organization}, server.now
    asked = {"from": (now + start).isoformat(), "to": (now + end).isoformat(), "interval": interval}
    answer = await server.graphql(
        USAGE, {"scope": scope, "key": "PULLS", **asked}, acme.owner.name, acme.owner.password
    )
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], error["extensions"]["path"]) == ("SPAN_INVALID", path)
    assert answer["data"] == {"usage": None}


async def test_as_many_points_as_there_may_be(server: Server, acme: Tenant) -> None:
    now = midnight(server.now)
    assert len(await points(acme, now - 2000 * DAY, now)) == 2000
    assert len(await points(acme, now - timedelta(hours=2000), now, "TAGS", "HOUR")) == 2000


async def test_a_key_that_is_not_counted_there(server: Server, acme: Tenant) -> None:
    spot, now = {"organization": acme.organization, "repository": "web"}, server.now.isoformat()
    await world.repository(acme, "web")
    for scope, key in ((spot, "PULLS"), ({"organization": acme.organization}, "USERS"), (spot, "REPOSITORIES")):
        assert await code_of(server, USAGE, acme.owner, scope=scope, key=key, **{"from": now, "to": now}) == (
            "LIMIT_INVALID"
        )


# Traffic


async def organization_of(books: asyncpg.Connection, name: str) -> UUID:
    found: UUID = await books.fetchval("SELECT id FROM organization WHERE name = $1", name)
    return found


async def flowed(books: asyncpg.Connection, organization: UUID, at: datetime, pulls: int, sent: int) -> None:
    hour, nobody = at.replace(minute=0, second=0, microsecond=0), UUID(int=0)
    await books.execute(
        "INSERT INTO traffic_hour VALUES ($1, $2, $3, '1.0', $3, $4, $5)", organization, hour, nobody, pulls, sent
    )


async def test_pulls_are_told_by_hour_and_by_day(server: Server, sampler: System, acme: Tenant) -> None:
    start = await later(server, sampler, days=1)
    async with knocking(server, acme.owner) as door:
        manifest = await door.push_image(f"{acme.organization}/web", "1.0", b"a layer")
        for hours, pulls in ((0, 3), (1, 5), (24, 2)):
            await move(server, sampler, start + timedelta(hours=hours))
            for _ in range(pulls):
                assert (await door.get(f"/v2/{acme.organization}/web/manifests/1.0")).status_code == 200
    first = midnight(start)
    for scope in ({"organization": acme.organization}, {"account": acme.account}):
        told = await points(acme, first - DAY, server.now, "PULLS", **scope)
        assert [point[1:] for point in told] == [(0, 0), (8, 5), (2, 2)]
        hours = await values(acme, start, start + timedelta(hours=3), "EGRESS_BYTES", "HOUR", **scope)
        assert hours == [3 * len(manifest), 5 * len(manifest), 0, 0][: len(hours)]


async def test_traffic_of_an_account_is_that_of_its_organizations(
    server: Server, sampler: System, acme: Tenant, books: asyncpg.Connection
) -> None:
    second = f"{acme.organization}-two"
    await change(server, "createOrganization", acme.owner, name=second)
    day = midnight(server.now) - 5 * DAY
    for name, hour, pulls, sent in ((acme.organization, 3, 2, 100), (second, 3, 4, 50), (second, 9, 5, 1000)):
        await flowed(books, await organization_of(books, name), day + timedelta(hours=hour), pulls, sent)
    account = {"account": acme.account}
    assert (await points(acme, day, day + DAY, "PULLS", **account))[0][1:] == (11, 6)
    assert (await points(acme, day, day + DAY, "EGRESS_BYTES", **account))[0][1:] == (1150, 1000)
    assert (await usage(acme, day, day, "PULLS", **account))["limit"] is None
    before = {key: await points(acme, day - DAY, day + 2 * DAY, key, **account) for key in ("PULLS", "EGRESS_BYTES")}
    await later(server, sampler, days=100)
    assert await books.fetchval("SELECT count(*) FROM traffic_hour WHERE hour < $1", day + DAY) == 0
    for key, told in before.items():
        assert await points(acme, day - DAY, day + 2 * DAY, key, **account) == told


# Forecasts


async def stood(books: asyncpg.Connection, organization: UUID, days: dict[datetime, int]) -> None:
    for day, value in days.items():
        await books.execute(
            "INSERT INTO usage_hour VALUES ('organization', $1, 'STORAGE_BYTES', $2, $3, $3)", organization, day, value
        )


async def forecast(acme: Tenant, key: str = "STORAGE_BYTES") -> tuple[float | None, int | None]:
    asked = {"scope": {"organization": acme.organization}, "key": key, "from": "2028-01-01T00:00:00Z"}
    found = (await ask(acme.tidewaiter, FORECAST, acme.owner, **asked))["usage"]  # type: ignore[arg-type]
    return found["trendPerDay"], found["fullInDays"]


async def limit(acme: Tenant, key: str, most: int | None) -> None:
    scope = {"organization": acme.organization}
    await change(acme.tidewaiter, "setQuota", ADMIN, scope=scope, key=key, limit=most)  # type: ignore[arg-type]


async def test_what_grows_evenly_is_full_when_the_room_is_used_up(
    server: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    await push(acme, 1000)
    today = midnight(server.now)
    days = {today - number * DAY: 1000 - 100 * number for number in range(1, 8)}
    await stood(books, await organization_of(books, acme.organization), days)
    assert await forecast(acme) == (100, None)
    for most, full in ((1001, 1), (1000, 0), (500, 0), (1100, 1), (1101, 2), (2000, 10), (10**9, None), (None, None)):
        await limit(acme, "STORAGE_BYTES", most)
        assert await forecast(acme) == (100, full), most


async def test_too_short_a_history_and_what_shrinks_are_no_forecast(
    server: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    await limit(acme, "STORAGE_BYTES", 5000)
    assert await forecast(acme) == (None, None)
    await push(acme, 1000)
    organization, today = await organization_of(books, acme.organization), midnight(server.now)
    await stood(books, organization, {today - DAY: 3000})
    assert await forecast(acme) == (None, None)
    await stood(books, organization, {today - 2 * DAY: 5000})
    assert await forecast(acme) == (-2000, None)


async def test_of_an_old_level_that_does_not_move_the_trend_is_zero(
    server: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    await push(acme, 1000)
    await stood(books, await organization_of(books, acme.organization), {midnight(server.now) - 60 * DAY: 1000})
    await limit(acme, "STORAGE_BYTES", 5000)
    assert await forecast(acme) == (0, None)


async def test_a_month_of_traffic_is_full_before_it_ends_or_not_at_all(
    server: Server, sampler: System, acme: Tenant, books: asyncpg.Connection
) -> None:
    month = (midnight(server.now).replace(day=1) + 31 * DAY).replace(day=1)
    await move(server, sampler, month + 9 * DAY + timedelta(hours=12))
    organization = await organization_of(books, acme.organization)
    for number in range(9):
        await flowed(books, organization, month + number * DAY, 10, 100)
    await limit(acme, "PULLS", 150)
    await books.execute(
        "UPDATE quota_counter SET charged = 90, period = $2 WHERE scope_id = $1 AND key = 'PULLS'",
        organization,
        f"{month:%Y-%m}",
    )
    assert await forecast(acme, "PULLS") == (10, 6)
    await limit(acme, "PULLS", 1000)
    assert await forecast(acme, "PULLS") == (10, None)
    assert await forecast(acme, "EGRESS_BYTES") == (100, None)
