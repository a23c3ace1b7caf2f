"""Digests."""

import contextlib
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci.digest import Digest, digest_of, hasher, looks_like_digest, parse_digest
from registry.oci.errors import DigestInvalid

unhurried = settings(deadline=None)
algorithms = st.sampled_from(["sha256", "sha512"])

# Row 8 of "hostile and edge inputs".
BAD = {
    "empty": "",
    "tag": "latest",
    "no algorithm": ":" + "0" * 64,
    "no digits": "sha256:",
    "too short": "sha256:" + "0" * 63,
    "too long": "sha256:" + "0" * 65,
    "length of the other algorithm": "sha512:" + "0" * 64,
    "upper-case digits": "sha256:" + "A" * 64,
    "upper-case algorithm": "SHA256:" + "0" * 64,
    "other letters": "sha256:" + "g" * 64,
    "words": "sha256:baddigeststring",
    "md5": "md5:" + "0" * 32,
    "sha1": "sha1:" + "0" * 40,
    "blake3": "blake3:" + "0" * 64,
    "well-formed and unknown": "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
    "newline": "sha256:" + "0" * 64 + "\n",
    "newline for the last digit": "sha256:" + "0" * 63 + "\n",
    "space": " sha256:" + "0" * 64,
    "two colons": "sha256:sha256:" + "0" * 57,
    "full-width digits": "sha256:" + "\uff10" * 64,
    "path": "sha256:../../etc/passwd",
    "huge": "sha256:" + "0" * 1_000_000,
}


@pytest.mark.parametrize("case", BAD)
def test_row_8_a_bad_digest_is_refused(case: str) -> None:
    with pytest.raises(DigestInvalid) as refused:
        parse_digest(BAD[case])
    assert refused.value.code == "DIGEST_INVALID"
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 500


def test_an_unknown_algorithm_is_told_the_known_ones() -> None:
    for refused_call in (lambda: parse_digest("md5:" + "0" * 32), lambda: hasher("md5")):
        with pytest.raises(DigestInvalid, match=r"'md5' is not supported; supported are sha256 .* and sha512"):
            refused_call()


def test_the_parts_of_a_digest() -> None:
    digest = parse_digest("sha512:" + "0f" * 64)
    assert (digest.algorithm, digest.encoded) == ("sha512", "0f" * 64)


def test_a_digest_is_a_string_to_everyone_else() -> None:
    text = "sha256:" + "0" * 64
    assert parse_digest(text) == text
    assert f"{parse_digest(text)}" == text
    assert json.dumps({"digest": parse_digest(text)}) == f'{{"digest": "{text}"}}'


def test_a_known_value() -> None:
    """FIPS 180-2, B.1: the digest of `abc`."""
    assert digest_of(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@unhurried
@given(st.binary(), algorithms)
def test_what_is_computed_can_be_parsed(data: bytes, algorithm: str) -> None:
    digest = digest_of(data, algorithm)
    assert parse_digest(str(digest)) == digest == Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    assert digest.algorithm == algorithm


@unhurried
@given(st.binary(), st.binary(), algorithms)
def test_a_hasher_takes_bytes_piece_by_piece(first: bytes, second: bytes, algorithm: str) -> None:
    state = hasher(algorithm)
    state.update(first)
    state.update(second)
    assert f"{algorithm}:{state.hexdigest()}" == digest_of(first + second, algorithm)


@unhurried
@given(st.text() | st.from_regex(r"[a-z0-9+._-]{1,8}:[a-zA-Z0-9=_-]{1,130}", fullmatch=True))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(DigestInvalid):
        assert parse_digest(text) == text


@pytest.mark.parametrize(
    ("reference", "digest"), [("sha256:garbage", True), (":", True), ("latest", False), ("sha256-00", False)]
)
def test_a_colon_makes_a_reference_a_digest(reference: str, digest: bool) -> None:
    assert looks_like_digest(reference) is digest
