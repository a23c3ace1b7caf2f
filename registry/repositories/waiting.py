"""Room that is held and may come free: who needs it waits for it for a while, before anybody is refused.

An upload that does not say its length holds bytes and may still be refused itself. While one holds some in the scope
that is full, nobody else is refused there: whoever has no room waits for it. So that not all wait for each other, the
youngest that waits gives back what it holds; its bytes stay, and it goes on where there is room by then. Who said its
length holds all that it needs, and is not waited for.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import anyio

from policies.quotas import Key
from registry.errors import QuotaExceeded
from registry.quotas.charging import default_limit
from registry.quotas.scopes import COLUMNS, UPLOADS, WITHIN
from registry.work import Work

PATIENCE, WAITS_YET = timedelta(seconds=10), timedelta(seconds=2)
FIRST_LOOK_SECONDS, LATER_LOOKS_SECONDS = 0.05, 0.4
NO_UPLOAD = UUID(int=0)
# In one statement, and so of one moment; and marks the upload as one that waits. $1 the scope, $2 the upload, $3 now,
# $4 until when the mark holds, $5 the limit by default, $6 what is needed. Ids are in the order of time.
LOOK = {
    kind: f"""
        WITH marked AS (UPDATE upload SET waits_until = $4 WHERE id = $2),
        unsure AS (
            SELECT u.id, u.waits_until FROM {UPLOADS}
            WHERE u.held > 0 AND u.unannounced AND u.leased_until > $3 AND {WITHIN[kind]})
        SELECT EXISTS (SELECT FROM unsure WHERE id <> $2) AS others,
            EXISTS (SELECT FROM unsure WHERE id > $2 AND waits_until > $3) AS younger,
            coalesce((CASE WHEN q.explicit THEN q.hard ELSE $5 END) - coalesce(q.charged, 0) + (
                SELECT coalesce(sum(f.amount), 0) FROM quota_refund f
                WHERE f.scope_kind = '{kind}' AND f.scope_id = $1 AND f.key = 'STORAGE_BYTES') >= $6, true) AS room
        FROM (VALUES (1)) AS one
        LEFT JOIN quota_counter q ON q.scope_kind = '{kind}' AND q.scope_id = $1 AND q.key = 'STORAGE_BYTES'
    """
    for kind in COLUMNS
}
Begin = Callable[[], Work]
GiveWay = Callable[[], Awaitable[None]]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Crowd:
    """Whether others hold what may come free, younger ones that wait among them, and whether there is room by now."""

    others: bool = False
    younger: bool = False
    room: bool = False


async def when_there_is_room(
    begin: Begin,
    change: Callable[[Work], Awaitable[Result]],
    upload: UUID = NO_UPLOAD,
    give_way: GiveWay | None = None,
) -> Result:
    """The change, in a Work of its own; again where there was no room, as long as it is worth waiting for.

    `upload` is the one that the change is for, and `give_way` gives back what it holds. Raises `QuotaExceeded`, which
    is recorded only when nothing is left to wait for.
    """
    last = None
    while True:
        work = begin()
        work.tentative = True
        try:
            async with work:
                return await change(work)
        except QuotaExceeded as refusal:
            last = last or work.now + PATIENCE
            if work.now >= last or not await _comes_free(begin, upload, refusal, last, give_way):
                work.tentative = False
                await work.refused(refusal)
                raise


async def _comes_free(
    begin: Begin, upload: UUID, refusal: QuotaExceeded, last: datetime, give_way: GiveWay | None
) -> bool:
    """Returns when there is room, or nothing left to wait for."""
    pause = FIRST_LOOK_SECONDS
    while True:
        async with begin() as work:
            crowd = await _look(work, upload, refusal)
        if not crowd.room and (not crowd.others or work.now >= last):
            return False
        # Not at the first look: a younger one that has no room either may be about to wait.
        if not crowd.room and give_way and not crowd.younger and pause > FIRST_LOOK_SECONDS:
            await give_way()
        await anyio.sleep(pause)
        if crowd.room:
            return True
        pause = min(2 * pause, LATER_LOOKS_SECONDS)


async def _look(work: Work, upload: UUID, refusal: QuotaExceeded) -> Crowd:
    """Only bytes are waited for."""
    if refusal.detail["key"] != Key.STORAGE_BYTES or refusal.kind is None:
        return Crowd()
    default = default_limit(work.settings, Key.STORAGE_BYTES, refusal.kind)
    seen = refusal.scope_id, upload, work.now, work.now + WAITS_YET, default, refusal.needed
    row = await work.fetchrow(LOOK[refusal.kind], *seen)
    assert row is not None  # noqa: S101
    return Crowd(**row)
