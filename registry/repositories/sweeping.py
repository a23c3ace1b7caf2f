"""Blobs that no manifest came for: what is left of pushes that were broken off goes by itself, and is charged no more.

Each link is looked at once, when it has been there for so many hours (`TIDEWAITER_UNUSED_BLOB_HOURS`): what loses its
last manifest later goes with that. Whoever pushes a blob again, mounts it or asks whether it is here, as clients do
before they push a manifest that needs it, keeps it for as long again.
"""

from datetime import datetime, timedelta
from typing import Any

from registry.access import finding
from registry.actors import SYSTEM, Origin
from registry.errors import NotFound
from registry.places import Place
from registry.quotas import charging
from registry.repositories.deleting import UNLINK_UNUSED
from registry.work import Foundation, Work

MOST_AT_ONCE = 1000
MOST_NAMED = 20

ADVANCE = "UPDATE blob_sweep SET linked_until = $1"
# The last of those looked at says how far the sweep came; of one instant all are looked at.
OLD = """
    WITH looked AS (
        SELECT repository_id, digest, linked_at FROM repository_blob
        WHERE linked_at > (SELECT linked_until FROM blob_sweep) AND linked_at <= $1
        ORDER BY linked_at FETCH FIRST $2 ROWS WITH TIES)
    SELECT (SELECT max(linked_at) FROM looked) AS reached, l.repository_id, o.id AS organization_id, o.account_id,
        o.name || '/' || r.name AS name, array_agg(l.digest ORDER BY l.digest) AS digests
    FROM looked l JOIN repository r ON r.id = l.repository_id JOIN organization o ON o.id = r.organization_id
    GROUP BY l.repository_id, o.id, r.id ORDER BY l.repository_id
"""
LOCK = """
    SELECT digest FROM repository_blob WHERE repository_id = $1 AND digest = ANY($2::text[]) AND linked_at <= $3
    ORDER BY digest FOR UPDATE
"""


async def sweep(foundation: Foundation) -> None:
    """Goes on where the last sweep ended, until nothing is old enough; any server may do this at any time."""
    before = foundation.clock.now() - timedelta(hours=foundation.settings.unused_blob_hours)
    while await _sweep_some(foundation, before):
        pass


async def _sweep_some(foundation: Foundation, before: datetime) -> bool:
    """False when all is done. A transaction for each repository: who holds blobs of one and waits for another's may be
    waited for by somebody who deletes there. Where two servers sweep, the second finds nothing left."""
    async with foundation.glance(SYSTEM, Origin()) as work:
        rows = await work.fetch(OLD, before, MOST_AT_ONCE)
    for row in rows:
        async with foundation.begin(SYSTEM, Origin()) as work:
            await _sweep_repository(work, row, before)
    async with foundation.begin(SYSTEM, Origin()) as work:
        await work.execute(ADVANCE, rows[0]["reached"] if rows else before)
    return len(rows) > 0


async def _sweep_repository(work: Work, row: Any, before: datetime) -> None:
    place = Place("repository", row["name"], True, row["account_id"], row["organization_id"], row["repository_id"])
    try:
        await finding.hold(work, place)
    except NotFound:
        return
    # Whoever is pushing a manifest that needs one of them has done so, or finds it gone.
    old = [each["digest"] for each in await work.fetch(LOCK, place.id, row["digests"], before)]
    gone = [(each["digest"], each["size"]) for each in await work.fetch(UNLINK_UNUSED, place.id, old)]
    if not gone:
        return
    freed = await charging.unlink(work, gone, place)
    digests = sorted(digest for digest, _ in gone)
    named = {"digests": [digests[:MOST_NAMED], []], "count": [len(digests), 0], "freedBytes": [None, freed]}
    work.also("blob.expire", place, named)
