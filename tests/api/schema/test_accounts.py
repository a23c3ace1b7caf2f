"""Accounts, users and access keys, as each kind of person meets them."""

import secrets
from datetime import timedelta
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, DONE, NOBODY, Cast, ask, change, code_of, refusal, told, verdict
from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Person

PASSWORD = "a password of ours"


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


async def test_a_new_account_with_its_owner(tidewaiter: Server) -> None:
    name, owner = unique("shop"), unique("shop-owner")
    shown = "account { id name createdAt suspendedAt } owner { name isOwner isPlatformAdmin }"
    made = await change(tidewaiter, "createAccount", ADMIN, shown, name=name, ownerName=owner, ownerPassword=PASSWORD)
    assert made["account"]["name"] == name
    assert made["account"]["suspendedAt"] is None
    assert made["owner"] == {"name": owner, "isOwner": True, "isPlatformAdmin": False}
    seen = await ask(tidewaiter, "{ viewer { user { name } account { id name } } }", Person(owner, PASSWORD))
    assert seen["viewer"] == {"user": {"name": owner}, "account": {"id": made["account"]["id"], "name": name}}


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ({"name": "Shop"}, "ValidationError", "NAME_INVALID"),
        ({"name": ""}, "ValidationError", "NAME_INVALID"),
        ({"name": "library"}, "ValidationError", "NAME_INVALID"),
        ({"name": "admin"}, "ConflictError", "NAME_TAKEN"),
        ({"ownerName": "a:b"}, "ValidationError", "NAME_INVALID"),
        ({"ownerName": "admin"}, "ConflictError", "NAME_TAKEN"),
        ({"ownerPassword": "short"}, "ValidationError", "PASSWORD_INVALID"),
        ({"ownerPassword": "x" * 2000}, "ValidationError", "PASSWORD_INVALID"),
    ],
)
async def test_an_account_that_is_refused_leaves_nothing(
    tidewaiter: Server, given: dict[str, str], kind: str, code: str
) -> None:
    right = {"name": unique("shop"), "ownerName": unique("owner"), "ownerPassword": PASSWORD}
    error = await refusal(tidewaiter, "createAccount", ADMIN, "account { id } owner { id }", **(right | given))
    assert (error["__typename"], error["code"], error["path"]) == (kind, code, list(given))
    assert await verdict(tidewaiter, "createAccount", ADMIN, **right) == DONE


async def test_only_platform_administrators_make_accounts(tidewaiter: Server, cast: Cast) -> None:
    verdicts = {}
    for role, person in cast.everybody.items():
        given = {"name": unique("shop"), "ownerName": unique("owner"), "ownerPassword": PASSWORD}
        verdicts[role] = await verdict(tidewaiter, "createAccount", person, **given)
    assert verdicts.pop("nobody") == "SIGN_IN_NEEDED"
    assert verdicts.pop("admin") == DONE
    assert set(verdicts.values()) == {"DENIED"}


async def test_a_new_user(tidewaiter: Server, cast: Cast) -> None:
    name = unique("ann")
    shown = "user { id name isOwner suspendedAt }"
    made = await change(
        tidewaiter, "createUser", cast.acme.owner, shown, account=cast.acme.account, name=name, password=PASSWORD
    )
    assert made["user"] | {"id": ""} == {"id": "", "name": name, "isOwner": False, "suspendedAt": None}
    seen = await ask(tidewaiter, "{ viewer { user { id } } }", Person(name, PASSWORD))
    assert seen["viewer"]["user"]["id"] == made["user"]["id"]


async def test_who_makes_users(tidewaiter: Server, cast: Cast) -> None:
    verdicts = {}
    for role, person in cast.everybody.items():
        given = {"account": cast.acme.account, "name": unique("ann"), "password": PASSWORD}
        verdicts[role] = await verdict(tidewaiter, "createUser", person, **given)
    assert verdicts == {
        "nobody": "SIGN_IN_NEEDED",
        "stranger": "NOT_FOUND",
        "colleague": "DENIED",
        "reader": "DENIED",
        "writer": "DENIED",
        "manager": "DENIED",
        "owner": DONE,
        "admin": DONE,
    }


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"name": "a b"}, "NAME_INVALID", ["name"]),
        ({"name": "admin"}, "NAME_TAKEN", ["name"]),
        ({"password": "1234567"}, "PASSWORD_INVALID", ["password"]),
        ({"account": "no-such-account"}, "NOT_FOUND", None),
    ],
)
async def test_a_user_that_is_refused(
    tidewaiter: Server, cast: Cast, given: dict[str, str], code: str, path: list[str] | None
) -> None:
    right = {"account": cast.acme.account, "name": unique("ann"), "password": PASSWORD}
    error = await refusal(tidewaiter, "createUser", cast.acme.owner, "user { id }", **(right | given))
    assert (error["code"], error["path"]) == (code, path)


