"""Tiles as C2SP's tlog-tiles lays them down, grown and read in any steps, against a naive tree."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.transparency import tiles
from registry.transparency.merkle import (
    CompactRange,
    ProofInvalid,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from registry.transparency.tiles import ENTRIES, Tile, TilePathInvalid, grow, parse_tile_path

LEAVES = [leaf_hash(str(number).encode()) for number in range(70_000)]


def roots(*sizes: int) -> dict[int, bytes]:
    found, tree = {}, CompactRange()
    for size in sorted(sizes):
        tree.extend(LEAVES[tree.size : size])
        found[size] = tree.root()
    return found


def grown(size: int, steps: list[int] | None = None) -> tuple[tiles.Growth, dict[tuple[int, int], bytes]]:
    """The tree of so many leaves, grown in steps, and all its tiles, full or not."""
    tree, full = tiles.Growth(0, [], []), {}
    for step in [*(steps or []), size]:
        count = max(0, min(step, size - tree.size))
        tree = grow(tree.size, tree.edge, LEAVES[tree.size : tree.size + count])
        assert not full.keys() & {(level, index) for level, index, _ in tree.full}
        full |= {(level, index): data for level, index, data in tree.full}
    edge = {(level, size >> 8 * (level + 1)): data for level, data in enumerate(tree.edge)}
    return tree, full | edge


@settings(deadline=None)
@given(st.integers(0, 3000), st.lists(st.integers(1, 700), max_size=8))
def test_the_tree_is_the_same_in_whatever_steps_it_grew(size: int, steps: list[int]) -> None:
    tree, found = grown(size, steps)
    assert tree.size == size
    assert (tree.edge, found) == (grown(size)[0].edge, grown(size)[1])
    assert tiles.root_of(size, tree.edge) == roots(size)[size]
    assert all(len(data) == 8192 for spot, data in found.items() if data and spot[1] < size >> 8 * (spot[0] + 1))


@settings(deadline=None)
@given(st.data())
def test_every_entry_of_every_size_can_be_proven(data: st.DataObject) -> None:
    now = data.draw(st.integers(1, 1500))
    size = data.draw(st.integers(1, now))
    index = data.draw(st.integers(0, size - 1))
    _, found = grown(now)
    only = needed(found, tiles.tiles_for_inclusion(index, size))
    proof = tiles.inclusion_proof(index, size, only)
    verify_inclusion(index, size, LEAVES[index], proof, roots(size)[size])
    with pytest.raises(ProofInvalid):
        verify_inclusion(index, size, LEAVES[index + 1], proof, roots(size)[size])


@settings(deadline=None)
@given(st.data())
def test_every_size_is_proven_to_be_the_beginning_of_every_later_one(data: st.DataObject) -> None:
    now = data.draw(st.integers(1, 1500))
    second = data.draw(st.integers(1, now))
    first = data.draw(st.integers(1, second))
    _, found = grown(now)
    proof = tiles.consistency_proof(first, second, needed(found, tiles.tiles_for_consistency(first, second)))
    known = roots(first, second)
    verify_consistency(first, second, proof, known[first], known[second])
    if first < second:
        with pytest.raises(ProofInvalid):
            verify_consistency(first, second, proof, known[second], known[second])


@settings(deadline=None)
@given(st.integers(0, 1500), st.integers(0, 1500))
def test_a_later_tree_still_tells_the_root_of_an_earlier_one(size: int, more: int) -> None:
    _, found = grown(size + more)
    only = needed(found, tiles.tiles_for_range(size))
    assert tiles.root_at(size, only) == roots(size)[size]
    assert CompactRange(size, tiles.compact_range(size, only)).root() == roots(size)[size]


@pytest.mark.parametrize("size", [255, 256, 257, 65_535, 65_536, 65_537])
def test_where_a_level_fills_up(size: int) -> None:
    tree, found = grown(size)
    known = roots(size, size - 1)
    assert tiles.root_of(size, tree.edge) == known[size]
    assert len(tree.full) == size // 256 + size // 65_536
    for index in (0, size // 2, size - 1):
        verify_inclusion(index, size, LEAVES[index], tiles.inclusion_proof(index, size, found), known[size])
    proof = tiles.consistency_proof(size - 1, size, found)
    verify_consistency(size - 1, size, proof, known[size - 1], known[size])


def test_a_proof_of_what_is_not_there_is_refused() -> None:
    _, found = grown(10)
    for index, size in ((10, 10), (-1, 10), (0, 0)):
        with pytest.raises(ValueError, match="has none of index"):
            tiles.inclusion_proof(index, size, found)
    with pytest.raises(ValueError, match="cannot be the beginning"):
        tiles.consistency_proof(5, 4, found)
    with pytest.raises(ValueError, match="too short"):
        tiles.root_at(11, found)


PATHS = {
    "tile/0/000": Tile(0, 0),
    "tile/0/255": Tile(0, 255),
    "tile/1/x001/234": Tile(1, 1234),
    "tile/2/x001/x234/067": Tile(2, 1234067),
    "tile/0/x001/000.p/1": Tile(0, 1000, 1),
    "tile/3/000.p/255": Tile(3, 0, 255),
    "tile/entries/x012/345": Tile(ENTRIES, 12345),
    "tile/entries/000.p/9": Tile(ENTRIES, 0, 9),
    "tile/63/000": Tile(63, 0),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_read_and_written(path: str) -> None:
    assert parse_tile_path(path) == PATHS[path]
    assert PATHS[path].path == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/001",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/001/234",
        "tile/0/x001/x234",
        "tile/data/000",
        "tile/0/٠٠٠",
        "tile/0/000\n",
        "tile/0/" + "x001/" * 100 + "000",
    ],
)
def test_nothing_else_is_a_path(path: str) -> None:
    with pytest.raises(TilePathInvalid):
        parse_tile_path(path)


@given(st.integers(0, 63), st.integers(0, 2**56), st.integers(1, 256))
def test_paths_and_tiles_are_one_to_one(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_tile_path(tile.path) == tile
    assert re.fullmatch(r"tile/\d+/(x\d{3}/)*\d{3}(\.p/\d+)?", tile.path)


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_a_bundle_gives_back_what_was_put_in(entries: list[bytes]) -> None:
    assert tiles.read_bundle(tiles.bundle(entries)) == entries


def test_a_bundle_that_is_cut_or_too_long_is_refused() -> None:
    whole = tiles.bundle([b"abc", b""])
    assert whole == b"\x00\x03abc\x00\x00"
    for end in (1, 2, 4, 6):
        with pytest.raises(ValueError, match="middle of an entry"):
            tiles.read_bundle(whole[:end])
    with pytest.raises(ValueError, match="65535"):
        tiles.bundle([bytes(65_536)])


def needed(found: Mapping[tuple[int, int], bytes], spots: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """No more than was asked for, so that what is asked for has to be enough."""
    return {spot: found[spot] for spot in spots}
