"""Tags and manifests, as they lie in a repository."""

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy import select

from api.schema.context import Info
from api.schema.errors import UserError, changing
from api.schema.reasons import Change
from api.schema.scalars import BigInt
from registry.access import finding
from registry.repositories import reading, tagging
from registry.work import Work


@strawberry.type(description="A name that points at a manifest and may be moved.")
class Tag:
    name: str = strawberry.field(description="The part of an address behind the colon.")
    digest: str = strawberry.field(description="The manifest it points at.")
    media_type: str = strawberry.field(description="The manifest's media type.")
    size_bytes: BigInt = strawberry.field(description="Bytes of the manifest and of all it names.")
    platforms: list[str] = strawberry.field(description="Platforms of an index, as os/architecture; else empty.")
    created_at: datetime = strawberry.field(description="When the tag was first pushed.")
    pushed_at: datetime = strawberry.field(description="When the tag was last pushed or moved.")
    pushed_by: str | None = strawberry.field(description="Who pushed or moved it last.")
    last_pulled_at: datetime | None = strawberry.field(description="When it was last pulled; null if never.")
    pull_count: BigInt = strawberry.field(description="Pulls by this tag.")

    @classmethod
    def of(cls, row: Any) -> "Tag":
        return cls(
            name=row["name"],
            digest=row["digest"],
            media_type=row["media_type"],
            size_bytes=BigInt(row["size_bytes"]),
            platforms=row["platforms"],
            created_at=row["created_at"],
            pushed_at=row["pushed_at"],
            pushed_by=row["pushed_by"],
            last_pulled_at=row["last_pulled_at"],
            pull_count=BigInt(row["pull_count"]),
        )


@strawberry.type(description="A manifest, tagged or not.")
class Manifest:
    digest: str = strawberry.field(description="The digest of its bytes.")
    media_type: str = strawberry.field(description="Its media type.")
    artifact_type: str | None = strawberry.field(description="What kind of artifact it is; null for an index.")
    subject: str | None = strawberry.field(description="The digest it refers to, as a signature does; null if none.")
    size_bytes: BigInt = strawberry.field(description="Bytes of the manifest and of all it names.")
    platforms: list[str] = strawberry.field(description="Platforms of an index, as os/architecture; else empty.")
    tags: list[str] = strawberry.field(description="Tags that point at it, the first hundred.")
    pushed_at: datetime = strawberry.field(description="When it was first pushed.")
    pushed_by: str | None = strawberry.field(description="Who pushed it.")

    @classmethod
    def of(cls, row: Any) -> "Manifest":
        return cls(
            digest=row["digest"],
            media_type=row["media_type"],
            artifact_type=row["artifact_type"],
            subject=row["subject"],
            size_bytes=BigInt(row["size_bytes"]),
            platforms=row["platforms"],
            tags=row["tags"],
            pushed_at=row["pushed_at"],
            pushed_by=row["pushed_by"],
        )


@strawberry.input(description="Which manifest gets which further tag.")
class CreateTagInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    source: str = strawberry.field(description="A tag that exists.")
    name: str = strawberry.field(description="The new tag on the same manifest.")
    override: bool = strawberry.field(default=False, description="Whether to move a tag of that name.")


@strawberry.input(description="Which tag is meant.")
class DeleteTagInput(Change):
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    name: str = strawberry.field(description="The tag. Other tags of the same manifest stay.")


@strawberry.type(description="The tag, or why nothing was done.")
class TagPayload:
    tag: Tag | None = strawberry.field(description="The tag; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.type(description="What the tag pointed at, or why it is still there.")
class DeleteTagPayload:
    digest: str | None = strawberry.field(description="The manifest it pointed at; null if it was refused.")
    errors: list[UserError] = strawberry.field(description="Why it was refused; empty if it was done.")


@strawberry.type
class TagMutations:
    @strawberry.mutation(description="Gives a manifest one more tag. For those who may push.")
    async def create_tag(self, info: Info, input: CreateTagInput) -> TagPayload:
        async def act(work: Work) -> tuple[Any, str]:
            place = await finding.repository(work, input.organization, input.repository)
            tagged = await tagging.retag(work, place, input.source, input.name, override=input.override)
            return place.id, tagged.name

        made, errors = await changing(info, input, act)
        return TagPayload(tag=await _tag(info, *made) if made else None, errors=errors)

    @strawberry.mutation(description="Deletes a tag; its manifest stays. For managers.")
    async def delete_tag(self, info: Info, input: DeleteTagInput) -> DeleteTagPayload:
        async def act(work: Work) -> tagging.Tagged:
            place = await finding.repository(work, input.organization, input.repository)
            return await tagging.untag(work, place, input.name)

        gone, errors = await changing(info, input, act)
        return DeleteTagPayload(digest=gone.digest if gone else None, errors=errors)


async def _tag(info: Info, repository_id: Any, name: str) -> Tag | None:
    tags = reading.tags()
    row = await info.context.work.fetchrow(
        select(tags).where(tags.c.repository_id == repository_id, tags.c.name == name)
    )
    return Tag.of(row) if row else None
