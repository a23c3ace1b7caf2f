"""Every error, at whichever door, names its request; of what is recorded, that finds the entry."""

import re
from typing import Any

import httpx2
import pytest

from registry.accounts.throttling import PER_USER, WINDOW
from tests.support import recorded, world
from tests.support.handmade import Door, knocking, manifest_of
from tests.support.meters import limit
from tests.support.server import Server
from tests.support.world import Person, Tenant

TEXT = re.compile(r"\[request ([0-9a-f]{32})\]")
WRONG = ("somebody", "not the password")


@pytest.fixture(scope="module")
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "request")
    await world.repository(acme, "web")
    assert await limit(acme, "STORAGE_BYTES", "organization", 1) == []
    return acme


@pytest.fixture(scope="module")
async def reader(acme: Tenant) -> Person:
    return await world.user(acme, "reader", level="READ")


def ids_in(answer: httpx2.Response) -> set[str]:
    """All places of the body in which the request is named."""
    if "json" not in answer.headers.get("content-type", ""):
        return set(TEXT.findall(answer.text))
    body = answer.json()
    found = {error["extensions"]["requestId"] for error in body.get("errors", []) if "extensions" in error}
    for error in body.get("errors", []):
        if "detail" in error:
            found |= {error["detail"]["requestId"], *TEXT.findall(error["message"])}
    for payload in (body.get("data") or {}).values():
        found |= {error["requestId"] for error in (payload or {}).get("errors", [])}
    return found


async def check(tidewaiter: Server, answer: httpx2.Response, status: int, *codes: str) -> None:
    """`codes` are those of the entries that the request left."""
    assert answer.status_code == status, answer.text
    assert ids_in(answer) == {answer.headers["x-request-id"]}, answer.text
    assert [one["reasonCode"] for one in await recorded.entries_of(tidewaiter, answer)] == list(codes)


async def graphql(door: Door, query: str, **variables: Any) -> httpx2.Response:
    return await door.post("/graphql", json={"query": query, "variables": variables})


async def test_of_the_registry(tidewaiter: Server, acme: Tenant, reader: Person) -> None:
    web = f"/v2/{acme.organization}/web"
    async with knocking(tidewaiter, reader) as door:
        await check(tidewaiter, await door.post(f"{web}/blobs/uploads/"), 403, "DENIED")
        await check(tidewaiter, await door.get(f"{web}/manifests/absent"), 404, "MANIFEST_UNKNOWN")
        await check(tidewaiter, await door.delete(f"{web}/manifests/absent"), 403, "DENIED")
        await check(tidewaiter, await door.put(f"{web}/tags/list"), 405)
        await check(tidewaiter, await door.get("/v2/nowhere"), 404)
    async with knocking(tidewaiter, acme.owner) as door:
        full = await door.push_blob(f"{acme.organization}/web", b"more than there is room for")
        await check(tidewaiter, full, 403, "QUOTA_EXCEEDED")
        absent = await door.push_manifest(f"{acme.organization}/web", "1.0", manifest_of(b"absent"))
        await check(tidewaiter, absent, 400, "MANIFEST_BLOB_UNKNOWN")
        large = await door.push_manifest(f"{acme.organization}/web", "1.0", b" " * (4 * 1024 * 1024 + 1))
        await check(tidewaiter, large, 413, "MANIFEST_TOO_LARGE")


async def test_of_those_who_are_not_signed_in(tidewaiter: Server, acme: Tenant) -> None:
    async with knocking(tidewaiter) as nobody:
        await check(tidewaiter, await nobody.get(f"/v2/{acme.organization}/web/manifests/1.0"), 401)
        await check(tidewaiter, await nobody.get("/v2/", auth=WRONG), 401, "SIGN_IN_FAILED")
        await check(tidewaiter, await nobody.get("/token", auth=WRONG), 401, "SIGN_IN_FAILED")
        form = {"grant_type": "password", "username": WRONG[0], "password": WRONG[1]}
        await check(tidewaiter, await nobody.post("/token", data=form), 401, "SIGN_IN_FAILED")
        await check(tidewaiter, await nobody.post("/token", data={}), 400)
        asked = {"query": "{ __typename }"}
        await check(tidewaiter, await nobody.post("/graphql", json=asked, auth=WRONG), 401, "SIGN_IN_FAILED")
        page = await nobody.get("/graphql", headers={"Accept": "text/html"}, auth=WRONG)
        await check(tidewaiter, page, 401, "SIGN_IN_FAILED")
        await check(tidewaiter, await nobody.get("/graphql", headers={"Accept": "text/html"}), 401)


@pytest.mark.parametrize("address", ["/v2/", "/token"])
async def test_of_those_whose_credentials_are_none(tidewaiter: Server, address: str) -> None:
    async with knocking(tidewaiter) as nobody:
        garbled = await nobody.get(address, headers={"Authorization": "Basic %%%"})
        await check(tidewaiter, garbled, 401, "SIGN_IN_FAILED")
        forged = await nobody.get(address, headers={"Authorization": "Bearer a.b.c"})
        await check(tidewaiter, forged, 401, "TOKEN_INVALID" if address == "/v2/" else "SIGN_IN_FAILED")


async def test_of_those_who_guessed_too_often(tidewaiter: Server) -> None:
    async with knocking(tidewaiter) as nobody:
        for _ in range(PER_USER):
            await nobody.get("/token", auth=("hasty", "a guess"))
        for address in ("/v2/", "/token"):
            held_up = await nobody.get(address, auth=("hasty", "a guess"))
            await check(tidewaiter, held_up, 429, "TOO_MANY_SIGN_INS")
        asked = await nobody.post("/graphql", json={"query": "{ __typename }"}, auth=("hasty", "a guess"))
        await check(tidewaiter, asked, 429, "TOO_MANY_SIGN_INS")
    tidewaiter.advance(WINDOW.total_seconds() + 1)


async def test_of_a_change_by_nobody(tidewaiter: Server) -> None:
    make = 'mutation { createOrganization(input: {name: "nobodys"}) { errors { code requestId } } }'
    async with knocking(tidewaiter) as nobody:
        await check(tidewaiter, await graphql(nobody, make), 200, "SIGN_IN_NEEDED")


async def test_of_graphql(tidewaiter: Server, acme: Tenant, reader: Person) -> None:
    remove = """
        mutation($name: String!) {
            deleteRepository(input: {organization: $name, name: "web"}) { errors { code requestId } }
        }
    """
    async with knocking(tidewaiter, reader) as door:
        await check(tidewaiter, await graphql(door, remove, name=acme.organization), 200, "DENIED")
        await check(tidewaiter, await graphql(door, remove, name="absent"), 200, "NOT_FOUND")
        await check(tidewaiter, await graphql(door, "{ accounts { nodes { name } } }"), 200, "DENIED")
        await check(tidewaiter, await graphql(door, "{ auditLog { nodes { action } } }"), 200, "DENIED")
        await check(tidewaiter, await graphql(door, "{ nothing of this }"), 200)
        await check(tidewaiter, await graphql(door, "{"), 200)
        await check(tidewaiter, await door.post("/graphql", content=b"{}"), 415)
        await check(tidewaiter, await graphql(door, " " * 100_000), 413)
        await check(tidewaiter, await door.put("/graphql"), 405)


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [("GET", "/nowhere", 404), ("POST", "/", 405), ("DELETE", "/healthz", 405), ("GET", "/console/nowhere", 404)],
)
async def test_of_pages(tidewaiter: Server, method: str, address: str, status: int) -> None:
    async with knocking(tidewaiter) as nobody:
        await check(tidewaiter, await nobody.request(method, address), status)
