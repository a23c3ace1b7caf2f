"""What a push and a pull cost in statements, and which of them are there for the quotas alone: at most one each.

POST and PATCH of an announced length charge their hold (`quota_charge`), a PATCH of unknown length each window
(`quota_reserve`, which renews the lease as well). PUT of a blob settles in the statement that links it, and PUT of a
manifest links it and charges it and its tags in one (`quota_charge`). A pull asks for leave once in some dozens
(`quota_reserve`, for each key); what it takes is counted in the commit of its entry.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from api.app import application
from registry.oci.scopes import Scope
from registry.quotas.charging import CHARGE, LINK_AND_CHARGE
from registry.quotas.metering import EXTEND
from registry.quotas.reserving import RESERVE
from registry.repositories.uploading import HOLD_WINDOW
from tests.api.schema.asking import statements
from tests.support import world
from tests.support.books import in_process
from tests.support.handmade import Door, digest_of, knocking, manifest_of
from tests.support.images import payload
from tests.support.inside import settle
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
    """Found, held for the change, written, charged; found, claimed; ended, stored and settled."""
    name = f"{acme.organization}/web"
    assert await cost(tidewaiter, lambda number: door.push_blob(name, payload(f"{name} {number}", 1000))) == 8


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
    assert await cost(tidewaiter, patch) == 4
    assert await cost(tidewaiter, put) == 4


async def test_a_part_of_a_blob_that_is_announced(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    """Found, claimed, charged; advanced."""
    uploads = [await door.begin_upload(f"{acme.organization}/web") for _ in range(4)]
    assert await cost(tidewaiter, lambda number: door.patch(uploads[number], content=b"a" * 1000)) == 4


async def test_a_manifest(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    await door.push_blob(name, b"{}")
    manifests = [manifest_of(b"{}", annotations={"number": str(number)}) for number in range(4)]
    push = await cost(tidewaiter, lambda number: door.push_manifest(name, f"t{number}", manifests[number]))
    pull = await cost(tidewaiter, lambda number: door.get(f"/v2/{name}/manifests/t{number}"))
    blob = await cost(tidewaiter, lambda _: door.get(f"/v2/{name}/blobs/{digest_of(b'{}')}"))
    assert (push, pull, blob) == (9, 1, 1)


# Which of them are the quotas'

QUOTAS = {
    "SELECT quota_charge_quietly": "charge",
    CHARGE: "charge",
    LINK_AND_CHARGE: "charge",
    HOLD_WINDOW: "reserve",
    RESERVE: "reserve",
    EXTEND: "lease",
}
Asked = Callable[[Awaitable[httpx2.Response]], Awaitable[list[str]]]


@pytest.fixture
async def asking(dsn: str, data: Path) -> AsyncIterator[tuple[Door, str, Asked]]:
    """A door, the name of a repository, and what the only connection is asked for the quotas by a request."""
    asked: list[str] = []

    async def by(request: Awaitable[httpx2.Response]) -> list[str]:
        asked.clear()
        assert (await request).status_code in {200, 201, 202}
        return [kind for text in asked for words, kind in QUOTAS.items() if words in text]

    async with in_process(dsn, data, database_pool=1) as system:
        ours = await settle(system, "asking")
        await ours.ensure("web")
        async with system.foundation.pool.acquire() as connection:
            connection.add_query_logger(lambda done: asked.append(done.query))
        scope = Scope("repository", f"{ours.name}/web", frozenset({"pull", "push"}))
        token = system.tokens.issue(ours.owner, [scope], system.foundation.clock.now()).text
        transport, headers = httpx2.ASGITransport(app=application(system)), {"Authorization": f"Bearer {token}"}
        async with Door(transport=transport, base_url="http://here", headers=headers) as door:
            yield door, f"{ours.name}/web", by


async def test_the_quotas_have_one_of_them_at_most(asking: tuple[Door, str, Asked]) -> None:
    door, name, asked = asking
    layer, manifest = payload(name, 1000), manifest_of(b"{}")

    async def body() -> AsyncIterator[bytes]:
        yield layer

    announced, streamed = await door.begin_upload(name), await door.begin_upload(name)
    assert await asked(door.push_blob(name, b"{}")) == ["charge"]
    assert await asked(door.post(f"/v2/{name}/blobs/uploads/")) == []
    assert await asked(door.patch(announced, content=layer)) == ["charge"]
    assert await asked(door.put(announced, params={"digest": digest_of(layer)})) == []
    assert await asked(door.patch(streamed, content=body())) == ["reserve"]
    assert await asked(door.put(streamed, params={"digest": digest_of(layer)})) == []
    assert await asked(door.push_manifest(name, "1.0", manifest)) == ["charge"]
    pulls = [await asked(door.get(f"/v2/{name}/manifests/1.0")) for _ in range(60)]
    assert pulls == [["reserve", "lease"] * 2, *[[]] * 59]
    assert await asked(door.get(f"/v2/{name}/blobs/{digest_of(layer)}")) == []
    assert await asked(door.head(f"/v2/{name}/blobs/{digest_of(layer)}")) == []
