"""Where the bytes of a scope are: by repository, what it shares, and what nothing needs any more.

Content is explained as it is charged: each link of a repository to a digest once at the repository, and each digest
once in its organization, which gets it back with the last of its links (`organization_blob.links`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from registry.places import Place
from registry.quotas.scopes import WITHIN
from registry.work import Work

MOST_REPOSITORIES = 100

# A manifest `leads` to what it needs, a `part`, and to what refers to it; what a tag leads to is `reached`, all other
# links are `loose`. `total_size` counts an image again in each index that names it.
USES = """
    WITH RECURSIVE scope AS MATERIALIZED (
        SELECT r.id, r.name, o.id AS organization_id, o.name AS organization
        FROM repository r JOIN organization o ON o.id = r.organization_id WHERE {within}
    ), leads AS MATERIALIZED (
        SELECT p.repository_id, p.manifest_digest AS digest, p.digest AS next, true AS part
        FROM scope s JOIN manifest_part p ON p.repository_id = s.id WHERE p.kind = 'MANIFEST'
        UNION ALL SELECT m.repository_id, m.subject, m.digest, false
        FROM scope s JOIN manifest m ON m.repository_id = s.id WHERE m.subject IS NOT NULL
    ), reached AS (
        SELECT t.repository_id, t.digest FROM tag t JOIN scope s ON s.id = t.repository_id
        UNION SELECT repository_id, l.next FROM reached JOIN leads l USING (repository_id, digest)
    ), needed AS (
        SELECT DISTINCT p.repository_id, p.digest FROM reached f JOIN manifest_part p
            ON p.repository_id = f.repository_id AND p.manifest_digest = f.digest AND p.kind = 'BLOB'
    ), links AS (
        SELECT s.id, s.organization_id, rb.digest, n.digest IS NULL AS loose
        FROM scope s JOIN repository_blob rb ON rb.repository_id = s.id
        LEFT JOIN needed n ON n.repository_id = rb.repository_id AND n.digest = rb.digest
        UNION ALL SELECT s.id, s.organization_id, m.digest, f.digest IS NULL
        FROM scope s JOIN manifest m ON m.repository_id = s.id
        LEFT JOIN reached f ON f.repository_id = m.repository_id AND f.digest = m.digest
    ), held AS MATERIALIZED (
        SELECT l.*, b.size, b.links AS links_of_all
        FROM (SELECT id, organization_id, digest, count(*) AS links, count(*) FILTER (WHERE loose) AS loose
            FROM links GROUP BY id, organization_id, digest) AS l
        JOIN organization_blob b USING (organization_id, digest)
    ), written AS (
        SELECT id, sum(size) AS logical FROM (
            SELECT m.repository_id AS id, m.total_size AS size FROM scope s JOIN manifest m ON m.repository_id = s.id
            UNION ALL SELECT l.repository_id, -m.total_size
            FROM leads l JOIN manifest m ON m.repository_id = l.repository_id AND m.digest = l.next WHERE l.part
        ) AS sizes GROUP BY id
    ), by_repository AS (
        SELECT id, sum(size * links) AS used, sum(size) FILTER (WHERE links = links_of_all) AS exclusive,
            sum(size * loose) AS untagged, sum(size) FILTER (WHERE loose = links_of_all) AS reclaimable
        FROM held GROUP BY id
    ), whole AS (
        SELECT (SELECT count(*) FROM scope) AS repositories, (SELECT sum(logical) FROM written) AS all_logical,
            ({used}) AS all_used, (SELECT sum(size) FROM (
                SELECT size FROM held WHERE loose > 0 GROUP BY organization_id, digest, size, links_of_all
                HAVING sum(loose) = links_of_all) AS loose) AS all_reclaimable
    )
    SELECT whole.*, u.* FROM whole LEFT JOIN (
        SELECT s.id, s.organization, s.name, coalesce(used, 0)::bigint AS used,
            coalesce(exclusive, 0)::bigint AS exclusive, coalesce(untagged, 0)::bigint AS untagged,
            coalesce(reclaimable, 0)::bigint AS reclaimable, coalesce(logical, 0)::bigint AS logical
        FROM scope s LEFT JOIN by_repository USING (id) LEFT JOIN written USING (id)
        ORDER BY exclusive DESC, used DESC, organization, name LIMIT {most}) AS u ON true
"""
CHARGED = "SELECT sum(b.size) FROM organization_blob b JOIN organization o ON o.id = b.organization_id WHERE {within}"
USED = {"account": CHARGED, "organization": CHARGED, "repository": "SELECT sum(used) FROM by_repository"}
STATEMENTS = {
    kind: USES.format(within=within, used=USED[kind].format(within=within), most=MOST_REPOSITORIES)
    for kind, within in WITHIN.items()
}


@dataclass(frozen=True, slots=True)
class RepositoryUse:
    """`used` is what the repository is charged; its organization gets `exclusive` back if it goes, and `reclaimable`
    if only what no tag leads to goes, which the repository is charged `untagged` for."""

    id: UUID
    organization: str
    name: str
    used: int
    exclusive: int
    untagged: int
    reclaimable: int
    logical: int


@dataclass(frozen=True, slots=True)
class Uses:
    """Of a scope: what is used as it is charged there, and the repositories that would give back most."""

    used: int
    reclaimable: int
    logical: int
    count: int
    repositories: Sequence[RepositoryUse]


async def uses(work: Work, place: Place) -> Uses:
    """For who has been required to be allowed to see the quotas of the scope."""
    rows = await work.fetch(STATEMENTS[place.kind], place.id)
    whole = rows[0]
    fields = RepositoryUse.__dataclass_fields__
    repositories = [RepositoryUse(**{name: row[name] for name in fields}) for row in rows if row["id"] is not None]
    used, reclaimable, logical = (int(whole[f"all_{name}"] or 0) for name in ("used", "reclaimable", "logical"))
    return Uses(used, reclaimable, logical, whole["repositories"], repositories)
