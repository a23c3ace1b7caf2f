"""Manifests: pushed and pulled by tag and digest, in OCI's and Docker's types, and refused for what is wrong."""

import json
from typing import Any

import anyio
import pytest

from tests.support.handmade import (
    INDEX,
    Door,
    described,
    digest_of,
    index_of,
    manifest_of,
    refusal,
)
from tests.support.images import CONFIG, LAYER, MANIFEST

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
LIMIT = 4 * 1024 * 1024
ABSENT = digest_of(b"absent")


@pytest.fixture
async def image(door: Door, web: str) -> bytes:
    return await door.push_image(web, "1.0", b"a layer")


async def test_a_push_tells_where_the_manifest_is(door: Door, web: str, image: bytes) -> None:
    answer = await door.push_manifest(web, "1.1", image)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest_of(image)
    assert answer.headers["location"] == f"/v2/{web}/manifests/{digest_of(image)}"
    assert (await door.get(answer.headers["location"])).content == image


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_a_manifest_comes_back_byte_for_byte(door: Door, web: str, image: bytes, by: str) -> None:
    address = f"/v2/{web}/manifests/{'1.0' if by == 'tag' else digest_of(image)}"
    get, head = await door.get(address), await door.head(address)
    assert (get.status_code, get.content) == (200, image)
    assert (head.status_code, head.content) == (200, b"")
    for answer in (get, head):
        assert answer.headers["content-type"] == MANIFEST
        assert answer.headers["content-length"] == str(len(image))
        assert answer.headers["docker-content-digest"] == digest_of(image)
        assert answer.headers["etag"] == f'"{digest_of(image)}"'


@pytest.mark.parametrize("media_type", [MANIFEST, DOCKER_MANIFEST])
async def test_an_image_keeps_its_type(door: Door, web: str, media_type: str) -> None:
    await door.push_blob(web, b"{}")
    manifest = manifest_of(b"{}", mediaType=media_type)
    assert (await door.push_manifest(web, "typed", manifest, media_type)).status_code == 201
    assert (await door.get(f"/v2/{web}/manifests/typed")).headers["content-type"] == media_type


@pytest.mark.parametrize("media_type", [INDEX, DOCKER_INDEX])
async def test_an_index_keeps_its_type(door: Door, web: str, image: bytes, media_type: str) -> None:
    index = index_of(image, mediaType=media_type)
    assert (await door.push_manifest(web, "all", index, media_type)).status_code == 201
    answer = await door.get(f"/v2/{web}/manifests/all")
    assert (answer.content, answer.headers["content-type"]) == (index, media_type)


async def test_indexes_lie_in_indexes(door: Door, web: str, image: bytes) -> None:
    inner = index_of(image)
    assert (await door.push_manifest(web, digest_of(inner), inner, INDEX)).status_code == 201
    outer = index_of(manifests=[described(INDEX, inner)])
    assert (await door.push_manifest(web, "outer", outer, INDEX)).status_code == 201


@pytest.mark.parametrize("content_type", [f"{MANIFEST}; charset=utf-8", MANIFEST.upper(), f"{MANIFEST} ;x=y"])
async def test_parameters_and_case_of_a_type_do_not_matter(
    door: Door, web: str, image: bytes, content_type: str
) -> None:
    assert (await door.push_manifest(web, "2.0", image, content_type)).status_code == 201
    assert (await door.get(f"/v2/{web}/manifests/2.0")).headers["content-type"] == MANIFEST


async def test_without_a_header_the_manifest_tells_its_type(door: Door, web: str, image: bytes) -> None:
    answer = await door.put(f"/v2/{web}/manifests/2.0", content=image)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", "application/json", MANIFEST, f"{INDEX}, {MANIFEST};q=0.5", f"text/html,{MANIFEST.upper()}"],
)
async def test_who_takes_the_type_gets_it(door: Door, web: str, image: bytes, accept: str | None) -> None:
    door.headers.pop("accept", None)
    answer = await door.get(f"/v2/{web}/manifests/1.0", headers={"Accept": accept} if accept else {})
    assert (answer.status_code, answer.content) == (200, image)


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_who_takes_another_type_alone_is_told(door: Door, web: str, image: bytes, by: str) -> None:
    address = f"/v2/{web}/manifests/{'1.0' if by == 'tag' else digest_of(image)}"
    answer = await door.get(address, headers={"Accept": DOCKER_MANIFEST})
    assert (answer.status_code, refusal(answer)["code"]) == (404, "MANIFEST_UNKNOWN")
    assert MANIFEST in refusal(answer)["message"]


