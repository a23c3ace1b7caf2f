"""The log as static files, as C2SP's tlog-tiles lays them out: what a witness or any tool of that kind reads.

Only what a published checkpoint covers is there. Hashes tell nothing of an entry, so anybody may have them; bundles of
entries are for those who may read the whole log.
"""

from registry.audit import proving, tiling
from registry.errors import NotFound
from registry.storage.database import Fetch
from registry.transparency import tiles
from registry.transparency.merkle import HASH_BYTES
from registry.transparency.tiles import ENTRIES, WIDTH, Tile, TilePathInvalid, parse_tile_path

TIMES = """
    SELECT coalesce((SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1 - 1), '-infinity') AS since,
        coalesce((SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1), 'infinity') AS until
"""
BUNDLE = """
    SELECT entry FROM audit_log WHERE logged_at BETWEEN $1 AND $2 AND seq >= $3 AND seq < $4 ORDER BY logged_at, seq
"""


class TileNotFound(NotFound):
    code = "TILE_NOT_FOUND"


async def checkpoint(fetch: Fetch) -> str:
    """The newest signed note. Raises `TileNotFound` before there is one."""
    found = await proving.checkpoint(fetch)
    if found is None:
        raise TileNotFound("No checkpoint has been published yet; try again in a moment.")
    return found.note


def tile_of(path: str) -> Tile:
    """Raises `TileNotFound` for what is no path of a tile."""
    try:
        return parse_tile_path(path)
    except TilePathInvalid as error:
        raise TileNotFound(str(error)) from error


async def tile(fetch: Fetch, wanted: Tile) -> bytes:
    """The bytes of a tile or bundle. Raises `TileNotFound`."""
    newest = await proving.checkpoint(fetch)
    level = max(wanted.level, 0)
    last = (wanted.index * WIDTH + wanted.width) << 8 * level
    if newest is None or last > newest.size:
        raise TileNotFound(f"The log has {newest.size if newest else 0} published entries, so this tile is not there.")
    if wanted.level == ENTRIES:
        return await _bundle(fetch, wanted)
    tree = await tiling.tree_of(fetch)
    data = await tiling.read_tiles(fetch, tree, [(wanted.level, wanted.index)])
    return data[wanted.level, wanted.index][: wanted.width * HASH_BYTES]


async def _bundle(fetch: Fetch, wanted: Tile) -> bytes:
    first = wanted.index * WIDTH
    times = (await fetch(TIMES, wanted.index))[0]
    rows = await fetch(BUNDLE, times["since"], times["until"], first, first + wanted.width)
    if len(rows) < wanted.width:
        raise TileNotFound("The entries of this bundle were archived and are not in the database any more.")
    return tiles.bundle([row["entry"] for row in rows])
