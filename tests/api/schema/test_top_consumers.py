"""Who uses the most, as each of those who may ask sees it; and who may not ask for that or for a history."""

import secrets
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.api.schema.asking import DONE, Cast, ask, change, code_of
from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import knocking, manifest_of
from tests.support.images import payload
from tests.support.server import Server
from tests.support.world import Person, Tenant

TOP = """
    query($scope: QuotaScope!, $key: QuotaKey!, $first: Int! = 10) {
        topConsumers(scope: $scope, key: $key, first: $first) {
            organizations { ...all } repositories { ...all } tags { ...all } users { ...all }
        }
    }
    fragment all on Consumer { id name value deleted }
"""
USAGE = """
    query($scope: QuotaScope!) {
        usage(scope: $scope, key: STORAGE_BYTES, from: "2026-01-01", to: "2026-01-02") { points { value } fullInDays }
    }
"""
EMPTY = {"organizations": [], "repositories": [], "tags": [], "users": []}


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "top")


@pytest.fixture
async def books(tidewaiter: Server) -> AsyncIterator[asyncpg.Connection]:
    async with opened(address_of(tidewaiter)) as connection:
        yield connection


async def top(
    acme: Tenant, key: str, by: Person | None = None, first: int = 10, **scope: str
) -> dict[str, list[tuple[str, int]]]:
    """The names and values of each list."""
    scope = scope or {"organization": acme.organization}
    found = (await whole(acme, key, by, first, **scope)).items()
    return {kind: [(one["name"], one["value"]) for one in rows] for kind, rows in found}


async def whole(acme: Tenant, key: str, by: Person | None = None, first: int = 10, **scope: str) -> dict[str, Any]:
    asked = {"scope": scope, "key": key, "first": first}
    found: dict[str, Any] = (await ask(acme.tidewaiter, TOP, by or acme.owner, **asked))["topConsumers"]  # type: ignore[arg-type]
    return found


async def push(acme: Tenant, repository: str, tag: str, *layers: bytes, by: Person | None = None) -> int:
    """The size of the manifest."""
    async with knocking(acme.tidewaiter, by or acme.owner) as door:  # type: ignore[arg-type]
        return len(await door.push_image(f"{acme.organization}/{repository}", tag, *layers))


async def test_storage_of_an_organization_by_repository_tag_and_user(acme: Tenant) -> None:
    pusher = await world.user(acme, "pusher", "WRITE")
    shared, own = payload("shared", 5000), payload("own", 3000)
    size = await push(acme, "web", "1.0", shared)
    other = await push(acme, "web", "2.0", shared, own)
    await push(acme, "api", "1.0", shared, by=pusher)
    found = await top(acme, "STORAGE_BYTES")
    assert found == {
        "organizations": [],
        "repositories": [("web", 8000 + 2 + size + other), ("api", 5000 + 2 + size)],
        "tags": [("web:2.0", 8000 + 2 + other), ("api:1.0", 5000 + 2 + size), ("web:1.0", 5000 + 2 + size)],
        "users": [(acme.owner.name, 8000 + 2 + size + other), (pusher.name, 5000 + 2 + size)],
    }
    assert await top(acme, "STORAGE_BYTES", first=1) == {kind: rows[:1] for kind, rows in found.items()}
    spot = {"organization": acme.organization, "repository": "web"}
    assert await top(acme, "STORAGE_BYTES", **spot) == {
        "organizations": [],
        "repositories": [],
        "tags": [("2.0", 8000 + 2 + other), ("1.0", 5000 + 2 + size)],
        "users": [(acme.owner.name, 8000 + 2 + size + other)],
    }


async def test_storage_of_an_account_by_organization(acme: Tenant) -> None:
    """What two organizations hold counts in both, also for who pushed it."""
    second = f"{acme.organization}-two"
    await change(acme.tidewaiter, "createOrganization", acme.owner, name=second)  # type: ignore[arg-type]
    size = await push(acme, "web", "1.0", payload("layer", 5000))
    await push(acme, "api", "1.0", payload("layer", 5000))
    async with knocking(acme.tidewaiter, acme.owner) as door:  # type: ignore[arg-type]
        await door.push_image(f"{second}/web", "1.0", payload("layer", 5000))
    total = 5000 + 2 + size
    assert await top(acme, "STORAGE_BYTES", account=acme.account) == {
        "organizations": [(acme.organization, total), (second, total)],
        "repositories": [
            (f"{second}/web", total),
            (f"{acme.organization}/api", total),
            (f"{acme.organization}/web", total),
        ],
        "tags": [],
        "users": [(acme.owner.name, 2 * total)],
    }


