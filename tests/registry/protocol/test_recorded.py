"""What the registry's door records besides pushes and pulls of images, and that no header of the client decides it."""

import secrets
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support import world
from tests.support.handmade import Door, bearing, digest_of, knocking
from tests.support.recorded import entries_of, told_of
from tests.support.server import Server, serving
from tests.support.world import Person, Tenant

LAYER = b"a layer that is pulled in parts"


# Looks


async def test_lists_are_looks(tidewaiter: Server, door: Door, web: str) -> None:
    manifest = await door.push_image(web, "1.0")
    digest = digest_of(manifest)
    expected = {
        f"{web}/tags/list": ("tag.list", "ALLOWED", web),
        f"{web}/tags/list?n=0": ("tag.list", "ALLOWED", web),
        f"{web}/referrers/{digest}": ("referrer.list", "ALLOWED", f"{web}@{digest}"),
        "_catalog": ("repository.list", "ALLOWED", "platform"),
    }
    for address, entry in expected.items():
        answer = await door.get(f"/v2/{address}")
        assert answer.status_code == 200
        assert await told_of(tidewaiter, answer) == [entry]


async def test_a_list_that_is_denied_is_no_look(tidewaiter: Server, door: Door, web: str, other: Tenant) -> None:
    digest = digest_of(await door.push_image(web, "1.0"))
    async with knocking(tidewaiter, other.owner) as stranger:
        for address, status in ((f"{web}/tags/list", 404), (f"{web}/referrers/{digest}", 200)):
            answer = await stranger.get(f"/v2/{address}")
            assert answer.status_code == status
            assert await told_of(tidewaiter, answer) == [("repository.pull", "DENIED", web)]


async def test_the_door_itself_leaves_nothing(tidewaiter: Server, door: Door) -> None:
    assert await told_of(tidewaiter, await door.get("/v2/")) == []


# Pulls of images


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": "Blackbox/1.0 (health check)"},
        {"User-Agent": ""},
        {"Range": "bytes=0-0"},
        {"If-None-Match": '"sha256:something-else"'},
        {"If-None-Match": ""},
        {"Cache-Control": "only-if-cached"},
        {"X-HTTP-Method-Override": "HEAD"},
        {"Accept": "*/*", "Expect": "nothing"},
        {"Connection": "close"},
    ],
    ids=str,
)
async def test_no_header_keeps_a_pull_out_of_the_log(
    tidewaiter: Server, door: Door, web: str, other: Tenant, headers: dict[str, str]
) -> None:
    digest = digest_of(await door.push_image(web, "1.0"))
    answer = await door.get(f"/v2/{web}/manifests/1.0", headers=headers)
    assert answer.status_code == 200
    assert [(one["action"], one["outcome"], one["digest"]) for one in await entries_of(tidewaiter, answer)] == [
        ("image.pull", "ALLOWED", digest)
    ]
    absent = await door.get(f"/v2/{web}/manifests/2.0", headers=headers)
    assert await told_of(tidewaiter, absent) == [("image.pull", "FAILED", f"{web}:2.0")]
    async with knocking(tidewaiter, other.owner) as stranger:
        denied = await stranger.get(f"/v2/{web}/manifests/1.0", headers=headers)
    assert await told_of(tidewaiter, denied) == [("image.pull", "DENIED", f"{web}:1.0")]


