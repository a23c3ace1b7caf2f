"""Permissions and shares: who may do what, as types and mutations. Nested lists of them are loaded in batches."""

from datetime import datetime
from typing import Any

import strawberry

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.reasons import Change
from api.schema.scalars import Level, Node
from registry.access import finding, granting, sharing
from registry.access.granting import Permission as PermissionRow
from registry.access.tables import Share as ShareRow
from registry.identifiers import show_id
from registry.places import Place
from registry.work import Work


@strawberry.type(description="A level that a user holds on an organization or a repository.")
class Permission:
    user: str = strawberry.field(description="The user's name.")
    level: Level = strawberry.field(description="The level held.")
    created_at: datetime = strawberry.field(description="When it was first given.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def of(cls, row: PermissionRow) -> "Permission":
        return cls(user=row.user, level=Level[row.level.name], created_at=row.created_at, updated_at=row.updated_at)


@strawberry.type(description="Another account may pull one private repository until a deadline.")
class Share(Node):
    account: str = strawberry.field(description="The account that may pull.")
    description: str = strawberry.field(description="What it is for.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null for never.")
    in_force: bool = strawberry.field(description="Whether it can be used now.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: ShareRow, account: str, now: datetime) -> "Share":
        return cls(
            id=strawberry.ID(show_id("share", row.id)),
            account=account,
            description=row.description,
            expires_at=row.expires_at,
            in_force=row.expires_at is None or row.expires_at > now,
            created_at=row.created_at,
        )


@strawberry.input(description="Who shall hold which level on all repositories of an organization.")
class SetOrganizationPermissionInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    user: str = strawberry.field(description="A user of the account that owns it.")
    level: Level = strawberry.field(description="Holds for all its repositories; replaces the level before.")


@strawberry.input(description="Whose level on which organization ends. A level on one of its repositories stays.")
class RemoveOrganizationPermissionInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    user: str = strawberry.field(description="The user's name.")


@strawberry.input(description="Who shall hold which level on one repository.")
class SetRepositoryPermissionInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    user: str = strawberry.field(description="A user of the account that owns it.")
    level: Level = strawberry.field(description="Replaces the level before.")


@strawberry.input(description="Whose level on which repository ends. A level on its organization stays.")
class RemoveRepositoryPermissionInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    user: str = strawberry.field(description="The user's name.")


@strawberry.type(description="The permission, or why nothing was done.")
class PermissionPayload:
    permission: Permission | None = strawberry.field(
        description="The permission as it is, or was before it was removed; null if it was refused."
    )
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.input(description="Who shall pull what until when. Needs `expiresAt` or `forever`, one of the two.")
class CreateShareInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it; it must be private.")
    account: str = strawberry.field(description="The account that shall pull.")
    expires_at: datetime | None = strawberry.field(default=None, description="The deadline.")
    forever: bool = strawberry.field(default=False, description="In place of a deadline.")
    description: str = strawberry.field(default="", description="What it is for, at most 1000 characters.")


@strawberry.input(description="Which share, and what changes. What is left out stays.")
class UpdateShareInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    account: str = strawberry.field(description="The account that may pull.")
    expires_at: strawberry.Maybe[datetime | None] = strawberry.field(description="The new deadline; null for never.")
    description: strawberry.Maybe[str] = strawberry.field(description="What it is for.")


@strawberry.input(description="Which share is meant.")
class DeleteShareInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    account: str = strawberry.field(description="The account that shall pull no more.")


@strawberry.type(description="The share, or why nothing was done.")
class SharePayload:
    share: Share | None = strawberry.field(
        description="The share as it is, or was before it was deleted; null if it was refused."
    )
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


async def permissions_of(info: Info, place: Place) -> list[Permission]:
    """Needs the right to grant; for one place or for each of a list, in one statement."""

    async def load(ids: list[Any]) -> list[list[Permission]]:
        found = await granting.permissions(info.context.work, place.kind, ids)
        return [[Permission.of(row) for row in found[one]] for one in ids]

    async with info.context.looking() as work:
        work.require("grant", place)
    info.context.looked(f"{place.kind}_permission.show", place)
    permissions: list[Permission] = await info.context.batched(f"permissions of {place.kind}", place.id, load)
    return permissions


async def shares_of(info: Info, place: Place) -> list[Share]:
    async def load(ids: list[Any]) -> list[list[Share]]:
        work = info.context.work
        found = await sharing.shares(work, ids)
        return [[Share.of(row, account, work.now) for row, account in found[one]] for one in ids]

    async with info.context.looking() as work:
        work.require("share", place)
    info.context.looked("share.list", place)
    shares: list[Share] = await info.context.batched("shares", place.id, load)
    return shares


async def _repository(work: Work, input: Any) -> Place:
    return await finding.repository(work, input.organization, input.repository)


@strawberry.type
class PermissionMutations:
    @strawberry.mutation(description="Gives a user a level on an organization. For its managers.")
    async def set_organization_permission(self, info: Info, input: SetOrganizationPermissionInput) -> PermissionPayload:
        async def act(work: Work) -> PermissionRow:
            place = await finding.organization(work, input.organization)
            return await granting.set_permission(work, place, input.user, input.level.of_the_law)

        row, errors = await changing(info, input, act)
        return PermissionPayload(permission=Permission.of(row) if row else None, errors=errors)

    @strawberry.mutation(description="Takes a user's level on an organization away. For its managers.")
    async def remove_organization_permission(
        self, info: Info, input: RemoveOrganizationPermissionInput
    ) -> PermissionPayload:
        async def act(work: Work) -> PermissionRow:
            place = await finding.organization(work, input.organization)
            return await granting.remove_permission(work, place, input.user)

        row, errors = await changing(info, input, act)
        return PermissionPayload(permission=Permission.of(row) if row else None, errors=errors)

    @strawberry.mutation(description="Gives a user a level on one repository. For its managers.")
    async def set_repository_permission(self, info: Info, input: SetRepositoryPermissionInput) -> PermissionPayload:
        async def act(work: Work) -> PermissionRow:
            place = await _repository(work, input)
            return await granting.set_permission(work, place, input.user, input.level.of_the_law)

        row, errors = await changing(info, input, act)
        return PermissionPayload(permission=Permission.of(row) if row else None, errors=errors)

    @strawberry.mutation(description="Takes a user's level on one repository away. For its managers.")
    async def remove_repository_permission(
        self, info: Info, input: RemoveRepositoryPermissionInput
    ) -> PermissionPayload:
        async def act(work: Work) -> PermissionRow:
            return await granting.remove_permission(work, await _repository(work, input), input.user)

        row, errors = await changing(info, input, act)
        return PermissionPayload(permission=Permission.of(row) if row else None, errors=errors)

    @strawberry.mutation(description="Lets another account pull a private repository. For its managers.")
    async def create_share(self, info: Info, input: CreateShareInput) -> SharePayload:
        async def act(work: Work) -> ShareRow:
            sharing.check_deadline(input.expires_at, forever=input.forever)
            place = await _repository(work, input)
            return await sharing.share(work, place, input.account, input.expires_at, input.description)

        return _payload(info, input.account, *await changing(info, input, act))

    @strawberry.mutation(description="Changes a share's deadline or description; what is left out stays.")
    async def update_share(self, info: Info, input: UpdateShareInput) -> SharePayload:
        changed: dict[str, Any] = {}
        if input.expires_at is not None:
            changed["expires_at"] = input.expires_at.value
        if input.description is not None:
            changed["description"] = input.description.value

        async def act(work: Work) -> ShareRow:
            return await sharing.change(work, await _repository(work, input), input.account, **changed)

        return _payload(info, input.account, *await changing(info, input, act))

    @strawberry.mutation(description="Ends a share at once. For the repository's managers.")
    async def delete_share(self, info: Info, input: DeleteShareInput) -> SharePayload:
        async def act(work: Work) -> ShareRow:
            return await sharing.unshare(work, await _repository(work, input), input.account)

        return _payload(info, input.account, *await changing(info, input, act))


def _payload(info: Info, account: str, row: ShareRow | None, errors: list[UserError]) -> SharePayload:
    now = info.context.work.now
    return SharePayload(share=Share.of(row, account, now) if row else None, errors=errors)
