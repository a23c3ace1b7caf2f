"""Whoever is kept from something leaves a denial where it is read by whom it concerns, and hears no more for it."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest

from registry.accounts.throttling import PER_USER, WINDOW
from registry.accounts.tokens import LEEWAY
from registry.audit.floods import EQUAL
from tests.support import log, recorded, world
from tests.support.books import address_of, opened
from tests.support.handmade import bearing, knocking
from tests.support.server import Server
from tests.support.world import Person, Tenant

OF_USERS = {
    "setPassword": "user.set_password",
    "suspendUser": "user.suspend",
    "resumeUser": "user.resume",
    "forgetUser": "audit.subject_erased",
}


@pytest.fixture
async def books(tidewaiter: Server) -> AsyncIterator[asyncpg.Connection]:
    async with opened(address_of(tidewaiter)) as connection:
        yield connection


@pytest.fixture(scope="module")
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "denials")
    await world.repository(acme, "web")
    return acme


@pytest.fixture(scope="module")
async def other(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "stranger")


async def mutate(
    tidewaiter: Server, mutation: str, by: Person | None, fields: str = "", **given: Any
) -> httpx2.Response:
    kind = f"{mutation[0].upper()}{mutation[1:]}Input"
    query = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {fields} errors {{ message code }} }} }}"
    async with knocking(tidewaiter, by) as door:
        return await door.post("/graphql", json={"query": query, "variables": {"input": given}})


def error_of(answer: httpx2.Response) -> dict[str, str]:
    """The one error in the answer's payload."""
    (payload,) = answer.json()["data"].values()
    (error,) = payload["errors"]
    return dict(error)


async def key_of(tidewaiter: Server, person: Person, name: str) -> str:
    answer = await mutate(tidewaiter, "createAccessKey", person, "accessKey { id }", name=name)
    made: str = answer.json()["data"]["createAccessKey"]["accessKey"]["id"]
    return made


async def seen_by(tenant: Tenant) -> list[tuple[str, str, str, str]]:
    """Action, outcome, who and target of the latest entries in the tenant's log, newest first."""
    return [(*entry.told, entry.target) for entry in await world.entries(tenant)]


async def account_id(books: asyncpg.Connection, tenant: Tenant) -> str:
    found = await books.fetchval("SELECT id FROM account WHERE name = $1", tenant.account)
    return str(found.hex)


# Keys


async def test_who_owns_the_account_sees_that_an_administrator_revoked_a_users_key(
    tidewaiter: Server, acme: Tenant
) -> None:
    worker = await world.user(acme, "worker")
    key = await key_of(tidewaiter, worker, "deploy")
    admin = Person("admin", tidewaiter.admin_password)
    assert (await mutate(tidewaiter, "revokeAccessKey", admin, accessKey=key)).json()["data"]
    assert (await seen_by(acme))[0] == ("access_key.revoke", "ALLOWED", "admin", f"deploy:{worker.name}")


async def test_a_strangers_try_at_a_key_stands_with_the_keys_owner_and_names_it_to_nobody_else(
    tidewaiter: Server, acme: Tenant, other: Tenant
) -> None:
    key = await key_of(tidewaiter, acme.owner, "very-secret-project")
    tried = await mutate(tidewaiter, "revokeAccessKey", other.owner, accessKey=key)
    (entry,) = await recorded.entries_of(tidewaiter, tried)
    assert (entry["outcome"], entry["target"]) == ("DENIED", f"{key}:{acme.owner.name}")
    assert (await seen_by(acme))[0] == ("access_key.revoke", "DENIED", other.owner.name, entry["target"])
    assert not [one for one in await seen_by(other) if one[0] == "access_key.revoke"]


async def test_a_key_that_is_anothers_and_one_that_is_none_are_told_alike(
    tidewaiter: Server, acme: Tenant, other: Tenant
) -> None:
    absent = f"key_{secrets.token_hex(16)}"
    answers = [
        await mutate(tidewaiter, "revokeAccessKey", other.owner, accessKey=key)
        for key in (await key_of(tidewaiter, acme.owner, "one"), absent)
    ]
    assert error_of(answers[0]) == error_of(answers[1])
    assert await recorded.told_of(tidewaiter, answers[1]) == [("access_key.revoke", "FAILED", absent)]


