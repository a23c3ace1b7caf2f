"""Reading quotas and setting limits: who may, and what is said."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support import log, world
from tests.support.books import address_of, opened
from tests.support.handmade import knocking
from tests.support.meters import QUOTAS, limit, meter, refusals, scope_of
from tests.support.server import Server
from tests.support.world import Person, Tenant

COUNTED = {
    "account": {
        "ORGANIZATIONS",
        "USERS",
        "ACCESS_TOKENS",
        "SHARES",
        "TRIGGERS",
        "REPOSITORIES",
        "STORAGE_BYTES",
    },
    "organization": {"REPOSITORIES", "TAGS", "STORAGE_BYTES", "EGRESS_BYTES", "PULLS"},
    "repository": {"TAGS", "STORAGE_BYTES"},
}


@pytest.fixture
async def acme(tidewaiter: Server) -> AsyncIterator[Tenant]:
    acme = await world.tenant(tidewaiter, "usage")
    await world.repository(acme, "web")
    yield acme


async def asked(acme: Tenant, kind: str, who: Person) -> dict[str, Any]:
    scope = {"scope": scope_of(acme, kind)}
    return await acme.tidewaiter.graphql(QUOTAS, scope, user=who.name, password=who.password)


@pytest.mark.parametrize("kind", COUNTED)
async def test_every_key_of_a_scope_is_told_whether_charged_or_not(acme: Tenant, kind: str) -> None:
    answer = await asked(acme, kind, acme.owner)
    assert {quota["key"] for quota in answer["data"]["quotas"]} == COUNTED[kind]
    for quota in answer["data"]["quotas"]:
        limited = quota["key"] == "ORGANIZATIONS"
        assert (quota["limit"] is not None, quota["percent"] is not None) == (limited, limited)


async def test_an_account_may_own_five_organizations_by_default(acme: Tenant) -> None:
    found = await meter(acme, "ORGANIZATIONS", "account")
    assert (found["limit"], found["used"], found["percent"], found["unit"]) == (5, 1, 20.0, "organizations")
    for number in range(4):
        assert await refusals(acme, "createOrganization", acme.owner, name=f"{acme.organization}-{number}") == []
    (error,) = await refusals(acme, "createOrganization", acme.owner, name=f"{acme.organization}-more")
    assert (error["code"], error["limit"], error["used"], error["requested"]) == ("QUOTA_EXCEEDED", 5, 5, 1)
    assert await refusals(acme, "deleteOrganization", acme.owner, name=f"{acme.organization}-0") == []
    assert await refusals(acme, "createOrganization", acme.owner, name=f"{acme.organization}-more") == []


@pytest.mark.parametrize(
    ("level", "seen"),
    [("READ", {"repository"}), ("WRITE", {"repository"}), ("MANAGE", {"repository", "organization"})],
)
async def test_managers_see_the_organization_and_readers_the_repository(
    acme: Tenant, level: str, seen: set[str]
) -> None:
    person = await world.user(acme, level.lower(), level=level)
    for kind in COUNTED:
        answer = await asked(acme, kind, person)
        assert (not answer.get("errors")) == (kind in seen), answer


async def test_strangers_see_nothing(tidewaiter: Server, acme: Tenant) -> None:
    other = await world.tenant(tidewaiter, "stranger")
    for kind in COUNTED:
        answer = await asked(acme, kind, other.owner)
        assert answer["errors"][0]["extensions"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("kind", COUNTED)
async def test_only_platform_administrators_set_limits(acme: Tenant, kind: str) -> None:
    (key,) = sorted(COUNTED[kind])[-1:]
    manager = await world.user(acme, "manager", level="MANAGE")
    for person in (acme.owner, manager):
        (error,) = await limit(acme, key, kind, 10**12, by=person)
        assert error["code"] == "DENIED"
        assert "only a platform administrator" in error["message"]
    assert (await meter(acme, key, kind))["limit"] is None
    assert await limit(acme, key, kind, 10**12) == []
    told = [entry.told for entry in await world.entries(acme) if entry.action == "quota.set"]
    refused = [("quota.set", "DENIED", person.name) for person in (manager, acme.owner)]
    assert told == [("quota.set", "ALLOWED", "admin"), *refused]


async def test_who_may_not_set_limits_hears_the_same_of_what_is_there_and_what_is_not(acme: Tenant) -> None:
    here = {"scope": {"organization": acme.organization}, "key": "STORAGE_BYTES", "limit": 1}
    nowhere = {**here, "scope": {"organization": "nobody-has-this"}}
    other = await world.tenant(acme.tidewaiter, "stranger")
    for given in (here, nowhere):
        (error,) = await refusals(acme, "setQuota", other.owner, **given)
        assert error["message"] == "Administering the platform was refused: only a platform administrator may do that."


async def test_a_limit_is_recorded_with_the_one_before(tidewaiter: Server, acme: Tenant) -> None:
    for most in (5, None, 7):
        assert await limit(acme, "TAGS", "repository", most) == []
    async with opened(address_of(tidewaiter)) as books:
        name = f"repository {acme.organization}/web TAGS"
        entries = await log.events(books, action="quota.set", target={"name": name})
    assert [entry["change"]["limit"] for entry in entries] == [[None, 5], [5, None], [None, 7]]


@pytest.mark.parametrize(
    ("scope", "key", "most", "code"),
    [
        ("account", "TAGS", 1, "LIMIT_INVALID"),
        ("organization", "ORGANIZATIONS", 1, "LIMIT_INVALID"),
        ("repository", "PULLS", 1, "LIMIT_INVALID"),
        ("organization", "STORAGE_BYTES", -1, "LIMIT_INVALID"),
        ("absent", "STORAGE_BYTES", 1, "NOT_FOUND"),
        ("two", "STORAGE_BYTES", 1, "LIMIT_INVALID"),
        ("none", "STORAGE_BYTES", 1, "LIMIT_INVALID"),
    ],
)
async def test_a_limit_that_cannot_be_meant_is_refused(
    acme: Tenant, scope: str, key: str, most: int, code: str
) -> None:
    odd = {
        "absent": {"organization": "nobody-has-this"},
        "two": {"account": acme.account, "organization": acme.organization},
        "none": {},
    }
    given = odd[scope] if scope in odd else scope_of(acme, scope)
    (error,) = await refusals(acme, "setQuota", None, scope=given, key=key, limit=most)
    assert error["code"] == code


async def test_used_and_held_count_against_the_limit_together(tidewaiter: Server, acme: Tenant) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 2000) == []
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/web", b"a" * 500)).status_code == 201
        upload = await door.begin_upload(f"{acme.organization}/web")
        assert (await door.patch(upload, content=b"b" * 1000)).status_code == 202
        found = await meter(acme, "STORAGE_BYTES")
        assert (found["used"], found["held"], found["percent"], found["unit"]) == (500, 1000, 75.0, "bytes")
        assert (await door.push_blob(f"{acme.organization}/web", b"c" * 501)).status_code == 403
        assert (await door.push_blob(f"{acme.organization}/web", b"c" * 500)).status_code == 201
