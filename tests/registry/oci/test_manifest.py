"""Manifests. Rows are those of "hostile and edge inputs"."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci import manifest as manifests
from registry.oci import media_types as types
from registry.oci.digest import digest_of
from registry.oci.errors import ManifestInvalid
from registry.oci.manifest import Manifest

unhurried = settings(deadline=None, max_examples=200)
Json = dict[str, Any]
SUBJECT = "sha256:" + "5" * 64


def named(content: str, media_type: str = types.OCI_LAYER_GZIP, **more: Any) -> Json:
    """A descriptor of some content."""
    return {"mediaType": media_type, "digest": digest_of(content.encode()), "size": len(content), **more}


def image(**changes: Any) -> Json:
    """A good image; a field changed to `...` is left out."""
    return _changed(
        {
            "schemaVersion": 2,
            "mediaType": types.OCI_MANIFEST,
            "config": named("config", types.OCI_CONFIG),
            "layers": [named("first"), named("second")],
        },
        changes,
    )


def index(**changes: Any) -> Json:
    """A good index; a field changed to `...` is left out."""
    children = [
        named("amd64", types.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        named("arm", types.OCI_MANIFEST, platform={"os": "linux", "architecture": "arm", "variant": "v7"}),
    ]
    return _changed({"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": children}, changes)


def artifact(**changes: Any) -> Json:
    """What `oras attach` pushes."""
    empty = {"mediaType": types.OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2, "data": "e30="}
    return image(**{"artifactType": "application/vnd.example.sbom", "config": empty, "layers": [empty]} | changes)


def docker_image(**changes: Any) -> Json:
    config, layer = named("config", types.DOCKER_CONFIG), named("layer", types.DOCKER_LAYER)
    return image(**{"mediaType": types.DOCKER_MANIFEST, "config": config, "layers": [layer]} | changes)


def parse(document: Json, content_type: str | None = None) -> Manifest:
    return manifests.parse(json.dumps(document).encode(), content_type)


def digests(*contents: str) -> list[str]:
    return [digest_of(content.encode()) for content in contents]


def _changed(document: Json, changes: Json) -> Json:
    return {name: value for name, value in (document | changes).items() if value is not ...}


def test_an_image() -> None:
    read = parse(image(annotations={"a": "b"}), types.OCI_MANIFEST)
    assert read.media_type == types.OCI_MANIFEST
    assert read.artifact_type == types.OCI_CONFIG
    assert read.config is not None and read.config.digest == digest_of(b"config")
    assert [layer.digest for layer in read.layers] == digests("first", "second")
    assert (read.children, read.subject, read.annotations, read.platforms) == ((), None, {"a": "b"}, ())
    assert [blob.digest for blob in read.needed_blobs] == digests("config", "first", "second")
    assert read.needed_manifests == ()


def test_an_index() -> None:
    read = parse(index(), types.OCI_INDEX)
    assert (read.config, read.layers, read.artifact_type) == (None, (), None)
    assert [child.digest for child in read.children] == digests("amd64", "arm")
    assert read.needed_manifests == read.children
    assert read.needed_blobs == ()
    assert read.platforms == ("linux/amd64", "linux/arm/v7")


def test_the_body_is_kept_byte_for_byte() -> None:
    body = b'\n { "layers" : [ ] , "config":' + json.dumps(named("c")).encode() + b', "schemaVersion":2}\r\n'
    assert manifests.parse(body, types.OCI_MANIFEST).body == body


def test_the_limit_that_callers_keep_is_four_mebibytes() -> None:
    """The conformance suite pushes 3.9 million bytes, and containerd reads up to 4.39 million."""
    assert 3_900_000 < manifests.MAX_BYTES == 4_194_304 < 4_390_000


GOOD = {
    "image by body alone": (image(), None),
    "image by header alone": (image(mediaType=...), types.OCI_MANIFEST),
    "index by header alone": (index(mediaType=...), types.OCI_INDEX),
    "docker image by header alone": (docker_image(mediaType=...), types.DOCKER_MANIFEST),
    "empty header": (image(), ""),
    "row 31: charset parameter": (image(), f"{types.OCI_MANIFEST}; charset=utf-8"),
    "row 31: odd case": (image(), types.OCI_MANIFEST.upper()),
    "row 31: blanks": (index(), f"  {types.OCI_INDEX} ; a=b"),
    "no layers": (image(layers=[]), types.OCI_MANIFEST),
    "layers null, as Go writes none": (image(layers=None), types.OCI_MANIFEST),
    "no children": (index(manifests=[]), types.OCI_INDEX),
    "children null, as Go writes none": (index(manifests=None), types.OCI_INDEX),
    "optional fields null": (image(subject=None, annotations=None, artifactType=None), None),
    "optional fields empty": (image(annotations={}, artifactType=""), None),
    "custom fields": (image(**{"org.example": {"deep": [1, 2.5, None, True]}, "history": []}), None),
    "artifact": (artifact(), types.OCI_MANIFEST),
    "docker image": (docker_image(), types.DOCKER_MANIFEST),
    "docker index": (index(mediaType=types.DOCKER_INDEX), types.DOCKER_INDEX),
    "docker plugin": (docker_image(config=named("c", types.DOCKER_PLUGIN_CONFIG)), types.DOCKER_MANIFEST),
    "sha512": (image(config=named("c") | {"digest": digest_of(b"c", "sha512")}), None),
    "row 34: subject absent from the registry": (image(subject=named("gone", types.OCI_MANIFEST)), None),
    "row 35: 1,000 children": (index(manifests=[named(str(n), types.OCI_INDEX) for n in range(1000)]), None),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_manifest_is_accepted(case: str) -> None:
    document, content_type = GOOD[case]
    read = parse(document, content_type)
    assert types.is_manifest(read.media_type)
    assert read.media_type == document.get("mediaType", read.media_type)
    assert len(read.layers) == len(document.get("layers") or [])
    assert len(read.children) == len(document.get("manifests") or [])


SCHEMA1 = {
    "schemaVersion": 1,
    "name": "acme/web",
    "fsLayers": [{"blobSum": "sha256:" + "0" * 64}],
    "history": [],
    "signatures": [],
}
BAD = {
    "row 28: no object": ([], types.OCI_MANIFEST, "must be a JSON object"),
    "row 29: image with manifests": (image(manifests=[]), None, "manifests must not stand in an image"),
    "row 29: index with layers": (index(layers=[]), None, "layers must not stand in an index"),
    "row 29: index with config": (index(config=named("c")), None, "config must not stand in an index"),
    "row 29: index sent as image": (index(mediaType=...), types.OCI_MANIFEST, "manifests must not stand"),
    "row 29: image sent as index": (image(mediaType=...), types.OCI_INDEX, "config must not stand"),
    "row 29: layers an object": (image(layers={}), None, "layers must be a list, not an object"),
    "row 29: layer a string": (image(layers=["a"]), None, "layers[0] must be an object, not a string"),
    "row 29: layer null": (image(layers=[None]), None, "layers[0] is missing"),
    "row 29: config a list": (image(config=[]), None, "config must be an object, not a list"),
    "row 29: manifests a string": (index(manifests="a"), None, "manifests must be a list, not a string"),
    "row 29: annotations a list": (image(annotations=["a"]), None, "annotations must be an object"),
    "row 29: annotation a number": (image(annotations={"a": 1}), None, "annotations['a'] must be a string"),
    "row 29: media type a number": (image(mediaType=1), types.OCI_MANIFEST, "mediaType must be a string"),
    "row 29: artifact type a list": (
        image(artifactType=[]),
        None,
        "artifactType must be a string, not a list",
    ),
    "row 29: field in other letters": (image(Layers=[]), None, "layers is spelled 'Layers'"),
    "row 29: manifests in other letters": (image(Manifests=[]), None, "manifests is spelled 'Manifests'"),
    "row 30: types differ": (image(), types.DOCKER_MANIFEST, "the Content-Type says"),
    "row 30: image and index differ": (image(), types.OCI_INDEX, "the Content-Type says"),
    "row 30: no type": (image(mediaType=...), None, "has no type"),
    "row 30: text/plain": (image(mediaType=...), "text/plain", "'text/plain' is no type of manifest"),
    "row 30: text/plain beside a type": (image(), "text/plain", "the Content-Type says 'text/plain'"),
    "row 30: application/json": (image(mediaType=...), "application/json", "'application/json' is no type"),
    "row 30: unknown type": (image(mediaType="a/b"), None, "'a/b' is no type of manifest"),
    "row 30: config type": (image(mediaType=...), types.OCI_CONFIG, "is no type of manifest"),
    "artifact manifest": (image(mediaType=types.OCI_ARTIFACT_MANIFEST), None, "was withdrawn"),
    "schema 1, signed": (SCHEMA1, types.DOCKER_SCHEMA1_SIGNED, "of schema 1 are not supported"),
    "schema 1, without type": (SCHEMA1, None, "of schema 1 are not supported"),
    "schema 1, in disguise": (SCHEMA1, types.DOCKER_MANIFEST, "of schema 1 are not supported"),
    "schema 1, by version": (image(schemaVersion=1), None, "of schema 1 are not supported"),
    "schema 1, by layers": (image(fsLayers=[]), None, "of schema 1 are not supported"),
    "schema 1, by type": (image(mediaType=types.DOCKER_SCHEMA1), None, "of schema 1 are not supported"),
    "no version": (image(schemaVersion=...), None, "schemaVersion must be the number 2"),
    "version a string": (image(schemaVersion="2"), None, "schemaVersion must be the number 2"),
    "version a fraction": (image(schemaVersion=2.0), None, "schemaVersion must be the number 2"),
    "version 3": (image(schemaVersion=3), None, "schemaVersion must be the number 2"),
    "version true": (image(schemaVersion=True), None, "schemaVersion must be the number 2"),
    "no config": (image(config=...), None, "config is missing"),
    "config null": (image(config=None), None, "config is missing"),
    "no layer list": (image(layers=...), None, "layers is missing"),
    "no child list": (index(manifests=...), None, "manifests is missing"),
    "row 33: size negative": (image(layers=[named("a", size=-1)]), None, "layers[0].size must be"),
    "row 33: size of 2^63": (index(manifests=[named("a", size=2**63)]), None, "manifests[0].size must be"),
    "row 33: data of another digest": (
        artifact(layers=[named("ab", data="e30=")]),
        None,
        "layers[0].data holds",
    ),
    "row 33: two sizes": (image(layers=[named("a"), named("a", size=2)]), None, "two sizes for sha256:"),
    "row 33: config and layer differ": (image(layers=[named("config", size=1)]), None, "two sizes for"),
    "row 34: subject malformed": (
        image(subject=named("a", digest="sha256:bad")),
        None,
        "subject.digest cannot",
    ),
    "row 34: subject a string": (image(subject=SUBJECT), None, "subject must be an object, not a string"),
    "row 34: subject empty": (index(subject={}), None, "subject.mediaType must be a string"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_manifest_is_told_why(case: str) -> None:
    document, content_type, why = BAD[case]
    with pytest.raises(ManifestInvalid) as refused:
        manifests.parse(json.dumps(document).encode(), content_type)
    assert refused.value.code == "MANIFEST_INVALID"
    assert why in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "body",
    [b"", b"blablabla", b"\xef\xbb\xbf{}", b'{"schemaVersion": NaN}', b"[" * 200_000, b'{"a":1,"a":1}'],
)
def test_row_28_what_is_no_json_is_no_manifest(body: bytes) -> None:
    """test_document has all of them."""
    with pytest.raises(ManifestInvalid):
        manifests.parse(body, types.OCI_MANIFEST)


@pytest.mark.parametrize(
    ("document", "artifact_type"),
    [
        (image(), types.OCI_CONFIG),
        (docker_image(), types.DOCKER_CONFIG),
        (artifact(), "application/vnd.example.sbom"),
        (image(artifactType="application/vnd.example.sbom"), "application/vnd.example.sbom"),
        (image(artifactType=""), types.OCI_CONFIG),
        (index(), None),
        (index(artifactType="application/vnd.example.set"), "application/vnd.example.set"),
    ],
)
def test_the_artifact_type_that_referrers_show(document: Json, artifact_type: str | None) -> None:
    assert parse(document).artifact_type == artifact_type


@pytest.mark.parametrize("document", [image, index, artifact, docker_image])
def test_any_manifest_may_have_a_subject(document: Any) -> None:
    read = parse(document(subject=named("subject", types.OCI_MANIFEST)))
    assert read.subject is not None and read.subject.digest == digest_of(b"subject")
    assert digest_of(b"subject") not in [needed.digest for needed in (*read.needed_blobs, *read.needed_manifests)]


@pytest.mark.parametrize("media_type", sorted(types.FOREIGN_LAYERS))
def test_row_32_foreign_layers_need_no_blob(media_type: str) -> None:
    foreign = named("foreign", media_type, urls=["https://example.com/foreign"])
    read = parse(docker_image(layers=[foreign, named("own", types.DOCKER_LAYER)]))
    assert [layer.digest for layer in read.layers] == digests("foreign", "own")
    assert [blob.digest for blob in read.needed_blobs] == digests("config", "own")


def test_row_32_nothing_else_is_exempt() -> None:
    """Neither a layer that says it is a manifest, nor a config that says it is foreign, nor one with urls."""
    strange = [named("a", types.OCI_MANIFEST), named("b", urls=["https://example.com/b"])]
    read = parse(image(config=named("config", types.DOCKER_FOREIGN_LAYER), layers=strange))
    assert [blob.digest for blob in read.needed_blobs] == digests("config", "a", "b")


def test_each_blob_is_needed_once() -> None:
    read = parse(image(layers=[named("a"), named("config"), named("b"), named("a")]))
    assert len(read.layers) == 4
    assert [blob.digest for blob in read.needed_blobs] == digests("config", "a", "b")


def test_each_manifest_is_needed_once() -> None:
    """BuildKit lists one manifest for several platforms."""
    child = named("a", types.OCI_MANIFEST)
    platforms = [{"os": "linux", "architecture": "arm", "variant": variant} for variant in ("v6", "v7", "v7")]
    read = parse(index(manifests=[child | {"platform": platform} for platform in platforms]))
    assert [needed.digest for needed in read.needed_manifests] == digests("a")
    assert read.platforms == ("linux/arm/v6", "linux/arm/v7")


def test_an_index_of_layers_needs_blobs() -> None:
    """Docker's build cache, as BuildKit exported it for years."""
    cache = [
        named("layer"),
        named("cache", "application/vnd.buildkit.cacheconfig.v0"),
        named("m", types.OCI_MANIFEST),
    ]
    read = parse(index(manifests=cache))
    assert [blob.digest for blob in read.needed_blobs] == digests("layer", "cache")
    assert [needed.digest for needed in read.needed_manifests] == digests("m")


