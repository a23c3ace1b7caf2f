"""Manifests, OCI's and Docker's, images and indexes: read once, from the very bytes that are stored.

A manifest that passes has one meaning for all clients: its type is the one it was pushed with, and it is
either an image or an index, never both (CVE-2021-41190). Unknown fields are kept and ignored. Whether the
blobs and manifests it needs are there is the caller's question, and so is the size of the body (`MAX_BYTES`),
which must be bounded while it streams in.

Sources: image-spec 1.1, manifest.md and image-index.md; distribution, manifest-v2-2.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.oci import media_types
from registry.oci.descriptor import Descriptor, read_descriptor
from registry.oci.document import (
    check_spelling,
    read_list,
    read_object,
    read_optional_text,
    read_texts,
    refuse,
)
from registry.oci.errors import ManifestInvalid, shown

MAX_BYTES = 4 * 1024 * 1024

_FIELDS = (
    *("schemaVersion", "mediaType", "artifactType", "subject", "annotations"),
    *("config", "layers", "manifests", "fsLayers"),
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """`artifact_type` is the one that referrers show: the manifest's own, else the type of an image's config.

    An image has `config` and `layers`, an index `children`; the others stay empty.
    """

    media_type: str
    artifact_type: str | None
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def needed_blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each once, in order; foreign layers may be absent. Of an index, the children
        that are no manifests: docker's build cache is an index of layers."""
        others = [child for child in self.children if not media_types.is_manifest(child.media_type)]
        layers = [one for one in (*self.layers, *others) if one.media_type not in media_types.FOREIGN_LAYERS]
        return _distinct([self.config, *layers] if self.config else layers)

    @property
    def needed_manifests(self) -> tuple[Descriptor, ...]:
        """The children that are manifests, each once, in order. A subject may come later, or never."""
        return _distinct(child for child in self.children if media_types.is_manifest(child.media_type))

    @property
    def platforms(self) -> tuple[str, ...]:
        """What an index is for: `os/arch` or `os/arch/variant`, each once, attestations left out."""
        platforms = (child.platform for child in self.children)
        return tuple(dict.fromkeys(str(platform) for platform in platforms if platform and platform.known))


def parse(body: bytes, content_type: str | None) -> Manifest:
    """`content_type` is the header as it was sent, if it was. Raises `ManifestInvalid`."""
    document = read_object(body)
    check_spelling(document, _FIELDS)
    media_type = _read_media_type(document, content_type)
    _check_version(document)
    read = _read_index if media_types.is_index(media_type) else _read_image
    manifest = read(document, media_type, body)
    _check_sizes(manifest)
    return manifest


def _read_media_type(document: Mapping[str, Any], content_type: str | None) -> str:
    """The header, without parameters, or else the body's own word. Where there are both, they must agree."""
    inner = read_optional_text(document.get("mediaType"), "mediaType")
    outer = media_types.bare(content_type or "")
    _check_not_schema1(document, inner, outer)
    if inner and outer and inner != outer:
        refuse("mediaType", f"is {shown(inner)}, but the Content-Type says {shown(outer)}; they must agree.")
    media_type = outer or inner
    if media_type is None:
        raise ManifestInvalid("The manifest has no type: send a Content-Type, or write a mediaType into it.")
    _check_kept(media_type)
    return media_type


def _check_not_schema1(document: Mapping[str, Any], *types: str | None) -> None:
    version = document.get("schemaVersion")
    if (
        not media_types.SCHEMA1_MANIFESTS.isdisjoint(types)
        or (version == 1 and type(version) is int)
        or document.get("fsLayers") is not None
    ):
        raise ManifestInvalid(
            "Docker image manifests of schema 1 are not supported any more; push with Docker 1.10 or newer, "
            "or convert the image, for example with 'skopeo copy --format oci'."
        )


def _check_kept(media_type: str) -> None:
    if media_type == media_types.OCI_ARTIFACT_MANIFEST:
        raise ManifestInvalid(
            "OCI's artifact manifest was withdrawn before image-spec 1.1; push an image manifest with an "
            "artifactType instead, as current clients do."
        )
    if not media_types.is_manifest(media_type):
        known = ", ".join(sorted(media_types.MANIFESTS))
        raise ManifestInvalid(f"{shown(media_type)} is no type of manifest that is kept here: {known}.")


def _check_version(document: Mapping[str, Any]) -> None:
    version = document.get("schemaVersion")
    if type(version) is not int or version != 2:
        refuse("schemaVersion", "must be the number 2.")


def _read_image(document: Mapping[str, Any], media_type: str, body: bytes) -> Manifest:
    _check_absent(document, ("manifests",), "an image manifest")
    config = read_descriptor(document.get("config"), "config")
    if "layers" not in document:
        refuse("layers", "is missing; an image without layers has an empty list.")
    return Manifest(
        media_type=media_type,
        artifact_type=_read_artifact_type(document) or config.media_type,
        config=config,
        layers=_read_descriptors(document, "layers"),
        children=(),
        subject=_read_subject(document),
        annotations=read_texts(document.get("annotations"), "annotations"),
        body=body,
    )


def _read_index(document: Mapping[str, Any], media_type: str, body: bytes) -> Manifest:
    _check_absent(document, ("config", "layers"), "an index")
    if "manifests" not in document:
        refuse("manifests", "is missing; an index without manifests has an empty list.")
    return Manifest(
        media_type=media_type,
        artifact_type=_read_artifact_type(document),
        config=None,
        layers=(),
        children=_read_descriptors(document, "manifests"),
        subject=_read_subject(document),
        annotations=read_texts(document.get("annotations"), "annotations"),
        body=body,
    )


def _read_artifact_type(document: Mapping[str, Any]) -> str | None:
    return read_optional_text(document.get("artifactType"), "artifactType")


def _read_subject(document: Mapping[str, Any]) -> Descriptor | None:
    subject = document.get("subject")
    return None if subject is None else read_descriptor(subject, "subject")


def _read_descriptors(document: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    items = read_list(document[name], name)
    return tuple(read_descriptor(item, f"{name}[{number}]") for number, item in enumerate(items))


def _check_absent(document: Mapping[str, Any], names: Iterable[str], kind: str) -> None:
    for name in names:
        if document.get(name) is not None:
            refuse(name, f"must not stand in {kind}: clients would disagree on what it is.")


def _check_sizes(manifest: Manifest) -> None:
    """Equal digests must have equal sizes: `_distinct` shows only the first to whoever compares them."""
    sizes = {manifest.config.digest: manifest.config.size} if manifest.config else {}
    for descriptor in (*manifest.layers, *manifest.children):
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise ManifestInvalid(f"The manifest gives two sizes for {descriptor.digest}.")


def _distinct(descriptors: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    first: dict[str, Descriptor] = {}
    for descriptor in descriptors:
        first.setdefault(descriptor.digest, descriptor)
    return tuple(first.values())
