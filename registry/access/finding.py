"""Finding a thing by name, with every fact the law needs about the actor and it, in one statement.

The facts are read in the request's own transaction, so a revoked permission, an ended share, a suspended user or a
withdrawn credential is felt by the very next request, registry tokens already issued included. The other rooms build
on `FACTS`: a pull adds the manifest to it and stays a single statement.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from policies.access import Level
from registry.actors import Actor
from registry.deciding import not_found
from registry.errors import Unauthenticated
from registry.places import Held, Place
from registry.work import Work

# $1 user, $2 credential, $3 organization, $4 repository, $5 now. Always one row: what is absent is null.
FACTS = """
    u.id AS user_id, u.generation, u.owner, u.platform_admin, u.account_id AS user_account_id,
    u.suspended_at IS NOT NULL AS user_suspended, ua.suspended_at IS NOT NULL AS actor_frozen,
    c.id AS credential_id, c.revoked_at, c.expires_at AS credential_expires_at,
    o.id AS organization_id, o.name AS organization_name, o.account_id, oa.suspended_at IS NOT NULL AS owner_frozen,
    r.id AS repository_id, r.name AS repository_name, r.visibility,
    og.level AS organization_level, rg.level AS repository_level,
    s.id AS share_id, s.expires_at AS share_expires_at
"""
JOINS = """
    FROM (SELECT 1) AS always
    LEFT JOIN users u ON u.id = $1
    LEFT JOIN account ua ON ua.id = u.account_id
    LEFT JOIN credential c ON c.id = $2 AND c.user_id = u.id
    LEFT JOIN organization o ON o.name = $3
    LEFT JOIN account oa ON oa.id = o.account_id
    LEFT JOIN repository r ON r.organization_id = o.id AND r.name = $4
    LEFT JOIN organization_permission og ON og.organization_id = o.id AND og.user_id = u.id
    LEFT JOIN repository_permission rg ON rg.repository_id = r.id AND rg.user_id = u.id
    LEFT JOIN share s ON s.repository_id = r.id AND s.account_id = u.account_id
"""
# $6 says whether what is public is so for those who have not signed in, too.
GUEST = """
    EXISTS (SELECT FROM repository gr WHERE gr.organization_id = o.id AND (
        (gr.visibility = 'PUBLIC' AND (u.id IS NOT NULL OR $6))
        OR EXISTS (SELECT FROM repository_permission gp WHERE gp.repository_id = gr.id AND gp.user_id = u.id)
        OR EXISTS (SELECT FROM share gs WHERE gs.repository_id = gr.id AND gs.account_id = u.account_id
                   AND (gs.expires_at IS NULL OR gs.expires_at > $5)))) AS guest
"""
REPOSITORY = f"SELECT {FACTS} {JOINS} WHERE $5::timestamptz IS NOT NULL"
ORGANIZATION = f"SELECT {FACTS}, {GUEST} {JOINS}"
# $1 user, $2 credential, $3 names of accounts; null for the user's own.
ACCOUNT = """
    SELECT u.id AS user_id, u.generation, u.owner, u.platform_admin, u.account_id AS user_account_id,
        u.suspended_at IS NOT NULL AS user_suspended, ua.suspended_at IS NOT NULL AS actor_frozen,
        c.id AS credential_id, c.revoked_at, c.expires_at AS credential_expires_at,
        a.id AS account_id, a.name AS account_name, a.suspended_at IS NOT NULL AS owner_frozen
    FROM (SELECT 1) AS always
    LEFT JOIN users u ON u.id = $1
    LEFT JOIN account ua ON ua.id = u.account_id
    LEFT JOIN credential c ON c.id = $2 AND c.user_id = u.id
    LEFT JOIN account a ON a.name = ANY(coalesce($3::text[], ARRAY[ua.name]))
"""
# Rows that a change is about to build on must not vanish before it commits.
HOLD_ORGANIZATION = "SELECT 1 FROM organization WHERE id = $1 FOR SHARE"
HOLD_REPOSITORY = "SELECT 1 FROM repository WHERE id = $1 FOR SHARE"


class SignInEnded(Unauthenticated):
    """The identity was good once: the user or credential has been suspended, revoked, changed or has expired."""

    code = "SIGN_IN_ENDED"


async def platform(work: Work) -> Place:
    return _platform_place((await _account_rows(work, []))[0])


async def account(work: Work, name: str) -> Place:
    return (await accounts(work, [name]))[name]


async def platform_and_account(work: Work, name: str | None) -> tuple[Place, Place]:
    """The account of that name, or one's own; in one statement."""
    row = (await _account_rows(work, None if name is None else [name]))[0]
    return _platform_place(row), _account_place(row, name or row["account_name"] or "")


async def accounts(work: Work, names: list[str]) -> dict[str, Place]:
    """The account of each name, in one statement."""
    rows = await _account_rows(work, names)
    found = {row["account_name"]: row for row in rows}
    absent = {**rows[0], "account_id": None, "owner_frozen": False}
    return {name: _account_place(found.get(name, absent), name) for name in names}


async def _account_rows(work: Work, names: list[str] | None) -> list[Any]:
    """One at least, which says who the actor is. Raises `SignInEnded`."""
    rows = await work.fetch(ACCOUNT, work.actor.user_id, work.actor.credential_id, names)
    check_identity(work.actor, rows[0], work.now)
    return rows


def _platform_place(row: Any) -> Place:
    return Place("platform", "platform", held=tuple(_standing(row)))


