"""Blobs on their way: the row of an upload, who may move it right now, and what it holds of the quota.

Bytes move between two short transactions, never inside one: `claim` leases the upload to one request and holds the
bytes that were announced, `advance` writes down how far it came, `finish` makes the blob visible. A request that dies
leaves the row at the last offset that is surely on disk; the next one goes on from there.

What an upload holds of the quota, it holds for a quarter of an hour after it was last moved: an upload that was
abandoned takes nobody's room, and may still be taken up again where there is room by then.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from policies import quotas
from policies.quotas import Key
from registry.errors import Conflict, Invalid, NotFound
from registry.identifiers import new_id
from registry.oci.digest import Digest
from registry.places import Place
from registry.quotas import charging, reserving
from registry.work import Work

LEASE, HELD_FOR = timedelta(seconds=60), timedelta(minutes=15)
MOST_UPLOADS_OF_ONE = 500

START = """
    INSERT INTO upload
        (id, repository_id, user_id, received, algorithm, held, started_at, expires_at, held_until, client)
    SELECT $1, $2, $3, 0, $4, $5, $6, $7, $9, $10 WHERE (SELECT count(*) FROM upload WHERE user_id = $3) < $8
    RETURNING id
"""
# Holds what was announced on top of what came before.
CLAIM = """
    UPDATE upload u SET lease = $3, leased_until = $4, expires_at = $6, held_until = $8, unannounced = $10,
        held = greatest(u.held, u.received + $9)
    FROM (SELECT id, held FROM upload WHERE id = $1 FOR UPDATE) AS before
    WHERE u.id = before.id AND u.repository_id = $2 AND u.user_id IS NOT DISTINCT FROM $7 AND u.expires_at > $5
        AND (u.lease IS NULL OR u.leased_until <= $5)
    RETURNING u.received, u.held, u.algorithm, u.held - before.held AS more
"""
ADVANCE = """
    UPDATE upload u SET received = $3, held = least(before.held, $3), lease = NULL, leased_until = NULL, held_until = $4
    FROM (SELECT id, held FROM upload WHERE id = $1 AND lease = $2 FOR UPDATE) AS before
    WHERE u.id = before.id RETURNING quota_give_back($5, $6, $7, before.held - $3)
"""
GIVE_WAY = """
    UPDATE upload u SET held = 0 FROM (SELECT id, held FROM upload WHERE id = $1 AND lease = $2 FOR UPDATE) AS before
    WHERE u.id = before.id RETURNING quota_give_back($3, $4, $5, before.held)
"""
# The repository is held before its upload, as where a repository is deleted.
ENDED = """
    WITH here AS (SELECT id FROM repository WHERE id = $3 FOR KEY SHARE)
    DELETE FROM upload u USING here WHERE u.repository_id = here.id AND u.id = $1 AND {which} RETURNING {what}
"""
GIVEN_BACK = "quota_give_back($3, $4, $5, u.held)"
END = ENDED.format(which="u.lease = $2", what="u.held")
DROP = ENDED.format(which="u.lease = $2", what=GIVEN_BACK)
CANCEL = ENDED.format(
    which="u.user_id IS NOT DISTINCT FROM $2 AND u.expires_at > $6 AND (u.lease IS NULL OR u.leased_until <= $6)",
    what=GIVEN_BACK,
)
RENEW = "UPDATE upload SET leased_until = $3, held_until = $4, expires_at = $5 WHERE id = $1 AND lease = $2"
# An upload is locked before the counters, as where its repository is deleted.
HOLD_WINDOW = """
    WITH mine AS MATERIALIZED (SELECT id FROM upload WHERE id = $9 AND lease = $10 FOR UPDATE),
    reserved AS MATERIALIZED (SELECT r.* FROM mine, quota_reserve($1, $2, $3, $4, $5, $6, $7, $8) AS r),
    renewed AS (
        UPDATE upload u SET leased_until = $11, held_until = $12, expires_at = $13,
            held = u.held + (SELECT charged FROM reserved WHERE line = 0)
        FROM mine WHERE u.id = mine.id)
    SELECT * FROM reserved
"""
# Whether the repository did not hold it before. Linking it again keeps it for another while.
LINK = """
    INSERT INTO repository_blob AS rb (repository_id, digest, linked_at) VALUES ($1, $2, $3)
    ON CONFLICT (repository_id, digest) DO UPDATE SET linked_at = $3 RETURNING rb.xmax = 0
