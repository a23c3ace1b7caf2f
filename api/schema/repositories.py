"""Repositories, with what lies in them and who may do what to them."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlalchemy import ColumnElement, Subquery, select
from sqlmodel import col

from api.schema.context import EVERYWHERE, Info
from api.schema.errors import UserError, changing
from api.schema.paging import (
    After,
    Before,
    Connection,
    CountedConnection,
    First,
    Last,
    connection,
    counted,
    keyset,
    page_of,
)
from api.schema.permissions import Permission, Share, permissions_of, shares_of
from api.schema.reasons import Change
from api.schema.scalars import BigInt, Category, Level, Node, Visibility
from api.schema.tags import Manifest, Tag
from registry.access import finding, sharing
from registry.access.tables import Share as ShareRow
from registry.accounts.tables import Account as AccountRow
from registry.identifiers import show_id
from registry.places import Place
from registry.repositories import creating, deleting, reading
from registry.repositories.reading import RepositoryView
from registry.repositories.tables import Repository as RepositoryRow
from registry.work import Work


@strawberry.type(description="A place for images of one name.")
class Repository(Node):
    view: strawberry.Private[RepositoryView]
    name: str = strawberry.field(description="Its name within the organization; may hold slashes.")
    organization: str = strawberry.field(description="The organization's name.")
    visibility: Visibility = strawberry.field(description="Who can pull it without a permission.")
    category: Category = strawberry.field(description="What it is for.")
    description: str = strawberry.field(description="Words about it.")
    size_bytes: BigInt = strawberry.field(description="Bytes it holds, each digest counted once.")
    tag_count: BigInt = strawberry.field(description="The number of its tags.")
    pull_count: BigInt = strawberry.field(description="The number of pulls on the books.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was last changed or pushed to.")
    address: str = strawberry.field(description="What to give docker, without a tag.")
    viewer_permission: Level | None = strawberry.field(
        description="The viewer's level on it; null for who sees it as public or shared."
    )

    @classmethod
    def of(cls, info: Info, view: RepositoryView) -> "Repository":
        host = info.context.system.foundation.settings.registry_host
        return cls(
            id=strawberry.ID(show_id("repo", view.id)),
            view=view,
            name=view.name,
            organization=view.organization,
            visibility=Visibility[view.visibility],
            category=Category[view.category],
            description=view.description,
            size_bytes=BigInt(view.size_bytes),
            tag_count=BigInt(view.tag_count),
            pull_count=BigInt(view.pull_count),
            created_at=view.created_at,
            updated_at=view.updated_at,
            address=f"{host}/{view.organization}/{view.name}",
            viewer_permission=Level.shown(view.place.level),
        )

    @strawberry.field(description="Its tags, by name.")
    async def tags(
        self,
        info: Info,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[Tag]:
        page = page_of(first, last, after, before, "NAME")
        info.context.looked("tag.list", self.view.place)
        rows = await info.context.children("tags", reading.tags(), "repository_id", self.view.id, page, ("name",))
        return connection(page, rows, key=lambda row: (row["name"],), node=Tag.of)

    @strawberry.field(description="Its manifests, tagged or not, newest first.")
    async def manifests(
        self,
        info: Info,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> Connection[Manifest]:
        page = page_of(first, last, after, before, "NEWEST")
        info.context.looked("manifest.list", self.view.place)
        columns = ("pushed_at", "digest")
        rows = await info.context.children(
            "manifests", reading.manifests(), "repository_id", self.view.id, page, columns, descending=True
        )
        return connection(page, rows, key=lambda row: (row["pushed_at"], row["digest"]), node=Manifest.of)

    @strawberry.field(description="Who holds which level on it. For its managers.")
    async def permissions(self, info: Info) -> list[Permission] | None:
        return await permissions_of(info, self.view.place)

    @strawberry.field(description="With whom it is shared, ended shares included. For its managers.")
    async def shares(self, info: Info) -> list[Share] | None:
        return await shares_of(info, self.view.place)


@strawberry.enum(description="By what repositories are sorted.")
class RepositoryOrderField(Enum):
    NAME = strawberry.enum_value("full_name", description="Organization and name, as in the address.")
    UPDATED_AT = strawberry.enum_value("updated_at", description="When it was last changed or pushed to.")
    TAG_COUNT = strawberry.enum_value("tag_count", description="How many tags it has.")
    PULL_COUNT = strawberry.enum_value("pull_count", description="How often it was pulled.")


@strawberry.enum(description="Which end comes first.")
class OrderDirection(Enum):
    ASC = strawberry.enum_value("ASC", description="A before Z, few before many, old before new.")
    DESC = strawberry.enum_value("DESC", description="Z before A, many before few, new before old.")


@strawberry.input(description="How repositories are sorted; those that are equal in this, by id.")
class RepositoryOrder:
    field: RepositoryOrderField = strawberry.field(description="By what to sort.")
    direction: OrderDirection = strawberry.field(default=OrderDirection.ASC, description="Which end comes first.")


@strawberry.input(description="All that is given must hold.")
class RepositoryFilter:
    organization: str | None = strawberry.field(default=None, description="The organization's name.")
    name: str | None = strawberry.field(default=None, description="Any part of the repository's name.")
    visibility: Visibility | None = strawberry.field(default=None, description="Who can pull it.")
    category: Category | None = strawberry.field(default=None, description="What it is for.")


OrganizationName = Annotated[str, strawberry.argument(description="The first part of its address.")]
RepositoryName = Annotated[str, strawberry.argument(description="The rest of its address, slashes and all.")]
WantedRepositories = Annotated[
    RepositoryFilter | None, strawberry.argument(description="Which ones; null for all that you can see.")
]
Sorted = Annotated[RepositoryOrder | None, strawberry.argument(description="In which order; null for by name.")]


@strawberry.input(description="A new place for images, and what is said of it.")
class CreateRepositoryInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    name: str = strawberry.field(description="1 to 128 characters; slashes make levels.")
    visibility: Visibility = strawberry.field(default=Visibility.PRIVATE, description="Who can pull it.")
    category: Category = strawberry.field(default=Category.OTHER, description="What it is for.")
    description: str = strawberry.field(default="", description="At most 30,000 characters.")


@strawberry.input(description="Which repository, and what changes. What is left out stays.")
class UpdateRepositoryInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    name: str = strawberry.field(description="The repository's name in it.")
    visibility: Visibility | None = strawberry.field(default=None, description="Left out or null: stays.")
    category: Category | None = strawberry.field(default=None, description="Left out or null: stays.")
    description: str | None = strawberry.field(default=None, description="Left out or null: stays.")


@strawberry.input(description="Which repository is meant.")
class DeleteRepositoryInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    name: str = strawberry.field(description="The repository's name in it.")
    confirm: str | None = strawberry.field(default=None, description="If given, must repeat the name.")


@strawberry.type(description="The repository, or why nothing was done.")
class RepositoryPayload:
    repository: Repository | None = strawberry.field(description="The repository; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.type(description="What is gone, or why it is not.")
class DeleteRepositoryPayload:
    deleted_id: strawberry.ID | None = strawberry.field(description="The id of what was deleted; null if refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


async def repository_where(info: Info, **where: Any) -> Repository | None:
    """The one repository seen with these column values."""
    work = info.context.work
    seen = reading.seen(work)
    row = await work.fetchrow(select(seen).where(*(seen.c[name] == value for name, value in where.items())))
    return Repository.of(info, reading.view(work, row)) if row else None


async def repository_of_id(info: Info, id: UUID) -> Repository | None:
    return _looked_at(info, await _of_id(info, id))


def _looked_at(info: Info, repository: Repository | None) -> Repository | None:
    if repository is not None:
        info.context.looked("repository.show", repository.view.place)
    return repository


async def _of_id(info: Info, id: UUID) -> Repository | None:
    work = info.context.work
    seen = reading.seen(work)
    rows = select(seen, seen.c.repository_id.label("id"))
    row = await info.context.of_id("repository", id, lambda ids: rows.where(seen.c.repository_id.in_(ids)))
    return Repository.of(info, reading.view(work, row)) if row else None


async def share_of_id(info: Info, id: UUID) -> Share | None:
    """For those who may share its repository."""
    shares = select(*ShareRow.__table__.columns, col(AccountRow.name).label("account"))  # type: ignore[attr-defined]
    shares = shares.where(col(AccountRow.id) == col(ShareRow.account_id))
    row = await info.context.of_id("share", id, lambda ids: shares.where(col(ShareRow.id).in_(ids)))
    repository = await _of_id(info, row["repository_id"]) if row else None
    work = info.context.work
    if row is None or repository is None or not work.allows("share", repository.view.place):
        return None
    place = repository.view.place
    info.context.looked("share.show", place, f"{place.name}:{row['account']}")
    return Share.of(sharing.read_share(row), row["account"], work.now)


@strawberry.type
class RepositoryQueries:
    @strawberry.field(description="A repository by name; null if there is none that you can see.")
    async def repository(self, info: Info, organization: OrganizationName, name: RepositoryName) -> Repository | None:
        return _looked_at(info, await repository_where(info, organization_name=organization, repository_name=name))

    @strawberry.field(description="The repositories that you can see: your account's, granted, shared and public.")
    async def repositories(
        self,
        info: Info,
        filter: WantedRepositories = None,
        order_by: Sorted = None,
        first: First = None,
        last: Last = None,
        after: After = None,
        before: Before = None,
    ) -> CountedConnection[Repository]:
        order = order_by or RepositoryOrder(field=RepositoryOrderField.NAME)
        page = page_of(first, last, after, before, f"{order.field.name} {order.direction.name}")
        work = info.context.work
        seen = reading.seen(work)
        column = str(order.field.value)
        columns = [seen.c[column], seen.c.repository_id]
        wanted = select(seen).where(*_conditions(seen, filter or RepositoryFilter()))
        keys = keyset(page, columns, descending=order.direction is OrderDirection.DESC)

        async def count() -> int:
            total: int = await work.fetchval(reading.count(wanted))
            return total

        rows = await work.fetch(keys.on(wanted))
        info.context.looked("repository.list", _listed(filter, rows))
        return counted(
            page,
            rows,
            key=lambda row: (row[column], row["repository_id"]),
            node=lambda row: Repository.of(info, reading.view(work, row)),
            count=count,
        )


def _listed(wanted: RepositoryFilter | None, rows: Sequence[Any]) -> Place:
    """Where was looked: in the organization that was asked for, if there is anything to be seen in it."""
    if wanted is None or wanted.organization is None or not rows:
        return EVERYWHERE
    ids = {name: rows[0][name] for name in ("account_id", "organization_id")}
    return Place("organization", wanted.organization, **ids)


def _conditions(seen: Subquery, wanted: RepositoryFilter) -> list[ColumnElement[bool]]:
    found = []
    if wanted.organization is not None:
        found.append(seen.c.organization_name == wanted.organization)
    if wanted.name is not None:
        found.append(seen.c.repository_name.contains(wanted.name, autoescape=True))
    if wanted.visibility is not None:
        found.append(seen.c.visibility == wanted.visibility.name)
    if wanted.category is not None:
        found.append(seen.c.category == wanted.category.name)
    return found


@strawberry.type
class RepositoryMutations:
    @strawberry.mutation(description="Makes a repository. For those who may push to the organization.")
    async def create_repository(self, info: Info, input: CreateRepositoryInput) -> RepositoryPayload:
        made, errors = await changing(
            info,
            input,
            lambda work: creating.create(
                work,
                input.organization,
                input.name,
                visibility=input.visibility.name,
                category=input.category.name,
                description=input.description,
            ),
        )
        return await _payload(info, made, errors)

    @strawberry.mutation(description="Changes only what is given. Visibility is for managers.")
    async def update_repository(self, info: Info, input: UpdateRepositoryInput) -> RepositoryPayload:
        changed: dict[str, Any] = {
            "visibility": input.visibility and input.visibility.name,
            "category": input.category and input.category.name,
            "description": input.description,
        }

        async def act(work: Work) -> RepositoryRow:
            place = await finding.repository(work, input.organization, input.name)
            return await creating.update(work, place, {key: new for key, new in changed.items() if new is not None})

        return await _payload(info, *await changing(info, input, act))

    @strawberry.mutation(description="Deletes a repository with all that is in it. For its managers.")
    async def delete_repository(self, info: Info, input: DeleteRepositoryInput) -> DeleteRepositoryPayload:
        async def act(work: Work) -> RepositoryRow:
            place = await finding.repository(work, input.organization, input.name)
            return await deleting.delete_repository(work, place, input.confirm)

        gone, errors = await changing(info, input, act)
        deleted = strawberry.ID(show_id("repo", gone.id)) if gone else None
        return DeleteRepositoryPayload(deleted_id=deleted, errors=errors)


async def _payload(info: Info, row: RepositoryRow | None, errors: list[UserError]) -> RepositoryPayload:
    shown = await repository_where(info, repository_id=row.id) if row else None
    return RepositoryPayload(repository=shown, errors=errors)
