"""The books counted anew: what every quota counter should say, from the rows of content and uploads alone.

    assert await differences(books) == []

One statement, so one snapshot: it holds at every instant, in the middle of any number of pushes too.
"""

import asyncpg

DIFFERENCES = """
WITH counters AS (
    SELECT format('%s %s %s', coalesce(o.scope_kind, q.scope_kind), coalesce(o.scope_id, q.scope_id),
            coalesce(o.key, q.key)) AS at,
        coalesce(q.charged, 0) AS charged, coalesce(o.content + o.held + o.refunded, 0) AS amount
    FROM quota_owed() o FULL JOIN quota_counter q USING (scope_kind, scope_id, key)
), content AS (
    SELECT repository_id, digest, size FROM repository_blob JOIN blob USING (digest)
    UNION ALL SELECT repository_id, digest, size FROM manifest
), held AS (
    SELECT r.organization_id, digest, size, count(*) AS links
    FROM content JOIN repository r ON r.id = repository_id GROUP BY r.organization_id, digest, size
), links AS (
    SELECT format('links of %s %s', coalesce(h.organization_id, b.organization_id), coalesce(h.digest, b.digest)) AS at,
        coalesce(b.links, 0) AS charged, coalesce(h.links, 0) AS amount
    FROM held h FULL JOIN organization_blob b
        ON b.organization_id = h.organization_id AND b.digest = h.digest AND b.size = h.size
)
SELECT at, charged, amount FROM (TABLE counters UNION ALL TABLE links) AS compared
WHERE charged <> amount ORDER BY at
"""
OVER = """
    SELECT format('%s %s %s: %s of %s', scope_kind, scope_id, key, charged, hard) FROM quota_counter
    WHERE explicit AND charged > hard
"""


async def differences(books: asyncpg.Connection) -> list[tuple[str, int, int]]:
    """Each scope and key, or digest, whose counter is not what is there: what it says, and what it should say."""
    return [(row["at"], int(row["charged"]), int(row["amount"])) for row in await books.fetch(DIFFERENCES)]


async def beyond(books: asyncpg.Connection) -> list[str]:
    """Counters that are over a limit that was set. Only lowering a limit may bring that about."""
    return [row[0] for row in await books.fetch(OVER)]
