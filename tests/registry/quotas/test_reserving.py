"""Whatever grows is charged before it is there, and nothing passes a limit."""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import httpx2
import pytest

from tests.support import world
from tests.support.handmade import Door, digest_of, knocking, manifest_of, refusal
from tests.support.images import payload
from tests.support.meters import limit, meter, refusals, used
from tests.support.server import Server
from tests.support.world import Tenant

PATIENCE_SECONDS = 20
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "reserving")
    await world.repository(acme, "web")
    return acme


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


# Every key at every scope


async def grow_organizations(acme: Tenant, door: Door, name: str) -> tuple[str, dict[str, object]] | None:
    return _told(await refusals(acme, "createOrganization", acme.owner, name=f"{acme.organization}-{name}"))


async def grow_repositories(acme: Tenant, door: Door, name: str) -> tuple[str, dict[str, object]] | None:
    return _told(await refusals(acme, "createRepository", acme.owner, organization=acme.organization, name=name))


async def push_to_create(acme: Tenant, door: Door, name: str) -> tuple[str, dict[str, object]] | None:
    return _answered(await door.post(f"/v2/{acme.organization}/{name}/blobs/uploads/"))


async def push_a_tag(acme: Tenant, door: Door, name: str) -> tuple[str, dict[str, object]] | None:
    await door.push_blob(f"{acme.organization}/web", b"{}")
    return _answered(await door.push_manifest(f"{acme.organization}/web", name, manifest_of(b"{}")))


async def tag_again(acme: Tenant, door: Door, name: str) -> tuple[str, dict[str, object]] | None:
    await door.push_image(f"{acme.organization}/web", "first")
    place = {"organization": acme.organization, "repository": "web"}
    return _told(await refusals(acme, "createTag", acme.owner, **place, source="first", name=name))


async def push_a_blob(acme: Tenant, door: Door, name: str) -> tuple[str, dict[str, object]] | None:
    return _answered(await door.push_blob(f"{acme.organization}/web", payload(acme.organization + name, 3000)))


def _told(errors: list[dict[str, object]]) -> tuple[str, dict[str, object]] | None:
    if not errors:
        return None
    (error,) = errors
    assert error["code"] == "QUOTA_EXCEEDED"
    return str(error["message"]), error


def _answered(answer: httpx2.Response) -> tuple[str, dict[str, object]] | None:
    if answer.status_code != 403:
        assert answer.status_code in {201, 202}, answer.text
        return None
    told = refusal(answer)
    assert (told["code"], told["detail"]["code"]) == ("DENIED", "QUOTA_EXCEEDED")
    return told["message"], told["detail"]


Growing = Callable[[Tenant, Door, str], Awaitable[tuple[str, dict[str, object]] | None]]


@pytest.mark.parametrize(
    ("key", "kind", "grow", "step"),
    [
        ("ORGANIZATIONS", "account", grow_organizations, 1),
        ("REPOSITORIES", "organization", grow_repositories, 1),
        ("REPOSITORIES", "account", grow_repositories, 1),
        ("REPOSITORIES", "organization", push_to_create, 1),
        ("REPOSITORIES", "account", push_to_create, 1),
        ("TAGS", "repository", push_a_tag, 1),
        ("TAGS", "organization", push_a_tag, 1),
        ("TAGS", "repository", tag_again, 1),
        ("TAGS", "organization", tag_again, 1),
        ("STORAGE_BYTES", "organization", push_a_blob, 3000),
        ("STORAGE_BYTES", "account", push_a_blob, 3000),
    ],
)
async def test_what_would_pass_a_limit_is_refused_with_its_numbers(
    tidewaiter: Server, acme: Tenant, door: Door, key: str, kind: str, grow: Growing, step: int
) -> None:
    assert await grow(acme, door, "one") is None
    count, held = await used(acme, key, kind)
    assert (count >= step, held) == (True, 0)
    assert await limit(acme, key, kind, count + 2 * step - 1) == []
    assert await grow(acme, door, "two") is None
    refused = await grow(acme, door, "three")
    assert refused is not None
    message, numbers = refused
    name = {"account": acme.account, "organization": acme.organization, "repository": f"{acme.organization}/web"}[kind]
    assert (numbers["key"], numbers["scope"]) == (key, f"{kind} '{name}'")
    most, now = count + 2 * step - 1, count + step
    assert [int(str(numbers[word])) for word in ("limit", "used", "requested")] == [most, now, step]
    assert all(text in message for text in (f"limit {most} ", f"used {now} ", f"requested {step} "))
    assert await used(acme, key, kind) == (now, 0)
    assert await limit(acme, key, kind, count + 2 * step) == []
    assert await grow(acme, door, "three") is None