"""
STORED = f"""
    WITH stored AS (INSERT INTO blob VALUES ($2, $4, $3) ON CONFLICT DO NOTHING), linked AS ({LINK} AS fresh)
"""
# What was held beyond what is new to each scope is given back. $5 organization, $6 account, $7 bytes held, $8 limits.
STORE = f"{STORED} SELECT told.* FROM linked, quota_settle($1, $5, $6, $7, fresh, $2, $4, $3, $8) AS told"
# A blob is only offered for mounting from where the actor may pull it: its row is asked for by that repository.
SOURCE = """
    SELECT b.size FROM repository_blob rb JOIN blob b ON b.digest = rb.digest
    WHERE rb.repository_id = $1 AND rb.digest = $2 FOR KEY SHARE OF rb
"""


class UploadUnknown(NotFound):
    code = "BLOB_UPLOAD_UNKNOWN"


class UploadBusy(Conflict):
    """Another request is moving this upload. `detail` holds received."""

    code = "UPLOAD_BUSY"


class TooManyUploads(Conflict):
    code = "TOO_MANY_UPLOADS"


class BlobTooLarge(Invalid):
    """`detail` holds limit and requested."""

    code = "BLOB_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Claim:
    """An upload leased to one request."""

    upload: UUID
    place: Place
    lease: UUID
    received: int
    held: int
    algorithm: str


async def start(work: Work, place: Place, length: int | None, algorithm: str) -> UUID:
    """A new upload, holding what was announced. Raises `BlobTooLarge`, `QuotaExceeded`, `TooManyUploads`."""
    held = length or 0
    check_size(work, held)
    expires = work.later(hours=work.settings.upload_hours)
    upload: UUID | None = await work.fetchval(
        START,
        new_id(),
        place.id,
        work.actor.user_id,
        algorithm,
        held,
        work.now,
        expires,
        MOST_UPLOADS_OF_ONE,
        work.now + HELD_FOR,
        work.origin.client,
    )
    if upload is None:
        raise TooManyUploads(f"You have {MOST_UPLOADS_OF_ONE} unfinished uploads; finish or cancel some of them first.")
    reserving.hold(work, held, place)
    return upload


async def claim(work: Work, place: Place, upload: UUID, length: int | None) -> Claim:
    """Leases the upload to this request and holds the announced length on top of what came before.

    Raises `UploadUnknown` (also for another repository's or another user's), `UploadBusy`, and as `start`.
    """
    check_size(work, length or 0)
    lease = new_id()
    row = await work.fetchrow(
        CLAIM,
        upload,
        place.id,
        lease,
        work.now + LEASE,
        work.now,
        work.later(hours=work.settings.upload_hours),
        work.actor.user_id,
        work.now + HELD_FOR,
        length or 0,
        length is None,
    )
    if row is None:
        raise await _not_claimed(work, place, upload)
    check_size(work, row["held"])
    reserving.hold(work, row["more"], place, row["held"] - row["more"])
    return Claim(upload, place, lease, row["received"], row["held"], row["algorithm"])


async def hold_window(work: Work, mine: Claim, until: int) -> Claim:
    """Holds the next window of an upload that does not say its length, up to `until` at least; renews the lease.

    Raises `QuotaExceeded`, `BlobTooLarge`, and `UploadUnknown` when the lease was lost.
    """
    check_size(work, until)
    renewed = mine.upload, mine.lease, *_moved(work)
    needed = until - mine.held
    wanted, key, share = max(needed, quotas.next_window(mine.held)), Key.STORAGE_BYTES, quotas.WINDOW_SHARE
    window = await reserving.reserve(
        work, key, mine.place, wanted, needed, mine.held, share=share, within=HOLD_WINDOW, more=renewed
    )
    if not window:
        raise unknown()
    return replace(mine, held=mine.held + window)


async def give_way(work: Work, mine: Claim) -> Claim:
    """Gives back all that an upload holds, which goes on moving; what came stays. Raises `UploadUnknown` when the lease
    was lost."""
    if await work.fetchval(GIVE_WAY, mine.upload, mine.lease, *_scopes(mine.place)) is None:
        raise unknown()
    return replace(mine, held=0)


async def renew(work: Work, mine: Claim) -> None:
    """Raises `UploadUnknown` when the lease was lost: the upload expired, or another request took it over."""
    if not await work.execute(RENEW, mine.upload, mine.lease, *_moved(work)):
        raise unknown()


async def advance(work: Work, mine: Claim, received: int) -> None:
    """Writes down how far the upload came, gives back what is held beyond that, and ends the lease.

    Raises `UploadUnknown` when the lease was lost meanwhile.
    """
    given_back = await work.fetchval(
        ADVANCE, mine.upload, mine.lease, received, work.now + HELD_FOR, *_scopes(mine.place)
    )
    if given_back is None:
        raise unknown()


async def finish(work: Work, mine: Claim, digest: Digest, size: int) -> None:
    """Makes a stored blob visible in the repository: settles its quota and ends the upload.

    Raises `QuotaExceeded`, and `UploadUnknown` when the lease was lost.
    """
    held = await work.fetchval(END, mine.upload, mine.lease, mine.place.id)
    if held is None:
        raise unknown()
    assert held >= size, "bytes are held before they move"  # noqa: S101
    place = mine.place
    stored = place.id, digest, work.now, size, place.organization_id, place.account_id, held
    await charging.settle_storage(work, place, STORE, *stored)
    _record(work, place, digest, size, {})


async def cancel(work: Work, place: Place, upload: UUID) -> None:
    """Ends an upload and gives back what it held. Raises `UploadUnknown`, `UploadBusy`."""
    user = work.actor.user_id
    if await work.fetchval(CANCEL, upload, user, *_scopes(place), work.now) is None:
        raise await _not_claimed(work, place, upload)


async def drop(work: Work, mine: Claim) -> None:
    """Ends an upload and gives back what it held, unless the lease was lost."""
    await work.execute(DROP, mine.upload, mine.lease, *_scopes(mine.place))


async def progress(work: Work, place: Place, upload: UUID) -> int:
    """Bytes received so far. Raises `UploadUnknown`."""
    received: int | None = await work.fetchval(
        "SELECT received FROM upload WHERE id = $1 AND repository_id = $2 AND expires_at > $3"
        " AND user_id IS NOT DISTINCT FROM $4",
        upload,
        place.id,
        work.now,
        work.actor.user_id,
    )
    if received is None:
        raise unknown()
    return received


async def mount(work: Work, source: Place, target: Place, digest: Digest) -> bool:
    """Links a blob of another repository; False when that one does not hold it. Costs nothing within an
    organization. Raises `QuotaExceeded`."""
    size = await work.fetchval(SOURCE, source.id, digest)
    if size is None:
        return False
    if await work.fetchval(LINK, target.id, digest, work.now):
        charging.link(work, digest, size, target)
    _record(work, target, digest, size, {"mountedFrom": [None, source.name]})
    return True


def check_size(work: Work, size: int) -> None:
    limit = work.settings.max_blob_bytes
    if size > limit:
        raise BlobTooLarge(
            f"A blob may have at most {limit} bytes here; this one has {size} or more. Split the layer, or ask the "
            "operator to raise TIDEWAITER_MAX_BLOB_BYTES.",
            limit=limit,
            requested=size,
        )


def unknown() -> UploadUnknown:
    return UploadUnknown("There is no such upload here: it was finished, cancelled, or has expired. Start a new one.")


def _record(work: Work, place: Place, digest: Digest, size: int, changes: dict[str, Any]) -> None:
    """Where blobs are recorded, and not only images."""
    if work.settings.audit_blobs == "all":
        work.also("blob.push", place, changes, digest=digest, size=size)


def _scopes(place: Place) -> tuple[UUID | None, UUID | None, UUID | None]:
    return place.repository_id, place.organization_id, place.account_id


def _moved(work: Work) -> tuple[datetime, datetime, datetime]:
    """Until when an upload that moves now is leased, holds what it holds, and can be gone on with."""
    return work.now + LEASE, work.now + HELD_FOR, work.later(hours=work.settings.upload_hours)


async def _not_claimed(work: Work, place: Place, upload: UUID) -> NotFound | Conflict:
    received = await progress(work, place, upload)
    return UploadBusy(
        "Another request is moving this upload right now; ask for its state and go on from there.",
        received=received,
    )
