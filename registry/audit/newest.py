"""The newest entries of the log, read once for all who follow it through this server.

Whose entry it is and what is in it is looked at here, in memory, for each follower: nothing is given out without that.
What was opened and the names that were looked up are shared for a second, so that a person who was forgotten is so
within it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from registry.audit.entries import COLUMNS, Wrapped, columns_of
from registry.audit.filtering import Sought, holds
from registry.audit.reading import LINE, TILE_BEFORE
from registry.audit.showing import Line, Shown, numbered, show
from registry.audit.tables import AuditRow
from registry.work import Work

MOST = 256
SHARED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Read:
    """An entry, and what the table's columns say of it."""

    index: int
    line: Line
    columns: Mapping[str, Any]
    logged_at: datetime


class Newest:
    """The entries of a span of numbers, which moves with the end of the log while somebody follows. Those of a month
    that was dropped are not there."""

    def __init__(self) -> None:
        self._begin = self._end = 0
        self._entries: list[Read] = []
        self._reading, self._showing = asyncio.Lock(), asyncio.Lock()
        self._shown: dict[int | None, Shown] = {}
        self._shown_since = 0.0

    async def span(self, work: Work, begin: int, end: int) -> Sequence[Read]:
        """The entries of these numbers, not more than `MOST`, which all have been committed."""
        async with self._reading:
            if not self._begin <= begin <= self._end:
                self._begin, self._end, self._entries = begin, begin, []
            if self._end < end:
                self._entries += await _read(work, self._end, end)
                self._begin, self._end = max(self._begin, end - MOST), end
                self._entries = _between(self._entries, self._begin, end)
            return _between(self._entries, begin, end)

    async def shown(self, work: Work, lines: Sequence[Line]) -> list[Shown]:
        async with self._showing:
            now = asyncio.get_running_loop().time()
            if now - self._shown_since > SHARED_SECONDS or len(self._shown) > MOST:
                self._shown, self._shown_since = {}, now
            missing = [line for line in lines if line.index not in self._shown]
            self._shown |= {one.line.index: one for one in await show(work, missing)}
            return [self._shown[line.index] for line in lines]

    def forget(self) -> None:
        """Nobody follows any more."""
        self._begin = self._end = 0
        self._entries, self._shown = [], {}


def among(entries: Iterable[Read], wanted: Sought) -> list[Line]:
    return [one.line for one in entries if holds(wanted, one.columns, one.logged_at)]


def _between(entries: Iterable[Read], begin: int, end: int) -> list[Read]:
    return [one for one in entries if begin <= one.index < end]


async def _read(work: Work, begin: int, end: int) -> list[Read]:
    since = await work.fetchval(TILE_BEFORE, begin)
    later = [] if since is None else [col(AuditRow.logged_at) >= since]
    span = [col(AuditRow.seq) >= begin, col(AuditRow.seq) < end, *later]
    rows = await work.fetch(select(*LINE).where(*span).order_by(col(AuditRow.logged_at), col(AuditRow.seq)))
    return [_entry(row) for row in rows]


def _entry(row: Any) -> Read:
    line = numbered(row)
    columns = columns_of(Wrapped(line.body, "", line.number))
    return Read(row["seq"], line, dict(zip(COLUMNS, columns, strict=True)), row["logged_at"])
