"""Reading the log: newest first, filtered. Owners of an account read their account's entries, platform administrators
all.

Who asks has what is on its way numbered first, so that everybody finds what they did a moment ago. What has no number
yet, because no server numbers just now, can be asked for by itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Select, false, select, union_all
from sqlmodel import col

from registry.access import finding
from registry.audit.entries import COLUMNS, columns_of_event, read_time
from registry.audit.filtering import EntryFilter, Sought, alternatives, holds, sought
from registry.audit.tables import AuditRow, InboxRow
from registry.audit.tiling import Tree, tree_of
from registry.work import Work

MOST_WAITING = 10_000
LINE: tuple[Any, ...] = (
    col(AuditRow.seq),
    col(AuditRow.logged_at),
    col(AuditRow.leaf),
    col(AuditRow.entry),
    col(AuditRow.account_id),
)
ORDER: tuple[Any, ...] = (col(AuditRow.logged_at), col(AuditRow.seq))
WAITING: tuple[Any, ...] = (col(InboxRow.id), col(InboxRow.body))
# The time of the entries around one: a tile's last is the next one's first.
AROUND = """
    SELECT (SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1::bigint - 1) AS since,
        (SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1::bigint) AS until
"""
BY_INDEX = """
    SELECT seq, logged_at, leaf, entry, account_id FROM audit_log
    WHERE seq = $1 AND logged_at >= coalesce($2::timestamptz, '-infinity')
        AND logged_at <= coalesce($3::timestamptz, 'infinity')
"""
PUBLISHED = "SELECT size FROM audit_checkpoint ORDER BY at DESC, size DESC LIMIT 1"
TILE_BEFORE = "SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1::bigint / 256 - 1"


async def entries(work: Work, wanted: EntryFilter, account: str | None = None) -> list[Select[Any]]:
    """The rows that the actor may read and wants, of one account if it is named: as one statement or several, of which
    `first_of` makes one. Raises what `require` raises."""
    return await entries_of(work, wanted, await scope(work, account))


async def entries_of(work: Work, wanted: EntryFilter, whose: UUID | None) -> list[Select[Any]]:
    """As `entries`, for those who have asked whose log may be read."""
    found = await sought(work, wanted, whose)
    state = await _in_state(work, wanted.state)
    return [select(*LINE).where(*ways, *state) for ways in await alternatives(work, found)]


def first_of(statements: Sequence[Select[Any]], *where: ColumnElement[bool], limit: int, newest: bool) -> Select[Any]:
    """Of the rows of several statements those that come first, by the log's order or newest first."""

    def ordered(statement: Select[Any], columns: Sequence[Any]) -> Select[Any]:
        return statement.order_by(*(column.desc() if newest else column.asc() for column in columns)).limit(limit)

    parts = [ordered(each.where(*where), ORDER) for each in statements or [select(*LINE).where(false())]]
    if len(parts) == 1:
        return parts[0]
    whole = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return ordered(select(whole), [whole.c[column.key] for column in ORDER])


async def waiting(work: Work, wanted: EntryFilter, account: str | None = None) -> tuple[Sought, Select[Any]]:
    """What has no number yet: what is wanted of it, by `among`, and the rows. Raises what `require` raises."""
    found = await sought(work, wanted, await scope(work, account))
    return found, select(*WAITING).limit(MOST_WAITING)


def among(rows: Iterable[Any], wanted: Sought) -> Iterable[Any]:
    """The rows that are wanted. Bytes that are no event are for the sequencer to tell of."""
    for row in rows:
        try:
            event = orjson.loads(row["body"])
            columns = dict(zip(COLUMNS, columns_of_event(event, None), strict=True))
            if holds(wanted, columns, read_time(event["occurred_at"])):
                yield row
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


async def entry(work: Work, index: int) -> Any | None:
    """The row of that index, if the actor may read it."""
    row = await row_of(work, index)
    platform, own = await finding.platform_and_account(work, None)
    if row is None or work.allows("view_audit", platform):
        return row
    return row if row["account_id"] == own.account_id and work.allows("view_audit", own) else None


async def row_of(work: Work, index: int) -> Any | None:
    """The row of that index, whoever asks. The tiles tell its time, and so its partition."""
    around = await work.fetchrow(AROUND, index // 256)
    assert around is not None  # noqa: S101
    return await work.fetchrow(BY_INDEX, index, around["since"], around["until"])


async def scope(work: Work, account: str | None) -> UUID | None:
    """Whose log is read: the account's that is named, else all for platform administrators, else one's own.

    Raises what `require` raises.
    """
    platform, place = await finding.platform_and_account(work, account)
    if account is None and work.allows("view_audit", platform):
        return None
    work.require("view_audit", place)
    return place.id


async def published(work: Work) -> int:
    """How many entries stand under the newest checkpoint."""
    size: int | None = await work.fetchval(PUBLISHED)
    return size or 0


async def tree(work: Work) -> Tree:
    return await tree_of(work.fetch)


async def _in_state(work: Work, state: str | None) -> list[ColumnElement[bool]]:
    """What is not published yet is the end of the log, which begins with a known time."""
    if state is None:
        return []
    size = await published(work)
    if state == "PUBLISHED":
        return [col(AuditRow.seq) < size]
    since = await work.fetchval(TILE_BEFORE, size)
    later = [] if since is None else [col(AuditRow.logged_at) >= since]
    return [col(AuditRow.seq) >= size, *later]
