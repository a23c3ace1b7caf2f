"""Users: people and machines that sign in with a password."""

from datetime import datetime
from typing import Any

import strawberry

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.reasons import Change
from api.schema.scalars import Node
from registry.accounts import forgetting, managing
from registry.accounts.tables import User as UserRow
from registry.identifiers import show_id


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


@strawberry.input(description="Somebody who shall sign in.")
class CreateUserInput(Change):
    account: str = strawberry.field(description="The account the user belongs to, for good.")
    name: str = strawberry.field(description="The name to sign in with, unique in the installation.")
    password: str = strawberry.field(description="At least 8 characters.")
    owner: bool = strawberry.field(default=False, description="Whether the user owns the account.")


@strawberry.input(description="Whose password, and the new one.")
class SetPasswordInput(Change):
    user: str = strawberry.field(description="The user's name.")
    password: str = strawberry.field(description="At least 8 characters. Ends all sign-ins of the user.")


@strawberry.input(description="Who shall not sign in any more.")
class SuspendUserInput(Change):
    user: str = strawberry.field(description="The user's name.")


@strawberry.input(description="Who may sign in again.")
class ResumeUserInput(Change):
    user: str = strawberry.field(description="The user's name.")


@strawberry.input(description="Whom to forget.")
class ForgetUserInput(Change):
    user: str = strawberry.field(description="The user's name.")


@strawberry.type(description="The user, or why nothing was done.")
class UserPayload:
    user: User | None = strawberry.field(description="The user after the change; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.type
class UserMutations:
    @strawberry.mutation(description="Makes a user of an account. For its owners.")
    async def create_user(self, info: Info, input: CreateUserInput) -> UserPayload:
        passwords = info.context.system.gate.passwords
        made, errors = await changing(
            info,
            input,
            lambda work: managing.create_user(
                work, passwords, input.account, input.name, input.password, owner=input.owner
            ),
        )
        return UserPayload(user=User.of(made) if made else None, errors=errors)

    @strawberry.mutation(description="Sets a password: one's own, or that of a user one manages.")
    async def set_password(self, info: Info, input: SetPasswordInput) -> UserPayload:
        passwords = info.context.system.gate.passwords
        user, errors = await changing(
            info, input, lambda work: managing.set_password(work, passwords, input.user, input.password)
        )
        return UserPayload(user=User.of(user) if user else None, errors=errors)

    @strawberry.mutation(description="Keeps a user from signing in, and ends what was issued before. For owners.")
    async def suspend_user(self, info: Info, input: SuspendUserInput) -> UserPayload:
        user, errors = await changing(info, input, lambda work: managing.suspend_user(work, input.user, suspended=True))
        return UserPayload(user=User.of(user) if user else None, errors=errors)

    @strawberry.mutation(description="Lets a suspended user sign in again. For owners.")
    async def resume_user(self, info: Info, input: ResumeUserInput) -> UserPayload:
        user, errors = await changing(
            info, input, lambda work: managing.suspend_user(work, input.user, suspended=False)
        )
        return UserPayload(user=User.of(user) if user else None, errors=errors)

    @strawberry.mutation(
        description="Forgets a person for good: ends all they may do, and makes unreadable what tells of them, in the "
        "audit log too. For owners."
    )
    async def forget_user(self, info: Info, input: ForgetUserInput) -> UserPayload:
        user, errors = await changing(info, input, lambda work: forgetting.forget_user(work, input.user))
        return UserPayload(user=User.of(user) if user else None, errors=errors)
