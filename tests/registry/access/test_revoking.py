"""What is taken away is felt by the very next request, at both doors, whatever was issued before."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.support import world
from tests.support.handmade import bearing, knocking
from tests.support.server import Server
from tests.support.world import Person, Tenant

SEEN = "query($o: String!, $r: String!) { repository(organization: $o, name: $r) { name } }"


@dataclass(frozen=True, slots=True)
class Case:
    """`give` makes a person who may pull `web`; `take` ends that."""

    give: Callable[[Tenant, Tenant], Awaitable[Person]]
    take: Callable[[Tenant, Tenant, Person], Awaitable[None]]
    status: int


async def by_owner(acme: Tenant, mutation: str, **given: object) -> None:
    await world.change(acme.tidewaiter, mutation, by=acme.owner, **given)


async def reader(acme: Tenant, other: Tenant) -> Person:
    return await world.user(acme, "reader", level="READ")


async def reader_of_one(acme: Tenant, other: Tenant) -> Person:
    person = await world.user(acme, "reader")
    place = {"organization": acme.organization, "repository": "web"}
    await by_owner(acme, "setRepositoryPermission", **place, user=person.name, level="READ")
    return person


async def receiver(acme: Tenant, other: Tenant) -> Person:
    await world.share(acme, "web", other, seconds=60)
    return other.owner


async def anybody(acme: Tenant, other: Tenant) -> Person:
    await by_owner(acme, "updateRepository", organization=acme.organization, name="web", visibility="PUBLIC")
    return other.owner


async def withdrawn(acme: Tenant, other: Tenant, person: Person) -> None:
    await world.withdraw(acme, person)


async def withdrawn_from_one(acme: Tenant, other: Tenant, person: Person) -> None:
    place = {"organization": acme.organization, "repository": "web"}
    await by_owner(acme, "removeRepositoryPermission", **place, user=person.name)


async def suspended(acme: Tenant, other: Tenant, person: Person) -> None:
    await by_owner(acme, "suspendUser", user=person.name)


async def given_a_new_password(acme: Tenant, other: Tenant, person: Person) -> None:
    await by_owner(acme, "setPassword", user=person.name, password="another password")


async def unshared(acme: Tenant, other: Tenant, person: Person) -> None:
    place = {"organization": acme.organization, "repository": "web"}
    await by_owner(acme, "deleteShare", **place, account=other.account)


async def past_the_deadline(acme: Tenant, other: Tenant, person: Person) -> None:
    acme.tidewaiter.advance(timedelta(seconds=61).total_seconds())


async def made_private(acme: Tenant, other: Tenant, person: Person) -> None:
    await by_owner(acme, "updateRepository", organization=acme.organization, name="web", visibility="PRIVATE")


CASES = [
    Case(reader, withdrawn, 404),
    Case(reader_of_one, withdrawn_from_one, 404),
    Case(reader, suspended, 401),
    Case(reader, given_a_new_password, 401),
    Case(receiver, unshared, 404),
    Case(receiver, past_the_deadline, 403),
    Case(anybody, made_private, 404),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.give.__name__}, {case.take.__name__}" for case in CASES])
async def test_a_registry_token_that_was_good_is_good_no_more(tidewaiter: Server, case: Case) -> None:
    acme, other = await world.tenant(tidewaiter, "acme"), await world.tenant(tidewaiter, "other")
    web = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(web, "1.0", b"a layer")
    person = await case.give(acme, other)
    async with bearing(tidewaiter, person=person, scope=f"repository:{web}:pull") as door:
        assert (await door.get(f"/v2/{web}/manifests/1.0")).status_code == 200
        await case.take(acme, other, person)
        for path in (f"/v2/{web}/manifests/1.0", f"/v2/{web}/tags/list"):
            assert (await door.get(path)).status_code == case.status, path
    assert not await sees(tidewaiter, person, acme)


async def sees(tidewaiter: Server, person: Person, acme: Tenant) -> bool:
    """Whether GraphQL shows it; who cannot sign in any more sees nothing."""
    variables = {"o": acme.organization, "r": "web"}
    answer = await tidewaiter.graphql(SEEN, variables, person.name, person.password)
    return bool(answer.get("data") and answer["data"]["repository"])


async def test_a_revoked_key_ends_the_tokens_that_were_fetched_with_it(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "acme")
    web, owner = f"{acme.organization}/web", acme.owner
    async with knocking(tidewaiter, owner) as door:
        await door.push_image(web, "1.0")
    made = await tidewaiter.graphql(
        'mutation { createAccessKey(input: {name: "ci", level: READ}) { secret accessKey { id } } }',
        None, owner.name, owner.password,
    )  # fmt: skip
    key = made["data"]["createAccessKey"]
    machine = Person(owner.name, key["secret"])
    async with bearing(tidewaiter, person=machine, scope=f"repository:{web}:pull,push") as door:
        assert (await door.get(f"/v2/{web}/manifests/1.0")).status_code == 200
        assert (await door.push_blob(web, b"more than reading")).status_code == 403
        await by_owner(acme, "revokeAccessKey", accessKey=key["accessKey"]["id"])
        assert (await door.get(f"/v2/{web}/manifests/1.0")).status_code == 401
    async with knocking(tidewaiter, machine) as door:
        assert (await door.get("/token")).status_code == 401


async def test_an_upload_that_began_with_a_right_ends_with_it(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "acme")
    await world.repository(acme, "web")
    writer = await world.user(acme, "writer", level="WRITE")
    web = f"{acme.organization}/web"
    async with bearing(tidewaiter, person=writer, scope=f"repository:{web}:pull,push") as door:
        place = await door.begin_upload(web)
        assert (await door.patch(place, content=b"the first part")).status_code == 202
        await world.permit(acme, writer, "READ")
        assert (await door.patch(place, content=b"and the next")).status_code == 403
        assert (await door.put(place, params={"digest": f"sha256:{'0' * 64}"})).status_code == 403


async def test_a_suspended_account_is_pulled_from_and_not_pushed_to(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "acme")
    web = f"{acme.organization}/web"
    async with bearing(tidewaiter, person=acme.owner, scope=f"repository:{web}:pull,push") as door:
        await door.push_image(web, "1.0")
        await world.change(tidewaiter, "suspendAccount", account=acme.account)
        assert (await door.get(f"/v2/{web}/manifests/1.0")).status_code == 200
        refused = await door.push_blob(web, b"more")
        assert refused.status_code == 403
        assert "suspended" in refused.json()["errors"][0]["message"]
        await world.change(tidewaiter, "resumeAccount", account=acme.account)
        assert (await door.push_blob(web, b"more")).status_code == 201
