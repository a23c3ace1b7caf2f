"""Permissions: a level on an organization or on one repository, for a user of the same account.

Setting a level replaces the one before. Nobody sets or removes their own, so that no account is left without somebody
who could undo a mistake; owners of the account manage everything without being listed.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from policies.access import Level
from registry.access import finding
from registry.errors import Denied, NotFound
from registry.places import Place
from registry.work import Work

TABLES = {
    "organization": ("organization_permission", "organization_id"),
    "repository": ("repository_permission", "repository_id"),
}


class GranteeNotFound(NotFound):
    code = "NOT_FOUND"


class PermissionNotFound(NotFound):
    code = "NOT_FOUND"


class OwnPermission(Denied):
    code = "OWN_PERMISSION"


@dataclass(frozen=True, slots=True)
class Permission:
    user_id: UUID
    user: str
    level: Level
    created_at: datetime
    updated_at: datetime


async def set_permission(work: Work, place: Place, user: str, level: Level) -> Permission:
    """Raises `GranteeNotFound`, `OwnPermission`, and what `require` raises."""
    work.attempt(f"{place.kind}_permission.set", f"{place.name}:{user}", place=place, about=user)
    work.require("grant", place)
    user_id = await _grantee(work, place, user)
    await finding.hold(work, place)
    table, column = TABLES[place.kind]
    before = await work.fetchval(
        f"SELECT level FROM {table} WHERE {column} = $1 AND user_id = $2 FOR UPDATE", place.id, user_id
    )
    row = await work.fetchrow(
        f"INSERT INTO {table} AS p ({column}, user_id, level, granted_by, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT"
        f" ({column}, user_id) DO UPDATE SET level = $3, granted_by = $4, updated_at = $5 RETURNING *",
        place.id,
        user_id,
        int(level),
        work.actor.user_id,
        work.now,
    )
    work.record(changes={"level": [Level(before).name if before else None, level.name]})
    return _permission(row, user)


async def remove_permission(work: Work, place: Place, user: str) -> Permission:
    """Raises `PermissionNotFound`, `OwnPermission`, and what `require` raises."""
    work.attempt(f"{place.kind}_permission.remove", f"{place.name}:{user}", place=place, about=user)
    work.require("grant", place)
    user_id = await _grantee(work, place, user)
    table, column = TABLES[place.kind]
    row = await work.fetchrow(
        f"DELETE FROM {table} WHERE {column} = $1 AND user_id = $2 RETURNING *", place.id, user_id
    )
    if row is None:
        raise PermissionNotFound(f"'{user}' holds no permission of their own on {place.kind} '{place.name}'.")
    work.record(changes={"level": [Level(row["level"]).name, None]})
    return _permission(row, user)


async def permissions(work: Work, kind: str, ids: list[UUID]) -> dict[UUID, list[Permission]]:
    """All permissions set on each of these organizations or repositories, by user name.

    The caller has been required to be allowed to grant on each.
    """
    table, column = TABLES[kind]
    rows = await work.fetch(
        f"SELECT p.*, p.{column} AS place, u.name FROM {table} p JOIN users u ON u.id = p.user_id"
        f" WHERE p.{column} = ANY($1::uuid[]) ORDER BY u.name",
        ids,
    )
    found: dict[UUID, list[Permission]] = {one: [] for one in ids}
    for row in rows:
        found[row["place"]].append(_permission(row, row["name"]))
    return found


async def _grantee(work: Work, place: Place, user: str) -> UUID:
    assert place.account_id is not None  # noqa: S101
    user_id = await finding.user_of_account(work, user, place.account_id)
    if user_id is None:
        raise GranteeNotFound(
            f"The account that owns {place.kind} '{place.name}' has no user '{user}'. Permissions are for users of the "
            "same account; share a repository to let another account pull it.",
            path=["user"],
        )
    work.concerns(user_id)
    if user_id == work.actor.user_id:
        raise OwnPermission("Nobody changes their own permission; ask another manager or the account's owner.")
    return user_id


def _permission(row: Any, user: str) -> Permission:
    return Permission(row["user_id"], user, Level(row["level"]), row["created_at"], row["updated_at"])
