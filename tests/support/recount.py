"""The books counted anew: what every quota counter should say, from the rows of content and uploads alone.

    assert await differences(books) == []

One statement, so one snapshot: it holds at every instant, in the middle of any number of pushes too.
"""

import asyncpg

DIFFERENCES = """
WITH content AS (
    SELECT repository_id, digest, size FROM repository_blob JOIN blob USING (digest)
    UNION ALL SELECT repository_id, digest, size FROM manifest
), held AS (
    SELECT o.account_id, r.organization_id, digest, size, count(*) AS links
    FROM content JOIN repository r ON r.id = repository_id JOIN organization o ON o.id = r.organization_id
    GROUP BY o.account_id, r.organization_id, digest, size
), bytes AS (
    SELECT account_id, organization_id, size AS amount FROM held
    UNION ALL
    SELECT o.account_id, r.organization_id, u.held
    FROM upload u JOIN repository r ON r.id = u.repository_id JOIN organization o ON o.id = r.organization_id
), owed (kind, id, key, amount) AS (
    SELECT 'account', account_id, 'ORGANIZATIONS', count(*) FROM organization GROUP BY account_id
    UNION ALL
    SELECT 'organization', organization_id, 'REPOSITORIES', count(*) FROM repository GROUP BY organization_id
    UNION ALL
    SELECT 'account', o.account_id, 'REPOSITORIES', count(*)
    FROM repository r JOIN organization o ON o.id = r.organization_id GROUP BY o.account_id
    UNION ALL
    SELECT 'repository', repository_id, 'TAGS', count(*) FROM tag GROUP BY repository_id
    UNION ALL
    SELECT 'organization', r.organization_id, 'TAGS', count(*)
    FROM tag t JOIN repository r ON r.id = t.repository_id GROUP BY r.organization_id
    UNION ALL
    SELECT 'organization', organization_id, 'STORAGE_BYTES', sum(amount) FROM bytes GROUP BY organization_id
    UNION ALL
    SELECT 'account', account_id, 'STORAGE_BYTES', sum(amount) FROM bytes GROUP BY account_id
), counters AS (
    SELECT format('%s %s %s', coalesce(o.kind, q.scope_kind), coalesce(o.id, q.scope_id), coalesce(o.key, q.key)) AS at,
        coalesce(q.charged, 0) AS charged, coalesce(o.amount, 0) AS amount
    FROM owed o FULL JOIN quota_counter q ON q.scope_kind = o.kind AND q.scope_id = o.id AND q.key = o.key
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
