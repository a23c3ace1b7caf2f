"""Accounts and users: made, suspended, given a new password. Needs the platform administrator, or the account's owner
for the users of that account."""

from typing import Any

import asyncpg

from policies import naming
from policies.quotas import Key
from registry.access import finding
from registry.accounts.credentials import confirm_identity
from registry.accounts.passwords import Passwords, PasswordTooWeak
from registry.accounts.tables import Account, User
from registry.deciding import HIDDEN, LimitedByToken
from registry.errors import Conflict, Invalid, NotFound, Refusal
from registry.places import Place
from registry.work import Work


class AccountNameInvalid(Invalid):
    code = "NAME_INVALID"


class AccountTaken(Conflict):
    code = "NAME_TAKEN"


class UserNotFound(NotFound):
    code = "NOT_FOUND"


class LastAdministrator(Conflict):
    code = "LAST_ADMINISTRATOR"


async def create_account(
    work: Work, passwords: Passwords, name: str, owner_name: str, owner_password: str
) -> tuple[Account, User]:
    """A new tenant with its first user, who owns it. Raises `AccountNameInvalid`, `AccountTaken`, `PasswordTooWeak`."""
    work.attempt("account.create", name)
    work.require("administer", await finding.platform(work))
    _check_name(naming.account_clause(name), "an account", name, ["name"])
    account = Account(name=name, created_at=work.now)
    await _insert(work, account, f"The account name '{name}' is taken in this installation.", ["name"])
    place = Place("account", name, account_id=account.id)
    work.record(place=place, changes={"name": [None, name]})
    try:
        owner = await _add_user(work, passwords, place, owner_name, owner_password, owner=True)
    except (AccountNameInvalid, AccountTaken, PasswordTooWeak) as refusal:
        refusal.detail["path"] = [f"owner{refusal.detail['path'][0].capitalize()}"]
        raise
    return account, owner


async def create_user(
    work: Work, passwords: Passwords, account: str, name: str, password: str, *, owner: bool = False
) -> User:
    """Raises `AccountNameInvalid`, `AccountTaken`, `PasswordTooWeak`, and what `require` raises."""
    work.attempt("user.create", name, about=name)
    place = await finding.account(work, account)
    work.require("create_user", place)
    return await _add_user(work, passwords, place, name, password, owner=owner)


async def set_password(work: Work, passwords: Passwords, name: str, password: str) -> User:
    """One's own, or that of a user one manages. Ends every sign-in of that user. Raises `UserNotFound`."""
    work.attempt("user.set_password", name, about=name)
    if work.actor.credential_id is not None:
        raise LimitedByToken("A token cannot set a password; sign in with the password.", level="NONE")
    user = await _managed(work, name)
    hashed = await passwords.hash(password)
    await work.execute(
        "UPDATE users SET password_hash = $2, generation = generation + 1 WHERE id = $1", user.id, hashed
    )
    work.record(place=Place("account", "", account_id=user.account_id))
    return user


async def suspend_user(work: Work, name: str, *, suspended: bool) -> User:
    """A suspended user cannot sign in; whatever was issued before ends at once. Raises `UserNotFound`."""
    work.attempt("user.suspend" if suspended else "user.resume", name, about=name)
    user = await _managed(work, name, others_only=True)
    before, after = user.suspended_at, (user.suspended_at or work.now) if suspended else None
    await work.execute("UPDATE users SET suspended_at = $2, generation = generation + 1 WHERE id = $1", user.id, after)
    work.record(place=Place("account", "", account_id=user.account_id), changes={"suspendedAt": [before, after]})
    user.suspended_at = after
    return user


async def suspend_account(work: Work, name: str, *, suspended: bool) -> Account:
    """Freezes an account: nothing in it may grow or change, all may be seen and pulled. Raises `NotFound`."""
    work.attempt("account.suspend" if suspended else "account.resume", name)
    work.require("administer", await finding.platform(work))
    place = await finding.account(work, name)
    work.require("view", place)
    row = await work.fetchrow("SELECT * FROM account WHERE id = $1 FOR UPDATE", place.id)
    account = read_account(row)
    before, account.suspended_at = (
        account.suspended_at,
        (account.suspended_at or work.now) if suspended else None,
    )
    await work.execute("UPDATE account SET suspended_at = $2 WHERE id = $1", account.id, account.suspended_at)
    work.record(place=place, changes={"suspendedAt": [before, account.suspended_at]})
    return account