async def test_what_sends_no_manifest_is_no_pull(tidewaiter: Server, door: Door, web: str) -> None:
    digest = digest_of(await door.push_image(web, "1.0"))
    address = f"/v2/{web}/manifests/1.0"
    answers = [
        await door.head(address),
        await door.get(address, headers={"If-None-Match": f'"{digest}"'}),
        await door.get(address, headers={"If-None-Match": "*"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 304, 304]
    for answer in answers:
        assert answer.content == b""
        assert await told_of(tidewaiter, answer) == []


# Blobs


async def test_blobs_leave_nothing_unless_they_are_denied(
    tidewaiter: Server, door: Door, web: str, other: Tenant
) -> None:
    pushed = await door.push_blob(web, LAYER)
    address = f"/v2/{web}/blobs/{digest_of(LAYER)}"
    assert await told_of(tidewaiter, pushed) == [("repository.create", "ALLOWED", web)]
    assert await told_of(tidewaiter, await door.get(address)) == []
    async with knocking(tidewaiter, other.owner) as stranger:
        assert await told_of(tidewaiter, await stranger.get(address)) == [("repository.pull", "DENIED", web)]


@pytest.fixture(scope="module")
async def talkative(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    with serving(tmp_path_factory.mktemp("talkative"), TIDEWAITER_AUDIT_BLOBS="all") as server:
        yield server


@pytest.fixture(scope="module")
async def ships(talkative: Server) -> Tenant:
    return await world.tenant(talkative, "ships")


@pytest.fixture
async def owner(talkative: Server, ships: Tenant) -> AsyncIterator[Door]:
    async with knocking(talkative, ships.owner) as opened:
        yield opened


async def blobs_of(server: Server, answer: httpx2.Response) -> list[tuple[str, str, str, int]]:
    entries = [one for one in await entries_of(server, answer) if one["action"].startswith("blob.")]
    return [(one["action"], one["target"], one["digest"], one["sizeBytes"]) for one in entries]


async def test_each_finished_upload(talkative: Server, ships: Tenant, owner: Door) -> None:
    name = f"{ships.organization}/web-{secrets.token_hex(4)}"
    digest = digest_of(LAYER)
    entry = ("blob.push", f"{name}@{digest}", digest, len(LAYER))
    assert await blobs_of(talkative, await owner.push_blob(name, LAYER)) == [entry]
    location = await owner.begin_upload(name)
    part = await owner.patch(location, content=LAYER[:10])
    assert part.status_code == 202
    assert await blobs_of(talkative, part) == []
    last = await owner.put(f"{location}?digest={digest}", content=LAYER[10:])
    assert last.status_code == 201
    assert await blobs_of(talkative, last) == [entry]


async def test_a_mount_says_from_where(talkative: Server, ships: Tenant, owner: Door) -> None:
    first, second = (f"{ships.organization}/{which}-{secrets.token_hex(4)}" for which in ("first", "second"))
    await owner.push_blob(first, LAYER)
    answer = await owner.mount(second, digest_of(LAYER), first)
    assert answer.status_code == 201
    (entry,) = (one for one in await entries_of(talkative, answer) if one["action"] == "blob.push")
    assert entry["target"] == f"{second}@{digest_of(LAYER)}"
    assert entry["changes"] == {"mountedFrom": [None, first]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"User-Agent": "Blackbox/1.0 (health check)"}, 200),
        ({"Range": "bytes=0-0"}, 206),
        ({"Range": "bytes=-1"}, 206),
        ({"If-None-Match": f'"{digest_of(LAYER)}"'}, 200),
        ({"Accept": "text/plain"}, 200),
    ],
    ids=str,
)
async def test_each_pull_of_a_blob_however_it_is_asked_for(
    talkative: Server, ships: Tenant, owner: Door, headers: dict[str, str], status: int
) -> None:
    name = f"{ships.organization}/web-{secrets.token_hex(4)}"
    await owner.push_blob(name, LAYER)
    digest = digest_of(LAYER)
    answer = await owner.get(f"/v2/{name}/blobs/{digest}", headers=headers)
    assert answer.status_code == status
    assert await blobs_of(talkative, answer) == [("blob.pull", f"{name}@{digest}", digest, len(LAYER))]


async def test_what_sends_nothing_of_a_blob_is_no_pull(talkative: Server, ships: Tenant, owner: Door) -> None:
    name = f"{ships.organization}/web-{secrets.token_hex(4)}"
    await owner.push_blob(name, LAYER)
    address = f"/v2/{name}/blobs/{digest_of(LAYER)}"
    answers = [
        await owner.head(address),
        await owner.get(address, headers={"Range": "bytes=1000-"}),
        await owner.get(f"/v2/{name}/blobs/{digest_of(b'another')}"),
    ]
    assert [answer.status_code for answer in answers] == [200, 416, 404]
    for answer in answers:
        assert await blobs_of(talkative, answer) == []


async def test_a_denied_pull_of_a_blob_stays_a_denied_look(talkative: Server, ships: Tenant, owner: Door) -> None:
    name = f"{ships.organization}/web-{secrets.token_hex(4)}"
    await owner.push_blob(name, LAYER)
    colleague: Person = await world.user(ships, f"colleague-{secrets.token_hex(4)}")
    async with bearing(talkative, person=colleague, scope=f"repository:{name}:pull") as door:
        answer = await door.get(f"/v2/{name}/blobs/{digest_of(LAYER)}")
    assert answer.status_code == 404
    assert await told_of(talkative, answer) == [("repository.pull", "DENIED", name)]
