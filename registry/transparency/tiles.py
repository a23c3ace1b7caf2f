"""The tree as files that never change (C2SP tlog-tiles): tiles of 256 hashes, and bundles of the entries under them.

Tile `index` of level 0 holds the hashes of leaves 256·index and following; one of level L + 1 holds the roots of the
tiles of level L. The last tile of a level may be partial; `edge[level]` is what it holds.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.transparency.merkle import EMPTY_ROOT, HASH_BYTES, folded, perfect_root

WIDTH = 256
FULL_BYTES = WIDTH * HASH_BYTES
ENTRIES = -1  # stands for the level of entry bundles
HIGHEST_LEVEL = 63
LONGEST_ENTRY = 65_535
PATH = re.compile(r"tile/(entries|[0-9]{1,2})((?:/x[0-9]{3})*/[0-9]{3})(?:\.p/([0-9]{1,3}))?")

Spot = tuple[int, int]
"""Level and index of a tile."""


class TilePathInvalid(ValueError):
    """Not the path of a tile."""


@dataclass(frozen=True, slots=True)
class Tile:
    """`width` is 256 for a full tile. `level` is ENTRIES for a bundle of entries."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        level = "entries" if self.level == ENTRIES else str(self.level)
        digits = f"{self.index:03}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
        name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        return f"tile/{level}/{name}" + ("" if self.width == WIDTH else f".p/{self.width}")


def parse_tile_path(path: str) -> Tile:
    """Only the one way in which a tile is written. Raises `TilePathInvalid`."""
    found = PATH.fullmatch(path) if len(path) <= 200 else None
    if found is not None:
        level = ENTRIES if found[1] == "entries" else int(found[1])
        tile = Tile(level, int(re.sub("[x/]", "", found[2])), WIDTH if found[3] is None else int(found[3]))
        if tile.path == path and tile.width >= 1 and level <= HIGHEST_LEVEL:
            return tile
    raise TilePathInvalid("A tile is written as tile/0/x001/234, with .p/ and its width behind if it is partial.")


# Bundles


def bundle(entries: Sequence[bytes]) -> bytes:
    """Each entry behind its length, in two bytes. Raises ValueError for one that is too long."""
    if any(len(entry) > LONGEST_ENTRY for entry in entries):
        raise ValueError(f"An entry has at most {LONGEST_ENTRY} bytes.")
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def read_bundle(data: bytes) -> list[bytes]:
    """Raises ValueError when the lengths do not add up."""
    found, place = [], 0
    while place < len(data):
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        if end > len(data) or len(data) - place < 2:
            raise ValueError("The bundle ends in the middle of an entry.")
        found.append(data[place + 2 : end])
        place = end
    return found


# Growing


@dataclass(frozen=True, slots=True)
class Growth:
    """`full` are the tiles that became full, as level, index and data."""

    size: int
    edge: list[bytes]
    full: list[tuple[int, int, bytes]]


def grow(size: int, edge: Sequence[bytes], leaves: Sequence[bytes]) -> Growth:
    """The tree of that size and edge, with further hashes of leaves."""
    kept, full = [bytes(part) for part in edge], []
    hashes, level = list(leaves), 0
    while hashes:
        if level == len(kept):
            kept.append(b"")
        data, index = kept[level] + b"".join(hashes), size >> 8 * (level + 1)
        hashes = []
        while len(data) >= FULL_BYTES:
            tile, data = data[:FULL_BYTES], data[FULL_BYTES:]
            full.append((level, index, tile))
            hashes.append(perfect_root(_split(tile)))
            index += 1
        kept[level] = data
        level += 1
    return Growth(size + len(leaves), kept, full)


def root_of(size: int, edge: Sequence[bytes]) -> bytes:
    return root_at(size, {(level, size >> 8 * (level + 1)): data for level, data in enumerate(edge)})


# Reading. Which tiles are needed is asked first, since fetching them is not done here.


def tiles_for_range(size: int) -> list[Spot]:
    """The tiles that `compact_range` and `root_at` need."""
    return _spots(_perfect(0, size))


