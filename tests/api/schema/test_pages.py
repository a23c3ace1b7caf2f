"""Every list in pages: forward, backward, while rows come and go, and what is no page."""

import base64
import secrets
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, Cast, ask, change, code_of
from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Tenant

PAGE = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { %s } } nodes { %s }"
ARGUMENTS = "$first: Int, $last: Int, $after: String, $before: String"
GIVEN = "first: $first, last: $last, after: $after, before: $before"
LISTS = {
    "accounts": ("accounts({given}) {{ {page} }}", "name"),
    "users": ('account(name: "{account}") {{ users({given}) {{ {page} }} }}', "name"),
    "organizations": ("organizations({given}) {{ {page} }}", "name"),
    "repositories": ('repositories({given}, filter: {{organization: "{organization}"}}) {{ {page} }}', "name"),
    "repositories by time": (
        'repositories({given}, filter: {{organization: "{organization}"}},'
        " orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ {page} }}",
        "name",
    ),
    "repositories of an organization": (
        'organization(name: "{organization}") {{ repositories({given}) {{ {page} }} }}',
        "name",
    ),
    "tags": ('repository(organization: "{organization}", name: "a") {{ tags({given}) {{ {page} }} }}', "name"),
    "manifests": (
        'repository(organization: "{organization}", name: "a") {{ manifests({given}) {{ {page} }} }}',
        "digest",
    ),
    "auditLog": ('auditLog({given}, filter: {{account: "{account}", action: "user.create"}}) {{ {page} }}', "target"),
}


@pytest.fixture(scope="session")
async def long(tidewaiter: Server) -> Tenant:
    """A tenant that has five of everything."""
    tenant = await world.tenant(tidewaiter, "long")
    for name in "bcde":
        await change(tidewaiter, "createOrganization", tenant.owner, name=f"{tenant.organization}-{name}")
        given = {"account": tenant.account, "name": f"{tenant.account}-{name}", "password": "a password of ours"}
        await change(tidewaiter, "createUser", tenant.owner, **given)
        await world.repository(tenant, name)
    async with knocking(tidewaiter, tenant.owner) as door:
        for number in range(5):
            await door.push_image(f"{tenant.organization}/a", f"{number}.0", secrets.token_bytes(10))
    return tenant


def query_of(kind: str, tenant: Tenant) -> str:
    text, key = LISTS[kind]
    names = {"account": tenant.account, "organization": tenant.organization}
    return f"query({ARGUMENTS}) {{ {text.format(given=GIVEN, page=PAGE % (key, key), **names)} }}"


async def page_of(tidewaiter: Server, kind: str, tenant: Tenant, **given: Any) -> Any:
    by = ADMIN if kind == "accounts" else tenant.owner
    found = await ask(tidewaiter, query_of(kind, tenant), by, **given)
    while "pageInfo" not in found:
        (found,) = found.values()
    key = LISTS[kind][1]
    assert [edge["node"] for edge in found["edges"]] == found["nodes"]
    ends = [edge["cursor"] for edge in found["edges"]][:: max(len(found["edges"]) - 1, 1)] or [None]
    assert (found["pageInfo"]["startCursor"], found["pageInfo"]["endCursor"]) == (ends[0], ends[-1])
    return [node[key] for node in found["nodes"]], found["pageInfo"]


async def walk(tidewaiter: Server, kind: str, tenant: Tenant, size: int, *, backward: bool = False) -> list[str]:
    """Every entry of a list, as its pages bring them."""
    entries: list[str] = []
    cursor = None
    while True:
        given = {"last": size, "before": cursor} if backward else {"first": size, "after": cursor}
        found, info = await page_of(tidewaiter, kind, tenant, **given)
        entries = found + entries if backward else entries + found
        more, cursor = (
            (info["hasPreviousPage"], info["startCursor"]) if backward else (info["hasNextPage"], info["endCursor"])
        )
        if not more:
            return entries
        assert len(found) == size


@pytest.mark.parametrize("kind", LISTS)
async def test_pages_meet_every_entry_once_in_both_directions(tidewaiter: Server, long: Tenant, kind: str) -> None:
    size = 7 if kind == "accounts" else 2
    whole = await walk(tidewaiter, kind, long, 100)
    assert len(whole) == len(set(whole)) >= (2 if kind == "accounts" else 5)
    assert await walk(tidewaiter, kind, long, size) == whole
    assert await walk(tidewaiter, kind, long, size, backward=True) == whole
    if "time" not in kind and kind not in {"manifests", "auditLog"}:
        assert whole == sorted(whole)


async def test_the_latest_comes_first(tidewaiter: Server, long: Tenant) -> None:
    for kind in ("auditLog", "repositories by time"):
        assert (await page_of(tidewaiter, kind, long, first=1))[0] == (await walk(tidewaiter, kind, long, 100))[:1]
    assert (await page_of(tidewaiter, "repositories by time", long, first=1))[0] == ["a"]
    assert (await page_of(tidewaiter, "auditLog", long, first=1))[0] == [f"{long.account}-e"]


