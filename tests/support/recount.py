"""The books counted anew, as the product does: what every quota counter should say.

    assert await differences(books) == []

One statement, so one snapshot: it holds at every instant, in the middle of any number of pushes too.
"""

import asyncpg

from registry.quotas.recounting import DIFFERENCES

OVER = """
    SELECT format('%s %s %s: %s of %s', scope_kind, scope_id, key, charged, hard) FROM quota_counter
    WHERE explicit AND charged > hard
"""


async def differences(books: asyncpg.Connection) -> list[tuple[str, int, int]]:
    """Each scope and key, or digest, whose counter is not what is there: what it says, and what it should say."""
    return [
        (f"{row['kind']} {row['id']} {row['digest'] or row['key']}", row["charged"], row["owed"])
        for row in await books.fetch(DIFFERENCES)
    ]


async def beyond(books: asyncpg.Connection) -> list[str]:
    """Counters that are over a limit that was set. Only lowering a limit may bring that about."""
    return [row[0] for row in await books.fetch(OVER)]
