"""Downloads and pulls of a month: counted as they leave, never more than the limit, however many ask at once."""

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import Door, digest_of, knocking, refusal
from tests.support.images import payload
from tests.support.meters import limit, meter, used
from tests.support.recount import differences
from tests.support.server import Server
from tests.support.world import Tenant

PATIENCE_SECONDS = 20


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "traffic")


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


async def becomes(acme: Tenant, key: str, wanted: Callable[[int], bool]) -> None:
    """Bytes of blobs are counted within a second."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not wanted((await used(acme, key))[0]):  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_pull_counts_itself_and_its_bytes(acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    manifest = await door.push_image(name, "1.0", b"a layer")
    assert await used(acme, "PULLS") == (0, 0)
    for reference in ("1.0", digest_of(manifest)):
        assert (await door.get(f"/v2/{name}/manifests/{reference}")).status_code == 200
    assert (await used(acme, "PULLS"))[0] == 2
    assert (await used(acme, "EGRESS_BYTES"))[0] == 2 * len(manifest)


async def test_looks_are_no_traffic(acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    manifest = await door.push_image(name, "1.0", b"a layer")
    assert (await door.head(f"/v2/{name}/manifests/1.0")).status_code == 200
    known = {"If-None-Match": f'"{digest_of(manifest)}"'}
    assert (await door.get(f"/v2/{name}/manifests/1.0", headers=known)).status_code == 304
    assert (await door.head(f"/v2/{name}/blobs/{digest_of(b'a layer')}")).status_code == 200
    assert (await door.get(f"/v2/{name}/manifests/2.0")).status_code == 404
    await door.get(f"/v2/{name}/manifests/1.0")
    assert (await used(acme, "PULLS"))[0] == 1


async def test_bytes_of_blobs_count_as_many_as_were_asked_for(acme: Tenant, door: Door) -> None:
    name, layer = f"{acme.organization}/web", payload(acme.account, 5000)
    await door.push_blob(name, layer)
    address = f"/v2/{name}/blobs/{digest_of(layer)}"
    assert (await door.get(address)).content == layer
    await becomes(acme, "EGRESS_BYTES", lambda now: now == 5000)
    assert (await door.get(address, headers={"Range": "bytes=100-199"})).status_code == 206
    await becomes(acme, "EGRESS_BYTES", lambda now: now == 5100)
    assert (await used(acme, "PULLS"))[0] == 0


async def test_what_a_client_did_not_wait_for_is_taken_back(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    name, layer = f"{acme.organization}/web", payload(acme.account, 40_000_000)
    await door.push_blob(name, layer)
    async with door.stream("GET", f"/v2/{name}/blobs/{digest_of(layer)}") as answer:
        assert answer.status_code == 200
        chunks = answer.aiter_raw()
        await anext(chunks)
        await becomes(acme, "EGRESS_BYTES", lambda now: now == len(layer))
    await becomes(acme, "EGRESS_BYTES", lambda now: 0 < now < len(layer))


async def test_a_month_that_is_used_up_is_refused_with_when_to_come_again(acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    await door.push_image(name, "1.0", b"a layer")
    assert await limit(acme, "PULLS", "organization", 3) == []
    answers = [await door.get(f"/v2/{name}/manifests/1.0") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    told = refusal(answers[3])
    assert told["code"] == "TOOMANYREQUESTS"
    assert told["message"].startswith(f"Pull quota of organization '{acme.organization}' in ")
    assert "begins anew with the next month" in told["message"]
    numbers = {name: told["detail"][name] for name in ("code", "key", "limit", "used", "held", "requested")}
    assert numbers == {
        "code": "QUOTA_EXCEEDED",
        "key": "PULLS",
        "limit": 3,
        "used": 3,
        "held": 0,
        "requested": 1,
    }
    assert told["detail"]["resetsAt"].endswith("-01T00:00:00+00:00")
    assert answers[3].headers["retry-after"] == "1"
    denied = [entry for entry in await world.entries(acme) if entry.told[:2] == ("image.pull", "DENIED")]
    assert len(denied) == 2
    assert (await door.head(f"/v2/{name}/manifests/1.0")).status_code == 200


async def test_a_blob_that_would_pass_the_limit_is_not_begun(acme: Tenant, door: Door) -> None:
    name, layer = f"{acme.organization}/web", payload(acme.account, 5000)
    await door.push_blob(name, layer)
    assert await limit(acme, "EGRESS_BYTES", "organization", 5999) == []
    address = f"/v2/{name}/blobs/{digest_of(layer)}"
    assert (await door.get(address)).status_code == 200
    assert (await door.get(address)).status_code == 429
    assert (await door.get(address, headers={"Range": "bytes=0-998"})).status_code == 206
    assert (await door.get(address, headers={"Range": "bytes=0-0"})).status_code == 429


async def test_exactly_as_many_pulls_as_there_is_room_for(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    await door.push_image(name, "1.0", b"a layer")
    assert await limit(acme, "PULLS", "organization", 50) == []
    answers = await asyncio.gather(*(door.get(f"/v2/{name}/manifests/1.0") for _ in range(80)))
    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    assert sum(answer.status_code == 200 for answer in answers) == 50
    assert (await meter(acme, "PULLS"))["used"] == 50
    async with opened(address_of(tidewaiter)) as books:
        assert await differences(books) == []