async def test_other_keys_by_what_makes_sense(acme: Tenant) -> None:
    other = await world.tenant(acme.tidewaiter, "receiver")  # type: ignore[arg-type]
    for repository, tags in (("web", ("1.0", "2.0")), ("api", ("1.0",))):
        for tag in tags:
            await push(acme, repository, tag, payload("layer", 10))
    await world.share(acme, "web", other, 3600)
    for name in ("one", "two"):
        await change(acme.tidewaiter, "createAccessKey", acme.owner, name=name, level="READ")  # type: ignore[arg-type]
    owner, account = acme.owner.name, {"account": acme.account}
    assert await top(acme, "TAGS") == EMPTY | {"repositories": [("web", 2), ("api", 1)], "users": [(owner, 3)]}
    assert await top(acme, "REPOSITORIES") == EMPTY | {"users": [(owner, 2)]}
    assert await top(acme, "REPOSITORIES", **account) == EMPTY | {
        "organizations": [(acme.organization, 2)],
        "users": [(owner, 2)],
    }
    assert await top(acme, "ACCESS_TOKENS", **account) == EMPTY | {"users": [(owner, 2)]}
    assert await top(acme, "SHARES", **account) == EMPTY | {"repositories": [(f"{acme.organization}/web", 1)]}
    assert await top(acme, "USERS", **account) == EMPTY


async def test_what_holds_nothing_names_nobody(acme: Tenant) -> None:
    for key in ("STORAGE_BYTES", "TAGS", "REPOSITORIES", "EGRESS_BYTES", "PULLS"):
        assert await top(acme, key) == EMPTY


# Traffic


@pytest.fixture
async def pulled(tidewaiter: Server, acme: Tenant, books: asyncpg.Connection) -> Person:
    """The organization's images have been pulled, by its owner, by nobody, and by this stranger; one repository and one
    tag are gone since, and what was pulled a year ago does not count."""
    stranger = (await world.tenant(tidewaiter, "stranger")).owner
    await push(acme, "web", "1.0", b"a layer")
    users = [await books.fetchval("SELECT id FROM users WHERE name = $1", one.name) for one in (acme.owner, stranger)]
    web = await books.fetchval(
        "SELECT r.id FROM repository r JOIN organization o ON o.id = r.organization_id WHERE o.name = $1",
        acme.organization,
    )
    owner, other, nobody, gone = *users, UUID(int=0), uuid4()
    month = tidewaiter.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    before = month.replace(year=month.year - 1)
    rows = [
        (month, web, "1.0", owner, 5, 500), (month, web, "1.0", nobody, 2, 200), (month, web, "2.0", other, 4, 40),
        (month, web, "", other, 1, 4000), (month, gone, "1.0", nobody, 7, 70), (before, web, "1.0", owner, 99, 9999),
    ]  # fmt: skip
    organization = await books.fetchval("SELECT id FROM organization WHERE name = $1", acme.organization)
    await books.executemany(
        "INSERT INTO traffic_hour VALUES ($1, $2, $3, $4, $5, $6, $7)", [(organization, *row) for row in rows]
    )
    return stranger


async def test_traffic_of_this_month_with_what_is_gone(acme: Tenant, pulled: Person) -> None:
    owner, org = acme.owner.name, acme.organization
    assert await top(acme, "PULLS") == {
        "organizations": [],
        "repositories": [("web", 12), ("(deleted)", 7)],
        "tags": [("(deleted):1.0", 7), ("web:1.0", 7), ("web:2.0", 4)],
        "users": [("(anonymous)", 9), (pulled.name, 5), (owner, 5)],
    }
    assert await top(acme, "EGRESS_BYTES", account=acme.account) == {
        "organizations": [(org, 4810)],
        "repositories": [(f"{org}/web", 4740), (f"{org}/(deleted)", 70)],
        "tags": [],
        "users": [(pulled.name, 4040), (owner, 500), ("(anonymous)", 270)],
    }
    found = await whole(acme, "PULLS", organization=org)
    gone = {kind: [one["name"] for one in rows if one["deleted"]] for kind, rows in found.items()}
    assert gone == EMPTY | {"repositories": ["(deleted)"], "tags": ["(deleted):1.0", "web:2.0"]}
    assert [one["id"] is None for one in found["tags"] + found["users"]] == [True, True, True, True, False, False]


