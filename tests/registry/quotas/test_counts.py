"""What an account may have of users, access keys and shares: counted as they come and go, and refused with numbers."""

from typing import Any

import pytest

from tests.support import world
from tests.support.meters import limit, refusals, used
from tests.support.server import Server
from tests.support.world import Tenant

KEY = "mutation($input: CreateAccessKeyInput!) { createAccessKey(input: $input) { accessKey { id } errors { code } } }"


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "counted")
    await world.repository(acme, "web")
    return acme


async def make_key(acme: Tenant) -> dict[str, Any]:
    given = {"input": {"name": "a machine", "level": "READ"}}
    answer = await acme.tidewaiter.graphql(KEY, given, user=acme.owner.name, password=acme.owner.password)
    found: dict[str, Any] = answer["data"]["createAccessKey"]
    return found


def numbers(errors: list[dict[str, Any]]) -> tuple[str, int, int, int]:
    (error,) = errors
    return error["key"], error["limit"], error["used"], error["requested"]


async def test_users(acme: Tenant) -> None:
    assert await used(acme, "USERS", "account") == (1, 0)
    person = await world.user(acme, "second")
    assert await limit(acme, "USERS", "account", 2) == []
    given = {"account": acme.account, "name": f"{acme.account}-third", "password": "a password of some length"}
    assert numbers(await refusals(acme, "createUser", acme.owner, **given)) == ("USERS", 2, 2, 1)
    assert await refusals(acme, "forgetUser", acme.owner, user=person.name) == []
    assert await used(acme, "USERS", "account") == (1, 0)
    assert await refusals(acme, "createUser", acme.owner, **given) == []


async def test_access_keys(acme: Tenant) -> None:
    first = await make_key(acme)
    assert await used(acme, "ACCESS_TOKENS", "account") == (1, 0)
    assert await limit(acme, "ACCESS_TOKENS", "account", 1) == []
    assert [error["code"] for error in (await make_key(acme))["errors"]] == ["QUOTA_EXCEEDED"]
    for _ in range(2):  # a key that is revoked twice gives back one
        assert await refusals(acme, "revokeAccessKey", acme.owner, accessKey=first["accessKey"]["id"]) == []
    assert await used(acme, "ACCESS_TOKENS", "account") == (0, 0)
    assert (await make_key(acme))["errors"] == []


async def test_the_keys_of_who_is_forgotten_count_no_more(acme: Tenant) -> None:
    person = await world.user(acme, "leaving")
    given = {"input": {"name": "a machine", "level": "READ"}}
    await acme.tidewaiter.graphql(KEY, given, user=person.name, password=person.password)
    assert await used(acme, "ACCESS_TOKENS", "account") == (1, 0)
    assert await refusals(acme, "forgetUser", acme.owner, user=person.name) == []
    assert await used(acme, "ACCESS_TOKENS", "account") == (0, 0)


async def test_shares(tidewaiter: Server, acme: Tenant) -> None:
    others = [await world.tenant(tidewaiter, "receiver") for _ in range(2)]
    await world.share(acme, "web", others[0], seconds=60)
    assert await used(acme, "SHARES", "account") == (1, 0)
    assert await limit(acme, "SHARES", "account", 1) == []
    place = {"organization": acme.organization, "repository": "web"}
    more = {**place, "account": others[1].account, "forever": True}
    assert numbers(await refusals(acme, "createShare", acme.owner, **more)) == ("SHARES", 1, 1, 1)
    gone = {**place, "account": others[0].account}
    assert await refusals(acme, "deleteShare", acme.owner, **gone) == []
    assert await refusals(acme, "createShare", acme.owner, **more) == []
    named = {"organization": acme.organization, "name": "web"}
    assert await refusals(acme, "deleteRepository", acme.owner, **named) == []
    assert await used(acme, "SHARES", "account") == (0, 0)