async def test_the_tightest_of_several_limits_decides(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 10_000) == []
    assert await limit(acme, "STORAGE_BYTES", "account", 4_000) == []
    assert await push_a_blob(acme, door, "one") is None
    refused = await push_a_blob(acme, door, "two")
    assert refused is not None
    assert refused[1]["scope"] == f"account '{acme.account}'"
    # What the organization would have allowed is not charged there.
    assert await used(acme) == (3000, 0)


# What is counted once


async def test_a_layer_of_two_repositories_is_charged_once_and_given_back_with_the_last(
    acme: Tenant, door: Door
) -> None:
    layer, names = payload(acme.account, 5000), [f"{acme.organization}/{name}" for name in ("web", "api")]
    for name in names:
        assert (await door.push_blob(name, layer)).status_code == 201
        assert await used(acme) == (5000, 0)
        assert await used(acme, kind="account") == (5000, 0)
    for name, left in zip(names, (5000, 0), strict=True):
        assert (await door.delete(f"/v2/{name}/blobs/{digest_of(layer)}")).status_code == 202
        assert await used(acme) == (left, 0)


async def test_a_layer_of_two_organizations_is_charged_to_both(acme: Tenant, door: Door) -> None:
    other = f"{acme.organization}-other"
    await world.change(acme.tidewaiter, "createOrganization", by=acme.owner, name=other)
    for name in (acme.organization, other):
        assert (await door.push_blob(f"{name}/web", payload(acme.account, 5000))).status_code == 201
    assert await used(acme) == (5000, 0)
    assert await used(acme, kind="account") == (10_000, 0)


async def test_the_same_layer_again_needs_its_room_only_while_it_comes(acme: Tenant, door: Door) -> None:
    layer = payload(acme.account, 5000)
    assert (await door.push_blob(f"{acme.organization}/web", layer)).status_code == 201
    assert await limit(acme, "STORAGE_BYTES", "organization", 10_000) == []
    assert (await door.push_blob(f"{acme.organization}/api", layer)).status_code == 201
    assert await used(acme) == (5000, 0)


async def test_mounting_within_an_organization_is_free_at_a_full_quota(acme: Tenant, door: Door) -> None:
    layer = payload(acme.account, 5000)
    assert (await door.push_blob(f"{acme.organization}/web", layer)).status_code == 201
    assert await limit(acme, "STORAGE_BYTES", "organization", 5000) == []
    mounted = await door.mount(f"{acme.organization}/api", digest_of(layer), f"{acme.organization}/web")
    assert mounted.status_code == 201
    assert await used(acme) == (5000, 0)


async def test_mounting_into_another_organization_costs_what_it_brings(acme: Tenant, door: Door) -> None:
    layer, other = payload(acme.account, 5000), f"{acme.organization}-other"
    await world.change(acme.tidewaiter, "createOrganization", by=acme.owner, name=other)
    assert (await door.push_blob(f"{acme.organization}/web", layer)).status_code == 201
    assert await limit(acme, "STORAGE_BYTES", "account", 9_999) == []
    refused = await door.mount(f"{other}/web", digest_of(layer), f"{acme.organization}/web")
    assert refusal(refused)["detail"]["code"] == "QUOTA_EXCEEDED"
    assert await limit(acme, "STORAGE_BYTES", "account", 10_000) == []
    assert (await door.mount(f"{other}/web", digest_of(layer), f"{acme.organization}/web")).status_code == 201
    assert await used(acme, kind="account") == (10_000, 0)


async def test_a_manifest_that_does_not_fit_gets_no_tag(acme: Tenant, door: Door) -> None:
    name, manifest = f"{acme.organization}/web", manifest_of(b"{}")
    assert (await door.push_blob(name, b"{}")).status_code == 201
    assert await limit(acme, "STORAGE_BYTES", "organization", 2 + len(manifest) - 1) == []
    assert refusal(await door.push_manifest(name, "1.0", manifest))["detail"]["requested"] == len(manifest)
    assert (await door.get(f"/v2/{name}/manifests/1.0")).status_code == 404
    assert await used(acme, "TAGS", "repository") == (0, 0)
    assert await used(acme) == (2, 0)


