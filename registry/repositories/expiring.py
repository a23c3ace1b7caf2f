"""Uploads that were abandoned: what they hold comes back, and in the end they go with their bytes.

What nobody has moved for a while holds nothing any more; it stays, and holds anew when it goes on. Whoever was moving
one, and was silent for so long, has lost it.
"""

from registry.actors import SYSTEM, Origin
from registry.work import Foundation

MOST_EXPIRED, MOST_RELEASED = 100, 1000
EXPIRE = """
    DELETE FROM upload u USING repository r, organization o WHERE u.id IN (
        SELECT id FROM upload WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
        AND r.id = u.repository_id AND o.id = r.organization_id
    RETURNING u.id, quota_give_back(r.id, o.id, o.account_id, u.held)
"""
RELEASE = """
    UPDATE upload u SET held = 0, lease = NULL, leased_until = NULL FROM repository r, organization o, (
        SELECT id, held FROM upload WHERE held > 0 AND held_until <= $1 AND (lease IS NULL OR leased_until <= $1)
        ORDER BY held_until LIMIT $2 FOR UPDATE SKIP LOCKED) AS before
    WHERE u.id = before.id AND r.id = u.repository_id AND o.id = r.organization_id
    RETURNING quota_give_back(r.id, o.id, o.account_id, before.held)
"""


async def end_abandoned(foundation: Foundation) -> None:
    """All that are past their time; any server may do this at any time."""
    while await _end_some(foundation):
        pass


async def _end_some(foundation: Foundation) -> bool:
    """False when there was none."""
    async with foundation.begin(SYSTEM, Origin()) as work:
        gone = await work.fetch(EXPIRE, work.now, MOST_EXPIRED)
        released = await work.execute(RELEASE, work.now, MOST_RELEASED)
    for row in gone:
        await foundation.blobs.discard_upload(row["id"])
    return len(gone) + released > 0
