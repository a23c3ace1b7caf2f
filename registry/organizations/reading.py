"""What people read of organizations: those they may see, with what the law needs and what they hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, DateTime, Integer, Subquery, Text, Uuid, text

from registry.access import finding
from registry.access.finding import GUEST
from registry.places import Place
from registry.work import Work

SEEN = f"""
    SELECT * FROM (
        SELECT o.id AS organization_id, o.name AS organization_name, o.account_id, oa.name AS account_name,
            o.created_at, oa.suspended_at IS NOT NULL AS owner_frozen,
            u.id AS user_id, u.generation, u.owner, u.platform_admin, u.account_id AS user_account_id,
            u.suspended_at IS NOT NULL AS user_suspended, ua.suspended_at IS NOT NULL AS actor_frozen,
            c.id AS credential_id, c.revoked_at, c.expires_at AS credential_expires_at,
            og.level AS organization_level, {GUEST.replace("$5", ":now").replace("$6", ":anonymous")},
            coalesce((SELECT charged FROM quota_counter WHERE scope_kind = 'organization' AND scope_id = o.id
                AND key = 'REPOSITORIES'), 0) AS repository_count,
            (SELECT coalesce(sum(size), 0) FROM organization_blob b WHERE b.organization_id = o.id)::bigint
                AS size_bytes
        FROM organization o
        JOIN account oa ON oa.id = o.account_id
        LEFT JOIN users u ON u.id = :actor
        LEFT JOIN account ua ON ua.id = u.account_id
        LEFT JOIN credential c ON c.id = :credential AND c.user_id = u.id
        LEFT JOIN organization_permission og ON og.organization_id = o.id AND og.user_id = u.id
    ) AS every
    WHERE platform_admin OR guest OR organization_level IS NOT NULL OR (owner AND user_account_id = account_id)
"""
TIMES = DateTime(timezone=True)


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """An organization as one viewer sees it."""

    place: Place
    id: UUID
    account_id: UUID
    account: str
    name: str
    created_at: datetime
    repository_count: int
    size_bytes: int


def seen(work: Work) -> Subquery:
    """All organizations that the actor may see, also those seen only through one of their repositories."""
    selection = text(SEEN).bindparams(
        actor=work.actor.user_id,
        credential=work.actor.credential_id,
        now=work.now,
        anonymous=work.settings.anonymous_pull,
    )
    return selection.columns(
        organization_id=Uuid(),
        organization_name=Text(),
        account_id=Uuid(),
        account_name=Text(),
        created_at=TIMES,
        owner_frozen=Boolean(),
        user_id=Uuid(),
        generation=Integer(),
        owner=Boolean(),
        platform_admin=Boolean(),
        user_account_id=Uuid(),
        user_suspended=Boolean(),
        actor_frozen=Boolean(),
        credential_id=Uuid(),
        revoked_at=TIMES,
        credential_expires_at=TIMES,
        organization_level=Integer(),
        guest=Boolean(),
        repository_count=BigInteger(),
        size_bytes=BigInteger(),
    ).subquery()


def view(work: Work, row: Any) -> OrganizationView:
    """A row of `seen`."""
    finding.check_identity(work.actor, row, work.now)
    return OrganizationView(
        place=finding.organization_place(row, row["organization_name"]),
        id=row["organization_id"],
        account_id=row["account_id"],
        account=row["account_name"],
        name=row["organization_name"],
        created_at=row["created_at"],
        repository_count=row["repository_count"],
        size_bytes=row["size_bytes"],
    )
