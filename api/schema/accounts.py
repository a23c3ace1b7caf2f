"""Accounts, their users, and what a user signs in with."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlalchemy import select
from sqlmodel import col

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.paging import After, Before, Connection, First, Last, connection, keyset, page_of
from api.schema.scalars import Level
from policies.access import Level as LawLevel
from registry.access import finding
from registry.accounts import credentials, managing
from registry.accounts.tables import Account as AccountRow
from registry.accounts.tables import Credential
from registry.accounts.tables import User as UserRow
from registry.identifiers import read_id, show_id
from registry.places import Place


@strawberry.interface(description="Anything with an id that the whole server knows.")
class Node:
    id: strawberry.ID = strawberry.field(description="An opaque id, good for `node(id:)`.")


@strawberry.type(description="A person or machine that signs in. Names are unique in the installation.")
class User(Node):
    row: strawberry.Private[UserRow]
    name: str = strawberry.field(description="The name to sign in with.")
    is_owner: bool = strawberry.field(description="Whether the user owns the account and so manages all in it.")
    is_platform_admin: bool = strawberry.field(description="Whether the user administers the platform.")
    created_at: datetime = strawberry.field(description="When the user was made.")
    suspended_at: datetime | None = strawberry.field(description="Since when the user may not sign in; null if it may.")

    @classmethod
    def of(cls, row: Any) -> "User":
        user = row if isinstance(row, UserRow) else managing.read_user(row)
        return cls(
            id=strawberry.ID(show_id("user", user.id)),
            row=user,
            name=user.name,
            is_owner=user.owner,
            is_platform_admin=user.platform_admin,
            created_at=user.created_at,
            suspended_at=user.suspended_at,
        )


@strawberry.type(description="A tenant: it has users and owns organizations.")
class Account(Node):
    row: strawberry.Private[AccountRow]
    name: str = strawberry.field(description="The account's name, unique in the installation.")
    created_at: datetime = strawberry.field(description="When the account was made.")
    suspended_at: datetime | None = strawberry.field(description="Since when the account is frozen; null if it is not.")

    @classmethod
    def of(cls, row: Any) -> "Account":
        account = row if isinstance(row, AccountRow) else managing.read_account(row)
        return cls(
            id=strawberry.ID(show_id("acct", account.id)),
            row=account,
            name=account.name,
            created_at=account.created_at,
            suspended_at=account.suspended_at,
        )

    @strawberry.field(description="The account's users, by name. For those who manage them.")
    async def users(
        self,
        info: Info,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[User] | None:
        page = page_of(first, last, after, before, "NAME")
        async with info.context.looking() as work:
            work.require("manage_users", await place_of(info, self.name))
            rows = await info.context.children(
                "users",
                select(*UserRow.__table__.columns).subquery("users_of"),  # type: ignore[attr-defined]
                "account_id",
                self.row.id,
                page,
                ("name",),
            )
        return connection(page, rows, key=lambda row: (row["name"],), node=User.of)


@strawberry.type(description="A random secret that signs its user in, at most up to its level.")
class AccessKey(Node):
    kind: str = strawberry.field(description="ACCESS_KEY, LOGIN (a temporary login command) or OFFLINE (docker's own).")
    name: str = strawberry.field(description="What its user called it.")
    level: Level = strawberry.field(description="The most it can be used for.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null if it does not.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null if it was not.")
    last_used_at: datetime | None = strawberry.field(description="Its last use, to the minute; null if never used.")
    last_used_from: str | None = strawberry.field(description="The address of its last use.")

    @classmethod
    def of(cls, row: Credential) -> "AccessKey":
        return cls(
            id=strawberry.ID(show_id("key", row.id)),
            kind=row.kind,
            name=row.name,
            level=Level[LawLevel(row.level).name],
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            last_used_from=row.last_used_from,
        )


@strawberry.type(description="Who is asking.")
class Viewer:
    user: User = strawberry.field(description="The signed-in user.")
    account: Account = strawberry.field(description="The user's account.")
    token_level: Level | None = strawberry.field(description="The ceiling of the token used; null for a password.")

    @strawberry.field(description="What the viewer can sign in with besides the password, newest first.")
    async def access_keys(self, info: Info) -> list[AccessKey]:
        return [AccessKey.of(row) for row in await credentials.of_user(info.context.work, self.user.row.id)]


@strawberry.input(description="A tenant and its first user.")
class CreateAccountInput:
    name: str = strawberry.field(description="1 to 64 characters: lowercase letters, digits, single separators.")
    owner_name: str = strawberry.field(description="The name of its first user, who owns it.")
    owner_password: str = strawberry.field(description="At least 8 characters.")


@strawberry.type(description="The new tenant, or why there is none.")
class CreateAccountPayload:
    account: Account | None = strawberry.field(description="The new account; null if it was refused.")
    owner: User | None = strawberry.field(description="Its first user; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="Which account is meant.")
class AccountInput:
    account: str = strawberry.field(description="The account's name.")


@strawberry.type(description="The account, or why it stays as it was.")
class AccountPayload:
    account: Account | None = strawberry.field(description="The account after the change; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="Somebody who shall sign in.")
class CreateUserInput:
    account: str = strawberry.field(description="The account the user belongs to, for good.")
    name: str = strawberry.field(description="The name to sign in with, unique in the installation.")
    password: str = strawberry.field(description="At least 8 characters.")
    owner: bool = strawberry.field(default=False, description="Whether the user owns the account.")


@strawberry.input(description="Whose password, and the new one.")
class SetPasswordInput:
    user: str = strawberry.field(description="The user's name.")
    password: str = strawberry.field(description="At least 8 characters. Ends all sign-ins of the user.")


@strawberry.input(description="Which user is meant.")
class UserInput:
    user: str = strawberry.field(description="The user's name.")


@strawberry.type(description="The user, or why nothing was done.")
class UserPayload:
    user: User | None = strawberry.field(description="The user after the change; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="What the key is for and how long it lasts.")
class CreateAccessKeyInput:
    name: str = strawberry.field(description="What to call it, 1 to 64 characters.")
    level: Level = strawberry.field(default=Level.MANAGE, description="The most it can be used for.")
    expires_at: datetime | None = strawberry.field(default=None, description="When it ends; null for never.")


@strawberry.type(description="The key with its secret, or why there is none.")
class CreateAccessKeyPayload:
    access_key: AccessKey | None = strawberry.field(description="The new key; null if it was refused.")
    secret: str | None = strawberry.field(description="What to sign in with, in place of a password. Shown only here.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="Which key is meant.")
class RevokeAccessKeyInput:
    access_key: strawberry.ID = strawberry.field(description="The key's id.")


@strawberry.type(description="The key that ended, or why it did not.")
class RevokeAccessKeyPayload:
    access_key: AccessKey | None = strawberry.field(description="The revoked key; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="How long the login shall last.")
class CreateLoginCommandInput:
    minutes: int | None = strawberry.field(default=None, description="How long it lasts, 15 to 1440; null for 360.")


@strawberry.type(description="Lines to paste into a shell, or why there are none.")
class CreateLoginCommandPayload:
    access_key: AccessKey | None = strawberry.field(description="The credential behind it; null if it was refused.")
    docker: str | None = strawberry.field(description="A ready `docker login` line. Shown only here.")
    podman: str | None = strawberry.field(description="A ready `podman login` line. Shown only here.")
    skopeo: str | None = strawberry.field(description="A ready `skopeo login` line. Shown only here.")
    expires_at: datetime | None = strawberry.field(description="When it ends.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


async def place_of(info: Info, name: str) -> Place:
    """What the law needs to know of an account; one statement for all that are asked for at the same time."""

    async def load(names: list[str]) -> list[Place]:
        found = await finding.accounts(info.context.work, names)
        return [found[name] for name in names]

    place: Place = await info.context.batched("accounts", name, load)
    return place


async def account_named(info: Info, name: str) -> Account | None:
    place = await finding.account(info.context.work, name)
    if not info.context.work.allows("view", place):
        return None
    row = await info.context.work.fetchrow("SELECT * FROM account WHERE id = $1", place.id)
    return Account.of(row)


async def account_of_id(info: Info, id: UUID) -> Account | None:
    columns = AccountRow.__table__.columns  # type: ignore[attr-defined]
    row = await info.context.of_id("account", id, lambda ids: select(*columns).where(col(AccountRow.id).in_(ids)))
    if row is None or not info.context.work.allows("view", await place_of(info, row["name"])):
        return None
    return Account.of(row)


async def user_of_id(info: Info, id: UUID) -> User | None:
    """Oneself, or a user of an account one manages."""
    users = select(*UserRow.__table__.columns, col(AccountRow.name).label("account"))  # type: ignore[attr-defined]
    users = users.where(col(AccountRow.id) == col(UserRow.account_id))
    row = await info.context.of_id("user", id, lambda ids: users.where(col(UserRow.id).in_(ids)))
    if row is None:
        return None
    work = info.context.work
    is_oneself = row["id"] == work.actor.user_id
    return User.of(row) if is_oneself or work.allows("manage_users", await place_of(info, row["account"])) else None


async def access_key_of_id(info: Info, id: UUID) -> AccessKey | None:
    """One of the viewer's own."""
    columns = Credential.__table__.columns  # type: ignore[attr-defined]
    row = await info.context.of_id("access key", id, lambda ids: select(*columns).where(col(Credential.id).in_(ids)))
    if row is None or row["user_id"] != info.context.work.actor.user_id:
        return None
    return AccessKey.of(credentials.read(row))