async def test_a_hidden_account_is_refused_in_the_words_for_an_absent_one(tidewaiter: Server, cast: Cast) -> None:
    def asked(account: str) -> dict[str, Any]:
        return {"account": account, "name": unique("ann"), "password": PASSWORD}

    hidden = await refusal(tidewaiter, "createUser", cast.other.owner, **asked(cast.acme.account))
    absent = await refusal(tidewaiter, "createUser", cast.other.owner, **asked("gone"))
    assert hidden["message"].replace(cast.acme.account, "gone") == absent["message"]
    assert (hidden["code"], hidden["__typename"]) == (absent["code"], absent["__typename"])


async def test_a_password_is_set_by_its_user_or_the_owner(tidewaiter: Server, cast: Cast) -> None:
    person = await world.user(cast.acme, unique("ann"))
    await change(tidewaiter, "setPassword", person, "user { name }", user=person.name, password="another of hers")
    now = Person(person.name, "another of hers")
    assert (await ask(tidewaiter, "{ viewer { user { name } } }", now))["viewer"]["user"]["name"] == person.name
    assert await code_of(tidewaiter, "{ viewer { user { name } } }", person) == "SIGN_IN_FAILED"
    await change(tidewaiter, "setPassword", cast.acme.owner, user=person.name, password=PASSWORD)
    assert await code_of(tidewaiter, "{ viewer { user { name } } }", Person(person.name, PASSWORD)) == DONE
    weak = await refusal(tidewaiter, "setPassword", cast.acme.owner, user=person.name, password="short")
    assert (weak["code"], weak["path"]) == ("PASSWORD_INVALID", ["password"])


@pytest.mark.parametrize("mutation", ["setPassword", "suspendUser", "resumeUser"])
async def test_who_manages_a_user(tidewaiter: Server, cast: Cast, mutation: str) -> None:
    """A user that somebody may not manage is as one who does not exist."""
    person = await world.user(cast.acme, unique("ann"))
    given = {"user": person.name} | ({"password": PASSWORD} if mutation == "setPassword" else {})
    verdicts = {
        role: await verdict(tidewaiter, mutation, somebody, **given) for role, somebody in cast.everybody.items()
    }
    assert verdicts.pop("nobody") == "SIGN_IN_NEEDED"
    assert verdicts.pop("owner") == DONE
    assert verdicts.pop("admin") == DONE
    assert set(verdicts.values()) == {"NOT_FOUND"}
    hidden = await refusal(tidewaiter, mutation, cast.reader, **given)
    absent = await refusal(tidewaiter, mutation, cast.reader, **(given | {"user": "gone"}))
    assert hidden["message"].replace(person.name, "gone") == absent["message"]


async def test_a_suspended_user_cannot_sign_in_until_resumed(tidewaiter: Server, cast: Cast) -> None:
    person = await world.user(cast.acme, unique("ann"))
    gone = await change(tidewaiter, "suspendUser", cast.acme.owner, "user { suspendedAt }", user=person.name)
    assert gone["user"]["suspendedAt"]
    assert await code_of(tidewaiter, "{ viewer { user { name } } }", person) == "SIGN_IN_FAILED"
    back = await change(tidewaiter, "resumeUser", cast.acme.owner, "user { suspendedAt }", user=person.name)
    assert back["user"]["suspendedAt"] is None
    assert await code_of(tidewaiter, "{ viewer { user { name } } }", person) == DONE


async def test_nobody_suspends_themselves(tidewaiter: Server, cast: Cast) -> None:
    error = await refusal(tidewaiter, "suspendUser", cast.acme.owner, user=cast.acme.owner.name)
    assert (error["__typename"], error["code"]) == ("ConflictError", "LAST_ADMINISTRATOR")


