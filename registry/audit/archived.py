"""What is left of an entry whose month was archived and dropped: where it went, and its leaf, which stays in the tree.

Platform administrators, who may read the whole log, hear which file to look in, and can have it proven still. Whose it
was cannot be told any more, so others who may read a log hear no more than that it has left; how long the log is, and
so that the number exists, everybody knows from its checkpoint.
"""

from typing import Any

from registry.access import finding
from registry.audit import reading, tiling
from registry.errors import NotFound
from registry.transparency.merkle import HASH_BYTES
from registry.transparency.tiles import WIDTH
from registry.work import Work

DROPPED = """
    SELECT month, archive FROM audit_segment WHERE dropped_at IS NOT NULL AND $1::bigint BETWEEN first_seq AND last_seq
"""


class EntryArchived(NotFound):
    """`detail` holds month and archive, for those who may read the whole log."""

    code = "ENTRY_ARCHIVED"


async def check(work: Work, index: int) -> None:
    """Raises `EntryArchived` if it left, and the actor may hear that. For entries that were looked for in vain."""
    month = await work.fetchrow(DROPPED, index)
    if month is None:
        return
    if await _reads_all(work):
        raise _with_its_place(index, month)
    if await _reads_own(work):
        raise EntryArchived(
            f"Entry {index} is of a month that was archived and is not in the database any more, so whose it is cannot "
            "be told here. Ask the operator: if it is yours, it is in the archive."
        )


async def archive_of(work: Work, index: int) -> str | None:
    """Where an entry that left went, as a sentence for who may read everything at the machine; None if it did not."""
    month = await work.fetchrow(DROPPED, index)
    return None if month is None else _went(index, month)


async def leaf(work: Work, index: int) -> bytes | None:
    """The hash of an entry that left, for who may read the whole log; None if it did not leave. Raises as `check`."""
    if not await _reads_all(work):
        await check(work, index)
        return None
    if await work.fetchrow(DROPPED, index) is None:
        return None
    spot, place = (0, index // WIDTH), index % WIDTH * HASH_BYTES
    found = await tiling.read_tiles(work.fetch, await reading.tree(work), [spot])
    return found[spot][place : place + HASH_BYTES]


def _with_its_place(index: int, month: Any) -> EntryArchived:
    return EntryArchived(
        f'{_went(index, month)} Look for "seq":{index} in that file; auditProof still proves it.',
        month=f"{month['month']:%Y-%m}",
        archive=month["archive"],
    )


def _went(index: int, month: Any) -> str:
    return (
        f"Entry {index} is of {month['month']:%Y-%m}, which was archived to {month['archive']} and dropped from the "
        "database."
    )


async def _reads_all(work: Work) -> bool:
    return work.allows("view_audit", await finding.platform(work))


async def _reads_own(work: Work) -> bool:
    _, own = await finding.platform_and_account(work, None)
    return work.allows("view_audit", own)
