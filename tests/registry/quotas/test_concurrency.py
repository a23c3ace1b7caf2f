"""However many push at once: never more than the limit, and never a byte less than what is there."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import httpx2
import pytest

from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import Door, bearing, digest_of, knocking, manifest_of, refusal
from tests.support.images import payload
from tests.support.meters import limit, refusals, used
from tests.support.recount import beyond, differences
from tests.support.server import Server
from tests.support.world import Tenant


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "crowd")


@asynccontextmanager
async def watched(tidewaiter: Server, acme: Tenant) -> AsyncIterator[None]:
    """Looks again and again while the block runs, and before and after it: no counter of the tenant is over its limit,
    none is wrong."""
    looked, done = asyncio.Event(), False

    async def watch() -> None:
        async with opened(address_of(tidewaiter)) as books:
            ids = await books.fetchrow("SELECT id, account_id FROM organization WHERE name = $1", acme.organization)
            assert ids is not None
            while True:
                last = done
                over = [one for one in await beyond(books) if str(ids["id"]) in one or str(ids["account_id"]) in one]
                assert over == []
                assert await differences(books) == []
                looked.set()
                if last:
                    return
                await anyio.lowlevel.checkpoint()

    watching = asyncio.ensure_future(watch())
    watching.add_done_callback(lambda _: looked.set())
    await looked.wait()
    try:
        yield
    finally:
        done = True
        await watching


async def push_in_a_stream(door: Door, repository: str, content: bytes) -> httpx2.Response:
    """Without an announced length, as docker does; the last answer, which is the refusal if there was one."""
    begun = await door.post(f"/v2/{repository}/blobs/uploads/")
    if begun.status_code != 202:
        return begun

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 20_000):
            yield content[start : start + 20_000]

    sent = await door.patch(begun.headers["location"], content=parts())
    if sent.status_code != 202:
        return sent
    return await door.put(sent.headers["location"], params={"digest": digest_of(content)})


@pytest.mark.parametrize(("kind", "streams"), [("organization", 1), ("organization", 2), ("account", 2)])
async def test_two_hundred_pushes_into_room_for_half_of_them(
    tidewaiter: Server, acme: Tenant, kind: str, streams: int
) -> None:
    """All of them in streams, or every second one: whoever is refused would not have fitted."""
    sizes = [random.Random(number).randint(1_000, 60_000) for number in range(200)]
    blobs = [payload(f"{acme.account} {number}", size) for number, size in enumerate(sizes)]
    most = sum(sizes) // 2
    assert await limit(acme, "STORAGE_BYTES", kind, most) == []
    async with knocking(tidewaiter, acme.owner) as door, watched(tidewaiter, acme):
        pushes = [
            (Door.push_blob if number % streams else push_in_a_stream)(
                door, f"{acme.organization}/web{number % 4}", blob
            )
            for number, blob in enumerate(blobs)
        ]
        answers = await asyncio.gather(*pushes)
    assert {answer.status_code for answer in answers} == {201, 403}
    assert {refusal(one)["detail"]["code"] for one in answers if one.status_code == 403} == {"QUOTA_EXCEEDED"}
    kept = [size for size, answer in zip(sizes, answers, strict=True) if answer.status_code == 201]
    assert await used(acme, kind=kind) == (sum(kept), 0)
    assert 0 <= most - sum(kept) < min(set(sizes) - set(kept))
    # Nothing stays behind of those that were refused: whatever would fit now, does.
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/web0", bytes(most - sum(kept)))).status_code == 201
        assert (await door.push_blob(f"{acme.organization}/web0", b"x")).status_code == 403


async def test_announced_pushes_leave_no_room_that_would_have_done(tidewaiter: Server, acme: Tenant) -> None:
    """One that is refused would not have fitted beside those that were kept."""
    sizes = [random.Random(-number).randint(1_000, 60_000) for number in range(200)]
    most = sum(sizes) // 2
    assert await limit(acme, "STORAGE_BYTES", "organization", most) == []
    await world.repository(acme, "web")
    async with knocking(tidewaiter, acme.owner) as door, watched(tidewaiter, acme):
        blobs = [payload(f"{acme.account} {number}", size) for number, size in enumerate(sizes)]
        answers = await asyncio.gather(*(door.push_blob(f"{acme.organization}/web", blob) for blob in blobs))
    refused = [size for size, answer in zip(sizes, answers, strict=True) if answer.status_code == 403]
    now, held = await used(acme)
    assert (now, held) == (sum(sizes) - sum(refused), 0)
    assert 0 <= most - now < min(refused)


async def test_hundreds_of_tiny_pushes_that_all_fit_into_what_is_left(tidewaiter: Server, acme: Tenant) -> None:
    """None says how long it will be. If all held their window at once, a share of what is left each, the last would
    still have room."""
    sizes = [random.Random(number).randint(20, 200) for number in range(200)]
    blobs = [payload(f"{acme.account} {number}", size) for number, size in enumerate(sizes)]
    assert await limit(acme, "STORAGE_BYTES", "organization", 1_040_000 + sum(sizes)) == []
    name = f"{acme.organization}/web"
    pushing = bearing(tidewaiter, person=acme.owner, scope=f"repository:{name}:push")
    async with pushing as door, watched(tidewaiter, acme):
        assert (await door.push_blob(name, payload(acme.account, 1_000_000))).status_code == 201
        answers = await asyncio.gather(*(push_in_a_stream(door, name, blob) for blob in blobs))
    assert [answer.text for answer in answers if answer.status_code != 201] == []
    assert await used(acme) == (1_000_000 + sum(sizes), 0)


async def test_the_same_layer_from_many_at_once_is_charged_once(tidewaiter: Server, acme: Tenant) -> None:
    layer = payload(acme.account, 50_000)
    async with knocking(tidewaiter, acme.owner) as door, watched(tidewaiter, acme):
        names = [f"{acme.organization}/web{number % 3}" for number in range(30)]
        pushes = [
            (push_in_a_stream if number % 2 else Door.push_blob)(door, name, layer) for number, name in enumerate(names)
        ]
        answers = await asyncio.gather(*pushes)
    assert {answer.status_code for answer in answers} == {201}
    assert await used(acme) == (50_000, 0)
    assert await used(acme, "REPOSITORIES") == (3, 0)


async def test_exactly_as_many_tags_as_there_is_room_for(tidewaiter: Server, acme: Tenant) -> None:
    name = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door, watched(tidewaiter, acme):
        await door.push_image(name, "first")
        assert await limit(acme, "TAGS", "organization", 11) == []
        answers = await asyncio.gather(*(door.push_manifest(name, f"1.{n}", manifest_of(b"{}")) for n in range(30)))
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [403] * 20
    assert await used(acme, "TAGS") == await used(acme, "TAGS", "repository") == (11, 0)


async def test_exactly_as_many_repositories_as_there_is_room_for(tidewaiter: Server, acme: Tenant) -> None:
    """By both doors at once, and one name by many."""
    assert await limit(acme, "REPOSITORIES", "organization", 5) == []
    place = {"organization": acme.organization}
    async with knocking(tidewaiter, acme.owner) as door, watched(tidewaiter, acme):
        made = [refusals(acme, "createRepository", acme.owner, **place, name=f"made{n}") for n in range(6)]
        pushed = [door.post(f"/v2/{acme.organization}/pushed{n % 6}/blobs/uploads/") for n in range(18)]
        errors, answers = await asyncio.gather(asyncio.gather(*made), asyncio.gather(*pushed))
    kept = sum(1 for one in errors if not one)
    kept += len({n % 6 for n, answer in enumerate(answers) if answer.status_code == 202})
    assert kept == 5
    assert {one[0]["code"] for one in errors if one} <= {"QUOTA_EXCEEDED"}
    assert {answer.status_code for answer in answers} <= {202, 403}
    assert await used(acme, "REPOSITORIES") == (5, 0)


async def test_pushes_and_deletions_side_by_side(tidewaiter: Server, acme: Tenant) -> None:
    """What repositories share is linked and unlinked by many at once."""
    layers = [payload(f"{acme.account} {number}", 3000) for number in range(4)]

    async def live(number: int, door: Door) -> None:
        name = f"{acme.organization}/web{number % 3}"
        for layer in random.Random(number).sample(layers, 4):
            await door.push_blob(name, layer)
            await door.push_manifest(name, f"tag{number}", manifest_of(layer))
            await door.delete(f"/v2/{name}/blobs/{digest_of(random.Random(layer).choice(layers))}")
        if number % 4 == 0:
            place = {"organization": acme.organization, "name": f"web{number % 3}"}
            await refusals(acme, "deleteRepository", acme.owner, **place)

    async with knocking(tidewaiter, acme.owner) as door, watched(tidewaiter, acme):
        await asyncio.gather(*(live(number, door) for number in range(9)))
    assert "deadlock detected" not in tidewaiter.output
    # Deleting what is left gives back all of it.
    for number in range(3):
        place = {"organization": acme.organization, "name": f"web{number}"}
        await refusals(acme, "deleteRepository", acme.owner, **place)
    for key in ("STORAGE_BYTES", "TAGS", "REPOSITORIES"):
        assert await used(acme, key) == (0, 0)