def _account_place(row: Any, name: str) -> Place:
    held = [*_standing(row), *_frozen(row)]
    if row["account_id"] is not None and row["account_id"] == row["user_account_id"]:
        held.append(Held("account.member", "a user of this account"))
        if row["owner"]:
            held.append(Held("account.owner", "owner of this account"))
    return Place("account", name, row["account_id"] is not None, row["account_id"], held=tuple(held))


async def organization(work: Work, name: str) -> Place:
    row = await work.fetchrow(ORGANIZATION, *_keys(work, name, None), work.settings.anonymous_pull)
    assert row is not None  # noqa: S101
    check_identity(work.actor, row, work.now)
    return organization_place(row, name)


async def repository(work: Work, organization: str, name: str) -> Place:
    row = await work.fetchrow(REPOSITORY, *_keys(work, organization, name))
    assert row is not None  # noqa: S101
    return repository_place(work, row, organization, name)


async def hold(work: Work, place: Place) -> None:
    """Keeps the thing from being deleted until this change commits. Raises the same `NotFound` as a look-up when it
    has gone in between."""
    held = HOLD_REPOSITORY if place.kind == "repository" else HOLD_ORGANIZATION
    if await work.fetchrow(held, place.id) is None:
        raise not_found(Place(place.kind, place.name, exists=False))


async def lock(work: Work, place: Place) -> Any:
    """The row of an organization or repository, which nobody else changes or builds on until this change commits.
    Raises as `hold` does."""
    row = await work.fetchrow(f"SELECT * FROM {place.kind} WHERE id = $1 FOR UPDATE", place.id)
    if row is None:
        raise not_found(Place(place.kind, place.name, exists=False))
    return row


def repository_place(work: Work, row: Any, organization: str, name: str) -> Place:
    """The place of a row that holds `FACTS`. Raises `SignInEnded` when the actor no longer is who it was."""
    check_identity(work.actor, row, work.now)
    anonymous_may = work.settings.anonymous_pull
    held = [*_standing(row), *_frozen(row), *_from_organization(row)]
    ended = None
    if row["repository_id"] is not None:
        held += _from_repository(row, may_be_public=row["user_id"] is not None or anonymous_may)
        expires = row["share_expires_at"]
        if row["share_id"] is not None:
            if expires is None or expires > work.now:
                held.append(Held("repository.shared", "shared with your account", expires))
            else:
                ended = expires
    return Place(
        "repository",
        f"{organization}/{name}",
        row["repository_id"] is not None,
        row["account_id"],
        row["organization_id"],
        row["repository_id"],
        tuple(held),
        ended,
    )


def organization_place(row: Any, name: str) -> Place:
    held = [*_standing(row), *_frozen(row), *_from_organization(row)]
    if row["guest"]:
        held.append(Held("organization.guest", "one of its repositories can be seen"))
    exists = row["organization_id"] is not None
    return Place("organization", name, exists, row["account_id"], row["organization_id"], held=tuple(held))


def check_identity(actor: Actor, row: Any, now: datetime) -> None:
    """Raises `SignInEnded` unless the user still is as it was at sign-in, and the credential still holds."""
    if actor.user_id is None:
        return
    if row["user_id"] is None or row["user_suspended"] or row["generation"] != actor.generation:
        raise SignInEnded("This sign-in no longer holds: the user was suspended, removed or has a new password.")
    if actor.credential_id is None:
        return
    if row["credential_id"] is None or row["revoked_at"] is not None:
        raise SignInEnded("This sign-in no longer holds: the token it came from was revoked. Sign in with another.")
    expires = row["credential_expires_at"]
    if expires is not None and expires <= now:
        ended = expires.strftime("%Y-%m-%d %H:%M:%S UTC")
        raise SignInEnded(f"This sign-in no longer holds: its token expired at {ended}. Create a new one.")


def _keys(
    work: Work, organization: str, name: str | None
) -> tuple[UUID | None, UUID | None, str, str | None, datetime]:
    return work.actor.user_id, work.actor.credential_id, organization, name, work.now


def _standing(row: Any) -> list[Held]:
    return [Held("platform.admin", "platform administrator")] if row["platform_admin"] else []


def _frozen(row: Any) -> list[Held]:
    frozen = row["actor_frozen"] or row["owner_frozen"]
    return [Held("flag.suspended", "the account is suspended")] if frozen else []


def _from_organization(row: Any) -> list[Held]:
    held = []
    if row["organization_id"] is not None and row["account_id"] == row["user_account_id"] and row["owner"]:
        held.append(Held("account.owner", "owner of the account"))
    if row["organization_level"] is not None:
        level = Level(row["organization_level"]).name
        held.append(Held(f"organization.{level.lower()}", f"{level} on the organization"))
    return held


def _from_repository(row: Any, *, may_be_public: bool) -> list[Held]:
    held = []
    if row["visibility"] == "PUBLIC" and may_be_public:
        held.append(Held("repository.public", "the repository is public"))
    if row["repository_level"] is not None:
        level = Level(row["repository_level"]).name
        held.append(Held(f"repository.{level.lower()}", f"{level} on the repository"))
    return held


async def user_of_account(work: Work, name: str, account_id: UUID) -> UUID | None:
    """Permissions go to users of the same account only; a user of another does not exist here."""
    found: UUID | None = await work.fetchval(
        "SELECT id FROM users WHERE name = $1 AND account_id = $2", name, account_id
    )
    return found
