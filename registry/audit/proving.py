"""Proofs out of the tiles: that an entry is in the log, and that one log is the beginning of another.

They are hashes only and tell nothing of any entry, but which entries a person may ask about is for the caller to know.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.audit import tiling
from registry.audit.tiling import Tree
from registry.errors import Invalid
from registry.storage.database import Fetch
from registry.transparency import tiles
from registry.transparency.proofs import Proof

NOTES = "SELECT origin, size, root, note, at FROM audit_checkpoint"
NEWEST = f"{NOTES} ORDER BY at DESC, size DESC LIMIT 1"
OF_SIZE = f"{NOTES} WHERE size = $1 ORDER BY at DESC LIMIT 1"


class SizeOutOfRange(Invalid):
    """`detail` holds path, and size: that of the log at present."""

    code = "LOG_SIZE_OUT_OF_RANGE"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint, and when it was first signed."""

    origin: str
    size: int
    root: bytes
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Inclusion:
    """`published` is the checkpoint of exactly that size, if there is one."""

    index: int
    size: int
    root: bytes
    hashes: list[bytes]
    published: Published | None

    def text(self, entry: bytes | None) -> str | None:
        """The proof as C2SP's tlog-proof has it; none without a checkpoint, which is a part of it. The entry is one if
        it is at hand."""
        if self.published is None:
            return None
        return Proof(self.index, tuple(self.hashes), self.published.note, entry).text


@dataclass(frozen=True, slots=True)
class Consistency:
    first: int
    second: int
    first_root: bytes
    second_root: bytes
    hashes: list[bytes]


async def checkpoint(fetch: Fetch, size: int | None = None) -> Published | None:
    """The newest, or that of so many entries."""
    rows = await fetch(NEWEST) if size is None else await fetch(OF_SIZE, size)
    return _published(rows[0]) if rows else None


async def inclusion(fetch: Fetch, index: int, size: int | None = None) -> Inclusion:
    """In the log of that size; without one in that of the newest checkpoint if it covers the entry, else in the log as
    it is. Raises `SizeOutOfRange`."""
    tree = await tiling.tree_of(fetch)
    if size is None:
        newest = await checkpoint(fetch)
        size = newest.size if newest is not None and newest.size > index else tree.size
    _check(size, tree, "size")
    if not 0 <= index < size:
        raise SizeOutOfRange(f"A log of {size} entries has none of index {index}.", path=["index"], size=tree.size)
    wanted = {*tiles.tiles_for_inclusion(index, size), *tiles.tiles_for_range(size)}
    found = await tiling.read_tiles(fetch, tree, wanted)
    hashes = tiles.inclusion_proof(index, size, found)
    return Inclusion(index, size, tiles.root_at(size, found), hashes, await checkpoint(fetch, size))


async def consistency(fetch: Fetch, first: int, second: int) -> Consistency:
    """Raises `SizeOutOfRange`."""
    tree = await tiling.tree_of(fetch)
    _check(second, tree, "to")
    if not 0 <= first <= second:
        raise SizeOutOfRange(
            f"A log of {first} entries cannot be the beginning of one of {second}.", path=["from"], size=tree.size
        )
    spots = (tiles.tiles_for_consistency(first, second), tiles.tiles_for_range(first), tiles.tiles_for_range(second))
    found = await tiling.read_tiles(fetch, tree, {spot for each in spots for spot in each})
    hashes = tiles.consistency_proof(first, second, found)
    return Consistency(first, second, tiles.root_at(first, found), tiles.root_at(second, found), hashes)


def _check(size: int, tree: Tree, name: str) -> None:
    if not 0 <= size <= tree.size:
        raise SizeOutOfRange(f"The log has {tree.size} entries, so none of {size}.", path=[name], size=tree.size)


def _published(row: Any) -> Published:
    return Published(row["origin"], row["size"], row["root"], row["note"], row["at"])
