"""The books counted anew: what each counter should say, from the rows of content, of uploads, leases and refunds.

One statement, so one snapshot: it holds at every instant, in the midst of any number of pushes too. A difference is
never routine: it means that a counter was changed by another hand, or that there is a fault.

A repair locks what differs and counts anew under the lock. Whoever charges a counter has its lock until the commit, and
whoever has not charged yet is not in the snapshot, and will: so nothing that is on its way is lost or counted twice.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from policies import quotas
from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.places import Place
from registry.quotas import charging
from registry.telemetry import Telemetry
from registry.work import Foundation, Work

EVERY = timedelta(hours=1)
PATIENCE_SECONDS = 3600.0
LINKS = "LINKS"

# Beside the counters, of each digest that an organization holds in how many of its repositories.
DIFFERENCES = """
    WITH counters AS (
        SELECT coalesce(o.scope_kind, q.scope_kind) AS kind, coalesce(o.scope_id, q.scope_id) AS id,
            coalesce(o.key, q.key) AS key, coalesce(q.charged, 0) AS charged,
            coalesce(o.content + o.held + o.refunded, 0) AS owed
        FROM quota_owed() o FULL JOIN quota_counter q USING (scope_kind, scope_id, key)
    ), content AS (
        SELECT repository_id, digest, size FROM repository_blob JOIN blob USING (digest)
        UNION ALL SELECT repository_id, digest, size FROM manifest
    ), held AS (
        SELECT r.organization_id, digest, size, count(*) AS links
        FROM content JOIN repository r ON r.id = repository_id GROUP BY r.organization_id, digest, size
    ), links AS (
        SELECT coalesce(h.organization_id, b.organization_id) AS id, coalesce(h.digest, b.digest) AS digest,
            coalesce(b.links, 0) AS charged, coalesce(h.links, 0) AS owed
        FROM held h FULL JOIN organization_blob b
            ON b.organization_id = h.organization_id AND b.digest = h.digest AND b.size = h.size
    ), found AS (
        SELECT kind, id, key, NULL AS digest, charged, owed FROM counters WHERE charged <> owed
        UNION ALL SELECT 'organization', id, 'LINKS', digest, charged, owed FROM links WHERE charged <> owed
    )
    SELECT f.*, coalesce(a.name, o.name, ro.name || '/' || r.name) AS name,
        coalesce(a.id, o.account_id, ro.account_id) AS account_id, coalesce(o.id, ro.id) AS organization_id
    FROM found f
    LEFT JOIN account a ON f.kind = 'account' AND a.id = f.id
    LEFT JOIN organization o ON f.kind = 'organization' AND o.id = f.id
    LEFT JOIN repository r ON f.kind = 'repository' AND r.id = f.id
    LEFT JOIN organization ro ON ro.id = r.organization_id
    ORDER BY f.kind, name, f.key, f.digest
"""
MAKE = """
    INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit) VALUES ($1, $2, $3, 0, false)
    ON CONFLICT DO NOTHING
"""
LOCK = "SELECT 1 FROM quota_counter WHERE scope_kind = $1 AND scope_id = $2 AND key = $3 FOR NO KEY UPDATE"
# A month's counter keeps its month, whose traffic was counted. A limit that comes near by a repair is told with the
# next change; one that is far again may come near again.
REPAIR = """
    UPDATE quota_counter q SET charged = f.owed, peak = f.owed,
        warned = least(q.warned, quota_standing(q.warned, f.owed, f.top)),
        soft_warned = q.soft_warned AND quota_soft_standing(q.soft_warned, f.owed, q.soft)
    FROM (
        SELECT c.scope_kind AS kind, c.scope_id AS id, c.key, c.charged,
            coalesce(o.content + o.held + o.refunded, 0) AS owed,
            CASE WHEN c.explicit THEN c.hard ELSE w.standard END AS top
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[]) AS w (kind, id, key, standard)
        JOIN quota_counter c ON c.scope_kind = w.kind AND c.scope_id = w.id AND c.key = w.key
        LEFT JOIN quota_owed() o ON o.scope_kind = w.kind AND o.scope_id = w.id AND o.key = w.key
    ) AS f
    WHERE q.scope_kind = f.kind AND q.scope_id = f.id AND q.key = f.key AND f.charged <> f.owed
    RETURNING f.kind, f.id, f.key, f.charged, f.owed