async def test_a_suspended_account_is_frozen_and_still_seen_and_managed(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "frozen")
    await world.repository(tenant, "web")
    for role in (tenant.owner, NOBODY):
        assert await verdict(tidewaiter, "suspendAccount", role, account=tenant.account) != DONE
    gone = await change(tidewaiter, "suspendAccount", ADMIN, "account { suspendedAt }", account=tenant.account)
    assert gone["account"]["suspendedAt"]
    place = {"organization": tenant.organization, "name": "more"}
    error = await refusal(tidewaiter, "createRepository", tenant.owner, **place)
    assert (error["__typename"], error["code"]) == ("PermissionDeniedError", "ACCOUNT_SUSPENDED")
    seen = await ask(tidewaiter, "{ repositories { nodes { name organization } } }", tenant.owner)
    assert {"name": "web", "organization": tenant.organization} in seen["repositories"]["nodes"]
    new = {"account": tenant.account, "name": unique("new"), "password": PASSWORD}
    assert await verdict(tidewaiter, "createUser", ADMIN, **new) == "ACCOUNT_SUSPENDED"
    users = await ask(
        tidewaiter,
        "query($name: String!) { account(name: $name) { users { nodes { name } } } }",
        ADMIN,
        name=tenant.account,
    )
    assert users["account"]["users"]["nodes"] == [{"name": tenant.owner.name}]
    assert await verdict(tidewaiter, "suspendUser", ADMIN, user=tenant.owner.name) == DONE
    assert await verdict(tidewaiter, "resumeUser", ADMIN, user=tenant.owner.name) == DONE
    back = await change(tidewaiter, "resumeAccount", ADMIN, "account { suspendedAt }", account=tenant.account)
    assert back["account"]["suspendedAt"] is None
    assert await verdict(tidewaiter, "createRepository", tenant.owner, **place) == DONE
    absent = await refusal(tidewaiter, "suspendAccount", ADMIN, account="no-such-account")
    assert (absent["__typename"], absent["code"]) == ("NotFoundError", "NOT_FOUND")


async def test_who_sees_an_account_and_its_users(tidewaiter: Server, cast: Cast) -> None:
    query = "query($name: String!) { account(name: $name) { name users { nodes { name } } } }"
    codes = {}
    for role, person in cast.everybody.items():
        answer = await told(tidewaiter, query, person, name=cast.acme.account)
        seen = answer["data"]["account"]
        codes[role] = (seen is not None, [error["extensions"]["code"] for error in answer.get("errors", [])])
        if seen and seen["users"]:
            assert cast.reader.name in [user["name"] for user in seen["users"]["nodes"]]
    hidden, seen_without_users = (False, []), (True, ["DENIED"])
    assert codes == {
        "nobody": hidden,
        "stranger": hidden,
        "colleague": seen_without_users,
        "reader": seen_without_users,
        "writer": seen_without_users,
        "manager": seen_without_users,
        "owner": (True, []),
        "admin": (True, []),
    }


async def test_only_platform_administrators_list_accounts(tidewaiter: Server, cast: Cast) -> None:
    query = "query($after: String) { accounts(first: 100, after: $after) { nodes { name } pageInfo { endCursor } } }"
    page = (await ask(tidewaiter, query, ADMIN))["accounts"]
    names = [account["name"] for account in page["nodes"]]
    assert names == sorted(names)
    assert {"admin", cast.acme.account} <= set(names) or len(names) == 100
    for role, person in cast.everybody.items():
        if role != "admin":
            assert await code_of(tidewaiter, query, person) != DONE, role


