"""Room that is held and may come free: who needs it waits for it for a while, before anybody is refused.

An upload that does not say its length holds bytes and may still be refused itself. While one holds some in the scope
that is full, nobody else is refused there: whoever has no room waits for it. So that not all wait for each other, the
youngest that waits gives back what it holds; its bytes stay, and it goes on where there is room by then. Who said its
length holds all that it needs, and is not waited for.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import anyio

from policies.quotas import Key
from registry.errors import QuotaExceeded
from registry.quotas.charging import default_limit
from registry.quotas.scopes import COLUMNS, UPLOADS, WITHIN
from registry.work import Work

PATIENCE = timedelta(seconds=10)
FIRST_LOOK_SECONDS, LATER_LOOKS_SECONDS = 0.05, 0.4
NO_UPLOAD = UUID(int=0)
# In one statement, and so of one moment. $1 the scope, $2 the upload, $3 now, $4 the limit by default, $5 what is
# needed. Ids are in the order of time.
LOOK = {
    kind: f"""
        WITH unsure AS (
            SELECT u.id FROM {UPLOADS} WHERE u.held > 0 AND u.unannounced AND u.leased_until > $3 AND {WITHIN[kind]})
        SELECT EXISTS (SELECT FROM unsure WHERE id <> $2) AS others,
            EXISTS (SELECT FROM unsure WHERE id > $2) AS younger,
            coalesce((SELECT (CASE WHEN q.explicit THEN q.hard ELSE $4 END) - q.charged + (
                SELECT coalesce(sum(f.amount), 0) FROM quota_refund f WHERE f.scope_kind = q.scope_kind
                    AND f.scope_id = q.scope_id AND f.key = q.key) >= $5
                FROM quota_counter q WHERE q.scope_kind = '{kind}' AND q.scope_id = $1 AND q.key = 'STORAGE_BYTES'
            ), true) AS room
    """
    for kind in COLUMNS
}
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Crowd:
    """Whether others hold what may come free, younger ones among them, and whether there is room by now."""

    others: bool
    younger: bool
    room: bool


async def when_there_is_room(
    begin: Callable[[], Work],
    change: Callable[[Work], Awaitable[Result]],
    upload: UUID = NO_UPLOAD,
    give_way: Callable[[], Awaitable[None]] | None = None,
) -> Result:
    """The change, in a Work of its own; again where there was no room, as long as it is worth waiting for.

    `upload` is the one that the change is for, and `give_way` gives back what it holds. Raises `QuotaExceeded`, which
    is recorded only when nothing is left to wait for.
    """
    last, pause = None, FIRST_LOOK_SECONDS
    while True:
        work = begin()
        work.tentative = True
        try:
            async with work:
                return await change(work)
        except QuotaExceeded as refusal:
            crowd = await _look(begin, upload, refusal)
            last = last or work.now + PATIENCE
            if not crowd.room and (not crowd.others or work.now >= last):
                work.tentative = False
                await work.refused(refusal)
                raise
        if not crowd.room:
            if give_way and not crowd.younger:
                await give_way()
            await anyio.sleep(pause)
            pause = min(2 * pause, LATER_LOOKS_SECONDS)


async def _look(begin: Callable[[], Work], upload: UUID, refusal: QuotaExceeded) -> Crowd:
    """Only bytes are waited for."""
    if refusal.detail["key"] != Key.STORAGE_BYTES or refusal.kind is None:
        return Crowd(others=False, younger=False, room=False)
    async with begin() as work:
        default = default_limit(work.settings, Key.STORAGE_BYTES, refusal.kind)
        needed = refusal.detail["requested"]
        row = await work.fetchrow(LOOK[refusal.kind], refusal.scope_id, upload, work.now, default, needed)
    return Crowd(**dict(row or {}))
