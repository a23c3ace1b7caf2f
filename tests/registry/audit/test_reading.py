"""Reading the log: what is asked for, page by page, by those who may."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from registry.actors import ANONYMOUS, SYSTEM, Origin
from registry.audit import reading
from registry.audit.filtering import EntryFilter
from registry.events import Event, Outcome
from tests.support import world
from tests.support.books import address_of, in_process, new_database, opened
from tests.support.handmade import Door, knocking
from tests.support.server import Server
from tests.support.world import Person, Tenant

QUERY = """
    query($filter: AuditFilter, $first: Int, $last: Int, $after: String, $before: String) {
        auditLog(filter: $filter, first: $first, last: $last, after: $after, before: $before) {
            nodes {
                id index time action outcome reasonCode reason actor { kind name accessKey } client source target
                digest sizeBytes changes requestId leafHash
            }
            pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        }
    }
"""
Node = dict[str, Any]


async def page(tidewaiter: Server, who: Person | None, **asked: Any) -> tuple[list[Node], dict[str, Any]]:
    """One page, as one reads it, or as the administrator."""
    signed_in = {} if who is None else {"user": who.name, "password": who.password}
    answer = await tidewaiter.graphql(QUERY, asked, **signed_in)
    assert not answer.get("errors"), answer
    return answer["data"]["auditLog"]["nodes"], answer["data"]["auditLog"]["pageInfo"]


async def whole(
    tidewaiter: Server, who: Person | None, filter: dict[str, Any] | None = None, size: int = 100
) -> list[Node]:
    """Page after page, newest first, without what the asking itself leaves."""
    nodes, after, more = list[Node](), None, True
    while more:
        found, info = await page(tidewaiter, who, filter=filter, first=size, after=after)
        nodes += found
        after, more = info["endCursor"], info["hasNextPage"]
    return told(nodes)


def told(nodes: list[Node]) -> list[Node]:
    return [node for node in nodes if (node["action"], node["outcome"]) != ("audit.read", "ALLOWED")]


async def refused(tidewaiter: Server, who: Person | None, filter: dict[str, Any] | None = None) -> str:
    """The code of the refusal."""
    signed_in = {"user": ""} if who is None else {"user": who.name, "password": who.password}
    answer = await tidewaiter.graphql(QUERY, {"filter": filter}, **signed_in)
    return str(answer["errors"][0]["extensions"]["code"])


@pytest.fixture(scope="module")
async def acme(tidewaiter: Server) -> Tenant:
    """A tenant with some history: pushes, pulls, a refused push, a failed change."""
    acme = await world.tenant(tidewaiter, "reading")
    reader = await world.user(acme, "reader", level="READ")
    for name in ("web", "web_old", "web2"):
        await world.repository(acme, name)
    async with knocking(tidewaiter, acme.owner) as door:
        for tag in ("1.0", "2.0"):
            await door.push_image(f"{acme.organization}/web", tag, tag.encode())
        await door.push_image(f"{acme.organization}/web_old", "1.0", b"old")
    async with knocking(tidewaiter, reader) as door:
        for tag in ("1.0", "2.0", "absent"):
            await door.get(f"/v2/{acme.organization}/web/manifests/{tag}")
        assert (await door.push_blob(f"{acme.organization}/web", b"more")).status_code == 403
    return acme


@pytest.mark.parametrize(
    ("field", "value", "holds", "found"),
    [
        ("action", "image.pull", lambda node, value: node["action"] == value, True),
        ("action", "image.*", lambda node, value: node["action"].startswith("image."), True),
        ("action", "*", lambda *_: True, True),
        ("action", "image", lambda *_: False, False),
        ("action", "image_*", lambda *_: False, False),
        ("action", "%", lambda *_: False, False),
        ("target", "{organization}/web:1.0", lambda node, value: node["target"] == value, True),
        ("target", "{organization}/web*", lambda node, value: node["target"].startswith(value[:-1]), True),
        ("target", "{organization}/web_*", lambda node, value: "/web_old" in node["target"], True),
        ("target", "{organization}/w%", lambda *_: False, False),
        ("actor", "{account}-reader", lambda node, value: node["actor"]["name"] == value, True),
        ("outcome", "DENIED", lambda node, value: node["outcome"] == value, True),
        ("outcome", "FAILED", lambda node, value: node["outcome"] == value, True),
        ("outcome", "ALLOWED", lambda node, value: node["outcome"] == value, True),
        ("source", "127.0.0.1", lambda node, value: node["source"] == value, True),
        ("source", "192.0.2.1", lambda *_: False, False),
    ],
)
async def test_a_filter_gives_what_holds_and_nothing_else(
    tidewaiter: Server, acme: Tenant, field: str, value: str, holds: Callable[[Node, str], bool], found: bool
) -> None:
    value = value.format(organization=acme.organization, account=acme.account)
    everything = await whole(tidewaiter, acme.owner)
    wanted = [node for node in everything if holds(node, value)]
    assert await whole(tidewaiter, acme.owner, {field: value}) == wanted
    assert await whole(tidewaiter, None, {field: value, "account": acme.account}) == wanted
    assert bool(wanted) == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", "rubbish"),
        ("source", ""),
        ("source", "127.0.0.0/8"),
        ("source", "127.0.0.*"),
        ("actor", "adm*"),
        ("action", "*pull"),
        ("action", "image.**"),
        ("target", "*hull*"),
        ("target", "ships/*:1.0"),
        ("reason", "a*b"),
        ("reason", "***"),
    ],
)
async def test_a_filter_that_no_entry_could_hold_is_refused_and_not_answered_with_nothing(
    tidewaiter: Server, acme: Tenant, field: str, value: str
) -> None:
    """Whether it is numbered or not. The entry of the refusal quotes nothing, since that may tell of a person."""
    for state in (None, "PENDING"):
        asked = {"filter": {field: value, "state": state}}
        answer = await tidewaiter.graphql(QUERY, asked, acme.owner.name, acme.owner.password)
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "FILTER_INVALID"
        assert error["extensions"]["path"] == ["filter", field]
    (newest, *_), _ = await page(tidewaiter, acme.owner, filter={"action": "audit.read", "outcome": "FAILED"})
    assert newest["reasonCode"] == "FILTER_INVALID"
    assert value not in newest["reason"].replace("`*`", "") or not value


async def test_an_address_is_found_however_it_is_written(tidewaiter: Server, tmp_path: Path) -> None:
    written = Origin(source="2001:db8::a")
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        at = system.foundation.clock.now()
        happened = Event(at, "test.happen", Outcome.ALLOWED, ANONYMOUS, written, "acme/web")
        await system.foundation.ledger.append(happened)
        await system.foundation.ledger.catch_up()
        for source in ("2001:db8::a", "2001:DB8:0::000A"):
            async with system.foundation.view(SYSTEM, Origin()) as work:
                statements = await reading.entries_of(work, EntryFilter(source=source), None)
                assert len(await work.fetch(reading.first_of(statements, limit=9, newest=True))) == 1, source


async def test_all_of_a_filter_must_hold(tidewaiter: Server, acme: Tenant) -> None:
    both = {"actor": f"{acme.account}-reader", "action": "image.*", "outcome": "DENIED"}
    (node,) = await whole(tidewaiter, acme.owner, both)
    assert (node["action"], node["target"], node["reasonCode"]) == ("image.push", f"{acme.organization}/web", "DENIED")
    assert "you hold READ" in node["reason"]
    (same,) = await whole(tidewaiter, acme.owner, {"requestId": node["requestId"]})
    assert same == node
    (failed,) = await whole(tidewaiter, acme.owner, both | {"outcome": "FAILED"})
    assert (failed["action"], failed["target"]) == ("image.pull", f"{acme.organization}/web:absent")


async def test_an_instant_belongs_to_what_begins_with_it(tidewaiter: Server, acme: Tenant) -> None:
    everything = await whole(tidewaiter, acme.owner)
    middle = everything[len(everything) // 2]["time"]
    later = await whole(tidewaiter, acme.owner, {"since": middle})
    earlier = await whole(tidewaiter, acme.owner, {"until": middle})
    assert later + earlier == everything
    assert later[-1]["time"] == middle
    assert await whole(tidewaiter, acme.owner, {"since": middle, "until": middle}) == []


# Pages


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


async def test_pages_stay_as_they_were_while_entries_arrive(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    before = await whole(tidewaiter, acme.owner)
    found, info = await page(tidewaiter, acme.owner, first=4)
    newest, pages = info["startCursor"], 1
    while info["hasNextPage"]:
        # One entry more between any two pages.
        assert (await door.get(f"/v2/{acme.organization}/web/manifests/1.0")).status_code == 200
        nodes, info = await page(tidewaiter, acme.owner, first=4, after=info["endCursor"])
        found, pages = found + nodes, pages + 1
    assert told(found) == before
    assert pages >= len(before) / 4
    arrived, info = await page(tidewaiter, acme.owner, last=100, before=newest)
    assert [node["action"] for node in told(arrived)] == ["image.pull"] * (pages - 1)
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (True, False)
    assert await whole(tidewaiter, acme.owner) == told(arrived) + before


async def test_newest_first_and_numbers_in_step(tidewaiter: Server, acme: Tenant) -> None:
    everything = await whole(tidewaiter, acme.owner, size=7)
    times = [node["time"] for node in everything]
    assert times == sorted(times, reverse=True)
    assert len({node["index"] for node in everything}) == len(everything)


# Who may


async def test_owners_read_their_account_and_no_other(tidewaiter: Server, acme: Tenant) -> None:
    other = await world.tenant(tidewaiter, "other")
    ours, theirs = [await whole(tidewaiter, one.owner) for one in (acme, other)]
    assert {node["id"] for node in ours}.isdisjoint(node["id"] for node in theirs)
    assert await refused(tidewaiter, other.owner, {"account": acme.account}) == "NOT_FOUND"
    # No word of the target, the actor or the request helps to see what is another's.
    for hint in ({"target": f"{acme.organization}*"}, {"requestId": ours[0]["requestId"]}):
        assert await whole(tidewaiter, other.owner, hint) == []


@pytest.mark.parametrize("level", [None, "READ", "WRITE", "MANAGE"])
async def test_who_does_not_own_the_account_reads_nothing(tidewaiter: Server, acme: Tenant, level: str | None) -> None:
    person = await world.user(acme, f"curious-{str(level).lower()}", level=level)
    for filter in (None, {"account": acme.account}, {"account": "admin"}):
        assert await refused(tidewaiter, person, filter) in {"DENIED", "NOT_FOUND"}
    looks = await whole(tidewaiter, acme.owner, {"actor": person.name})
    assert [(node["action"], node["outcome"]) for node in looks] == [("audit.read", "DENIED")] * 2


async def test_nobody_reads_nothing(tidewaiter: Server, acme: Tenant) -> None:
    for filter in (None, {"account": acme.account}):
        assert await refused(tidewaiter, None, filter) in {"SIGN_IN_NEEDED", "DENIED", "NOT_FOUND"}


async def test_platform_administrators_read_all_and_each(tidewaiter: Server, acme: Tenant) -> None:
    ours = await whole(tidewaiter, acme.owner)
    assert await whole(tidewaiter, None, {"account": acme.account}) == ours
    assert await whole(tidewaiter, None, {"target": ours[0]["target"], "requestId": ours[0]["requestId"]}) == ours[:1]
    nodes, _ = await page(tidewaiter, None, first=100)
    assert len({node["actor"]["name"] for node in nodes}) > 1


async def test_one_entry_by_its_id_for_those_who_may_read_it(tidewaiter: Server, acme: Tenant) -> None:
    other = await world.tenant(tidewaiter, "other")
    (node, *_) = await whole(tidewaiter, acme.owner)
    query = "query($id: ID!) { node(id: $id) { id ... on AuditEntry { action target } } }"
    for who, seen in ((acme.owner, True), (None, True), (other.owner, False)):
        signed_in = {} if who is None else {"user": who.name, "password": who.password}
        answer = await tidewaiter.graphql(query, {"id": node["id"]}, **signed_in)
        found = (answer.get("data") or {}).get("node")
        assert (found is not None and found["target"] == node["target"]) == seen, answer


async def test_a_repository_that_is_called_like_the_stand_in_for_a_user_is_shown_and_found_as_it_is_called(
    tidewaiter: Server,
) -> None:
    acme = await world.tenant(tidewaiter, "likeness")
    async with opened(address_of(tidewaiter)) as books:
        user_id = await books.fetchval("SELECT id FROM users WHERE name = $1", acme.owner.name)
    await world.repository(acme, f"user_{user_id.hex}")
    expected = f"{acme.organization}/user_{user_id.hex}"
    assert (await world.entries(acme))[0].target == expected
    query = "query($target: String) { auditLog(filter: {target: $target}) { nodes { target } } }"
    found = await tidewaiter.graphql(query, {"target": expected}, acme.owner.name, acme.owner.password)
    assert found["data"]["auditLog"]["nodes"] == [{"target": expected}]
