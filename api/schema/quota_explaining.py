"""What a scope's quota is used for: content by repository and tag, what deleting would give back, and what is pending.

What the organization gets back tells of repositories besides the one that is asked about, and uploads tell of people:
both are shown to managers only. All of an answer is read from one snapshot.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from api.schema.context import Info
from api.schema.paging import MAX_SIZE, page_of
from api.schema.quotas import QuotaScope, place_of
from api.schema.scalars import BigInt
from policies.quotas import Key
from registry.places import Place
from registry.quotas import explaining, freeing, pending, usage, weighing
from registry.quotas.explaining import RepositoryUse, Uses
from registry.quotas.freeing import GivenBack
from registry.quotas.pending import HeldUpload, Lease
from registry.quotas.weighing import TagWeight

Tags = Annotated[
    list[str],
    strawberry.argument(
        description="Tags as `repository:tag`, of an account as `organization/repository:tag`; at most 100."
    ),
]
First = Annotated[int | None, strawberry.argument(description=f"How many, 1 to {MAX_SIZE}; 25 if left out.")]
BACK = "; null for who manages neither the repository nor its organization."


def shown(value: int, *, to_managers: bool) -> BigInt | None:
    return BigInt(value) if to_managers else None


@strawberry.type(description="What an image weighs, under one of its tags.")
class TagUse:
    tag: str = strawberry.field(description="The part of an address behind the colon.")
    digest: str = strawberry.field(description="The manifest it points at.")
    bytes: BigInt = strawberry.field(
        description="All of the image, each digest once: images of an index, and what refers to it, included."
    )
    exclusive_bytes: BigInt | None = strawberry.field(
        description="What the organization gets back if only this image goes, with all its tags" + BACK
    )
    shared_bytes: BigInt | None = strawberry.field(description="What stays, since others need it too" + BACK)
    repository_bytes: BigInt = strawberry.field(description="What the repository's own quota gets back then.")

    @classmethod
    def of(cls, row: TagWeight, manager: bool) -> "TagUse":
        return cls(
            tag=row.name,
            digest=row.digest,
            bytes=BigInt(row.total),
            exclusive_bytes=shown(row.exclusive, to_managers=manager),
            shared_bytes=shown(row.total - row.exclusive, to_managers=manager),
            repository_bytes=BigInt(row.at_repository),
        )


@strawberry.type(description="What a repository holds, and what it alone holds.")
class RepositoryUsage:
    id: strawberry.Private[UUID]
    manager: strawberry.Private[bool]
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    used_bytes: BigInt = strawberry.field(description="What it is charged: each digest once.")
    exclusive_bytes: BigInt | None = strawberry.field(
        description="What its organization gets back if it is deleted" + BACK
    )
    shared_bytes: BigInt | None = strawberry.field(description="What other repositories hold too" + BACK)
    untagged_bytes: BigInt = strawberry.field(
        description="What no tag leads to, blobs included that no manifest needs. A push on its way may need some yet."
    )
    reclaimable_bytes: BigInt | None = strawberry.field(
        description="What the organization gets back if all of that is deleted" + BACK
    )
    logical_bytes: BigInt = strawberry.field(
        description="Each manifest with all that it names, as if nothing was shared. No limit counts this."
    )

    @classmethod
    def of(cls, row: RepositoryUse, manager: bool) -> "RepositoryUsage":
        return cls(
            id=row.id,
            manager=manager,
            organization=row.organization,
            repository=row.name,
            used_bytes=BigInt(row.used),
            exclusive_bytes=shown(row.exclusive, to_managers=manager),
            shared_bytes=shown(row.used - row.exclusive, to_managers=manager),
            untagged_bytes=BigInt(row.untagged),
            reclaimable_bytes=shown(row.reclaimable, to_managers=manager),
            logical_bytes=BigInt(row.logical),
        )

    @strawberry.field(description="Its tags, the largest images first.")
    async def tags(self, info: Info, first: First = None) -> list[TagUse]:
        size = _size(first)

        async def load(ids: list[UUID]) -> list[list[TagWeight]]:
            found = await weighing.tags(info.context.work, ids, size)
            return [found[one] for one in ids]

        rows: list[TagWeight] = await info.context.batched(("tag weights", size), self.id, load)
        return [TagUse.of(row, self.manager) for row in rows]


@strawberry.type(description="What would be given back, and how.")
class FreedBytes:
    bytes: BigInt | None = strawberry.field(description="What the organization, and its account, get back" + BACK)
    repository_bytes: BigInt = strawberry.field(description="What the repositories' own quotas get back.")
    manifests: list[str] = strawberry.field(
        description="What to delete for it, as organization/repository@digest: a tag that is deleted alone frees "
        "nothing. The first thousand."
    )

    @classmethod
    def of(cls, row: GivenBack, manager: bool) -> "FreedBytes":
        return cls(
            bytes=shown(row.above, to_managers=manager),
            repository_bytes=BigInt(row.at_repository),
            manifests=list(row.manifests[:1000]),
        )


@strawberry.type(description="An upload that is not finished, and what it holds of the quota.")
class UploadHold:
    organization: str = strawberry.field(description="The organization's name.")
    repository: str = strawberry.field(description="The repository's name in it.")
    user: str | None = strawberry.field(description="Who pushes; null for those who do not manage the scope.")
    client: str | None = strawberry.field(
        description="The client's own name for itself; null for those who do not manage the scope."
    )
    received: BigInt = strawberry.field(description="Bytes that have arrived.")
    held: BigInt = strawberry.field(description="Bytes it holds; 0 once it has rested for a quarter of an hour.")
    started_at: datetime = strawberry.field(description="When it began.")
    held_until: datetime = strawberry.field(description="When it holds nothing any more, unless it moves.")
    expires_at: datetime = strawberry.field(description="When it is given up, unless it moves.")

    @classmethod
    def of(cls, row: HeldUpload, manager: bool) -> "UploadHold":
        return cls(
            organization=row.organization,
            repository=row.repository,
            user=row.user_name if manager else None,
            client=row.client if manager else None,
            received=BigInt(row.received),
            held=BigInt(row.held),
            started_at=row.started_at,
            held_until=row.held_until,
            expires_at=row.expires_at,
        )


@strawberry.type(description="A part of a month's traffic that may leave without asking again.")
class TrafficLease:
    key: Key = strawberry.field(description="What is counted: EGRESS_BYTES or PULLS.")
    amount: BigInt = strawberry.field(description="How much may leave.")
    used: BigInt = strawberry.field(description="How much of it has left.")
    expires_at: datetime = strawberry.field(description="When the rest is given back.")

    @classmethod
    def of(cls, row: Lease) -> "TrafficLease":
        return cls(key=row.key, amount=BigInt(row.amount), used=BigInt(row.used), expires_at=row.expires_at)


@strawberry.type(description="What has been given back and is taken off its counter within a minute.")
class PendingRefund:
    key: Key = strawberry.field(description="What is counted.")
    amount: BigInt = strawberry.field(description="How much of it.")


@strawberry.type(description="What a scope's quota is used for, all of one moment.")
class QuotaExplanation:
    place: strawberry.Private[Place]
    manager: strawberry.Private[bool]

    @strawberry.field(description="Bytes of content as they are charged at the scope.")
    async def used_bytes(self, info: Info) -> BigInt:
        return BigInt((await self._uses(info)).used)

    @strawberry.field(description="Bytes as if nothing was shared. No limit counts them.")
    async def logical_bytes(self, info: Info) -> BigInt:
        return BigInt((await self._uses(info)).logical)

    @strawberry.field(
        description="What is given back if all goes that no tag leads to. For an account, of all its organizations"
        + BACK
    )
    async def reclaimable_bytes(self, info: Info) -> BigInt | None:
        return shown((await self._uses(info)).reclaimable, to_managers=self.manager)

    @strawberry.field(description="How many repositories the scope has.")
    async def repository_count(self, info: Info) -> BigInt:
        return BigInt((await self._uses(info)).count)

    @strawberry.field(description="Its repositories; those come first whose deletion would give back most.")
    async def repositories(self, info: Info, first: First = None) -> list[RepositoryUsage]:
        size = _size(first)
        return [RepositoryUsage.of(row, self.manager) for row in (await self._uses(info)).repositories[:size]]

    @strawberry.field(
        description="What is given back if these tags go, and with them what nothing else leads to: an image goes with "
        "the last of its tags."
    )
    async def freed_by(self, info: Info, tags: Tags) -> FreedBytes | None:
        return FreedBytes.of(await freeing.freed_by(info.context.work, self.place, tags), self.manager)

    @strawberry.field(description="Uploads on their way; those that hold most come first.")
    async def uploads(self, info: Info, first: First = None) -> list[UploadHold]:
        rows = await pending.uploads(info.context.work, self.place, _size(first))
        return [UploadHold.of(row, self.manager) for row in rows]

    @strawberry.field(description="Traffic let through ahead, of an organization; what has most left comes first.")
    async def leases(self, info: Info, first: First = None) -> list[TrafficLease]:
        return [TrafficLease.of(row) for row in await pending.leases(info.context.work, self.place, _size(first))]

    @strawberry.field(description="What has been given back and still counts, by key.")
    async def refunds(self, info: Info) -> list[PendingRefund]:
        found = await pending.refunds(info.context.work, self.place)
        return [PendingRefund(key=key, amount=BigInt(amount)) for key, amount in found.items()]

    async def _uses(self, info: Info) -> Uses:
        """Read once for all fields of an operation."""

        async def load(places: list[Place]) -> Sequence[Uses]:
            return [await explaining.uses(info.context.work, place) for place in places]

        uses: Uses = await info.context.batched("uses", self.place, load)
        return uses


@strawberry.type
class QuotaExplainingQueries:
    @strawberry.field(
        description="What a scope's quota is used for. For its managers, and with less for who sees a repository."
    )
    async def quota_explain(
        self, info: Info, scope: Annotated[QuotaScope, strawberry.argument(description="Where it is used.")]
    ) -> QuotaExplanation | None:
        async with info.context.looking() as work:
            place = await place_of(work, scope)
            usage.require_view(work, place)
            # Whoever may see an organization's or an account's quotas manages it.
            manager = place.kind != "repository" or work.allows("delete", place)
        info.context.looked("quota.explain", place, f"{place.kind} {place.name}")
        return QuotaExplanation(place=place, manager=manager)


def _size(first: int | None) -> int:
    """Raises `PageSizeOutOfRange`."""
    return page_of(first, None, None, None, "USE").size