async def test_an_access_key_signs_in_up_to_its_level_until_it_ends(tidewaiter: Server, cast: Cast) -> None:
    person = await world.user(cast.acme, unique("ann"), "WRITE")
    shown = "accessKey { id name level kind revokedAt lastUsedAt } secret"
    made = await change(tidewaiter, "createAccessKey", person, shown, name="ci", level="READ")
    key = Person(person.name, made["secret"])
    seen = await ask(tidewaiter, "{ viewer { tokenLevel accessKeys { id name kind level } } }", key)
    assert seen["viewer"] == {
        "tokenLevel": "READ",
        "accessKeys": [{"id": made["accessKey"]["id"], "name": "ci", "kind": "ACCESS_KEY", "level": "READ"}],
    }
    place = {"organization": cast.acme.organization, "name": unique("web")}
    limited = await refusal(tidewaiter, "createRepository", key, **place)
    assert (limited["__typename"], limited["code"]) == ("PermissionDeniedError", "LIMITED_BY_TOKEN")
    assert await verdict(tidewaiter, "createAccessKey", key, name="more", level="WRITE") == "LIMITED_BY_TOKEN"
    assert await verdict(tidewaiter, "setPassword", key, user=person.name, password=PASSWORD) == "LIMITED_BY_TOKEN"
    ended = await change(
        tidewaiter, "revokeAccessKey", person, "accessKey { revokedAt }", accessKey=made["accessKey"]["id"]
    )
    assert ended["accessKey"]["revokedAt"]
    assert await code_of(tidewaiter, "{ viewer { tokenLevel } }", key) == "SIGN_IN_ENDED"
    left = await ask(tidewaiter, "{ viewer { accessKeys { id } } }", person)
    assert left["viewer"]["accessKeys"] == []


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"name": ""}, "NAME_INVALID", ["name"]),
        ({"name": " "}, "NAME_INVALID", ["name"]),
        ({"name": "x" * 65}, "NAME_INVALID", ["name"]),
        ({"expiresAt": "2001-01-01T00:00:00Z"}, "EXPIRY_INVALID", ["expiresAt"]),
    ],
)
async def test_an_access_key_that_is_refused(
    tidewaiter: Server, cast: Cast, given: dict[str, str], code: str, path: list[str]
) -> None:
    error = await refusal(tidewaiter, "createAccessKey", cast.reader, "secret", **({"name": "ci"} | given))
    assert (error["__typename"], error["code"], error["path"]) == ("ValidationError", code, path)


async def test_who_revokes_an_access_key(tidewaiter: Server, cast: Cast) -> None:
    for role, person in cast.everybody.items():
        made = await change(tidewaiter, "createAccessKey", cast.reader, "accessKey { id }", name="ci")
        found = await verdict(tidewaiter, "revokeAccessKey", person, accessKey=made["accessKey"]["id"])
        expected = DONE if role in {"reader", "owner", "admin"} else "NOT_FOUND"
        assert found == ("SIGN_IN_NEEDED" if role == "nobody" else expected), role


async def test_an_id_that_is_none_revokes_nothing(tidewaiter: Server, cast: Cast) -> None:
    for id in ("", "key_1", f"key_{'0' * 31}g"):
        error = await refusal(tidewaiter, "revokeAccessKey", cast.reader, accessKey=id)
        assert (error["__typename"], error["code"]) == ("ValidationError", "INVALID_ID")
    absent = await refusal(tidewaiter, "revokeAccessKey", cast.reader, accessKey=f"key_{'0' * 32}")
    assert (absent["__typename"], absent["code"]) == ("NotFoundError", "NOT_FOUND")


async def test_a_login_command_signs_in_for_its_time(tidewaiter: Server, cast: Cast) -> None:
    shown = "docker podman skopeo expiresAt accessKey { kind expiresAt }"
    made = await change(tidewaiter, "createLoginCommand", cast.writer, shown, minutes=15)
    assert made["accessKey"] == {"kind": "LOGIN", "expiresAt": made["expiresAt"]}
    program, verb, _, name, _, secret, host = made["docker"].split()
    assert (program, verb, name, host) == ("docker", "login", cast.writer.name, tidewaiter.registry)
    assert made["podman"].split()[1:] == made["docker"].split()[1:] == made["skopeo"].split()[1:]
    login = Person(name, secret)
    assert await code_of(tidewaiter, "{ viewer { tokenLevel } }", login) == DONE
    async with knocking(tidewaiter, login) as door:
        assert (await door.get("/v2/")).status_code == 200
    tidewaiter.advance(timedelta(minutes=15).total_seconds())
    assert await code_of(tidewaiter, "{ viewer { tokenLevel } }", login) == "SIGN_IN_ENDED"


@pytest.mark.parametrize("minutes", [14, 1441, 0, -1, 2**31 - 1, -(2**31)])
async def test_a_login_command_lasts_within_its_limits(tidewaiter: Server, cast: Cast, minutes: int) -> None:
    error = await refusal(tidewaiter, "createLoginCommand", cast.writer, "docker", minutes=minutes)
    assert (error["code"], error["path"]) == ("EXPIRY_INVALID", ["minutes"])
