"""Forgetting a person: what they may do ends, and what tells of them can be read by nobody any more.

The log is not touched. It knows a person by an id, which from now on leads to no name, and holds what else tells of
them sealed under a key of theirs, which is thrown away here. Entries, numbers and proofs stay what they were.
"""

from typing import Any
from uuid import UUID

from policies.quotas import Key
from registry.accounts.credentials import CredentialKind
from registry.accounts.managing import LastAdministrator, no_such_user, require_managed
from registry.accounts.tables import User
from registry.actors import ActorKind
from registry.audit.subjects import subject_of_user
from registry.errors import Invalid
from registry.places import Place
from registry.work import Work

ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('forget_user'))"
FIND = """
    SELECT u.id, u.name, u.account_id, u.owner, u.platform_admin, u.forgotten_at, a.name AS account_name
    FROM users u JOIN account a ON a.id = u.account_id WHERE u.name = $1 FOR UPDATE OF u
"""
ANOTHER = """
    SELECT EXISTS (SELECT FROM users WHERE id <> $1 AND suspended_at IS NULL AND account_id = $2 AND owner) AS owner,
        EXISTS (SELECT FROM users WHERE id <> $1 AND suspended_at IS NULL AND platform_admin) AS admin
"""
UNMAKE = """
    UPDATE users SET name = $2, password_hash = NULL, owner = false, platform_admin = false, suspended_at = $3,
        forgotten_at = coalesce(forgotten_at, $3), generation = generation + 1 WHERE id = $1 RETURNING *
"""
ERASE = """
    INSERT INTO audit_subject (subject, wrapped, erased_at) VALUES ($1, NULL, $2)
    ON CONFLICT (subject) DO UPDATE SET wrapped = NULL, erased_at = $2
"""
ERASE_STRANGERS = """
    UPDATE audit_subject SET wrapped = NULL, erased_at = $2
    WHERE subject LIKE 'strangers:%' AND subject < 'strangers:' || $1 AND wrapped IS NOT NULL
"""
PERMISSIONS = ("organization_permission", "repository_permission")


class MonthInvalid(Invalid):
    code = "MONTH_INVALID"


async def forget_user(work: Work, name: str) -> User:
    """For owners of the account, and platform administrators. Raises `UserNotFound`, `LastAdministrator`."""
    work.attempt("audit.subject_erased", name, about=name)
    await work.fetchval(ONE_AT_A_TIME)  # two who forget each other would leave nobody
    row = await work.fetchrow(FIND, name)
    if row is None:
        raise no_such_user(name)
    work.concerns(row["id"])
    if work.actor.kind is not ActorKind.SYSTEM:  # the operator at the machine needs no right but access to it
        await require_managed(work, row)
    await _check_not_last(work, row)
    place = Place("account", row["account_name"], account_id=row["account_id"])
    taken = {"credentials": await _take_credentials(work, place, row["id"])}
    for table in PERMISSIONS:
        taken[table] = await work.execute(f"DELETE FROM {table} WHERE user_id = $1", row["id"])
    user = await work.fetchrow(UNMAKE, row["id"], forgotten_name(row["id"]), work.now)
    await work.execute(ERASE, subject_of_user(row["id"]), work.now)
    if row["forgotten_at"] is None:
        work.charge(Key.USERS, -1, place)
    work.record(place=place, changes={field: [count, 0] for field, count in taken.items()})
    assert user is not None  # noqa: S101
    return User(**{field: user[field] for field in User.model_fields})


async def forget_strangers(work: Work, before: str) -> int:
    """Throws away the keys under which those were sealed who were not signed in, of all months before the one given as
    YYYY-MM. The number of months. For the operator at the machine. Raises `MonthInvalid`."""
    work.attempt("audit.strangers_erased", before)
    if before > f"{work.now:%Y-%m}" or len(before) != 7:
        raise MonthInvalid(f"'{before}' is no month that began already: write it as {work.now:%Y-%m}.", path=["before"])
    count = await work.execute(ERASE_STRANGERS, before, work.now)
    work.record(changes={"months": [count, 0]})
    return count


def forgotten_name(user: UUID) -> str:
    """The end of the id, which is random; its beginning is the time."""
    return f"forgotten-{user.hex[-12:]}"


async def _take_credentials(work: Work, place: Place, user: UUID) -> int:
    gone = await work.fetch("DELETE FROM credential WHERE user_id = $1 RETURNING kind, revoked_at", user)
    counted = [row for row in gone if row["kind"] == CredentialKind.ACCESS_KEY and row["revoked_at"] is None]
    work.charge(Key.ACCESS_TOKENS, -len(counted), place)
    return len(gone)


async def _check_not_last(work: Work, row: Any) -> None:
    others = await work.fetchrow(ANOTHER, row["id"], row["account_id"])
    assert others is not None  # noqa: S101
    if row["id"] == work.actor.user_id:
        raise LastAdministrator("Nobody forgets themselves; ask another owner or administrator.")
    if (row["owner"] and not others["owner"]) or (row["platform_admin"] and not others["admin"]):
        raise LastAdministrator("This is the last owner of the account or the last administrator; name another first.")
