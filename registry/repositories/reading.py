"""What people read of repositories: those they may see, their tags and manifests, with counts and sizes.

A selection is a statement of which a caller cuts a page. Each row brings what the law needs to know, so that a list
of a hundred is one statement, decided by the same rules as one repository.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Select,
    Subquery,
    Text,
    Uuid,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from registry.access import finding
from registry.access.finding import FACTS
from registry.places import Place
from registry.repositories.listing import VISIBLE
from registry.work import Work

SEEN = f"""
    SELECT {FACTS}, o.name || '/' || r.name AS full_name, r.category, r.description, r.created_at,
        greatest(r.updated_at, (SELECT max(t.pushed_at) FROM tag t WHERE t.repository_id = r.id)) AS updated_at,
        (SELECT coalesce(sum(b.size), 0) FROM repository_blob rb JOIN blob b ON b.digest = rb.digest
            WHERE rb.repository_id = r.id)::bigint
        + (SELECT coalesce(sum(m.size), 0) FROM manifest m WHERE m.repository_id = r.id)::bigint AS size_bytes,
        coalesce((SELECT charged FROM quota_counter WHERE scope_kind = 'repository' AND scope_id = r.id
            AND key = 'TAGS'), 0) AS tag_count,
        coalesce((SELECT pulls FROM pull_count p WHERE p.repository_id = r.id AND p.tag = ''), 0) AS pull_count
    FROM repository r
    JOIN organization o ON o.id = r.organization_id
    JOIN account oa ON oa.id = o.account_id
    LEFT JOIN users u ON u.id = :actor
    LEFT JOIN account ua ON ua.id = u.account_id
    LEFT JOIN credential c ON c.id = :credential AND c.user_id = u.id
    LEFT JOIN organization_permission og ON og.organization_id = o.id AND og.user_id = u.id
    LEFT JOIN repository_permission rg ON rg.repository_id = r.id AND rg.user_id = u.id
    LEFT JOIN share s ON s.repository_id = r.id AND s.account_id = u.account_id
    WHERE r.id IN ({VISIBLE.replace("$1", ":actor").replace("$2", ":now").replace("$3", ":anonymous")})
"""
TAGS = """
    SELECT t.repository_id, t.name, t.digest, t.created_at, t.pushed_at, u.name AS pushed_by, m.media_type,
        m.total_size AS size_bytes, m.platforms, m.artifact_type, m.config_digest, coalesce(p.pulls, 0) AS pull_count,
        p.last_pulled_at,
        EXISTS (SELECT FROM manifest x WHERE x.repository_id = t.repository_id AND x.subject = t.digest) AS referred
    FROM tag t
    JOIN manifest m ON m.repository_id = t.repository_id AND m.digest = t.digest
    LEFT JOIN pull_count p ON p.repository_id = t.repository_id AND p.tag = t.name
    LEFT JOIN users u ON u.id = t.pushed_by
"""
MANIFESTS = """
    SELECT m.repository_id, m.digest, m.media_type, m.artifact_type, m.size, m.total_size AS size_bytes, m.platforms,
        m.subject, m.pushed_at, u.name AS pushed_by,
        ARRAY(SELECT t.name FROM tag t WHERE t.repository_id = m.repository_id AND t.digest = m.digest
            ORDER BY t.name LIMIT 100) AS tags
    FROM manifest m LEFT JOIN users u ON u.id = m.pushed_by
"""
TIMES = DateTime(timezone=True)


@dataclass(frozen=True, slots=True)
class RepositoryView:
    """A repository as one viewer sees it."""

    place: Place
    id: UUID
    organization: str
    name: str
    visibility: str
    category: str
    description: str
    created_at: datetime
    updated_at: datetime
    size_bytes: int
    tag_count: int
    pull_count: int


def seen(work: Work) -> Subquery:
    """All repositories that the actor may see."""
    selection = text(SEEN).bindparams(
        actor=work.actor.user_id,
        credential=work.actor.credential_id,
        now=work.now,
        anonymous=work.settings.anonymous_pull,
    )
    return _with_columns(
        selection,
        repository_id=Uuid(),
        repository_name=Text(),
        organization_id=Uuid(),
        organization_name=Text(),
        account_id=Uuid(),
        full_name=Text(),
        visibility=Text(),
        category=Text(),
        description=Text(),
        created_at=TIMES,
        updated_at=TIMES,
        size_bytes=BigInteger(),
        tag_count=BigInteger(),
        pull_count=BigInteger(),
        user_id=Uuid(),
        generation=Integer(),
        owner=Boolean(),
        platform_admin=Boolean(),
        user_account_id=Uuid(),
        user_suspended=Boolean(),
        actor_frozen=Boolean(),
        owner_frozen=Boolean(),
        credential_id=Uuid(),
        revoked_at=TIMES,
        credential_expires_at=TIMES,
        organization_level=Integer(),
        repository_level=Integer(),
        share_id=Uuid(),
        share_expires_at=TIMES,
    )


def tags() -> Subquery:
    return _with_columns(
        text(TAGS),
        repository_id=Uuid(),
        name=Text(collation="C"),
        digest=Text(),
        created_at=TIMES,
        pushed_at=TIMES,
        pushed_by=Text(),
        media_type=Text(),
        size_bytes=BigInteger(),
        platforms=JSONB(),
        artifact_type=Text(),
        config_digest=Text(),
        pull_count=BigInteger(),
        last_pulled_at=TIMES,
        referred=Boolean(),
    )


def manifests() -> Subquery:
    return _with_columns(
        text(MANIFESTS),
        repository_id=Uuid(),
        digest=Text(),
        media_type=Text(),
        artifact_type=Text(),
        size=BigInteger(),
        size_bytes=BigInteger(),
        platforms=JSONB(),
        subject=Text(),
        pushed_at=TIMES,
        pushed_by=Text(),
        tags=JSONB(),
    )


def view(work: Work, row: Any) -> RepositoryView:
    """A row of `seen`."""
    return RepositoryView(
        place=finding.repository_place(work, row, row["organization_name"], row["repository_name"]),
        id=row["repository_id"],
        organization=row["organization_name"],
        name=row["repository_name"],
        visibility=row["visibility"],
        category=row["category"],
        description=row["description"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        size_bytes=row["size_bytes"],
        tag_count=row["tag_count"],
        pull_count=row["pull_count"],
    )


def _with_columns(selection: Any, **types: Any) -> Subquery:
    return selection.columns(**types).subquery()  # type: ignore[no-any-return]


def count(statement: Select[Any]) -> Select[Any]:
    """How many rows a statement has in all."""
    return select(func.count()).select_from(statement.subquery())
