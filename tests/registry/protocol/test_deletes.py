"""DELETE of tags and manifests, one after another and all at once."""

import anyio

from tests.support import world
from tests.support.handmade import INDEX, Door, digest_of, index_of, knocking, manifest_of, refusal
from tests.support.server import Server
from tests.support.world import Tenant


async def test_a_deleted_tag_leaves_its_manifest(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    await door.push_manifest(web, "1.1", image)
    assert (await door.delete(f"/v2/{web}/manifests/1.0")).status_code == 202
    assert (await door.get(f"/v2/{web}/manifests/1.0")).status_code == 404
    for reference in ("1.1", digest_of(image)):
        assert (await door.get(f"/v2/{web}/manifests/{reference}")).content == image


async def test_a_deleted_manifest_takes_its_tags_along(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    await door.push_manifest(web, "1.1", image)
    kept = await door.push_image(web, "2.0", b"another layer")
    assert (await door.delete(f"/v2/{web}/manifests/{digest_of(image)}")).status_code == 202
    for reference in ("1.0", "1.1", digest_of(image)):
        assert (await door.head(f"/v2/{web}/manifests/{reference}")).status_code == 404
    assert (await door.get(f"/v2/{web}/tags/list")).json()["tags"] == ["2.0"]
    assert (await door.get(f"/v2/{web}/manifests/2.0")).content == kept
    # And what it alone needed, which is charged no more.
    assert (await door.head(f"/v2/{web}/blobs/{digest_of(b'a layer')}")).status_code == 404
    assert (await door.head(f"/v2/{web}/blobs/{digest_of(b'another layer')}")).status_code == 200


async def test_what_another_manifest_needs_stays(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    other = manifest_of(b"another config", b"a layer")
    await door.push_blob(web, b"another config")
    await door.push_manifest(web, "2.0", other)
    assert (await door.delete(f"/v2/{web}/manifests/{digest_of(image)}")).status_code == 202
    assert (await door.head(f"/v2/{web}/blobs/{digest_of(b'a layer')}")).status_code == 200
    assert (await door.delete(f"/v2/{web}/manifests/{digest_of(other)}")).status_code == 202
    assert (await door.head(f"/v2/{web}/blobs/{digest_of(b'a layer')}")).status_code == 404


async def test_a_second_time_is_404(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    for reference in ("1.0", digest_of(image)):
        assert (await door.delete(f"/v2/{web}/manifests/{reference}")).status_code == 202
        assert (await door.delete(f"/v2/{web}/manifests/{reference}")).status_code == 404


async def test_what_was_deleted_can_be_pushed_again(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    await door.delete(f"/v2/{web}/manifests/{digest_of(image)}")
    assert refusal(await door.push_manifest(web, "1.0", image))["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert await door.push_image(web, "1.0", b"a layer") == image
    assert (await door.get(f"/v2/{web}/manifests/1.0")).content == image


async def test_a_child_of_an_index_can_go(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    index = index_of(image)
    await door.push_manifest(web, "all", index, INDEX)
    assert (await door.delete(f"/v2/{web}/manifests/{digest_of(image)}")).status_code == 202
    assert (await door.get(f"/v2/{web}/manifests/all")).content == index


async def test_deleting_takes_more_than_reading(door: Door, tidewaiter: Server, acme: Tenant, web: str) -> None:
    await door.push_image(web, "1.0", b"a layer")
    person = await world.user(acme, f"deleter-{web.rpartition('-')[2]}", level="READ")
    async with knocking(tidewaiter, person) as lesser:
        answer = await lesser.delete(f"/v2/{web}/manifests/1.0")
    assert (answer.status_code, refusal(answer)["code"]) == (403, "DENIED")
    assert (await door.head(f"/v2/{web}/manifests/1.0")).status_code == 200


async def test_of_many_who_delete_one_succeeds(door: Door, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    await door.push_blob(web, b"a blob")
    for address in (f"manifests/{digest_of(image)}", f"blobs/{digest_of(b'a blob')}"):
        statuses: list[int] = []

        async def delete(address: str = address, statuses: list[int] = statuses) -> None:
            statuses.append((await door.delete(f"/v2/{web}/{address}")).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(delete)
        assert sorted(statuses) == [202] + [404] * 5


async def test_pushing_and_deleting_one_manifest_at_once(
    door: Door, tidewaiter: Server, acme: Tenant, web: str
) -> None:
    """Each is whole before or after the other: a tag that is there can be pulled. Who comes after a deletion is told
    that the layers went with it."""
    image = await door.push_image(web, "1.0", b"a layer")
    statuses: set[int] = set()

    async def push(number: int) -> None:
        answer = await door.push_manifest(web, f"t{number}", image)
        assert answer.status_code == 201 or refusal(answer)["code"] == "MANIFEST_BLOB_UNKNOWN"

    async def delete() -> None:
        statuses.add((await door.delete(f"/v2/{web}/manifests/{digest_of(image)}")).status_code)

    async def retag(number: int) -> None:
        change = "mutation($i: CreateTagInput!) { createTag(input: $i) { errors { code } } }"
        organization, _, repository = web.partition("/")
        place = {"organization": organization, "repository": repository}
        given = {"i": {**place, "source": "t0", "name": f"r{number}"}}
        answer = await tidewaiter.graphql(change, given, acme.owner.name, acme.owner.password)
        assert not answer.get("errors"), answer

    for _ in range(4):
        await door.push_image(web, "t0", b"a layer")
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(push, number)
                group.start_soon(delete)
                group.start_soon(retag, number)
    assert statuses <= {202, 404}
    for tag in (await door.get(f"/v2/{web}/tags/list")).json()["tags"]:
        assert (await door.get(f"/v2/{web}/manifests/{tag}")).content == image
