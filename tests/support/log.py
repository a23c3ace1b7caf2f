"""The audit log as its bytes say, numbered or not yet: what the database holds, with no reader between."""

from typing import Any

import asyncpg
import orjson

# One statement, so one snapshot: what is being numbered meanwhile is seen once, here or there.
EVENTS = """
    SELECT event FROM (
        SELECT 0 AS waits, seq AS place, convert_from(entry, 'UTF8')::jsonb -> 'event' AS event FROM audit_log
        UNION ALL SELECT 1, id, convert_from(body, 'UTF8')::jsonb FROM audit_inbox
    ) AS everything WHERE event @> $1::jsonb ORDER BY waits, place
"""
FOUND = """
    SELECT count(*) FROM (
        SELECT convert_from(entry, 'UTF8') || row(l.*)::text AS written FROM audit_log l
        UNION ALL SELECT convert_from(body, 'UTF8') FROM audit_inbox
    ) AS everything WHERE strpos(written, $1) > 0
"""


async def events(books: asyncpg.Connection, **having: Any) -> list[dict[str, Any]]:
    """The bodies that hold all of this, at whatever depth, in the order of the log."""
    return [orjson.loads(row["event"]) for row in await books.fetch(EVENTS, orjson.dumps(having).decode())]


async def told(books: asyncpg.Connection, **having: Any) -> list[tuple[str, str, str]]:
    """Action, outcome and target of each."""
    found = await events(books, **having)
    return [(one["action"], one["outcome"], one.get("target", {}).get("name", "")) for one in found]


async def mentions(books: asyncpg.Connection, text: str) -> int:
    """In how many entries the text stands in the clear, in their bytes or in the columns they are found by."""
    number: int = await books.fetchval(FOUND, text)
    return number
