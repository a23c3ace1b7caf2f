"""The months of the log, each a partition of its own, and what has become of them."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from registry.actors import SYSTEM, Origin
from registry.audit.tables import SegmentRow
from registry.errors import Invalid
from registry.work import Foundation

FIRST_YEAR, LAST_YEAR = 1970, 9998  # a month ends where the next one begins
WRITTEN = re.compile("[0-9]{4}-[0-9]{2}").fullmatch
SEGMENTS = "SELECT * FROM audit_segment ORDER BY month"
MONTHS = """
    SELECT DISTINCT date_trunc('month', to_timestamp(split_part(pg_get_expr(c.relpartbound, c.oid), '''', 2),
        'YYYY-MM-DD HH24:MI:SS') AT TIME ZONE 'UTC')::date AS month
    FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE i.inhparent = 'audit_log'::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' ORDER BY month
"""

FILLED = """
    SELECT month FROM unnest($1::date[]) month WHERE EXISTS (SELECT FROM audit_log
        WHERE logged_at >= month::timestamp AT TIME ZONE 'UTC'
            AND logged_at < (month + interval '1 month') AT TIME ZONE 'UTC')
"""


async def prepare(foundation: Foundation) -> None:
    """Makes the partitions of this month and the next, before anything is recorded in them."""
    async with foundation.begin(SYSTEM, Origin()) as work:
        for days in (0, 31):
            await work.fetchval("SELECT audit_prepare($1)", work.now + timedelta(days=days))


class MonthNotOver(Invalid):
    code = "MONTH_NOT_OVER"


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, UTC."""

    first: date

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Of YYYY-MM. Raises `MonthNotOver` for what is no month."""
        with suppress(ValueError):
            if WRITTEN(text) and FIRST_YEAR <= (first := date.fromisoformat(f"{text}-01")).year <= LAST_YEAR:
                return cls(first)
        raise MonthNotOver(f"'{text}' is no month: write it as 2026-01.", path=["month"])

    @property
    def text(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def begin(self) -> datetime:
        return datetime(self.first.year, self.first.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        return Month(self.plus(1)).begin

    def plus(self, months: int) -> date:
        count = self.first.year * 12 + self.first.month - 1 + months
        return date(count // 12, count % 12 + 1, 1)


async def segments(foundation: Foundation) -> list[dict[str, Any]]:
    """What has become of each month that has begun, or of which something is known, the oldest first. `entries` tells
    whether the database holds any of it, `over` whether there can come more."""
    known = {row["month"]: dict(row) for row in await foundation.pool.fetch(SEGMENTS)}
    this = foundation.clock.now().date().replace(day=1)
    begun = {row["month"] for row in await foundation.pool.fetch(MONTHS) if row["month"] <= this}
    unknown = {**dict.fromkeys(SegmentRow.model_fields), "legal_hold": False}
    listed = sorted({*known, *begun})
    filled = {row["month"] for row in await foundation.pool.fetch(FILLED, listed)}
    return [
        {**known.get(month, {**unknown, "month": month}), "entries": month in filled, "over": month < this}
        for month in listed
    ]
