"""GET referrers: what was pushed with a subject (distribution-spec 1.1, "Listing Referrers")."""

import json
from typing import Any

import anyio
import pytest

from registry.protocol import lists
from tests.support.handmade import INDEX, Door, described, digest_of, index_of, knocking, manifest_of, refusal
from tests.support.images import CONFIG, MANIFEST
from tests.support.server import Server
from tests.support.world import Tenant

SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"


@pytest.fixture
async def image(door: Door, web: str) -> bytes:
    return await door.push_image(web, "1.0", b"a layer")


async def attach(door: Door, web: str, subject: bytes, **more: Any) -> bytes:
    referrer = manifest_of(b"{}", subject=described(MANIFEST, subject), **more)
    answer = await door.push_manifest(web, digest_of(referrer), referrer)
    assert answer.status_code == 201, answer.text
    assert answer.headers["oci-subject"] == digest_of(subject)
    return referrer


async def listed(door: Door, web: str, digest: str, query: str = "") -> list[dict[str, Any]]:
    answer = await door.get(f"/v2/{web}/referrers/{digest}{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == INDEX
    index = answer.json()
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX)
    found: list[dict[str, Any]] = index["manifests"]
    return found


async def test_a_referrer_is_described_whole(door: Door, web: str, image: bytes) -> None:
    sbom = await attach(door, web, image, artifactType=SBOM, annotations={"made": "by hand"})
    (found,) = await listed(door, web, digest_of(image))
    assert found == described(MANIFEST, sbom, artifactType=SBOM, annotations={"made": "by hand"})


async def test_without_a_type_of_its_own_a_referrer_has_its_configs(door: Door, web: str, image: bytes) -> None:
    await attach(door, web, image)
    (found,) = await listed(door, web, digest_of(image))
    assert found["artifactType"] == CONFIG


async def test_an_index_refers_too(door: Door, web: str, image: bytes) -> None:
    index = index_of(image, subject=described(MANIFEST, image))
    answer = await door.push_manifest(web, digest_of(index), index, INDEX)
    assert answer.headers["oci-subject"] == digest_of(image)
    (found,) = await listed(door, web, digest_of(image))
    assert found == described(INDEX, index)


async def test_one_type_is_asked_for(door: Door, web: str, image: bytes) -> None:
    sbom = await attach(door, web, image, artifactType=SBOM)
    await attach(door, web, image, artifactType=SIGNATURE)
    found = await listed(door, web, digest_of(image), f"?artifactType={SBOM.replace('+', '%2B')}")
    assert [one["digest"] for one in found] == [digest_of(sbom)]
    answer = await door.get(f"/v2/{web}/referrers/{digest_of(image)}", params={"artifactType": SBOM})
    assert answer.headers["oci-filters-applied"] == "artifactType"
    assert await listed(door, web, digest_of(image), "?artifactType=application/spdx") == []


async def test_without_a_filter_none_is_said_to_be_applied(door: Door, web: str, image: bytes) -> None:
    for query in ("", "?artifactType="):
        answer = await door.get(f"/v2/{web}/referrers/{digest_of(image)}{query}")
        assert "oci-filters-applied" not in answer.headers


@pytest.mark.parametrize("kind", ["%00", "%FF", "<script>", "x" * 4000])
async def test_a_type_that_nothing_has(door: Door, web: str, image: bytes, kind: str) -> None:
    await attach(door, web, image)
    assert await listed(door, web, digest_of(image), f"?artifactType={kind}") == []


async def test_a_digest_that_nobody_knows_has_none(door: Door, web: str, image: bytes) -> None:
    assert await listed(door, web, digest_of(b"nobody knows it")) == []


async def test_a_repository_that_is_not_there_or_hidden_has_none(
    door: Door, tidewaiter: Server, other: Tenant, web: str, image: bytes
) -> None:
    await attach(door, web, image)
    assert await listed(door, f"{web}/absent", digest_of(image)) == []
    async with knocking(tidewaiter, other.owner) as outsider:
        hidden = await outsider.get(f"/v2/{web}/referrers/{digest_of(image)}")
        absent = await outsider.get(f"/v2/{web}/absent/referrers/{digest_of(image)}")
    assert (hidden.status_code, hidden.content) == (absent.status_code, absent.content)
    assert hidden.json()["manifests"] == []


@pytest.mark.parametrize("digest", ["sha256:abc", "latest", f"sha1:{'0' * 40}", "%00", "sha256:"])
async def test_a_digest_that_is_none_is_400(door: Door, web: str, image: bytes, digest: str) -> None:
    answer = await door.get(f"/v2/{web}/referrers/{digest}")
    assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")


async def test_of_a_subject_that_comes_later(door: Door, web: str, image: bytes) -> None:
    later = json.dumps(json.loads(image) | {"annotations": {"comes": "later"}}).encode()
    signature = await attach(door, web, later)
    assert (await door.push_manifest(web, "later", later)).status_code == 201
    assert [one["digest"] for one in await listed(door, web, digest_of(later))] == [digest_of(signature)]


async def test_many_at_once_are_all_listed(door: Door, web: str, image: bytes) -> None:
    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(lambda number=number: attach(door, web, image, annotations={"number": str(number)}))
    assert len(await listed(door, web, digest_of(image))) == 16


async def test_a_deleted_referrer_is_not_listed(door: Door, web: str, image: bytes) -> None:
    signature = await attach(door, web, image)
    assert (await door.delete(f"/v2/{web}/manifests/{digest_of(signature)}")).status_code == 202
    assert await listed(door, web, digest_of(image)) == []


async def test_referrers_outlive_their_subject(door: Door, web: str, image: bytes) -> None:
    await attach(door, web, image)
    assert (await door.delete(f"/v2/{web}/manifests/{digest_of(image)}")).status_code == 202
    assert len(await listed(door, web, digest_of(image))) == 1


async def test_a_long_list_comes_in_pages(door: Door, web: str, image: bytes) -> None:
    number = lists.MOST_REFERRERS + 1
    limiter = anyio.CapacityLimiter(16)

    async def one(count: int) -> None:
        async with limiter:
            await attach(door, web, image, artifactType=SBOM, annotations={"number": str(count)})

    async with anyio.create_task_group() as group:
        for count in range(number):
            group.start_soon(one, count)
    first = await door.get(f"/v2/{web}/referrers/{digest_of(image)}", params={"artifactType": SBOM})
    address = first.headers["link"].partition(">")[0].removeprefix("<")
    second = await door.get(address)
    assert "link" not in second.headers
    assert second.headers["oci-filters-applied"] == "artifactType"
    found = [one["digest"] for page in (first, second) for one in page.json()["manifests"]]
    assert len(found) == len(set(found)) == number