async def test_a_manager_is_not_told_the_names_of_other_accounts_users(acme: Tenant, pulled: Person) -> None:
    manager = await world.user(acme, "manager", "MANAGE")
    found = await whole(acme, "PULLS", by=manager, organization=acme.organization)
    assert [(one["name"], one["value"]) for one in found["users"]] == [
        ("(anonymous)", 9),
        ("(other accounts)", 5),
        (acme.owner.name, 5),
    ]
    assert pulled.name not in str(found)
    assert found["users"][1]["id"] is None


async def test_real_pulls_are_those_of_who_pulled(tidewaiter: Server, acme: Tenant) -> None:
    reader = await world.user(acme, "reader", "READ")
    await push(acme, "web", "1.0", b"a layer")
    async with knocking(tidewaiter, reader) as door:
        for _ in range(3):
            assert (await door.get(f"/v2/{acme.organization}/web/manifests/1.0")).status_code == 200
    assert await top(acme, "PULLS") == {
        "organizations": [],
        "repositories": [("web", 3)],
        "tags": [("web:1.0", 3)],
        "users": [(reader.name, 3)],
    }
    assert (await top(acme, "EGRESS_BYTES"))["tags"] == [("web:1.0", 3 * len(manifest_of(b"{}", b"a layer")))]


# Who may ask, and for what


@pytest.mark.parametrize("query", [USAGE, TOP.replace("$key: QuotaKey!, ", "").replace("$key", "STORAGE_BYTES")])
async def test_who_may_see_them(tidewaiter: Server, cast: Cast, query: str) -> None:
    where = {"organization": cast.acme.organization, "repository": f"web-{secrets.token_hex(4)}"}
    await world.repository(cast.acme, where["repository"])
    scopes: dict[str, dict[str, Any]] = {
        "account": {"account": cast.acme.account},
        "organization": {"organization": cast.acme.organization},
        "repository": where,
        "none": {"organization": "nowhere"},
    }
    who = {
        kind: {role: await code_of(tidewaiter, query, person, scope=scope) for role, person in cast.everybody.items()}
        for kind, scope in scopes.items()
    }
    hidden = {"nobody": "NOT_FOUND", "stranger": "NOT_FOUND"}
    members = {"colleague": "DENIED", "reader": "DENIED", "writer": "DENIED", "manager": "DENIED"}
    assert who["account"] == hidden | members | {"owner": DONE, "admin": DONE}
    levels = {"reader": "DENIED", "writer": "DENIED", "manager": DONE, "owner": DONE, "admin": DONE}
    assert who["organization"] == hidden | {"colleague": "NOT_FOUND"} | levels
    assert who["repository"] == hidden | {"colleague": "NOT_FOUND"} | dict.fromkeys(levels, DONE)
    assert who["none"] == dict.fromkeys(cast.everybody, "NOT_FOUND")


@pytest.mark.parametrize(
    ("first", "scope", "key", "code"),
    [
        (0, "organization", "TAGS", "PAGE_SIZE_OUT_OF_RANGE"),
        (101, "organization", "TAGS", "PAGE_SIZE_OUT_OF_RANGE"),
        (100, "organization", "TAGS", DONE),
        (10, "organization", "USERS", "LIMIT_INVALID"),
        (10, "account", "TAGS", "LIMIT_INVALID"),
        (10, "account", "PULLS", DONE),
    ],
)
async def test_what_can_be_asked_for(
    tidewaiter: Server, acme: Tenant, first: int, scope: str, key: str, code: str
) -> None:
    asked = {"scope": {scope: acme.account}, "key": key, "first": first}
    assert await code_of(tidewaiter, TOP, acme.owner, **asked) == code
