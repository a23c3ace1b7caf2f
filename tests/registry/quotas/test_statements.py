"""What a push and a pull cost in statements, and which of them are the quotas': at most one each.

POST and PATCH of an announced length charge their hold (`quota_charge`), a PATCH of unknown length each window
(`quota_reserve`), PUT of a blob settles (`quota_settle`), PUT of a manifest charges it and its tags together
(`quota_charge`). A pull asks for leave once in some dozens (`quota_reserve`, for each key); what it takes is counted in
the commit of its entry.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest

from tests.api.schema.asking import statements
from tests.support import world
from tests.support.handmade import Door, digest_of, knocking, manifest_of
from tests.support.images import payload
from tests.support.server import Server
from tests.support.world import Tenant


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "statements")
    await world.repository(acme, "web")
    return acme


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    """With a registry token, as clients have it: signing in costs statements of its own."""
    async with knocking(tidewaiter, acme.owner) as door:
        scope = f"repository:{acme.organization}/web:pull,push"
        told = await door.get("/token", params={"service": tidewaiter.registry, "scope": scope})
        door.auth = None
        door.headers["Authorization"] = f"Bearer {told.json()['token']}"
        yield door


async def cost(tidewaiter: Server, act: Callable[[int], Awaitable[httpx2.Response]]) -> int:
    """The fewest statements of some times that it is done: the server does other things beside."""
    costs = []
    for number in range(4):
        before = statements(tidewaiter)
        assert (await act(number)).status_code in {200, 201, 202}
        costs.append(statements(tidewaiter) - before)
    return min(costs)


async def test_a_blob_in_one_request(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    """Found, held for the change, written, charged; found, claimed; ended, stored, settled."""
    name = f"{acme.organization}/web"
    assert await cost(tidewaiter, lambda number: door.push_blob(name, payload(f"{name} {number}", 1000))) == 9


async def test_a_blob_as_docker_sends_it(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    name, uploads = f"{acme.organization}/web", [""] * 4
    layers = [payload(f"{name} {number}", 1000) for number in range(4)]

    async def post(number: int) -> httpx2.Response:
        answer = await door.post(f"/v2/{name}/blobs/uploads/")
        uploads[number] = answer.headers["location"]
        return answer

    async def patch(number: int) -> httpx2.Response:
        async def body() -> AsyncIterator[bytes]:
            yield layers[number]

        return await door.patch(uploads[number], content=body())

    async def put(number: int) -> httpx2.Response:
        return await door.put(uploads[number], params={"digest": digest_of(layers[number])})

    assert await cost(tidewaiter, post) == 3  # nothing is held yet
    assert await cost(tidewaiter, patch) == 6
    assert await cost(tidewaiter, put) == 5


async def test_a_manifest(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    await door.push_blob(name, b"{}")
    manifests = [manifest_of(b"{}", annotations={"number": str(number)}) for number in range(4)]
    push = await cost(tidewaiter, lambda number: door.push_manifest(name, f"t{number}", manifests[number]))
    pull = await cost(tidewaiter, lambda number: door.get(f"/v2/{name}/manifests/t{number}"))
    blob = await cost(tidewaiter, lambda _: door.get(f"/v2/{name}/blobs/{digest_of(b'{}')}"))
    assert (push, pull, blob) == (9, 1, 1)