"""
MAKE_LINKS = """
    INSERT INTO organization_blob (organization_id, digest, size, links, first_at)
    SELECT w.organization_id, w.digest, 0, 0, $3 FROM unnest($1::uuid[], $2::text[]) AS w (organization_id, digest)
    JOIN organization o ON o.id = w.organization_id ORDER BY 1, 2 ON CONFLICT DO NOTHING
"""
LOCK_LINKS = """
    SELECT 1 FROM organization_blob WHERE (organization_id, digest) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
    ORDER BY organization_id, digest FOR UPDATE
"""
REPAIR_LINKS = """
    WITH wanted AS (SELECT * FROM unnest($1::uuid[], $2::text[]) AS w (organization_id, digest)),
    content AS (
        SELECT r.organization_id, rb.digest, b.size FROM wanted w JOIN repository_blob rb USING (digest)
            JOIN blob b USING (digest) JOIN repository r ON r.id = rb.repository_id
            AND r.organization_id = w.organization_id
        UNION ALL
        SELECT r.organization_id, m.digest, m.size FROM wanted w JOIN manifest m USING (digest)
            JOIN repository r ON r.id = m.repository_id AND r.organization_id = w.organization_id
    ), held AS (
        SELECT organization_id, digest, max(size) AS size, count(*) AS links
        FROM content GROUP BY organization_id, digest
    ), gone AS (
        DELETE FROM organization_blob b USING wanted w WHERE b.organization_id = w.organization_id
            AND b.digest = w.digest AND NOT EXISTS (
                SELECT FROM held h WHERE h.organization_id = w.organization_id AND h.digest = w.digest)
    )
    UPDATE organization_blob b SET links = held.links, size = held.size FROM held
    WHERE b.organization_id = held.organization_id AND b.digest = held.digest
"""
# Held by the server that counts, to the end of its transaction.
TURN = "SELECT pg_try_advisory_xact_lock(hashtext('quota_recount'))"
DUE = "SELECT verified_at IS NULL OR verified_at NOT BETWEEN $2 AND $1 FROM quota_recount"
VERIFIED = "UPDATE quota_recount SET verified_at = $1"
KNOWN = "DELETE FROM quota_difference RETURNING scope_kind, scope_id, key, charged - owed AS difference"
KEEP = """
    INSERT INTO quota_difference (scope_kind, scope_id, key, charged, owed) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (scope_kind, scope_id, key) DO UPDATE SET charged = quota_difference.charged + excluded.charged,
        owed = quota_difference.owed + excluded.owed
