"""Ranges of downloads and of upload chunks. Rows are those of "hostile and edge inputs"."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci.errors import RangeInvalid
from registry.oci.ranges import MAX_OFFSET, parse_content_range, parse_range

unhurried = settings(deadline=None, max_examples=300)
sizes = st.integers(0, 2**40)


@pytest.mark.parametrize(
    ("header", "size", "part"),
    [
        ("bytes=500-1499", 2048, (500, 1499)),
        ("bytes=500-", 2048, (500, 2047)),
        ("bytes=-500", 2048, (1548, 2047)),
        ("bytes=2000-5000", 2048, (2000, 2047)),
        ("bytes=0-0", 1, (0, 0)),
        ("bytes=-5", 3, (0, 2)),
        ("BYTES=0-1", 3, (0, 1)),
        ("bytes= 0-1 ", 3, (0, 1)),
        ("bytes=00000000000000000000001-2", 3, (1, 2)),
        ("bytes=0-" + "9" * 20, 3, (0, 2)),
        ("bytes=0-" + "9" * 5000, 3, (0, 2)),
        ("bytes=-" + "9" * 5000, 3, (0, 2)),
    ],
)
def test_one_range_is_served(header: str, size: int, part: tuple[int, int]) -> None:
    assert parse_range(header, size) == part


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5",
        "bytes=a-b",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0x0-0xf",
        "bytes=1_0-2_0",
        "bytes=\u0661-\u0662",
        "lines=0-1",
        "byte\u017f=0-1",
        "bytes 0-1",
        "bytes=0-0,2-3",
        "bytes=0-0, -1",
        "bytes=" + ",".join(["0-"] * 500),
        "none",
    ],
)
def test_row_41_what_is_not_one_range_of_bytes_is_ignored(header: str) -> None:
    """Several ranges too: a request of 500 ranges must not be worth 500 answers."""
    assert parse_range(header, 2048) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=500-0", 2048),
        ("bytes=5000-10000", 2048),
        ("bytes=2048-", 2048),
        ("bytes=-0", 2048),
        ("bytes=" + "9" * 20 + "-", 2048),
        ("bytes=" + "9" * 5000 + "-", 2048),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-0", 0),
    ],
)
def test_row_41_a_range_without_a_byte_is_refused(header: str, size: int) -> None:
    with pytest.raises(RangeInvalid) as refused:
        parse_range(header, size)
    assert refused.value.code == "RANGE_INVALID"
    assert refused.value.detail == {"size": size}


def test_the_end_of_an_empty_blob_is_the_whole_of_it() -> None:
    """Satisfiable by RFC 9110, 14.1.2, but no Content-Range could say so."""
    assert parse_range("bytes=-5", 0) is None


@unhurried
@given(sizes, st.integers(0, 2**41), st.integers(0, 2**41))
def test_a_range_is_what_slicing_gives(size: int, start: int, end: int) -> None:
    expected = range(size)[start : end + 1] if start <= end else range(0)
    try:
        part = parse_range(f"bytes={start}-{end}", size)
    except RangeInvalid:
        assert not expected
    else:
        assert part == (expected[0], expected[-1])


@unhurried
@given(sizes, st.integers(1, 2**41))
def test_a_suffix_is_what_slicing_gives(size: int, length: int) -> None:
    expected = range(size)[-length:]
    assert parse_range(f"bytes=-{length}", size) == ((expected[0], expected[-1]) if expected else None)


@unhurried
@given(st.from_regex(r"(bytes=)?[0-9,\- ]*", fullmatch=True) | st.text(), sizes)
def test_any_header_gives_a_part_or_all_or_a_refusal(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except RangeInvalid as refused:
        assert refused.detail == {"size": size}
    else:
        assert part is None or 0 <= part[0] <= part[1] < size


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("0-1023", (0, 1023)),
        ("0-0", (0, 0)),
        ("1024-2047", (1024, 2047)),
        (" 0-1 ", (0, 1)),
        ("bytes 0-2/3", (0, 2)),
        ("bytes 0-2/*", (0, 2)),
        ("bytes 0-2", (0, 2)),
        ("Bytes 0-2/10", (0, 2)),
        (f"0-{MAX_OFFSET - 1}", (0, MAX_OFFSET - 1)),
    ],
)
def test_row_11_where_a_chunk_stands(header: str, part: tuple[int, int]) -> None:
    assert parse_content_range(header) == part


@pytest.mark.parametrize(
    "header",
    [
        "",
        "-",
        "0",
        "0-",
        "-5",
        "0--1",
        "5-4",
        "a-b",
        "0-1,2-3",
        "bytes=0-1",
        "bytes */3",
        "bytes 0-2/2",
        "lines 0-2/3",
        f"0-{MAX_OFFSET}",
        "0-" + "9" * 20,
        "9" * 5000 + "-" + "9" * 5000,
        "\u0660-\u0661",
    ],
)
def test_row_11_a_chunk_that_stands_nowhere_is_refused(header: str) -> None:
    with pytest.raises(RangeInvalid) as refused:
        parse_content_range(header)
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300


@unhurried
@given(st.integers(0, 2**64), st.integers(0, 2**64), st.sampled_from(["{}-{}", "bytes {}-{}/*"]))
def test_a_content_range_means_its_numbers(start: int, end: int, form: str) -> None:
    try:
        assert parse_content_range(form.format(start, end)) == (start, end)
    except RangeInvalid:
        assert end < start or end >= MAX_OFFSET


@unhurried
@given(st.from_regex(r"(bytes )?[0-9\-/*]*", fullmatch=True) | st.text())
def test_any_content_range_gives_a_part_or_a_refusal(header: str) -> None:
    try:
        start, end = parse_content_range(header)
    except RangeInvalid:
        return
    assert 0 <= start <= end < MAX_OFFSET
