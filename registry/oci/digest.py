"""Digests: what content is known by (image-spec 1.1, descriptor.md, "Digests").

Both registered algorithms are full identities: the same bytes under sha256 and sha512 are two blobs to a
client, and each is echoed as it was asked for. A well-formed digest of another algorithm is refused, since
nothing could check it.
"""

import hashlib
import re

from registry.oci.errors import DigestInvalid, shown

LENGTHS = {"sha256": 64, "sha512": 128}
SUPPORTED = "sha256 (64 lowercase hexadecimal digits) and sha512 (128)"

_HEX = re.compile("[0-9a-f]+")


class Digest(str):
    """`sha256:6c3c…`, checked. Made by `parse_digest` and `digest_of`; calling the class itself checks
    nothing."""

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        return self.partition(":")[2]


def parse_digest(text: str) -> Digest:
    """Raises `DigestInvalid`."""
    algorithm, colon, encoded = text.partition(":")
    if not colon:
        raise DigestInvalid(f"{shown(text)} is no digest: it must look like 'sha256:' and 64 hexadecimal digits.")
    _check_algorithm(algorithm)
    if len(encoded) != LENGTHS[algorithm] or not _HEX.fullmatch(encoded):
        raise DigestInvalid(
            f"{shown(text)} is no {algorithm} digest: after the colon must come exactly {LENGTHS[algorithm]} "
            "lowercase hexadecimal digits."
        )
    return Digest(text)


def hasher(algorithm: str) -> "hashlib._Hash":
    """A fresh hash object. Raises `DigestInvalid` for an algorithm that is not supported."""
    _check_algorithm(algorithm)
    return hashlib.new(algorithm)


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Raises `DigestInvalid` for an algorithm that is not supported."""
    state = hasher(algorithm)
    state.update(data)
    return Digest(f"{algorithm}:{state.hexdigest()}")


def looks_like_digest(reference: str) -> bool:
    """Whether a reference in a path means a digest, well-formed or not: no tag holds a colon."""
    return ":" in reference


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in LENGTHS:
        raise DigestInvalid(f"The digest algorithm {shown(algorithm)} is not supported; supported are {SUPPORTED}.")
