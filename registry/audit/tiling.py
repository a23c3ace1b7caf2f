"""The tree as it lies in the database: full tiles, and the edge of what fills no tile yet.

The edge is read first. A tile that fills up between the two statements is then read from the edge, of which the full
tile is a continuation: both give the same hashes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from registry.storage.database import Fetch
from registry.transparency import tiles

TREE = "SELECT size, edge, last_at FROM audit_tree"
TILES = """
    SELECT level, idx, data FROM audit_tile
    WHERE (level, idx) IN (SELECT * FROM unnest($1::smallint[], $2::bigint[]))
"""


@dataclass(frozen=True, slots=True)
class Tree:
    """`edge[level]` holds the hashes of that level which fill no tile yet; `last_at` is the last entry's time."""

    size: int
    edge: list[bytes]
    last_at: datetime

    @property
    def root(self) -> bytes:
        return tiles.root_of(self.size, self.edge)


async def tree_of(fetch: Fetch, locking: str = "") -> Tree:
    row = (await fetch(TREE + locking))[0]
    return Tree(row["size"], list(row["edge"]), row["last_at"])


async def read_tiles(fetch: Fetch, tree: Tree, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
    """The data of these tiles, by level and index; the partial ones as the tree's edge has them."""
    asked = sorted(set(wanted))
    found = {spot: tree.edge[spot[0]] for spot in asked if is_edge(tree, *spot)}
    full = [spot for spot in asked if spot not in found]
    if full:
        rows = await fetch(TILES, [level for level, _ in full], [index for _, index in full])
        found |= {(row["level"], row["idx"]): row["data"] for row in rows}
    return found


def is_edge(tree: Tree, level: int, index: int) -> bool:
    """Whether the tile is the partial one of its level."""
    return level < len(tree.edge) and index == tree.size >> (8 * (level + 1))


async def root_at(fetch: Fetch, tree: Tree, size: int) -> bytes:
    """The root of the first `size` entries, as the tree's tiles have it."""
    if size == tree.size:
        return tree.root
    return tiles.root_at(size, await read_tiles(fetch, tree, tiles.tiles_for_range(size)))
