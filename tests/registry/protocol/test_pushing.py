"""What a push makes, and what the books say of it."""

from typing import Any

from tests.support import world
from tests.support.handmade import Door, digest_of, knocking, refusal
from tests.support.server import Server
from tests.support.world import Tenant

ENTRIES = """
    query($target: String!, $action: String!) { auditLog(first: 20, filter: {target: $target, action: $action}) {
        nodes { action outcome target digest changes } } }
"""
REPOSITORY = "query($o: String!, $n: String!) { repository(organization: $o, name: $n) { name visibility } }"


async def entries(tidewaiter: Server, tenant: Tenant, target: str, action: str) -> list[dict[str, Any]]:
    """Oldest first."""
    given = {"target": target, "action": action}
    answer = await tidewaiter.graphql(ENTRIES, given, tenant.owner.name, tenant.owner.password)
    assert not answer.get("errors"), answer
    return list(reversed(answer["data"]["auditLog"]["nodes"]))


async def test_a_push_makes_the_repository_and_it_is_private(
    door: Door, tidewaiter: Server, acme: Tenant, other: Tenant, web: str
) -> None:
    await door.push_image(web, "1.0", b"a layer")
    organization, _, name = web.partition("/")
    given = {"o": organization, "n": name}
    seen = await tidewaiter.graphql(REPOSITORY, given, acme.owner.name, acme.owner.password)
    assert seen["data"]["repository"]["visibility"] == "PRIVATE"
    async with knocking(tidewaiter, other.owner) as outsider:
        assert (await outsider.get(f"/v2/{web}/manifests/1.0")).status_code == 404
    (made,) = await entries(tidewaiter, acme, web, "repository.create")
    assert made["changes"]["visibility"] == [None, "PRIVATE"]


async def test_a_push_never_makes_an_organization(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "founder")
    absent = f"{tenant.organization}-new"
    async with knocking(tidewaiter, tenant.owner) as door:
        for answer in (await door.post(f"/v2/{absent}/web/blobs/uploads/"), await door.push_blob(f"{absent}/web", b"")):
            assert (answer.status_code, refusal(answer)["code"]) == (404, "NAME_UNKNOWN")
            assert f"organization '{absent}'" in refusal(answer)["message"]
    query = "query($name: String!) { organization(name: $name) { name } }"
    found = await tidewaiter.graphql(query, {"name": absent}, tenant.owner.name, tenant.owner.password)
    assert (found.get("data") or {}).get("organization") is None


async def test_making_one_takes_the_right_to_write(tidewaiter: Server, acme: Tenant, web: str) -> None:
    person = await world.user(acme, web.partition("/")[2], level="READ")
    async with knocking(tidewaiter, person) as lesser:
        answer = await lesser.post(f"/v2/{web}/blobs/uploads/")
    assert (answer.status_code, refusal(answer)["code"]) == (403, "DENIED")
    assert "Creating a repository in organization" in refusal(answer)["message"]
    assert "need WRITE" in refusal(answer)["message"]


async def test_a_refused_push_makes_nothing(door: Door, tidewaiter: Server, web: str, acme: Tenant) -> None:
    answer = await door.push_manifest(web, "1.0", b"{}")
    assert answer.status_code == 400
    assert (await door.get(f"/v2/{web}/tags/list")).status_code == 404
    assert await entries(tidewaiter, acme, web, "repository.create") == []


async def test_the_entry_of_a_moved_tag_tells_from_where_to_where(
    door: Door, tidewaiter: Server, acme: Tenant, web: str
) -> None:
    first = await door.push_image(web, "1.0", b"a layer")
    second = await door.push_image(web, "1.0", b"a newer layer")
    pushes = await entries(tidewaiter, acme, f"{web}:1.0", "image.push")
    assert [push["changes"]["digest"] for push in pushes] == [
        [None, digest_of(first)],
        [digest_of(first), digest_of(second)],
    ]
    assert [push["digest"] for push in pushes] == [digest_of(first), digest_of(second)]
    assert {push["outcome"] for push in pushes} == {"ALLOWED"}


async def test_each_further_tag_has_an_entry(door: Door, tidewaiter: Server, acme: Tenant, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    answer = await door.put(f"/v2/{web}/manifests/{digest_of(image)}?tag=b&tag=a", content=image)
    assert answer.status_code == 201
    (push,) = await entries(tidewaiter, acme, f"{web}:b", "image.push")
    assert push["changes"]["digest"] == [None, digest_of(image)]
    (further,) = await entries(tidewaiter, acme, f"{web}:a", "tag.create")
    assert further["changes"] == {"tag": [None, "a"], "digest": [None, digest_of(image)]}
    assert further["digest"] == digest_of(image)


async def test_a_refused_push_is_on_the_books(door: Door, tidewaiter: Server, acme: Tenant, web: str) -> None:
    await door.push_image(web, "1.0", b"a layer")
    person = await world.user(acme, web.partition("/")[2], level="READ")
    async with knocking(tidewaiter, person) as lesser:
        await lesser.post(f"/v2/{web}/blobs/uploads/")
    assert "DENIED" in [entry["outcome"] for entry in await entries(tidewaiter, acme, web, "image.push")]


async def test_deletes_are_on_the_books(door: Door, tidewaiter: Server, acme: Tenant, web: str) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    await door.push_blob(web, b"unused")
    for address in ("manifests/1.0", f"manifests/{digest_of(image)}", f"blobs/{digest_of(b'unused')}"):
        assert (await door.delete(f"/v2/{web}/{address}")).status_code == 202
    for action, target, content in (
        ("tag.delete", f"{web}:1.0", image),
        ("image.delete", f"{web}@{digest_of(image)}", image),
        ("blob.delete", f"{web}@{digest_of(b'unused')}", b"unused"),
    ):
        (entry,) = await entries(tidewaiter, acme, target, action)
        assert entry["changes"]["digest"] == [digest_of(content), None], action


async def test_looking_at_referrers_one_may_not_see_is_on_the_books(
    door: Door, tidewaiter: Server, acme: Tenant, other: Tenant, web: str
) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    async with knocking(tidewaiter, other.owner) as outsider:
        await outsider.get(f"/v2/{web}/referrers/{digest_of(image)}")
    assert [entry["outcome"] for entry in await entries(tidewaiter, acme, web, "repository.pull")] == ["DENIED"]
