"""Descriptors. Rows are those of "hostile and edge inputs"."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci.descriptor import MAX_SIZE, Descriptor, Platform, read_descriptor
from registry.oci.digest import digest_of
from registry.oci.errors import ManifestInvalid

unhurried = settings(deadline=None, max_examples=200)
CONTENT = b"{}"
FIELDS = ["mediaType", "digest", "size", "urls", "annotations", "artifactType", "platform", "data"]
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text().map(lambda text: [text])
values = plain | st.lists(plain) | st.dictionaries(st.text(), plain)


def written(**changes: Any) -> dict[str, Any]:
    """A good descriptor, as JSON has it, with some fields changed."""
    good = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(CONTENT), "size": 2}
    return good | changes


def test_the_least_there_must_be() -> None:
    descriptor = read_descriptor(written(), "config")
    assert descriptor == Descriptor("application/vnd.oci.empty.v1+json", digest_of(CONTENT), 2)
    assert (descriptor.urls, descriptor.annotations, descriptor.platform, descriptor.data) == (
        (),
        {},
        None,
        None,
    )


def test_all_there_may_be() -> None:
    descriptor = read_descriptor(
        written(
            digest=digest_of(CONTENT, "sha512"),
            urls=["https://example.com/a", "ftp://example.com/b"],
            annotations={"a": "b"},
            artifactType="application/vnd.example+json",
            platform={"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["x"]},
            data=base64.b64encode(CONTENT).decode(),
            custom={"kept": "in the body"},
        ),
        "manifests[0]",
    )
    assert descriptor.digest.algorithm == "sha512"
    assert descriptor.urls == ("https://example.com/a", "ftp://example.com/b")
    assert descriptor.annotations == {"a": "b"}
    assert descriptor.artifact_type == "application/vnd.example+json"
    assert descriptor.platform == Platform("linux", "arm", "v7")
    assert descriptor.data == CONTENT


@pytest.mark.parametrize("field", ["urls", "annotations", "artifactType", "platform", "data"])
def test_null_is_absent(field: str) -> None:
    assert read_descriptor(written(**{field: None}), "config") == read_descriptor(written(), "config")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/octet-stream",
        "text/plain; charset=utf-8",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "appliciation/vnd.sylabs.sif.layer.tar",
        "a/b",
        "x/" + "y" * 127,
    ],
)
def test_media_types_of_every_kind(media_type: str) -> None:
    assert read_descriptor(written(mediaType=media_type), "layers[0]").media_type == media_type


BAD: dict[str, tuple[Any, str, str]] = {
    "null": (None, "layers[3]", "is missing"),
    "a string": ("sha256:00", "layers[3]", "must be an object, not a string"),
    "a list": ([], "layers[3]", "must be an object, not a list"),
    "nothing in it": ({}, "layers[3].mediaType", "must be a string, not null"),
    "no media type": (written(mediaType=None), "layers[3].mediaType", "must be a string, not null"),
    "empty media type": (written(mediaType=""), "layers[3].mediaType", "must be a media type"),
    "media type without slash": (written(mediaType="layer"), "layers[3].mediaType", "must be a media type"),
    "media type with newline": (written(mediaType="a/b\n"), "layers[3].mediaType", "must be a media type"),
    "media type too long": (
        written(mediaType="a/" + "b" * 128),
        "layers[3].mediaType",
        "must be a media type",
    ),
    "media type a number": (written(mediaType=1), "layers[3].mediaType", "must be a string, not a number"),
    "no digest": (written(digest=None), "layers[3].digest", "must be a string, not null"),
    "digest a list": (written(digest=["sha256:00"]), "layers[3].digest", "must be a string, not a list"),
    "row 34: digest malformed": (written(digest="sha256:bad"), "layers[3].digest", "is no sha256 digest"),
    "row 8: digest of md5": (written(digest="md5:" + "0" * 32), "layers[3].digest", "not supported"),
    "no size": (written(size=None), "layers[3].size", "whole number"),
    "row 33: size negative": (written(size=-1), "layers[3].size", "whole number"),
    "row 33: size of 2^63": (written(size=MAX_SIZE + 1), "layers[3].size", "whole number"),
    "size true": (written(size=True), "layers[3].size", "whole number"),
    "size a fraction": (written(size=2.0), "layers[3].size", "whole number"),
    "size a string": (written(size="2"), "layers[3].size", "whole number"),
    "urls a string": (written(urls="https://example.com"), "layers[3].urls", "must be a list, not a string"),
    "url a number": (written(urls=["https://a", 1]), "layers[3].urls[1]", "must be a string, not a number"),
    "annotations a list": (written(annotations=[]), "layers[3].annotations", "must be an object, not a list"),
    "annotation a number": (written(annotations={"a": 1}), "layers[3].annotations['a']", "must be a string"),
    "artifact type a number": (written(artifactType=1), "layers[3].artifactType", "must be a string"),
    "platform a string": (written(platform="linux"), "layers[3].platform", "must be an object, not a string"),
    "os a number": (written(platform={"os": 1}), "layers[3].platform.os", "must be a string, not a number"),
    "data a number": (written(data=1), "layers[3].data", "must be a string, not a number"),
    "row 33: data no base64": (written(data="{}"), "layers[3].data", "is not base64"),
    "row 33: data not ASCII": (written(data="é"), "layers[3].data", "is not base64"),
    "row 33: data with a newline": (written(data="e30=\n"), "layers[3].data", "is not base64"),
    "row 33: data of another size": (written(data="e30K"), "layers[3].data", "3 bytes, but the size says 2"),
    "row 33: data empty, size not": (written(data=""), "layers[3].data", "0 bytes, but the size says 2"),
    "row 33: data of another digest": (written(data="W10="), "layers[3].data", "other bytes than the digest"),
    "field in other letters": (written(Digest=digest_of(b"")), "layers[3].digest", "is spelled 'Digest'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_descriptor_is_told_its_field(case: str) -> None:
    value, field, why = BAD[case]
    with pytest.raises(ManifestInvalid) as refused:
        read_descriptor(value, "layers[3]")
    assert refused.value.code == "MANIFEST_INVALID"
    assert refused.value.detail == {"field": field}
    assert field in refused.value.message
    assert why in refused.value.message


def test_the_largest_size() -> None:
    assert read_descriptor(written(size=MAX_SIZE), "config").size == MAX_SIZE


@unhurried
@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]))
def test_embedded_content_is_content(content: bytes, algorithm: str) -> None:
    descriptor = read_descriptor(
        written(digest=digest_of(content, algorithm), size=len(content), data=base64.b64encode(content).decode()),
        "config",
    )
    assert descriptor.data == content


@unhurried
@given(values | st.dictionaries(st.sampled_from(FIELDS), values).map(lambda changes: written(**changes)))
def test_any_json_gives_a_descriptor_or_names_a_field(value: Any) -> None:
    try:
        descriptor = read_descriptor(value, "config")
    except ManifestInvalid as refused:
        assert "config" in refused.detail["field"]
    else:
        assert (descriptor.media_type, descriptor.size) == (value["mediaType"], value["size"])
        assert 0 <= descriptor.size <= MAX_SIZE


@pytest.mark.parametrize(
    ("platform", "text", "known"),
    [
        (Platform("linux", "amd64"), "linux/amd64", True),
        (Platform("linux", "arm", "v7"), "linux/arm/v7", True),
        (Platform("unknown", "unknown"), "unknown/unknown", False),
        (Platform("", ""), "", False),
        (Platform("linux", ""), "linux", False),
    ],
)
def test_platforms(platform: Platform, text: str, known: bool) -> None:
    assert (str(platform), platform.known) == (text, known)