@strawberry.type
class AccountQueries:
    @strawberry.field(description="Who is asking; null for those who have not signed in.")
    async def viewer(self, info: Info) -> Viewer | None:
        work = info.context.work
        if work.actor.anonymous:
            return None
        await finding.platform(work)
        user = await work.fetchrow("SELECT * FROM users WHERE id = $1", work.actor.user_id)
        account = await work.fetchrow("SELECT * FROM account WHERE id = $1", work.actor.account_id)
        return Viewer(user=User.of(user), account=Account.of(account), token_level=Level.shown(work.actor.level))

    @strawberry.field(description="An account by name; null if there is none that you can see.")
    async def account(
        self, info: Info, name: Annotated[str, strawberry.argument(description="In full; there is no search.")]
    ) -> Account | None:
        return await account_named(info, name)

    @strawberry.field(description="All accounts, by name. For platform administrators.")
    async def accounts(
        self,
        info: Info,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[Account] | None:
        page = page_of(first, last, after, before, "NAME")
        async with info.context.looking() as work:
            work.require("administer", await finding.platform(work))
            keys = keyset(page, [col(AccountRow.name)])
            rows = await work.fetch(keys.on(select(*AccountRow.__table__.columns)))  # type: ignore[attr-defined]
        return connection(page, rows, key=lambda row: (row["name"],), node=Account.of)


@strawberry.type
class AccountMutations:
    @strawberry.mutation(description="Makes an account with its first user, who owns it. For platform administrators.")
    async def create_account(self, info: Info, input: CreateAccountInput) -> CreateAccountPayload:
        passwords = info.context.system.gate.passwords
        made, errors = await changing(
            info,
            lambda work: managing.create_account(work, passwords, input.name, input.owner_name, input.owner_password),
        )
        account, owner = (Account.of(made[0]), User.of(made[1])) if made else (None, None)
        return CreateAccountPayload(account=account, owner=owner, errors=errors)

    @strawberry.mutation(
        description="Freezes an account: nothing in it may grow or change. For platform administrators."
    )
    async def suspend_account(self, info: Info, input: AccountInput) -> AccountPayload:
        return await _suspend_account(info, input.account, suspended=True)

    @strawberry.mutation(description="Ends the suspension of an account. For platform administrators.")
    async def resume_account(self, info: Info, input: AccountInput) -> AccountPayload:
        return await _suspend_account(info, input.account, suspended=False)

    @strawberry.mutation(description="Makes a user of an account. For its owners.")
    async def create_user(self, info: Info, input: CreateUserInput) -> UserPayload:
        passwords = info.context.system.gate.passwords
        made, errors = await changing(
            info,
            lambda work: managing.create_user(
                work, passwords, input.account, input.name, input.password, owner=input.owner
            ),
        )
        return UserPayload(user=User.of(made) if made else None, errors=errors)

    @strawberry.mutation(description="Sets a password: one's own, or that of a user one manages.")
    async def set_password(self, info: Info, input: SetPasswordInput) -> UserPayload:
        passwords = info.context.system.gate.passwords
        user, errors = await changing(
            info, lambda work: managing.set_password(work, passwords, input.user, input.password)
        )
        return UserPayload(user=User.of(user) if user else None, errors=errors)

    @strawberry.mutation(description="Keeps a user from signing in, and ends what was issued before. For owners.")
    async def suspend_user(self, info: Info, input: UserInput) -> UserPayload:
        user, errors = await changing(info, lambda work: managing.suspend_user(work, input.user, suspended=True))
        return UserPayload(user=User.of(user) if user else None, errors=errors)

    @strawberry.mutation(description="Lets a suspended user sign in again. For owners.")
    async def resume_user(self, info: Info, input: UserInput) -> UserPayload:
        user, errors = await changing(info, lambda work: managing.suspend_user(work, input.user, suspended=False))
        return UserPayload(user=User.of(user) if user else None, errors=errors)

    @strawberry.mutation(description="Makes a long-lived key of the viewer's own, for machines.")
    async def create_access_key(self, info: Info, input: CreateAccessKeyInput) -> CreateAccessKeyPayload:
        keys = info.context.system.gate.keys
        issued, errors = await changing(
            info,
            lambda work: credentials.create_access_key(
                work, keys, input.name, input.level.of_the_law, input.expires_at
            ),
        )
        key, secret = (AccessKey.of(issued.credential), issued.secret) if issued else (None, None)
        return CreateAccessKeyPayload(access_key=key, secret=secret, errors=errors)

    @strawberry.mutation(description="Ends a key at once, registry tokens made with it included.")
    async def revoke_access_key(self, info: Info, input: RevokeAccessKeyInput) -> RevokeAccessKeyPayload:
        row, errors = await changing(info, lambda work: credentials.revoke(work, read_id(input.access_key)[1]))
        return RevokeAccessKeyPayload(access_key=AccessKey.of(row) if row else None, errors=errors)

    @strawberry.mutation(description="A temporary login for docker and its kin: 15 minutes to 24 hours.")
    async def create_login_command(self, info: Info, input: CreateLoginCommandInput) -> CreateLoginCommandPayload:
        keys = info.context.system.gate.keys
        duration = None if input.minutes is None else timedelta(minutes=input.minutes)
        issued, errors = await changing(info, lambda work: credentials.create_login(work, keys, duration))
        if issued is None:
            return CreateLoginCommandPayload(
                access_key=None, docker=None, podman=None, skopeo=None, expires_at=None, errors=errors
            )
        host = info.context.system.foundation.settings.registry_host
        line = f"login -u {info.context.actor.name} -p {issued.secret} {host}"
        return CreateLoginCommandPayload(
            access_key=AccessKey.of(issued.credential),
            docker=f"docker {line}",
            podman=f"podman {line}",
            skopeo=f"skopeo {line}",
            expires_at=issued.credential.expires_at,
            errors=[],
        )


async def _suspend_account(info: Info, name: str, *, suspended: bool) -> AccountPayload:
    account, errors = await changing(info, lambda work: managing.suspend_account(work, name, suspended=suspended))
    return AccountPayload(account=Account.of(account) if account else None, errors=errors)
