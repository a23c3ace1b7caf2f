"""Charging what a change adds, in the transaction of that change.

`charge` refuses before anything is done; bytes are held before they move (`hold`) and settled when their blob is
linked (`settle`). A negative amount gives back and is never refused. Every charge of a key goes through here.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from policies import quotas
from policies.quotas import Key
from registry.errors import QuotaExceeded
from registry.places import Place
from registry.settings import Settings
from registry.work import Work

CHARGE = "SELECT * FROM quota_charge($1, $2, $3, $4, $5)"
LEFT = """
    SELECT min(CASE WHEN explicit THEN hard WHEN scope_kind = 'organization' THEN $3::bigint END - charged)
    FROM quota_counter
    WHERE key = 'STORAGE_BYTES'
        AND (scope_kind = 'organization' AND scope_id = $1 OR scope_kind = 'account' AND scope_id = $2)
"""
LINK = """
    INSERT INTO organization_blob AS b (organization_id, digest, size, links, first_at) VALUES ($1, $2, $3, 1, $4)
    ON CONFLICT (organization_id, digest) DO UPDATE SET links = b.links + 1
    RETURNING b.links = 1
"""
UNLINK = """
    WITH gone AS (SELECT digest, count(*) AS links FROM unnest($2::text[]) AS digest GROUP BY digest),
    locked AS (
        SELECT digest FROM organization_blob WHERE organization_id = $1 AND digest = ANY($2)
        ORDER BY digest FOR UPDATE),
    left_over AS (
        UPDATE organization_blob b SET links = b.links - gone.links FROM gone JOIN locked USING (digest)
        WHERE b.organization_id = $1 AND b.digest = gone.digest RETURNING b.digest, b.links, b.size)
    SELECT digest, size FROM left_over WHERE links <= 0
"""
NAMES = {
    "account": "SELECT name FROM account WHERE id = $1",
    "organization": "SELECT name FROM organization WHERE id = $1",
    "repository": "SELECT o.name || '/' || r.name FROM repository r JOIN organization o ON o.id = r.organization_id"
    " WHERE r.id = $1",
}
DROP = "DELETE FROM organization_blob WHERE organization_id = $1 AND digest = ANY($2::text[])"


async def charge(work: Work, key: Key, amount: int, place: Place) -> None:
    """Charges each scope of the key that the place lies in, or none of them: then it raises `QuotaExceeded`."""
    await charge_all(work, key, [(place, amount)])


async def charge_all(work: Work, key: Key, changes: Iterable[tuple[Place, int]]) -> None:
    """Charges several places as one. Of all of them the leaves come first: one place after another would lock an
    account before the next organization, and could wait in a circle with who charges that organization."""
    sums: Counter[tuple[int, UUID, str]] = Counter()
    for place, amount in changes:
        for kind, scope in _scopes(key, place):
            sums[quotas.SCOPES[key].index(kind), scope, kind] += amount
    lines = [(kind, scope, amount) for (_, scope, kind), amount in sorted(sums.items()) if amount]
    if not lines:
        return
    kinds, scopes, amounts = zip(*lines, strict=True)
    defaults = [default_limit(work.settings, key, kind) for kind in kinds]
    row = await work.fetchrow(CHARGE, kinds, scopes, [key.value] * len(lines), amounts, defaults)
    if row is not None:
        raise await _exceeded(work, key, row)


async def hold(work: Work, amount: int, place: Place) -> None:
    """Holds bytes that are about to move; whoever holds writes the amount down (`upload.held`)."""
    await charge(work, Key.STORAGE_BYTES, amount, place)


async def hold_window(work: Work, held: int, needed: int, place: Place) -> int:
    """Holds as much as is wise for an upload that does not say its length, and returns it.

    Raises `QuotaExceeded` when not even the bytes that are needed now have room.
    """
    left = await work.fetchval(
        LEFT,
        place.organization_id,
        place.account_id,
        default_limit(work.settings, Key.STORAGE_BYTES, "organization"),
    )
    window = quotas.next_window(held, needed, left)
    try:
        await hold(work, window, place)
    except QuotaExceeded:
        # Another upload took the room between the look and the hold.
        window = needed
        await hold(work, window, place)
    return window


async def link(work: Work, digest: str, size: int, place: Place) -> int:
    """One more repository of the organization holds this digest; returns the bytes that are new to it."""
    new = await work.fetchval(LINK, place.organization_id, digest, size, work.now)
    return size if new else 0


async def unlink(work: Work, digests: Iterable[str], place: Place) -> int:
    """Takes one link for each digest given and gives back what no repository of the organization holds any more.

    Returns the bytes given back.
    """
    gone = await work.fetch(UNLINK, place.organization_id, list(digests))
    freed: int = sum(row["size"] for row in gone)
    if gone:
        await work.execute(DROP, place.organization_id, [row["digest"] for row in gone])
        await charge(work, Key.STORAGE_BYTES, -freed, place)
    return freed


def default_limit(settings: Settings, key: Key, scope_kind: str) -> int | None:
    """The limit of a scope that was never given one of its own; only a key's nearest scope has one."""
    if scope_kind != quotas.SCOPES[key][0]:
        return None
    value: int | None = getattr(settings, f"quota_{key.value.lower()}")
    return value


def _scopes(key: Key, place: Place) -> Iterable[tuple[str, UUID]]:
    ids = {
        "repository": place.repository_id,
        "organization": place.organization_id,
        "account": place.account_id,
    }
    for kind in quotas.SCOPES[key]:
        scope = ids[kind]
        if scope is not None:
            yield kind, scope


async def _exceeded(work: Work, key: Key, row: Any) -> QuotaExceeded:
    kind, scope = row["at_kind"], row["at_id"]
    name = await work.fetchval(NAMES[kind], scope)
    limit, used, requested = row["at_hard"], row["at_charged"], row["at_requested"]
    return QuotaExceeded(
        quotas.exceeded(key, f"{kind} '{name}'", limit, used, requested),
        key=key.value,
        scope=f"{kind} '{name}'",
        limit=limit,
        used=used,
        requested=requested,
    )