async def require_managed(work: Work, row: Any) -> None:
    """That the actor may manage the user of this row, which also holds `account_name`. From here on the attempt stands
    in the log of that user's account, which alone is told that there is such a user. Raises `UserNotFound`."""
    work.concerns(row["id"])
    place = await finding.account(work, row["account_name"])
    try:
        work.require("manage_users", place)
    except Refusal:
        raise no_such_user(row["name"], truth=HIDDEN) from None
    if row["platform_admin"]:
        work.require("administer", await finding.platform(work))


def no_such_user(name: str, *, truth: str | None = None) -> UserNotFound:
    """The one sentence for who is absent and who is hidden."""
    return UserNotFound(f"There is no user '{name}' that you can manage.", truth=truth)


def read_user(row: Any) -> User:
    return User(**{name: row[name] for name in User.model_fields})


def read_account(row: Any) -> Account:
    return Account(**{name: row[name] for name in Account.model_fields})


async def _managed(work: Work, name: str, *, others_only: bool = False) -> User:
    """The user, for whoever may manage it; for all others it does not exist."""
    row = await work.fetchrow(
        "SELECT u.*, a.name AS account_name FROM users u JOIN account a ON a.id = u.account_id"
        " WHERE u.name = $1 FOR UPDATE OF u",
        name,
    )
    if row is None:
        raise no_such_user(name)
    if row["id"] == work.actor.user_id:
        work.concerns(row["id"])
        await confirm_identity(work)
        if others_only:
            raise LastAdministrator("Nobody suspends themselves; ask another administrator or owner.")
    else:
        await require_managed(work, row)
    return read_user(row)


async def _add_user(work: Work, passwords: Passwords, place: Place, name: str, password: str, *, owner: bool) -> User:
    work.attempt("user.create", name, place=place, about=name)
    _check_name(naming.user_clause(name), "a user", name, ["name"])
    user = User(
        account_id=place.id,
        name=name,
        password_hash=await passwords.hash(password),
        owner=owner,
        created_at=work.now,
        created_by=work.actor.user_id,
    )
    await _insert(work, user, f"The user name '{name}' is taken in this installation; choose another.", ["name"])
    work.charge(Key.USERS, 1, place)
    work.concerns(user.id)
    work.record(place=place, changes={"name": [None, name], "owner": [None, owner]})
    return user


async def _insert(work: Work, row: Account | User, taken: str, path: list[str]) -> None:
    try:
        await work.add(row)
    except asyncpg.UniqueViolationError:
        raise AccountTaken(taken, path=path) from None


def _check_name(clause: str | None, kind: str, name: str, path: list[str]) -> None:
    if clause is not None:
        raise AccountNameInvalid(f"'{name[:80]}' is no name for {kind}: {clause}", path=path)


async def reset_password(work: Work, passwords: Passwords, name: str, password: str) -> None:
    """For the operator at the machine, who needs no right but access to it. Raises `UserNotFound`."""
    work.attempt("user.set_password", name, about=name)
    hashed = await passwords.hash(password)
    row = await work.fetchrow(
        "UPDATE users SET password_hash = $2, generation = generation + 1 WHERE name = $1 RETURNING id, account_id",
        name,
        hashed,
    )
    if row is None:
        raise UserNotFound(f"There is no user '{name}'.")
    work.concerns(row["id"])
    work.record(place=Place("account", "", account_id=row["account_id"]))


async def everybody(work: Work) -> list[tuple[str, str, str]]:
    """Name, account, and marks of each user, for the operator at the machine."""
    rows = await work.fetch(
        "SELECT u.*, a.name AS account FROM users u JOIN account a ON a.id = u.account_id ORDER BY a.name, u.name"
    )
    return [(row["name"], row["account"], _marks(row)) for row in rows]


def _marks(row: Any) -> str:
    marks = {"owner": "owner", "platform_admin": "platform_admin", "suspended_at": "suspended"}
    return " ".join(mark for column, mark in marks.items() if row[column])
