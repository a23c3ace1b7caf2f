"""What a repository holds, as the registry protocol lists it: tags, referrers, and the catalog of repositories."""

from dataclasses import dataclass
from typing import Any

from registry.oci.digest import Digest
from registry.places import Place
from registry.work import Work

TAGS = "SELECT name FROM tag WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3"
REFERRERS = """
    SELECT digest, media_type, size, artifact_type, annotations FROM manifest
    WHERE repository_id = $1 AND subject = $2 AND digest > $3 AND ($4::text IS NULL OR artifact_type = $4)
    ORDER BY digest LIMIT $5
"""
# The repositories somebody may see, as ids: the branches of the law as one union, each on its own index.
VISIBLE = """
    SELECT r.id FROM repository r WHERE r.visibility = 'PUBLIC' AND (CAST($1 AS uuid) IS NOT NULL OR $3)
    UNION SELECT p.repository_id FROM repository_permission p WHERE p.user_id = $1
    UNION SELECT r.id FROM organization_permission p JOIN repository r USING (organization_id) WHERE p.user_id = $1
    UNION SELECT s.repository_id FROM share s JOIN users u ON u.account_id = s.account_id
        WHERE u.id = $1 AND (s.expires_at IS NULL OR s.expires_at > $2)
    UNION SELECT r.id FROM users u JOIN organization o ON o.account_id = u.account_id
        JOIN repository r ON r.organization_id = o.id WHERE u.id = $1 AND u.owner
    UNION SELECT r.id FROM users u JOIN repository r ON u.platform_admin WHERE u.id = $1
"""
CATALOG = f"""
    SELECT o.name || '/' || r.name AS name FROM repository r JOIN organization o ON o.id = r.organization_id
    WHERE r.id IN ({VISIBLE}) AND (o.name || '/' || r.name) COLLATE "C" > $4
    ORDER BY (o.name || '/' || r.name) COLLATE "C" LIMIT $5
"""
# The newest repositories that hold a blob, of those the actor may see. Only so many are looked at, each by its id in a
# subquery of its own: the time it takes must not tell how many hidden ones hold it.
HOLDERS = f"""
    SELECT o.name AS organization, r.name
    FROM (
        SELECT repository_id, linked_at FROM repository_blob WHERE digest = $4 ORDER BY linked_at DESC LIMIT 100
    ) AS rb
    JOIN repository r ON r.id = rb.repository_id JOIN organization o ON o.id = r.organization_id
    WHERE (SELECT true FROM ({VISIBLE}) AS v WHERE v.id = r.id LIMIT 1)
    ORDER BY rb.linked_at DESC LIMIT 10
"""


@dataclass(frozen=True, slots=True)
class Page:
    """`more` tells that the list goes on after its last item."""

    items: list[Any]
    more: bool


async def tags(work: Work, place: Place, after: str, limit: int) -> Page:
    """Tag names in byte order."""
    rows = await work.fetch(TAGS, place.id, after, limit + 1)
    return _page([row["name"] for row in rows], limit)


async def referrers(work: Work, place: Place, subject: Digest, kind: str | None, after: str, limit: int) -> Page:
    """Manifests whose subject is this digest; of one artifact type, if `kind` names it."""
    rows = await work.fetch(REFERRERS, place.id, subject, after, kind, limit + 1)
    return _page(rows, limit)


async def catalog(work: Work, after: str, limit: int) -> Page:
    """Full names of the repositories the actor may see."""
    rows = await work.fetch(CATALOG, work.actor.user_id, work.now, work.settings.anonymous_pull, after, limit + 1)
    return _page([row["name"] for row in rows], limit)


async def holders(work: Work, digest: Digest) -> list[tuple[str, str]]:
    """Organization and name of repositories that hold a blob and that the actor may see, the newest few first."""
    rows = await work.fetch(HOLDERS, work.actor.user_id, work.now, work.settings.anonymous_pull, digest)
    return [(row["organization"], row["name"]) for row in rows]


def _page(items: list[Any], limit: int) -> Page:
    return Page(items[:limit], len(items) > limit)
