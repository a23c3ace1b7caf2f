"""The live tail: replayed, followed, resumed; and ended as soon as its reader may read no more."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from registry.audit.following import MOST_OF_ONE
from tests.api.schema.asking import ADMIN, change
from tests.support import world
from tests.support.server import Server, serving
from tests.support.world import Person, Tenant

TAIL = """
    subscription($filter: AuditFilter, $from: BigInt) {
        auditTail(filter: $filter, from: $from) { index action target state actor { name } }
    }
"""
SECONDS = 20


Events = AsyncIterator[dict[str, Any]]


async def tail(tidewaiter: Server, by: Person, *, last: int | None = None, **given: Any) -> Events:
    """The events: `event`, `id` and the parsed `data` of each. Comments are left out."""
    headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": str(last)})
    async with (
        httpx2.AsyncClient(
            base_url=tidewaiter.url, auth=(by.name, by.password), timeout=SECONDS, verify=False
        ) as client,
        client.stream("POST", "/graphql", json={"query": TAIL, "variables": given}, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream"), await answer.aread()
        event: dict[str, Any] = {}
        async for line in answer.aiter_lines():
            if not line and event:
                if "event" in event:
                    yield event
                event = {}
            elif not line.startswith(":") and line:
                name, _, value = line.partition(":")
                event[name] = json.loads(value) if name == "data" and value.strip() else value.strip()


async def take(tidewaiter: Server, by: Person, count: int, **given: Any) -> list[dict[str, Any]]:
    """So many entries, and then the client is gone."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(SECONDS), aclosing(tail(tidewaiter, by, **given)) as events:
        async for event in events:
            assert event["event"] == "next", event
            entry = event["data"]["data"]["auditTail"]
            assert event["id"] == str(entry["index"])
            found.append(entry)
            if len(found) == count:
                break
    return found


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "tail")


async def repositories(tenant: Tenant, *names: str) -> None:
    for name in names:
        await change(tenant.tidewaiter, "createRepository", tenant.owner, organization=tenant.organization, name=name)


async def test_it_replays_from_any_number_and_then_follows(tidewaiter: Server, acme: Tenant) -> None:
    await repositories(acme, "a", "b")
    wanted = {"filter": {"action": "repository.create"}, "from": 0}
    first = await take(tidewaiter, acme.owner, 2, **wanted)
    assert [entry["target"] for entry in first] == [f"{acme.organization}/{name}" for name in "ab"]
    following = asyncio.create_task(take(tidewaiter, acme.owner, 3, **wanted))
    await repositories(acme, "c")
    found = await following
    assert [entry["target"][-1] for entry in found] == ["a", "b", "c"]
    assert found[:2] == first or [entry["index"] for entry in found[:2]] == [entry["index"] for entry in first]


async def test_after_a_cut_nothing_is_left_out_and_nothing_comes_twice(tidewaiter: Server, acme: Tenant) -> None:
    """While somebody goes on writing."""
    names = [f"r{number:02}" for number in range(24)]
    writing = asyncio.create_task(repositories(acme, *names))
    found: list[dict[str, Any]] = []
    last: int | None = None
    while len(found) < len(names):
        given = {"filter": {"action": "repository.create"}} | ({"from": 0} if last is None else {"last": last})
        found += await take(tidewaiter, acme.owner, min(5, len(names) - len(found)), **given)
        last = found[-1]["index"]
    await writing
    assert [entry["target"] for entry in found] == [f"{acme.organization}/{name}" for name in names]
    indexes = [entry["index"] for entry in found]
    assert indexes == sorted(set(indexes))


async def test_without_a_number_it_begins_with_what_comes(tidewaiter: Server, acme: Tenant) -> None:
    """That it is followed is the first thing that comes."""
    await repositories(acme, "before")
    async with asyncio.timeout(SECONDS), aclosing(tail(tidewaiter, acme.owner)) as events:
        first = await anext(events)
        await repositories(acme, "after")
        second = await anext(events)
    found = [event["data"]["data"]["auditTail"] for event in (first, second)]
    assert [entry["action"] for entry in found] == ["audit.follow", "repository.create"]
    assert found[1]["target"].endswith("/after")


async def test_tenants_follow_only_what_is_theirs_and_the_operator_all(tidewaiter: Server, acme: Tenant) -> None:
    other = await world.tenant(tidewaiter, "elsewhere")
    await repositories(other, "theirs")
    await repositories(acme, "mine")
    start = (await take(tidewaiter, other.owner, 1, filter={"action": "repository.create"}, **{"from": 0}))[0]["index"]
    wanted = {"filter": {"action": "repository.create"}, "from": start}
    mine = await take(tidewaiter, acme.owner, 1, **wanted)
    assert [entry["target"] for entry in mine] == [f"{acme.organization}/mine"]
    seen = [entry["target"] for entry in await take(tidewaiter, ADMIN, 2, **wanted)]
    assert seen == [f"{other.organization}/theirs", f"{acme.organization}/mine"]


async def told(tidewaiter: Server, by: Person, **given: Any) -> list[dict[str, Any]]:
    """All events up to the end, which has to come."""
    async with asyncio.timeout(SECONDS):
        return [event async for event in tail(tidewaiter, by, **given)]


