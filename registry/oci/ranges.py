"""Byte ranges: of downloads (RFC 9110, 14) and of chunks (distribution-spec 1.1, "Pushing a blob in chunks").

Starts and ends are offsets of the first and last byte, both included.
"""

import re

from registry.oci.errors import RangeInvalid, shown

MAX_OFFSET = 2**63 - 1

_RANGE = re.compile(r"[ \t]*bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE | re.ASCII)
_CONTENT_RANGE = re.compile(r"(?:bytes +)?([0-9]+)-([0-9]+)(?:/([0-9]+|\*))?", re.IGNORECASE | re.ASCII)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The one part of `size` bytes that is wanted, or None when the header is to be ignored: send it all.

    Ignored are other units, several ranges (nobody needs them of a blob, and they multiply work) and what
    makes no sense. Raises `RangeInvalid` for a range that holds no byte, reversed ones included.
    """
    found = _RANGE.fullmatch(header)
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return _read_suffix(_number(last), size)
    start, end = _number(first), min(_number(last) if last else size, size - 1)
    if start > end:
        raise _unsatisfiable(header, size)
    return start, end


def parse_content_range(header: str) -> tuple[int, int]:
    """Where a chunk stands in its upload: `0-1023`, or as RFC 9110 has it, `bytes 0-1023/*`.

    Raises `RangeInvalid`, also for what cannot be read.
    """
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        raise RangeInvalid(f"The Content-Range {shown(header)} cannot be read; it must look like '0-1023'.")
    start, end = _number(found[1]), _number(found[2])
    if end < start:
        raise RangeInvalid(f"The Content-Range {shown(header)} ends before it starts.")
    if end >= MAX_OFFSET:
        raise RangeInvalid(f"The Content-Range {shown(header)} is larger than any blob can be.")
    if found[3] not in (None, "*") and _number(found[3]) <= end:
        raise RangeInvalid(f"The Content-Range {shown(header)} ends after the total that it gives.")
    return start, end


def _read_suffix(length: int, size: int) -> tuple[int, int] | None:
    """The last bytes. Of nothing, they are nothing, which only a whole answer can say."""
    if length == 0:
        raise _unsatisfiable("bytes=-0", size)
    return (max(0, size - length), size - 1) if size else None


def _number(digits: str) -> int:
    """Capped at `MAX_OFFSET`, before reading: Python refuses to read numbers of 5000 digits."""
    significant = digits.lstrip("0")
    return MAX_OFFSET if len(significant) > 19 else min(int(significant or "0"), MAX_OFFSET)


def _unsatisfiable(header: str, size: int) -> RangeInvalid:
    return RangeInvalid(f"The range {shown(header)} holds no byte of this blob, which has {size}.", size=size)