"""
STANDING = "SELECT count(*) FROM quota_difference"


@dataclass(frozen=True, slots=True)
class Difference:
    """`key` is a quota's, or LINKS: in how many repositories of an organization a digest is held. `name` is none where
    the scope itself is gone."""

    kind: str
    id: UUID
    name: str | None
    key: str
    digest: str | None
    charged: int
    owed: int
    account_id: UUID | None = None
    organization_id: UUID | None = None

    @property
    def target(self) -> str:
        """As entries of the log name a quota."""
        return f"{self.kind} {self.name or self.id} {self.key}"


async def check(work: Work) -> list[Difference]:
    """Whatever a counter says that is not so; empty when the books are right. Takes about five seconds for a million
    blobs."""
    work.patience = PATIENCE_SECONDS
    return [_difference(row) for row in await work.fetch(DIFFERENCES)]


async def repair(work: Work) -> list[Difference]:
    """Makes every counter say what is there, and records each that did not; returns what was found."""
    found = await check(work)
    if links := [one for one in found if one.key == LINKS]:
        await _lock_links(work, links)
        # Whoever linked one of these digests before was told wrongly whether it is new, and has charged accordingly.
        found = await check(work)
        await _repair_links(work, links)
        locked = {(one.id, one.digest) for one in links}
        links = [one for one in found if one.key == LINKS and (one.id, one.digest) in locked]
    repaired = [*links, *await _repair_counters(work, [one for one in found if one.key != LINKS])]
    for one in repaired:
        changes = {"charged": [one.charged, one.owed]}
        work.also("quota.repair", _place(one), changes, target=one.target, digest=one.digest)
    await work.execute("DELETE FROM quota_difference")
    return repaired


async def _lock_links(work: Work, links: list[Difference]) -> None:
    await work.execute(MAKE_LINKS, *_columns(links), work.now)
    await work.fetch(LOCK_LINKS, *_columns(links))


async def _repair_links(work: Work, links: list[Difference]) -> None:
    await work.execute(REPAIR_LINKS, *_columns(links))


def _columns(links: list[Difference]) -> tuple[list[UUID], list[str | None]]:
    return [one.id for one in links], [one.digest for one in links]


async def _repair_counters(work: Work, counters: list[Difference]) -> list[Difference]:
    """Those that differed at the moment of the repair, as they were then."""
    if not counters:
        return []
    for one in sorted(counters, key=_lock_order):
        await work.execute(MAKE, one.kind, one.id, one.key)
        await work.execute(LOCK, one.kind, one.id, one.key)
    scopes = [one.kind for one in counters], [one.id for one in counters], [one.key for one in counters]
    standard = [charging.default_limit(work.settings, Key(one.key), one.kind) for one in counters]
    rows = {(row["kind"], row["id"], row["key"]): row for row in await work.fetch(REPAIR, *scopes, standard)}
    found = [(one, rows.get((one.kind, one.id, one.key))) for one in counters]
    return [replace(one, charged=row["charged"], owed=row["owed"]) for one, row in found if row]


async def verify(foundation: Foundation) -> None:
    """The same count in the background, once an hour whichever server comes first: publishes when it was made and what
    it found, and puts each difference that is new, or another than before, on the books."""
    async with foundation.begin(SYSTEM, Origin()) as work:
        if not await work.fetchval(TURN) or not await work.fetchval(DUE, work.now, work.now - EVERY):
            return
        found = await check(work)
        known = {tuple(row[:3]): row["difference"] for row in await work.fetch(KNOWN)}
        beyond = Counter[tuple[str, UUID, str]]()
        for one in found:
            beyond[one.kind, one.id, one.key] += one.charged - one.owed
        for one in sorted(found, key=_lock_order):
            await _keep(work, one)
            counter = one.kind, one.id, one.key
            if known.get(counter) != beyond[counter]:
                known[counter] = beyond[counter]
                changes = {"charged": [one.owed, one.charged]}
                work.also("quota.difference", _place(one), changes, target=one.target, digest=one.digest)
        await work.execute(VERIFIED, work.now)


async def _keep(work: Work, one: Difference) -> None:
    """Where the scope's quotas show it; a counter that is missing is made for that."""
    await work.execute(KEEP, one.kind, one.id, one.key, one.charged, one.owed)
    if one.key != LINKS and one.name is not None:
        await work.execute(MAKE, one.kind, one.id, one.key)


class Recount:
    """The recount in the background, and how many counters differ by the last one, whichever server made it."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.differences = 0
        says = "Quota counters that say something else than is there."
        telemetry.watch("registry.quota.differences", "{counter}", says, lambda: self.differences)

    async def tend(self, foundation: Foundation) -> None:
        await verify(foundation)
        async with foundation.glance(SYSTEM, Origin()) as work:
            self.differences = await work.fetchval(STANDING)


def _difference(row: Any) -> Difference:
    return Difference(**{name: row[name] for name in Difference.__dataclass_fields__})


def _lock_order(one: Difference) -> tuple[tuple[int, str], UUID]:
    """Links are no counters; nobody waits for them here."""
    return (0, "") if one.key == LINKS else quotas.order(Key(one.key), one.kind), one.id


def _place(one: Difference) -> Place:
    repository = one.id if one.kind == "repository" else None
    return Place(one.kind, one.name or "", True, one.account_id, one.organization_id, repository)