async def test_who_has_it_gets_304(door: Door, web: str, image: bytes) -> None:
    address = f"/v2/{web}/manifests/1.0"
    for matching in (f'"{digest_of(image)}"', f'W/"{digest_of(image)}"', f'"x", "{digest_of(image)}"', "*"):
        answer = await door.get(address, headers={"If-None-Match": matching})
        assert (answer.status_code, answer.content) == (304, b"")
    assert (await door.get(address, headers={"If-None-Match": '"x"'})).content == image


async def test_by_its_sha512(door: Door, web: str) -> None:
    await door.push_blob(web, b"{}")
    manifest = manifest_of(b"{}", annotations={"for": "sha512"})
    digest = digest_of(manifest, "sha512")
    answer = await door.push_manifest(web, digest, manifest)
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)
    read = await door.get(f"/v2/{web}/manifests/{digest}")
    assert (read.content, read.headers["docker-content-digest"]) == (manifest, digest)
    assert (await door.get(f"/v2/{web}/manifests/{digest_of(manifest)}")).status_code == 404


async def test_parts_by_their_sha512(door: Door, web: str) -> None:
    config = digest_of(b"{}", "sha512")
    assert (await door.post(f"/v2/{web}/blobs/uploads/?digest={config}", content=b"{}")).status_code == 201
    manifest = manifest_of(b"", config={"mediaType": CONFIG, "digest": config, "size": 2})
    assert (await door.push_manifest(web, "strong", manifest)).status_code == 201


async def test_a_digest_with_tags_beside_it(door: Door, web: str, image: bytes) -> None:
    address = f"/v2/{web}/manifests/{digest_of(image)}?tag=b&tag=a&tag=b"
    answer = await door.put(address, content=image, headers={"Content-Type": MANIFEST})
    assert answer.status_code == 201
    assert answer.headers.get_list("oci-tag") == ["b", "a"]
    for tag in ("a", "b"):
        assert (await door.get(f"/v2/{web}/manifests/{tag}")).content == image


async def test_too_many_tags_are_414(door: Door, web: str, image: bytes) -> None:
    tags = "&".join(f"tag=t{number}" for number in range(51))
    answer = await door.put(f"/v2/{web}/manifests/{digest_of(image)}?{tags}", content=image)
    assert answer.status_code == 414
    assert (await door.get(f"/v2/{web}/manifests/t0")).status_code == 404


async def test_a_moved_tag_leaves_the_manifest_it_pointed_at(door: Door, web: str, image: bytes) -> None:
    newer = await door.push_image(web, "1.0", b"a newer layer")
    assert (await door.get(f"/v2/{web}/manifests/1.0")).content == newer
    assert (await door.get(f"/v2/{web}/manifests/{digest_of(image)}")).content == image


async def test_the_same_push_again_changes_nothing(door: Door, web: str, image: bytes) -> None:
    for _ in range(2):
        assert (await door.push_manifest(web, "1.0", image)).status_code == 201
    assert (await door.get(f"/v2/{web}/tags/list")).json()["tags"] == ["1.0"]


async def test_many_push_one_manifest_at_once(door: Door, web: str, image: bytes) -> None:
    manifest = manifest_of(b"{}", b"a layer", annotations={"pushed": "by many"})
    statuses: list[int] = []

    async def push(number: int) -> None:
        statuses.append((await door.push_manifest(web, f"t{number % 2}", manifest)).status_code)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(push, number)
    assert statuses == [201] * 8
    assert (await door.get(f"/v2/{web}/manifests/t1")).content == manifest


async def test_pushes_of_many_tags_do_not_stand_in_each_others_way(door: Door, web: str, image: bytes) -> None:
    """Each locks its tags in the same order, whichever it was told them in."""
    tags = [f"tag=t{number}" for number in range(20)]
    statuses: list[int] = []

    async def push(order: int) -> None:
        address = f"/v2/{web}/manifests/{digest_of(manifests[order % 2])}?{'&'.join(tags[:: 1 - order % 2 * 2])}"
        statuses.append((await door.put(address, content=manifests[order % 2])).status_code)

    manifests = [image, manifest_of(b"{}", b"a layer", annotations={"the": "other"})]
    async with anyio.create_task_group() as group:
        for order in range(8):
            group.start_soon(push, order)
    assert statuses == [201] * 8