async def test_whose_key_it_was_is_known_by_no_name_to_the_log(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    leaver = await world.user(acme, "leaver")
    key = await key_of(tidewaiter, leaver, "deploy")
    await mutate(tidewaiter, "revokeAccessKey", acme.owner, accessKey=key)
    assert (await seen_by(acme))[0][3] == f"deploy:{leaver.name}"
    assert await log.mentions(books, leaver.name) == 0


# Users


@pytest.mark.parametrize("mutation", OF_USERS)
async def test_what_is_tried_on_another_tenants_user_is_a_denial_in_that_tenants_log(
    tidewaiter: Server, acme: Tenant, other: Tenant, books: asyncpg.Connection, mutation: str
) -> None:
    victim = await world.user(acme, f"victim-{secrets.token_hex(4)}")
    more = {"password": "long enough"} if mutation == "setPassword" else {}
    tried = await mutate(tidewaiter, mutation, other.owner, user=victim.name, **more)
    (entry,) = await recorded.entries_of(tidewaiter, tried)
    assert (entry["action"], entry["outcome"], entry["target"]) == (OF_USERS[mutation], "DENIED", victim.name)
    assert entry["reasonCode"] == "NOT_FOUND"
    assert (await seen_by(acme))[0] == (OF_USERS[mutation], "DENIED", other.owner.name, victim.name)
    assert victim.name not in {target for *_, target in await seen_by(other)}
    (event,) = await log.events(books, request={"id": tried.headers["x-request-id"]})
    assert event["scope"]["account"] == await account_id(books, acme)
    assert event["target"]["name"].startswith("user_")
    assert await log.mentions(books, victim.name) == 0


@pytest.mark.parametrize("mutation", OF_USERS)
async def test_a_user_of_another_tenant_and_one_who_is_none_are_told_alike(
    tidewaiter: Server, acme: Tenant, other: Tenant, mutation: str
) -> None:
    more = {"password": "long enough"} if mutation == "setPassword" else {}
    told = []
    for name in (acme.owner.name, "no-such-user"):
        answer = await mutate(tidewaiter, mutation, other.owner, user=name, **more)
        told.append({field: text.replace(name, "…") for field, text in error_of(answer).items()})
    assert told[0] == told[1]
    assert await recorded.told_of(tidewaiter, answer) == [(OF_USERS[mutation], "FAILED", "no-such-user")]


async def test_a_colleague_who_may_not_manage_users_is_denied(tidewaiter: Server, acme: Tenant) -> None:
    colleague = await world.user(acme, "colleague", level="MANAGE")
    tried = await mutate(tidewaiter, "suspendUser", colleague, user=acme.owner.name)
    assert await recorded.told_of(tidewaiter, tried) == [("user.suspend", "DENIED", acme.owner.name)]


async def test_tries_at_another_tenants_user_collapse_into_a_count(
    tidewaiter: Server, acme: Tenant, other: Tenant, books: asyncpg.Connection
) -> None:
    victim = await world.user(acme, "flooded")
    for _ in range(EQUAL + 3):
        await mutate(tidewaiter, "suspendUser", other.owner, user=victim.name)
    tidewaiter.advance(60)
    seen = [(action, outcome) for action, outcome, _, target in await seen_by(acme) if target == victim.name]
    assert seen.count(("user.suspend", "DENIED")) == EQUAL
    assert seen.count(("denial.flood", "DENIED")) == 2


# Signing in


async def test_guesses_that_are_held_up_are_denials_too_and_collapse(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    guesser = f"guessed-{secrets.token_hex(4)}"
    async with knocking(tidewaiter) as door:
        for _ in range(PER_USER):
            assert (await door.get("/token", auth=(guesser, "a guess"))).status_code == 401
        held_up = await door.get("/token", auth=(guesser, "a guess"))
        assert held_up.status_code == 429
        (entry,) = await recorded.entries_of(tidewaiter, held_up)
        told = (entry["action"], entry["outcome"], entry["target"], entry["reasonCode"], entry["actor"]["name"])
        assert told == ("user.sign_in", "DENIED", guesser, "TOO_MANY_SIGN_INS", guesser)
        for _ in range(EQUAL + 4):
            last = await door.post("/graphql", json={"query": "{ __typename }"}, auth=(guesser, "a guess"))
            assert last.status_code == 429
    tidewaiter.advance(WINDOW.total_seconds() + 60)
    (flood,) = await recorded.entries_of(tidewaiter, last)
    assert (flood["action"], flood["changes"]["count"]) == ("denial.flood", [None, 4])
    assert await log.mentions(books, guesser) == 0


MALFORMED = ("Basic %%%", "Basic", "Basic bm8gY29sb24=", "Basic /////w==", "Digest canary", "Bearer canary-of-no-token")


@pytest.mark.parametrize("header", MALFORMED)
@pytest.mark.parametrize("address", ["/v2/", "/token", "/graphql", "/audit/tile/entries/000"])
async def test_a_header_that_is_no_credential_is_a_sign_in_that_failed(
    tidewaiter: Server, address: str, header: str
) -> None:
    tidewaiter.advance(60)  # these are equal, and twenty of a minute stand by themselves
    async with knocking(tidewaiter) as door:
        sent = {"Authorization": header}
        if address == "/graphql":
            answer = await door.post(address, json={"query": "{ __typename }"}, headers=sent)
        else:
            answer = await door.get(address, headers=sent)
    assert answer.status_code == 401
    (entry,) = await recorded.entries_of(tidewaiter, answer)
    told = (entry["action"], entry["outcome"], entry["target"], entry["actor"]["kind"])
    assert told == ("user.sign_in", "DENIED", "", "ANONYMOUS")
    assert entry["reasonCode"] in {"SIGN_IN_FAILED", "TOKEN_INVALID"}


async def test_a_forged_token_is_a_sign_in_that_failed_and_no_part_of_it_is_kept(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        head, body, signature = (await door.get("/token")).json()["token"].split(".")
    forged = f"{signature[:40]}{signature[40:][::-1]}"
    async with bearing(tidewaiter, f"{head}.{body}.{forged}") as forger:
        answer = await forger.get("/v2/")
    assert answer.status_code == 401
    (entry,) = await recorded.entries_of(tidewaiter, answer)
    assert (entry["action"], entry["outcome"], entry["reasonCode"]) == ("user.sign_in", "DENIED", "TOKEN_INVALID")
    assert entry["actor"]["name"] == "anonymous"
    for part in (body, forged, signature, acme.owner.name):
        assert await log.mentions(books, part) == 0


async def test_a_token_of_ours_that_ended_is_protocol(tidewaiter: Server, acme: Tenant) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        given = (await door.get("/token")).json()
    tidewaiter.advance(given["expires_in"] + LEEWAY.total_seconds() + 1)
    async with bearing(tidewaiter, given["token"]) as late:
        answer = await late.get("/v2/")
    assert (answer.status_code, answer.json()["errors"][0]["detail"]["code"]) == (401, "TOKEN_INVALID")
    assert await recorded.entries_of(tidewaiter, answer) == []


# Changes by nobody


def code_of(answer: httpx2.Response) -> str:
    (error,) = answer.json()["errors"]
    return str(error["extensions"]["code"])


async def test_a_change_by_nobody_is_a_denial_in_the_log_of_whose_thing_it_is(tidewaiter: Server, acme: Tenant) -> None:
    tried = await mutate(tidewaiter, "deleteRepository", None, organization=acme.organization, name="web")
    assert (tried.status_code, code_of(tried)) == (200, "SIGN_IN_NEEDED")
    (entry,) = await recorded.entries_of(tidewaiter, tried)
    assert entry["reasonCode"] == "SIGN_IN_NEEDED"
    expected = ("repository.delete", "DENIED", "anonymous", f"{acme.organization}/web")
    assert (await seen_by(acme))[0] == expected


async def test_what_nobody_wants_changed_and_cannot_see_is_told_as_what_is_not_there(
    tidewaiter: Server, acme: Tenant
) -> None:
    for name in ("web", "absent"):
        tried = await mutate(tidewaiter, "deleteRepository", None, organization=acme.organization, name=name)
        assert code_of(tried) == "SIGN_IN_NEEDED"
        told = [("repository.delete", "DENIED", f"{acme.organization}/{name}")]
        assert await recorded.told_of(tidewaiter, tried) == told


async def test_nobody_hears_first_of_all_that_signing_in_is_needed(tidewaiter: Server, acme: Tenant) -> None:
    """Also where the input is wrong, of which nothing is recorded."""
    place = {"organization": acme.organization, "repository": "web", "account": acme.account}
    tried = await mutate(tidewaiter, "createShare", None, **place, forever=False)
    assert code_of(tried) == "SIGN_IN_NEEDED"


async def test_a_user_whom_nobody_wants_to_make_is_sealed(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    name, canary = f"made-{secrets.token_hex(4)}", f"canary-{secrets.token_hex(8)}"
    tried = await mutate(tidewaiter, "createUser", None, account=acme.account, name=name, password=canary)
    assert await recorded.told_of(tidewaiter, tried) == [("user.create", "DENIED", name)]
    assert await log.mentions(books, name) == await log.mentions(books, canary) == 0


# What is absent, beside what is hidden


@pytest.mark.parametrize("kind", ["organization", "repository", "user", "key", "quota", "quota of an account", "pull"])
async def test_no_owner_can_tell_from_the_own_log_what_is_hidden_from_what_is_absent(
    tidewaiter: Server, acme: Tenant, other: Tenant, kind: str
) -> None:
    async def tried(exists: bool) -> httpx2.Response:
        organization = acme.organization if exists else f"nobody-{secrets.token_hex(4)}"
        match kind:
            case "organization":
                given = {"organization": organization, "user": other.owner.name, "level": "READ"}
                return await mutate(tidewaiter, "setOrganizationPermission", other.owner, **given)
            case "repository":
                given = {"organization": organization, "name": "web"}
                return await mutate(tidewaiter, "deleteRepository", other.owner, **given)
            case "user":
                name = acme.owner.name if exists else organization
                return await mutate(tidewaiter, "suspendUser", other.owner, user=name)
            case "key":
                key = await key_of(tidewaiter, acme.owner, "a key") if exists else f"key_{secrets.token_hex(16)}"
                return await mutate(tidewaiter, "revokeAccessKey", other.owner, accessKey=key)
            case "quota" | "quota of an account":
                scope = {"account" if kind.endswith("account") else "organization": organization}
                return await mutate(tidewaiter, "setQuota", other.owner, scope=scope, key="STORAGE_BYTES", limit=1)
            case _:
                async with knocking(tidewaiter, other.owner) as door:
                    return await door.get(f"/v2/{organization}/web/manifests/1.0")

    answers = [await tried(exists) for exists in (True, False)]
    assert not [one for one in await seen_by(other) if one[1] != "ALLOWED"]
    outcomes = [(await recorded.told_of(tidewaiter, answer))[0][1] for answer in answers]
    expected = ["DENIED", "DENIED"] if kind.startswith("quota") else ["DENIED", "FAILED"]
    assert outcomes == expected, "the operator's log knows both"


async def test_what_is_absent_in_ones_own_organization_stands_in_ones_own_log(tidewaiter: Server, acme: Tenant) -> None:
    given = {"organization": acme.organization, "name": "absent"}
    await mutate(tidewaiter, "deleteRepository", acme.owner, **given)
    expected = ("repository.delete", "FAILED", acme.owner.name, f"{acme.organization}/absent")
    assert (await seen_by(acme))[0] == expected
