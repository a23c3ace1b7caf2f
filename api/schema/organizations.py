"""Organizations, and the repositories listed under them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlalchemy import select

from api.schema.context import EVERYWHERE, Info
from api.schema.errors import UserError, changing
from api.schema.paging import After, Before, Connection, First, Last, connection, keyset, page_of
from api.schema.permissions import Permission, permissions_of
from api.schema.reasons import Change
from api.schema.repositories import Repository
from api.schema.scalars import BigInt, Level, Node
from registry.identifiers import show_id
from registry.organizations import founding, reading
from registry.organizations.reading import OrganizationView
from registry.repositories import reading as repositories

GUEST = {"organization.guest", "flag.suspended"}
"""What those hold who reach an organization only through one of its repositories."""


@strawberry.type(description="A name under which an account keeps repositories; unique in the installation.")
class Organization(Node):
    view: strawberry.Private[OrganizationView]
    name: str = strawberry.field(description="The first part of its repositories' addresses.")
    account: str = strawberry.field(description="The account that owns it.")
    created_at: datetime = strawberry.field(description="When it was made.")
    viewer_permission: Level | None = strawberry.field(description="The viewer's level on it; null for none.")
    repository_count: BigInt | None = strawberry.field(
        description="The number of its repositories; null for who can see only some of them."
    )
    size_bytes: BigInt | None = strawberry.field(
        description="Bytes it holds, each digest counted once; null for who can see only some of its repositories."
    )

    @classmethod
    def of(cls, view: OrganizationView) -> "Organization":
        is_guest = view.place.roles <= GUEST
        return cls(
            id=strawberry.ID(show_id("org", view.id)),
            view=view,
            name=view.name,
            account=view.account,
            created_at=view.created_at,
            viewer_permission=Level.shown(view.place.level),
            repository_count=None if is_guest else BigInt(view.repository_count),
            size_bytes=None if is_guest else BigInt(view.size_bytes),
        )

    @strawberry.field(description="Its repositories that the viewer can see, by name.")
    async def repositories(
        self,
        info: Info,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[Repository]:
        page = page_of(first, last, after, before, "NAME")
        info.context.looked("repository.list", self.view.place)
        work = info.context.work
        rows = await info.context.children(
            "repositories", repositories.seen(work), "organization_id", self.view.id, page, ("repository_name",)
        )
        return connection(
            page,
            rows,
            key=lambda row: (row["repository_name"],),
            node=lambda row: Repository.of(info, repositories.view(work, row)),
        )

    @strawberry.field(description="Who holds which level on it. For its managers.")
    async def permissions(self, info: Info) -> list[Permission] | None:
        return await permissions_of(info, self.view.place)


@strawberry.input(description="A new name, and whose it shall be.")
class CreateOrganizationInput(Change):
    name: str = strawberry.field(description="1 to 64 characters; begins with a lowercase letter.")
    account: str | None = strawberry.field(default=None, description="The owning account; null for one's own.")


@strawberry.input(description="Which organization is meant.")
class DeleteOrganizationInput(Change):
    name: str = strawberry.field(description="The name of an organization without repositories.")


@strawberry.type(description="The organization, or why nothing was done.")
class OrganizationPayload:
    organization: Organization | None = strawberry.field(description="The organization; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.type(description="What is gone, or why it is not.")
class DeletePayload:
    deleted_id: strawberry.ID | None = strawberry.field(description="The id of what was deleted; null if refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


async def organization_where(info: Info, **where: Any) -> Organization | None:
    """The one organization seen with this column value."""
    work = info.context.work
    seen = reading.seen(work)
    conditions = [seen.c[name] == value for name, value in where.items()]
    row = await work.fetchrow(select(seen).where(*conditions))
    return Organization.of(reading.view(work, row)) if row else None


async def organization_of_id(info: Info, id: UUID) -> Organization | None:
    work = info.context.work
    seen = reading.seen(work)
    rows = select(seen, seen.c.organization_id.label("id"))
    row = await info.context.of_id("organization", id, lambda ids: rows.where(seen.c.organization_id.in_(ids)))
    return _looked_at(info, Organization.of(reading.view(work, row)) if row else None)


def _looked_at(info: Info, organization: Organization | None) -> Organization | None:
    if organization is not None:
        info.context.looked("organization.show", organization.view.place)
    return organization


@strawberry.type
class OrganizationQueries:
    @strawberry.field(description="An organization by name; null if there is none that you can see.")
    async def organization(
        self,
        info: Info,
        name: Annotated[str, strawberry.argument(description="The first part of its repositories' addresses.")],
    ) -> Organization | None:
        return _looked_at(info, await organization_where(info, organization_name=name))

    @strawberry.field(description="The organizations that you can see, by name.")
    async def organizations(
        self,
        info: Info,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[Organization]:
        page = page_of(first, last, after, before, "NAME")
        info.context.looked("organization.list", EVERYWHERE)
        work = info.context.work
        seen = reading.seen(work)
        rows = await work.fetch(keyset(page, [seen.c.organization_name]).on(select(seen)))
        return connection(
            page,
            rows,
            key=lambda row: (row["organization_name"],),
            node=lambda row: Organization.of(reading.view(work, row)),
        )


@strawberry.type
class OrganizationMutations:
    @strawberry.mutation(description="Makes an organization. For owners of the account.")
    async def create_organization(self, info: Info, input: CreateOrganizationInput) -> OrganizationPayload:
        made, errors = await changing(info, input, lambda work: founding.found(work, input.name, input.account))
        shown = await organization_where(info, organization_id=made.id) if made else None
        return OrganizationPayload(organization=shown, errors=errors)

    @strawberry.mutation(description="Deletes an organization that holds no repositories. For its managers.")
    async def delete_organization(self, info: Info, input: DeleteOrganizationInput) -> DeletePayload:
        gone, errors = await changing(info, input, lambda work: founding.dissolve(work, input.name))
        return DeletePayload(deleted_id=strawberry.ID(show_id("org", gone.id)) if gone else None, errors=errors)