async def test_a_wrong_digest_is_400(door: Door, web: str, image: bytes) -> None:
    for digest in (ABSENT, "sha256:garbage", "sha256:", f"sha256:{'A' * 64}", f"md5:{'0' * 32}"):
        answer = await door.push_manifest(web, digest, image)
        assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")


async def test_missing_parts_are_named(door: Door, web: str, image: bytes) -> None:
    layers = [b"missing one", b"missing two"]
    answer = await door.push_manifest(web, "broken", manifest_of(b"{}", b"a layer", *layers))
    assert (answer.status_code, refusal(answer)["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert refusal(answer)["detail"]["missing"] == [digest_of(layer) for layer in layers]
    assert (await door.get(f"/v2/{web}/manifests/broken")).status_code == 404


async def test_a_missing_config_is_named(door: Door, web: str, image: bytes) -> None:
    answer = await door.push_manifest(web, "broken", manifest_of(b"no such config", b"a layer"))
    assert refusal(answer)["detail"]["missing"] == [digest_of(b"no such config")]


async def test_missing_children_are_named(door: Door, web: str, image: bytes) -> None:
    answer = await door.push_manifest(web, "broken", index_of(image, b"no such child"), INDEX)
    assert (answer.status_code, refusal(answer)["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert refusal(answer)["detail"]["missing"] == [digest_of(b"no such child")]


async def test_parts_in_another_repository_are_missing_here(door: Door, web: str, image: bytes) -> None:
    answer = await door.push_manifest(f"{web}/else", "1.0", image)
    assert (answer.status_code, refusal(answer)["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")


async def test_foreign_layers_may_lie_elsewhere(door: Door, web: str, image: bytes) -> None:
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    layers = [described(foreign, b"elsewhere", urls=["https://example.com/layer"])]
    assert (await door.push_manifest(web, "foreign", manifest_of(b"{}", layers=layers))).status_code == 201


async def test_a_subject_may_come_later_or_never(door: Door, web: str, image: bytes) -> None:
    signature = manifest_of(b"{}", subject=described(MANIFEST, b"not here"))
    answer = await door.push_manifest(web, digest_of(signature), signature)
    assert (answer.status_code, answer.headers["oci-subject"]) == (201, digest_of(b"not here"))


async def test_a_manifest_of_the_largest_size(door: Door, web: str, image: bytes) -> None:
    padding = LIMIT - len(manifest_of(b"{}", annotations={"padding": ""}))
    largest = manifest_of(b"{}", annotations={"padding": "x" * padding})
    assert len(largest) == LIMIT
    assert (await door.push_manifest(web, "largest", largest)).status_code == 201
    assert (await door.get(f"/v2/{web}/manifests/largest")).content == largest


@pytest.mark.parametrize("announced", [True, False])
async def test_a_manifest_over_the_limit_is_413(door: Door, web: str, announced: bool) -> None:
    async def stream() -> Any:
        for _ in range(5):
            yield b" " * (1024 * 1024)

    body = b" " * (LIMIT + 1) if announced else stream()
    answer = await door.put(f"/v2/{web}/manifests/1.0", content=body, headers={"Content-Type": MANIFEST})
    assert (answer.status_code, refusal(answer)["code"]) == (413, "MANIFEST_INVALID")
    assert refusal(answer)["detail"]["limit"] == LIMIT


def changed(**fields: Any) -> bytes:
    return manifest_of(b"{}", b"a layer", **fields)


LAYERS = [described(LAYER, b"a layer")]
HOSTILE = {
    "empty": b"",
    "blank": b" \n",
    "no JSON": b"{",
    "no object": b"[]",
    "null": b"null",
    "a number": b"7",
    "a byte order mark": b"\xef\xbb\xbf" + changed(),
    "UTF-16": changed().decode().encode("utf-16"),
    "not UTF-8": changed(annotations={"a": "x"}).replace(b'"x"', b'"\xff"'),
    "NaN": changed().replace(b'"schemaVersion": 2', b'"schemaVersion": NaN'),
    "two brackets too many": changed() + b"]}",
    "deep brackets": b"[" * 200_000 + b"]" * 200_000,
    "deep brackets that never close": b'{"a":' * 200_000,
    "a key twice": changed().replace(b'"schemaVersion"', b'"schemaVersion": 2, "schemaVersion"'),
    "a key in another case": changed(Layers=[]),
    "a huge number": changed(annotations={}).replace(b'"annotations": {}', b'"x": ' + b"9" * 5000),
    "a huge exponent": changed(schemaVersion=0).replace(b'"schemaVersion": 0', b'"schemaVersion": 2e999'),
    "schema 1": b'{"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": []}',
    "another version": changed(schemaVersion=3),
    "a version that is text": changed(schemaVersion="2"),
    "a version that is true": changed(schemaVersion=True),
    "another type inside": changed(mediaType=DOCKER_MANIFEST),
    "a type that is no text": changed(mediaType=7),
    "layers and manifests": changed(manifests=[]),
    "no config": changed(config=None),
    "a config that is text": changed(config="sha256:x"),
    "layers that are no list": changed(layers={}),
    "a layer that is null": changed(layers=[None]),
    "a negative size": changed(layers=[LAYERS[0] | {"size": -1}]),
    "a size past 63 bits": changed(layers=[LAYERS[0] | {"size": 2**63}]),
    "a size that is true": changed(layers=[LAYERS[0] | {"size": True}]),
    "a size with a point": changed(layers=[LAYERS[0] | {"size": 7.0}]),
    "a wrong size": changed(layers=[LAYERS[0] | {"size": 8}]),
    "two sizes": changed(layers=[LAYERS[0], LAYERS[0] | {"size": 8}]),
    "a digest that is none": changed(layers=[LAYERS[0] | {"digest": "sha256:../../etc/passwd"}]),
    "a digest that is null": changed(layers=[LAYERS[0] | {"digest": None}]),
    "an unknown algorithm": changed(layers=[LAYERS[0] | {"digest": f"md5:{'0' * 32}"}]),
    "other data": changed(layers=[LAYERS[0] | {"data": "b3RoZXIhIQ=="}]),
    "data that is no base64": changed(layers=[LAYERS[0] | {"data": "?"}]),
    "a subject that is none": changed(subject={"mediaType": MANIFEST, "digest": "x", "size": 1}),
    "annotations that are a list": changed(annotations=["a"]),
    "an annotation that is a number": changed(annotations={"a": 1}),
    "an annotation with a NUL": changed(annotations={"a": "\x00"}),
    "an annotation with half a pair": changed(annotations={"a": "\ud800"}),
    "an artifact type that is a list": changed(artifactType=[]),
}


async def test_what_is_no_manifest_is_400(door: Door, web: str, image: bytes) -> None:
    for case, manifest in HOSTILE.items():
        answer = await door.push_manifest(web, "hostile", manifest)
        assert (answer.status_code, refusal(answer)["code"]) == (400, "MANIFEST_INVALID"), (case, answer.text)
    assert (await door.get(f"/v2/{web}/tags/list")).json()["tags"] == ["1.0"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json", "application/vnd.docker.distribution.manifest.v1+json", "x"]
)
async def test_a_type_that_is_not_kept_is_400(door: Door, web: str, image: bytes, content_type: str) -> None:
    answer = await door.push_manifest(web, "typed", image, content_type)
    assert (answer.status_code, refusal(answer)["code"]) == (400, "MANIFEST_INVALID")


async def test_text_of_strangers_is_kept_as_it_is(door: Door, web: str, image: bytes) -> None:
    annotations = {"html": "<script>", "bidi": "\u202e", "control": "\x07\x1b[31m", "astral": "\U0001f433", "": ""}
    manifest = json.dumps(json.loads(image) | {"annotations": annotations}, ensure_ascii=False).encode()
    assert (await door.push_manifest(web, "odd", manifest)).status_code == 201
    assert (await door.get(f"/v2/{web}/manifests/odd")).content == manifest


async def test_an_index_of_many_children(door: Door, web: str, image: bytes) -> None:
    """The same child may stand there often."""
    index = index_of(*[image] * 10_000)
    assert (await door.push_manifest(web, "many", index, INDEX)).status_code == 201


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("reference", ["absent", ABSENT])
async def test_a_manifest_that_is_not_here_is_404(
    door: Door, web: str, image: bytes, method: str, reference: str
) -> None:
    answer = await door.request(method, f"/v2/{web}/manifests/{reference}")
    assert answer.status_code == 404
    if method == "GET":
        assert refusal(answer)["code"] == "MANIFEST_UNKNOWN"


async def test_a_push_that_was_cut_short_leaves_nothing(door: Door, web: str, image: bytes) -> None:
    async def stream() -> Any:
        yield image[:10]
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await door.put(f"/v2/{web}/manifests/cut", content=stream(), headers={"Content-Type": MANIFEST})
    assert (await door.get(f"/v2/{web}/manifests/cut")).status_code == 404
