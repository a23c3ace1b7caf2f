"""Quotas: what is used of which limit, and who sets limits."""

import secrets
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, DONE, NOBODY, Cast, ask, change, code_of, refusal, told, verdict
from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Person, Tenant

QUOTAS = "query($scope: QuotaScope!) { quotas(scope: $scope) { key limit used held percent unit } }"


async def quotas(tidewaiter: Server, by: Person, **scope: str) -> dict[str, Any]:
    found = (await ask(tidewaiter, QUOTAS, by, scope=scope))["quotas"]
    return {quota.pop("key"): quota for quota in found}


async def tenant_with_an_image(tidewaiter: Server) -> Tenant:
    tenant = await world.tenant(tidewaiter, "measured")
    async with knocking(tidewaiter, tenant.owner) as door:
        await door.push_image(f"{tenant.organization}/web", "1.0", secrets.token_bytes(1000))
    return tenant


async def test_what_is_used_of_each_limit(tidewaiter: Server) -> None:
    tenant = await tenant_with_an_image(tidewaiter)
    account = await quotas(tidewaiter, tenant.owner, account=tenant.account)
    assert {"ORGANIZATIONS", "USERS", "REPOSITORIES", "STORAGE_BYTES"} <= set(account)
    assert account["ORGANIZATIONS"] == {"limit": 5, "used": 1, "held": 0, "percent": 20.0, "unit": "organizations"}
    organization = await quotas(tidewaiter, tenant.owner, organization=tenant.organization)
    assert {key: quota["used"] for key, quota in organization.items() if key != "STORAGE_BYTES"} == {
        "REPOSITORIES": 1,
        "TAGS": 1,
        "EGRESS_BYTES": 0,
        "PULLS": 0,
    }
    assert organization["STORAGE_BYTES"]["used"] > 1000
    repository = await quotas(tidewaiter, tenant.owner, organization=tenant.organization, repository="web")
    assert repository["TAGS"]["used"] == 1
    assert repository["STORAGE_BYTES"] == organization["STORAGE_BYTES"]


async def test_a_limit_is_set_shown_and_taken_away(tidewaiter: Server) -> None:
    tenant = await tenant_with_an_image(tidewaiter)
    given = {"scope": {"organization": tenant.organization}, "key": "TAGS"}
    shown = "quota { key limit used percent }"
    made = await change(tidewaiter, "setQuota", ADMIN, shown, **given, limit=4)
    assert made["quota"] == {"key": "TAGS", "limit": 4, "used": 1, "percent": 25.0}
    assert (await quotas(tidewaiter, tenant.owner, organization=tenant.organization))["TAGS"]["limit"] == 4
    below = await change(tidewaiter, "setQuota", ADMIN, shown, **given, limit=0)
    assert below["quota"] == {"key": "TAGS", "limit": 0, "used": 1, "percent": 100.0}
    huge = await change(tidewaiter, "setQuota", ADMIN, shown, **given, limit=2**63 - 1)
    assert huge["quota"]["limit"] == 2**63 - 1
    gone = await change(tidewaiter, "setQuota", ADMIN, shown, **given, limit=None)
    assert gone["quota"] == {"key": "TAGS", "limit": None, "used": 1, "percent": None}


async def test_a_limit_that_was_forgotten_takes_none_away(tidewaiter: Server, cast: Cast) -> None:
    given = {"scope": {"account": cast.other.account}, "key": "ORGANIZATIONS"}
    await change(tidewaiter, "setQuota", ADMIN, **given, limit=3)
    error = await refusal(tidewaiter, "setQuota", ADMIN, "quota { limit }", **given)
    assert (error["__typename"], error["code"], error["path"]) == ("ValidationError", "LIMIT_INVALID", ["limit"])
    shown = await quotas(tidewaiter, cast.other.owner, account=cast.other.account)
    assert shown["ORGANIZATIONS"]["limit"] == 3


@pytest.mark.parametrize(
    ("scope", "key", "limit", "path"),
    [
        ("account", "ORGANIZATIONS", -1, ["limit"]),
        ("account", "TAGS", 1, ["key"]),
        ("organization", "ORGANIZATIONS", 1, ["key"]),
    ],
)
async def test_a_limit_that_is_refused(
    tidewaiter: Server, cast: Cast, scope: str, key: str, limit: int, path: list[str]
) -> None:
    named = {scope: cast.acme.account if scope == "account" else cast.acme.organization}
    error = await refusal(tidewaiter, "setQuota", ADMIN, "quota { limit }", scope=named, key=key, limit=limit)
    assert (error["__typename"], error["code"], error["path"]) == ("ValidationError", "LIMIT_INVALID", path)


@pytest.mark.parametrize("limit", [2**63, -(2**63), 1.5, "1", True, []])
async def test_a_limit_that_is_no_number(tidewaiter: Server, cast: Cast, limit: object) -> None:
    query = """
        mutation($scope: QuotaScope!, $limit: BigInt) {
            setQuota(input: {scope: $scope, key: TAGS, limit: $limit}) { errors { code } }
        }
    """
    answer = await told(tidewaiter, query, ADMIN, scope={"account": cast.acme.account}, limit=limit)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["INVALID_QUERY"]
    assert "data" not in answer


@pytest.mark.parametrize(
    "scope",
    [{}, {"account": "a", "organization": "b"}, {"repository": "c"}, {"account": "a", "repository": "c"}],
)
async def test_a_scope_is_exactly_one(tidewaiter: Server, scope: dict[str, str]) -> None:
    assert await code_of(tidewaiter, QUOTAS, ADMIN, scope=scope) == "LIMIT_INVALID"
    error = await refusal(tidewaiter, "setQuota", ADMIN, scope=scope, key="TAGS", limit=1)
    assert (error["code"], error["path"]) == ("LIMIT_INVALID", ["scope"])


async def test_only_platform_administrators_set_limits(tidewaiter: Server, cast: Cast) -> None:
    given = {"scope": {"organization": cast.acme.organization}, "key": "TAGS", "limit": 1000}
    found = {role: await verdict(tidewaiter, "setQuota", person, **given) for role, person in cast.everybody.items()}
    assert found.pop("admin") == DONE
    assert found.pop("nobody") == "SIGN_IN_NEEDED"
    assert set(found.values()) == {"DENIED"}


async def test_who_reads_quotas(tidewaiter: Server, cast: Cast) -> None:
    where = {"organization": cast.acme.organization, "repository": f"web-{secrets.token_hex(4)}"}
    await world.repository(cast.acme, where["repository"])
    seen: dict[str, dict[str, Any]] = {
        "account": {"account": cast.acme.account},
        "organization": {"organization": cast.acme.organization},
        "repository": where,
    }
    who = {
        kind: {role: await code_of(tidewaiter, QUOTAS, person, scope=scope) for role, person in cast.everybody.items()}
        for kind, scope in seen.items()
    }
    hidden = {"nobody": "NOT_FOUND", "stranger": "NOT_FOUND"}
    members = {"colleague": "DENIED", "reader": "DENIED", "writer": "DENIED", "manager": "DENIED"}
    assert who["account"] == hidden | members | {"owner": DONE, "admin": DONE}
    levels = {"reader": "DENIED", "writer": "DENIED", "manager": DONE, "owner": DONE, "admin": DONE}
    assert who["organization"] == hidden | {"colleague": "NOT_FOUND"} | levels
    assert who["repository"] == hidden | {"colleague": "NOT_FOUND"} | dict.fromkeys(levels, DONE)
    assert await code_of(tidewaiter, QUOTAS, NOBODY, scope={"account": "gone"}) == "NOT_FOUND"
