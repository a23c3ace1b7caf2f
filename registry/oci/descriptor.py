"""Descriptors: how a manifest names content (image-spec 1.1, descriptor.md).

What is read here is safe to store and to compute with, and true to itself: embedded data has the size and
digest that the descriptor claims. Whether the content exists, and has that size, only the caller can know.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.oci.digest import Digest, digest_of, parse_digest
from registry.oci.document import (
    check_spelling,
    read_list,
    read_map,
    read_optional_text,
    read_text,
    read_texts,
    refuse,
    within,
)
from registry.oci.errors import DigestInvalid, shown

MAX_SIZE = 2**63 - 1

_FIELDS = ("mediaType", "digest", "size", "urls", "annotations", "artifactType", "platform", "data")
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
# RFC 6838, 4.2; parameters are tolerated, because clients that push plain files write them.
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}( *;[ -~]*)?")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on. Any part may be empty; attestations have `unknown` in both."""

    os: str
    architecture: str
    variant: str = ""

    @property
    def known(self) -> bool:
        return {self.os, self.architecture}.isdisjoint({"", "unknown"})

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`size` is in bytes; `data` is the content itself, if it was embedded."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    platform: Platform | None = None
    data: bytes | None = field(default=None, repr=False)


def read_descriptor(obj: Any, where: str) -> Descriptor:
    """`where` is the descriptor's place in its manifest, as in `layers[2]`. Raises `ManifestInvalid`."""
    if obj is None:
        refuse(where, "is missing, and must be a descriptor with mediaType, digest and size.")
    fields = read_map(obj, where)
    check_spelling(fields, _FIELDS, where)
    descriptor = Descriptor(
        media_type=_read_media_type(fields.get("mediaType"), within(where, "mediaType")),
        digest=_read_digest(fields.get("digest"), within(where, "digest")),
        size=_read_size(fields.get("size"), within(where, "size")),
        urls=_read_urls(fields.get("urls"), within(where, "urls")),
        annotations=read_texts(fields.get("annotations"), within(where, "annotations")),
        artifact_type=read_optional_text(fields.get("artifactType"), within(where, "artifactType")),
        platform=_read_platform(fields.get("platform"), within(where, "platform")),
        data=_read_data(fields.get("data"), within(where, "data")),
    )
    _check_data(descriptor, within(where, "data"))
    return descriptor


def _read_media_type(value: Any, where: str) -> str:
    text = read_text(value, where)
    if not _MEDIA_TYPE.fullmatch(text):
        refuse(where, f"must be a media type such as 'application/octet-stream', not {shown(text)}.")
    return text


def _read_digest(value: Any, where: str) -> Digest:
    try:
        return parse_digest(read_text(value, where))
    except DigestInvalid as error:
        refuse(where, f"cannot be used. {error.message}")


def _read_size(value: Any, where: str) -> int:
    # A boolean is an int to Python, and 2.0 a size to JavaScript; neither is one here.
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        refuse(where, f"must be a whole number of bytes from 0 to {MAX_SIZE}.")
    return value


def _read_urls(value: Any, where: str) -> tuple[str, ...]:
    return tuple(read_text(url, f"{where}[{number}]") for number, url in enumerate(read_list(value, where)))


def _read_platform(value: Any, where: str) -> Platform | None:
    if value is None:
        return None
    fields = read_map(value, where)
    names = ("os", "architecture", "variant")
    return Platform(*(read_optional_text(fields.get(name), within(where, name)) or "" for name in names))


def _read_data(value: Any, where: str) -> bytes | None:
    try:
        return None if value is None else base64.b64decode(read_text(value, where), validate=True)
    except ValueError:
        refuse(where, "is not base64 (RFC 4648, 4).")


def _check_data(descriptor: Descriptor, where: str) -> None:
    data = descriptor.data
    if data is None:
        return
    if len(data) != descriptor.size:
        refuse(where, f"holds {len(data)} bytes, but the size says {descriptor.size}.")
    if digest_of(data, descriptor.digest.algorithm) != descriptor.digest:
        refuse(where, "holds other bytes than the digest names.")
