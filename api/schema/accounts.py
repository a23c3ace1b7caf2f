"""Accounts, their users, and who is asking."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlalchemy import select
from sqlmodel import col

from api.schema.context import EVERYWHERE, Info
from api.schema.credentials import AccessKey
from api.schema.errors import UserError, changing
from api.schema.paging import After, Before, Connection, First, Last, connection, keyset, page_of
from api.schema.reasons import Change
from api.schema.scalars import Level, Node
from api.schema.users import User
from registry.access import finding
from registry.accounts import credentials, managing
from registry.accounts.tables import Account as AccountRow
from registry.accounts.tables import User as UserRow
from registry.identifiers import show_id
from registry.places import Place


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
            place = await place_of(info, self.name)
            work.require("manage_users", place)
            info.context.looked("user.list", place)
            rows = await info.context.children(
                "users",
                select(*UserRow.__table__.columns).subquery("users_of"),  # type: ignore[attr-defined]
                "account_id",
                self.row.id,
                page,
                ("name",),
            )
        return connection(page, rows, key=lambda row: (row["name"],), node=User.of)


@strawberry.type(description="Who is asking.")
class Viewer:
    user: User = strawberry.field(description="The signed-in user.")
    account: Account = strawberry.field(description="The user's account.")
    token_level: Level | None = strawberry.field(description="The ceiling of the token used; null for a password.")

    @strawberry.field(description="What the viewer can sign in with besides the password, newest first.")
    async def access_keys(self, info: Info) -> list[AccessKey]:
        return [AccessKey.of(row) for row in await credentials.of_user(info.context.work, self.user.row.id)]


@strawberry.input(description="A tenant and its first user.")
class CreateAccountInput(Change):
    name: str = strawberry.field(description="1 to 64 characters: lowercase letters, digits, single separators.")
    owner_name: str = strawberry.field(description="The name of its first user, who owns it.")
    owner_password: str = strawberry.field(description="At least 8 characters.")


@strawberry.type(description="The new tenant, or why there is none.")
class CreateAccountPayload:
    account: Account | None = strawberry.field(description="The new account; null if it was refused.")
    owner: User | None = strawberry.field(description="Its first user; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="Which account to freeze.")
class SuspendAccountInput(Change):
    account: str = strawberry.field(description="The account's name.")


@strawberry.input(description="Which account to set free again.")
class ResumeAccountInput(Change):
    account: str = strawberry.field(description="The account's name.")


@strawberry.type(description="The account, or why it stays as it was.")
class AccountPayload:
    account: Account | None = strawberry.field(description="The account after the change; null if it was refused.")
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
    info.context.looked("account.show", place)
    row = await info.context.work.fetchrow("SELECT * FROM account WHERE id = $1", place.id)
    return Account.of(row)


async def account_of_id(info: Info, id: UUID) -> Account | None:
    columns = AccountRow.__table__.columns  # type: ignore[attr-defined]
    row = await info.context.of_id("account", id, lambda ids: select(*columns).where(col(AccountRow.id).in_(ids)))
    place = await place_of(info, row["name"]) if row else None
    if place is None or not info.context.work.allows("view", place):
        return None
    info.context.looked("account.show", place)
    return Account.of(row)


async def user_of_id(info: Info, id: UUID) -> User | None:
    """Oneself, or a user of an account one manages."""
    users = select(*UserRow.__table__.columns, col(AccountRow.name).label("account"))  # type: ignore[attr-defined]
    users = users.where(col(AccountRow.id) == col(UserRow.account_id))
    row = await info.context.of_id("user", id, lambda ids: users.where(col(UserRow.id).in_(ids)))
    if row is None:
        return None
    work = info.context.work
    if row["id"] == work.actor.user_id:
        return User.of(row)
    place = await place_of(info, row["account"])
    if not work.allows("manage_users", place):
        return None
    info.context.looked("user.show", place, row["name"], about_id=row["id"])
    return User.of(row)


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
            info.context.looked("account.list", EVERYWHERE)
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
            input,
            lambda work: managing.create_account(work, passwords, input.name, input.owner_name, input.owner_password),
        )
        account, owner = (Account.of(made[0]), User.of(made[1])) if made else (None, None)
        return CreateAccountPayload(account=account, owner=owner, errors=errors)

    @strawberry.mutation(
        description="Freezes an account: nothing in it may grow or change. For platform administrators."
    )
    async def suspend_account(self, info: Info, input: SuspendAccountInput) -> AccountPayload:
        return await _suspend_account(info, input, suspended=True)

    @strawberry.mutation(description="Ends the suspension of an account. For platform administrators.")
    async def resume_account(self, info: Info, input: ResumeAccountInput) -> AccountPayload:
        return await _suspend_account(info, input, suspended=False)


async def _suspend_account(
    info: Info, input: SuspendAccountInput | ResumeAccountInput, *, suspended: bool
) -> AccountPayload:
    account, errors = await changing(
        info, input, lambda work: managing.suspend_account(work, input.account, suspended=suspended)
    )
    return AccountPayload(account=Account.of(account) if account else None, errors=errors)