def compact_range(size: int, tiles: Mapping[Spot, bytes]) -> list[bytes]:
    """The roots of the perfect subtrees of the first `size` leaves, from left to right. Raises KeyError or ValueError
    when a tile is missing or too short."""
    return [_node(height, index, tiles) for height, index in _perfect(0, size)]


def root_at(size: int, tiles: Mapping[Spot, bytes]) -> bytes:
    return EMPTY_ROOT if size == 0 else folded(compact_range(size, tiles))


def tiles_for_inclusion(index: int, size: int) -> list[Spot]:
    return _spots([node for part in _inclusion(index, 0, size) for node in part])


def inclusion_proof(index: int, size: int, tiles: Mapping[Spot, bytes]) -> list[bytes]:
    """From the leaf upwards (RFC 9162, 2.1.3.1). Raises ValueError for an index that is not below the size."""
    return [_root(part, tiles) for part in _inclusion(index, 0, size)]


def tiles_for_consistency(first: int, second: int) -> list[Spot]:
    return _spots([node for part in _consistency(first, second) for node in part])


def consistency_proof(first: int, second: int, tiles: Mapping[Spot, bytes]) -> list[bytes]:
    """As RFC 9162, 2.1.4.1. Raises ValueError for sizes in the wrong order."""
    return [_root(part, tiles) for part in _consistency(first, second)]


# A range of leaves as perfect subtrees, each (height, index): the root over leaves index·2^height and following.


def _perfect(begin: int, end: int) -> list[Spot]:
    """Of a range that begins at a multiple of the greatest power of two it holds, as those of proofs do."""
    found = []
    while begin < end:
        height = (end - begin).bit_length() - 1
        found.append((height, begin >> height))
        begin += 1 << height
    return found


def _inclusion(index: int, begin: int, end: int) -> list[list[Spot]]:
    """The subtrees beside the path from the leaf to the root, each as the perfect subtrees it consists of."""
    if not begin <= index < end:
        raise ValueError(f"A tree of {end} leaves has none of index {index}.")
    found = []
    while end - begin > 1:
        middle = begin + _split_at(end - begin)
        if index < middle:
            found.append(_perfect(middle, end))
            end = middle
        else:
            found.append(_perfect(begin, middle))
            begin = middle
    return found[::-1]


def _consistency(first: int, second: int) -> list[list[Spot]]:
    if not 0 <= first <= second:
        raise ValueError(f"A tree of {first} leaves cannot be the beginning of one of {second}.")
    if first in (0, second):
        return []
    found, begin, end, whole = [], 0, second, True
    while first != end:
        middle = begin + _split_at(end - begin)
        if first <= middle:
            found.append(_perfect(middle, end))
            end = middle
        else:
            found.append(_perfect(begin, middle))
            begin, whole = middle, False
    if not whole:
        found.append(_perfect(begin, end))
    return found[::-1]


def _split_at(count: int) -> int:
    """The greatest power of two below the count."""
    return 1 << (count - 1).bit_length() - 1


def _spots(nodes: Sequence[Spot]) -> list[Spot]:
    return sorted({_tile_of(height, index)[0] for height, index in nodes})


def _tile_of(height: int, index: int) -> tuple[Spot, int, int]:
    """The tile under whose hashes a node lies, and the first and the number of them."""
    level, above = divmod(height, 8)
    first = index << above
    return (level, first // WIDTH), first % WIDTH, 1 << above


def _node(height: int, index: int, tiles: Mapping[Spot, bytes]) -> bytes:
    spot, first, count = _tile_of(height, index)
    data = tiles[spot][first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(data) != count * HASH_BYTES:
        raise ValueError(f"Tile {spot[1]} of level {spot[0]} is too short.")
    return perfect_root(_split(data))


def _root(nodes: Sequence[Spot], tiles: Mapping[Spot, bytes]) -> bytes:
    return folded([_node(height, index, tiles) for height, index in nodes])


def _split(data: bytes) -> list[bytes]:
    return [data[place : place + HASH_BYTES] for place in range(0, len(data), HASH_BYTES)]
