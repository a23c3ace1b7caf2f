"""Media types, and what Accept headers take."""

import pytest

from registry.oci import media_types
from registry.oci.media_types import accepted, bare, is_index, is_manifest

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def test_images_and_indexes_are_the_manifests() -> None:
    assert is_manifest(OCI) and not is_index(OCI)
    assert is_manifest(DOCKER_LIST) and is_index(DOCKER_LIST)
    for media_type in ("application/json", "", "application/vnd.docker.distribution.manifest.v1+prettyjws"):
        assert not is_manifest(media_type) and not is_index(media_type)


def test_no_type_has_two_meanings() -> None:
    kinds = [
        media_types.IMAGE_MANIFESTS,
        media_types.INDEXES,
        media_types.SCHEMA1_MANIFESTS,
        media_types.CONFIGS,
        media_types.LAYERS,
        media_types.FOREIGN_LAYERS,
    ]
    assert len(frozenset().union(*kinds)) == sum(map(len, kinds))


@pytest.mark.parametrize(
    ("header", "plain"),
    [
        (OCI, OCI),
        (f"{OCI}; charset=utf-8", OCI),
        (OCI.upper(), OCI),
        (f" {OCI} ;q=1", OCI),
        ("", ""),
        (";", ""),
    ],
)
def test_bare_types(header: str, plain: str) -> None:
    assert bare(header) == plain


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["*/*"],
        ["application/*"],
        ["application/json"],
        ["text/html, */*;q=0.8"],
        [OCI],
        [f"{OCI}; charset=utf-8"],
        [OCI.upper()],
        [f"{DOCKER_LIST}, {OCI}"],
        [DOCKER_LIST, OCI],
        [f"{DOCKER_LIST},,{OCI},"],
    ],
)
def test_headers_that_take_an_oci_manifest(headers: list[str]) -> None:
    assert accepted(OCI, headers)


@pytest.mark.parametrize(
    "headers",
    [[DOCKER_LIST], ["text/html"], ["text/*"], [f"{OCI}x"], ["application/vnd.oci.image.index.v1+json"]],
)
def test_headers_that_do_not(headers: list[str]) -> None:
    assert not accepted(OCI, headers)