async def test_it_ends_when_its_reader_is_suspended(tidewaiter: Server, acme: Tenant) -> None:
    second = await world.user(acme, "second")
    await promote(tidewaiter, acme, second)
    following = asyncio.create_task(told(tidewaiter, second, filter={"action": "repository.*"}, **{"from": 0}))
    await repositories(acme, "one")
    await change(tidewaiter, "suspendUser", acme.owner, user=second.name)
    await repositories(acme, "two")
    *_, refused, end = await following
    assert end["event"] == "complete"
    assert refused["data"]["errors"][0]["extensions"]["code"]
    assert "two" not in json.dumps([*_, refused])


async def promote(tidewaiter: Server, acme: Tenant, person: Person) -> None:
    """Owners read the log; there is no mutation that makes one, so a new user is made as one."""
    owner = f"{person.name}-owner"
    given = {"account": acme.account, "name": owner, "password": person.password, "owner": True}
    await change(tidewaiter, "createUser", acme.owner, **given)
    object.__setattr__(person, "name", owner)


async def test_who_may_not_read_the_log_may_not_follow_it(tidewaiter: Server, acme: Tenant) -> None:
    reader = await world.user(acme, "reader", level="READ")
    refused, end = await told(tidewaiter, reader)
    assert refused["data"]["errors"][0]["extensions"]["code"] in ("DENIED", "NOT_FOUND")
    assert end["event"] == "complete"
    refused, _ = await told(tidewaiter, acme.owner, **{"from": 2**40})
    assert refused["data"]["errors"][0]["extensions"]["code"] == "START_OUT_OF_RANGE"


async def test_what_no_entry_could_hold_is_not_followed(tidewaiter: Server, acme: Tenant) -> None:
    """A tail that never says anything would read as if nothing happened."""
    for field, value in {"source": "10.0.0.0/8", "target": "*hull*", "action": "*pull"}.items():
        refused, end = await told(tidewaiter, acme.owner, filter={field: value}, **{"from": 0})
        extensions = refused["data"]["errors"][0]["extensions"]
        assert (extensions["code"], extensions["path"]) == ("FILTER_INVALID", ["filter", field])
        assert end["event"] == "complete"


async def test_nobody_follows_more_often_than_the_limit(tidewaiter: Server, acme: Tenant) -> None:
    open_tails = [tail(tidewaiter, acme.owner, **{"from": 0}) for _ in range(MOST_OF_ONE)]
    try:
        for one in open_tails:
            assert (await anext(one))["event"] == "next"
        refused, _ = await told(tidewaiter, acme.owner, **{"from": 0})
        assert refused["data"]["errors"][0]["extensions"]["code"] == "TOO_MANY_FOLLOWERS"
        assert (await world.entries(acme))[0].told == ("audit.follow", "DENIED", acme.owner.name)
    finally:
        for one in open_tails:
            await one.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(SECONDS):  # and once they are gone there is room again
        while True:
            async with aclosing(tail(tidewaiter, acme.owner, **{"from": 0})) as events:
                if "errors" not in (await anext(events))["data"]:
                    break


async def test_a_subscription_is_served_as_events_only(tidewaiter: Server, acme: Tenant) -> None:
    owner = acme.owner
    answer = await tidewaiter.graphql("subscription { auditTail { index } }", {}, owner.name, owner.password)
    assert "text/event-stream" in answer["errors"][0]["message"]


async def test_a_query_is_answered_as_ever_by_who_would_take_events_too(tidewaiter: Server, acme: Tenant) -> None:
    """Clients send one header for all they do."""
    headers = {"Accept": "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"}
    async with httpx2.AsyncClient(
        base_url=tidewaiter.url, auth=(acme.owner.name, acme.owner.password), verify=False
    ) as client:
        answer = await client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
    assert answer.headers["content-type"].startswith("application/graphql-response+json")
    assert answer.json() == {"data": {"__typename": "Query"}}


async def test_a_server_that_stops_ends_its_tails(short_path: Path) -> None:
    with serving(short_path) as server:
        events = tail(server, Person("admin", server.admin_password), **{"from": 0})
        assert (await anext(events))["event"] == "next"
        stopped = asyncio.create_task(asyncio.to_thread(server.stop))
        async with asyncio.timeout(SECONDS):
            rest = [event async for event in events]
        assert rest[-1]["event"] == "complete"
        assert await stopped == 0


async def test_who_has_seen_nothing_yet_goes_on_without_loss(tidewaiter: Server, acme: Tenant) -> None:
    """The place comes with the first sign of life, and whatever was gone through in vain counts as seen."""
    await repositories(acme, "before")
    place = await first_place(tidewaiter, acme.owner)
    await repositories(acme, "while-away", "and-another")
    found = await take(tidewaiter, acme.owner, 2, last=place, filter={"action": "repository.create"})
    assert [entry["target"].rpartition("/")[2] for entry in found] == ["while-away", "and-another"]


async def first_place(tidewaiter: Server, by: Person) -> int:
    """The id that stands in the stream before any event does."""
    wanted = {"filter": {"action": "repository.create"}}
    async with (
        asyncio.timeout(SECONDS),
        httpx2.AsyncClient(
            base_url=tidewaiter.url, auth=(by.name, by.password), timeout=SECONDS, verify=False
        ) as client,
        client.stream(
            "POST", "/graphql", json={"query": TAIL, "variables": wanted}, headers={"Accept": "text/event-stream"}
        ) as answer,
    ):
        async for line in answer.aiter_lines():
            assert not line.startswith("event:"), line
            if line.startswith("id:"):
                return int(line.partition(":")[2])
    raise AssertionError("the stream ended without a place")