async def test_a_page_between_two_cursors(tidewaiter: Server, long: Tenant) -> None:
    found, info = await page_of(tidewaiter, "repositories", long, first=1)
    _, end = await page_of(tidewaiter, "repositories", long, last=1)
    between = {"after": info["endCursor"], "before": end["startCursor"]}
    assert found == ["a"]
    assert (await page_of(tidewaiter, "repositories", long, first=10, **between))[0] == ["b", "c", "d"]
    assert (await page_of(tidewaiter, "repositories", long, last=2, **between))[0] == ["c", "d"]


async def test_an_empty_page_behind_the_end(tidewaiter: Server, long: Tenant) -> None:
    _, end = await page_of(tidewaiter, "repositories", long, last=1)
    found, info = await page_of(tidewaiter, "repositories", long, first=5, after=end["endCursor"])
    assert found == []
    assert info == {"hasNextPage": False, "hasPreviousPage": True, "startCursor": None, "endCursor": None}


@pytest.mark.parametrize("backward", [False, True])
async def test_pages_stay_right_while_entries_come_and_go(tidewaiter: Server, backward: bool) -> None:
    """What stands from beginning to end is met exactly once, whatever is made and deleted on the way."""
    tenant = await world.tenant(tidewaiter, "moving")
    for name in ("b", "d", "f", "h"):
        await world.repository(tenant, name)
    size, side = ("last", "startCursor") if backward else ("first", "endCursor")
    seen, info = await page_of(tidewaiter, "repositories", tenant, **{size: 2})
    assert seen == (["f", "h"] if backward else ["b", "d"])
    for name in (seen[0], seen[1]):  # the cursor's own row as well
        await change(tidewaiter, "deleteRepository", tenant.owner, organization=tenant.organization, name=name)
    for name in ("a", "c", "e", "g", "i"):
        await world.repository(tenant, name)
    cursor = {"before" if backward else "after": info[side]}
    rest, _ = await page_of(tidewaiter, "repositories", tenant, **{size: 10}, **cursor)
    assert rest == (["a", "b", "c", "d", "e"] if backward else ["e", "f", "g", "h", "i"])


@pytest.mark.parametrize("kind", LISTS)
async def test_what_is_no_page(tidewaiter: Server, long: Tenant, kind: str) -> None:
    query, by = query_of(kind, long), ADMIN if kind == "accounts" else long.owner
    for wrong in (
        {"first": 0},
        {"first": -1},
        {"first": 101},
        {"last": 0},
        {"last": 2**31 - 1},
        {"first": 1, "last": 1},
    ):
        assert await code_of(tidewaiter, query, by, **wrong) == "PAGE_SIZE_OUT_OF_RANGE", wrong


def written(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


FORGED = [
    "",
    "x",
    "!!!",
    "ü",
    "W" * 3000,
    written(b"[]"),
    written(b"[1]"),
    written(b'{"a":1}'),
    written(b'[2,"NAME","a"]'),
    written(b'[1,"NAME"]'),
    written(b'[1,"OTHER","a"]'),
    written(b'[1,"NAME",5]'),
    written(b'[1,"NAME",null]'),
    written(b'[1,"NAME","a","b","c"]'),
    written(b'[1,"NAME",{"a":1}]'),
    written(b'[1,"NAME","\\u0000"]'),
    written(b'[1,"NAME","\\ud800"]'),
    written(b'[1,"NEWEST","x","y"]'),
    written(b'[1,"NEWEST","2026-01-01T00:00:00Z",99999999999999999999]'),
    written(b'[1,"NEWEST","0001-01-01T00:00:00+23:59",1]'),
    written(b"[" * 5000),
]


@pytest.mark.parametrize("kind", LISTS)
async def test_cursors_that_no_list_made(tidewaiter: Server, long: Tenant, kind: str) -> None:
    query, by = query_of(kind, long), ADMIN if kind == "accounts" else long.owner
    for number, cursor in enumerate(FORGED):
        side = "after" if number % 2 else "before"
        assert await code_of(tidewaiter, query, by, **{side: cursor}) == "INVALID_CURSOR", cursor


async def test_a_cursor_of_another_order(tidewaiter: Server, long: Tenant) -> None:
    _, info = await page_of(tidewaiter, "repositories by time", long, first=1)
    query = query_of("repositories", long)
    assert await code_of(tidewaiter, query, long.owner, after=info["endCursor"]) == "INVALID_CURSOR"


async def test_a_cursor_shows_no_more_than_its_bearer_may_see(tidewaiter: Server, long: Tenant, cast: Cast) -> None:
    _, info = await page_of(tidewaiter, "repositories", long, first=1)
    query = query_of("repositories", long)
    found = await ask(tidewaiter, query, cast.other.owner, after=info["endCursor"])
    assert found["repositories"]["nodes"] == []


async def test_a_count_is_of_what_its_reader_sees(tidewaiter: Server, long: Tenant, cast: Cast) -> None:
    query = """
        query($name: String!) { repositories(filter: {organization: $name}, first: 2) { totalCount nodes { name } } }
    """
    mine = (await ask(tidewaiter, query, long.owner, name=long.organization))["repositories"]
    assert (mine["totalCount"], len(mine["nodes"])) == (5, 2)
    theirs = (await ask(tidewaiter, query, cast.other.owner, name=long.organization))["repositories"]
    assert theirs == {"totalCount": 0, "nodes": []}