async def test_moving_a_tag_is_no_second_tag(acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    await door.push_image(name, "1.0", b"one layer")
    assert await limit(acme, "TAGS", "repository", 1) == []
    await door.push_image(name, "1.0", b"another layer")
    assert await used(acme, "TAGS", "repository") == (1, 0)
    assert await used(acme, "TAGS") == (1, 0)


# What is on its way


async def begin(door: Door, acme: Tenant) -> str:
    return await door.begin_upload(f"{acme.organization}/web")


async def chunks(acme: Tenant, size: int, count: int) -> AsyncIterator[bytes]:
    """A body without an announced length."""
    for number in range(count):
        yield payload(f"{acme.account} {number}", size)


async def becomes(acme: Tenant, wanted: Callable[[tuple[int, int]], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not wanted(await used(acme)):  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_what_was_received_of_an_upload_is_held_until_it_ends(acme: Tenant, door: Door) -> None:
    upload = await begin(door, acme)
    assert await used(acme) == (0, 0)
    upload = (await door.patch(upload, content=b"a" * 700)).headers["location"]
    assert await used(acme) == (0, 700)
    assert (await door.put(upload, params={"digest": digest_of(b"a" * 700)})).status_code == 201
    assert await used(acme) == (700, 0)


async def test_an_announced_length_is_refused_before_a_byte_of_it_moves(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 1000) == []
    upload = await begin(door, acme)
    told = refusal(await door.patch(upload, content=b"a" * 1001))
    assert (told["detail"]["used"], told["detail"]["requested"]) == (0, 1001)
    assert await used(acme) == (0, 0)


async def test_an_announced_chunk_that_does_not_fit_ends_its_upload(acme: Tenant, door: Door) -> None:
    """Else what came before would stay charged until the upload expires, for a push that has failed."""
    assert await limit(acme, "STORAGE_BYTES", "organization", 1000) == []
    upload = (await door.patch(await begin(door, acme), content=b"a" * 600)).headers["location"]
    assert (await door.patch(upload, content=b"a" * 401)).status_code == 403
    assert await used(acme) == (0, 0)
    assert (await door.get(upload)).status_code == 404


async def test_a_stream_holds_windows_and_gives_back_what_it_did_not_need(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 3 * MEBIBYTE) == []
    answer = await door.patch(await begin(door, acme), content=chunks(acme, 100_000, 20))
    assert answer.status_code == 202
    assert await used(acme) == (0, 2_000_000)


async def test_a_stream_that_does_not_fit_gives_all_back(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", MEBIBYTE) == []
    upload = await begin(door, acme)
    told = refusal(await door.patch(upload, content=chunks(acme, 100_000, 20)))
    assert told["detail"]["limit"] == MEBIBYTE
    assert await used(acme) == (0, 0)
    assert (await door.get(upload)).status_code == 404


async def test_a_stream_may_fill_the_last_byte(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 500_000) == []
    upload = (await door.patch(await begin(door, acme), content=chunks(acme, 50_000, 10))).headers["location"]
    whole = b"".join([part async for part in chunks(acme, 50_000, 10)])
    assert (await door.put(upload, params={"digest": digest_of(whole)})).status_code == 201
    assert await used(acme) == (500_000, 0)


async def test_cancelling_gives_back(acme: Tenant, door: Door) -> None:
    upload = (await door.patch(await begin(door, acme), content=b"a" * 700)).headers["location"]
    assert (await door.delete(upload)).status_code == 204
    assert await used(acme) == (0, 0)


async def test_a_wrong_digest_gives_back(acme: Tenant, door: Door) -> None:
    upload = await begin(door, acme)
    wrong = await door.put(upload, params={"digest": digest_of(b"something else")}, content=b"a" * 700)
    assert wrong.status_code == 400
    assert await used(acme) == (0, 0)


async def test_an_upload_that_is_cut_holds_no_more_than_what_came(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    upload = (await begin(door, acme)).removeprefix(tidewaiter.url)
    head = f"PATCH {upload} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(acme)}\r\nContent-Length: 5000\r\n\r\n"
    async with await anyio.connect_tcp("127.0.0.1", tidewaiter.port) as connection:
        await connection.send(head.encode() + b"a" * 1200)
        await becomes(acme, lambda now: now == (0, 5000))
    await becomes(acme, lambda now: now[1] <= 1200)
    received = (await door.get(upload)).headers["range"]
    assert received in {"0-1199", "0-0"}
    assert await used(acme) == (0, 1200 if received == "0-1199" else 0)


async def test_deleting_is_never_refused_and_lowering_a_limit_deletes_nothing(acme: Tenant, door: Door) -> None:
    name = f"{acme.organization}/web"
    manifest = await door.push_image(name, "1.0", payload(acme.account, 5000))
    for key, kind in (("STORAGE_BYTES", "organization"), ("TAGS", "repository"), ("REPOSITORIES", "account")):
        assert await limit(acme, key, kind, 0) == []
    assert (await meter(acme, "STORAGE_BYTES"))["percent"] == 100.0
    assert (await door.get(f"/v2/{name}/manifests/1.0")).status_code == 200
    assert (await door.push_blob(name, b"more")).status_code == 403
    assert (await door.push_manifest(name, "2.0", manifest)).status_code == 403
    assert (await door.push_manifest(name, "1.0", manifest)).status_code == 201
    assert (await door.delete(f"/v2/{name}/manifests/{digest_of(manifest)}")).status_code == 202
    place = {"organization": acme.organization, "name": "web"}
    assert await refusals(acme, "deleteRepository", acme.owner, **place) == []
    assert await used(acme) == (0, 0)
    assert await used(acme, "REPOSITORIES", "account") == (0, 0)


def basic(acme: Tenant) -> str:
    return str(httpx2.BasicAuth(acme.owner.name, acme.owner.password)._auth_header)