def test_attestations_are_no_platform() -> None:
    unknown = named("attestation", types.OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"})
    read = parse(index(manifests=[*index()["manifests"], unknown, named("plain", types.OCI_MANIFEST)]))
    assert read.platforms == ("linux/amd64", "linux/arm/v7")
    assert len(read.needed_manifests) == 4


def test_row_49_hostile_text_is_kept_as_it_is() -> None:
    text = "<script>\x1b[31m\u202e\U0001f600"
    read = parse(image(artifactType=text, annotations={text: text}))
    assert (read.artifact_type, read.annotations) == (text, {text: text})


plain: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just({}) | st.just([])
)
descriptors = st.builds(named, st.text(max_size=3), st.sampled_from([types.OCI_LAYER, types.OCI_MANIFEST, "a"]))
odd = plain | st.lists(plain | descriptors, max_size=3) | st.dictionaries(st.text(), plain, max_size=3)
changes = st.dictionaries(
    st.sampled_from([*image(), "artifactType", "manifests", "subject", "annotations", "fsLayers"]),
    odd | descriptors | st.just(...),
    max_size=3,
)
headers = st.none() | st.text() | st.sampled_from([*sorted(types.MANIFESTS), "text/plain", "; charset=utf-8"])


@unhurried
@given(
    st.one_of(st.builds(lambda made: image(**made), changes), st.builds(lambda made: index(**made), changes)),
    headers,
)
def test_any_json_gives_a_manifest_or_a_refusal(document: Json, content_type: str | None) -> None:
    """And whatever passes is one thing only, and needs nothing that it does not name."""
    body = json.dumps(document).encode()
    try:
        read = manifests.parse(body, content_type)
    except ManifestInvalid:
        return
    assert (read.config is None) == types.is_index(read.media_type)
    assert not (read.layers and read.children)
    everything = {descriptor.digest for descriptor in (read.config, *read.layers, *read.children) if descriptor}
    assert {needed.digest for needed in (*read.needed_blobs, *read.needed_manifests)} <= everything
    assert read.body == body


@unhurried
@given(st.binary() | st.text().map(str.encode), headers)
def test_any_bytes_give_a_refusal(body: bytes, content_type: str | None) -> None:
    with pytest.raises(ManifestInvalid):
        manifests.parse(body, content_type)


@unhurried
@given(
    st.integers(0, 300),
    st.sampled_from([b"", b"\x00", b'"', b"\\", b"{", b"]", b"9" * 5000, b"\xff", b"NaN"]),
)
def test_a_damaged_manifest_gives_a_manifest_or_a_refusal(position: int, damage: bytes) -> None:
    body = json.dumps(image()).encode()
    damaged = body[:position] + damage + body[position + len(damage[:1]) :]
    with contextlib.suppress(ManifestInvalid):
        assert manifests.parse(damaged, types.OCI_MANIFEST).body == damaged
