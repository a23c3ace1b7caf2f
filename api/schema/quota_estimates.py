"""What a push would be charged, for a client that asks before it sends."""

from typing import Annotated

import strawberry

from api.schema.context import Info
from api.schema.scalars import BigInt
from registry.oci.digest import parse_digest
from registry.repositories import creating, estimating
from registry.repositories.estimating import MOST_PARTS, Estimate, Part, Room, WrongSize


@strawberry.input(description="What a manifest names, or the manifest itself.")
class DescriptorInput:
    digest: str = strawberry.field(description="As `sha256:` and 64 hexadecimal digits.")
    size: BigInt = strawberry.field(description="Its bytes.")
    media_type: str | None = strawberry.field(
        default=None, description="Its media type; foreign layers are told by it, and count nothing."
    )


@strawberry.type(description="What a push would add at one scope, and what room there is.")
class PushRoom:
    kind: str = strawberry.field(description="The kind of scope: repository, organization or account.")
    name: str = strawberry.field(description="The scope's name.")
    new_bytes: BigInt = strawberry.field(description="Bytes that would be charged there.")
    room_bytes: BigInt | None = strawberry.field(
        description="Bytes that may still be added, beside what is on its way; null for unlimited."
    )
    fits: bool = strawberry.field(description="Whether there is room for what is new.")

    @classmethod
    def of(cls, room: Room) -> "PushRoom":
        return cls(
            kind=room.kind,
            name=room.name,
            new_bytes=BigInt(room.new),
            room_bytes=None if room.room is None else BigInt(room.room),
            fits=room.holds(room.new),
        )


@strawberry.type(description="A descriptor that contradicts what is stored; a manifest that holds it is refused.")
class SizeMismatch:
    digest: str = strawberry.field(description="The content.")
    size: BigInt = strawberry.field(description="The size that was given.")
    stored_size: BigInt = strawberry.field(description="The size it has.")

    @classmethod
    def of(cls, one: WrongSize) -> "SizeMismatch":
        return cls(digest=one.digest, size=BigInt(one.said), stored_size=BigInt(one.stored))


@strawberry.type(description="What a push would be charged at this moment, and whether it fits.")
class PushEstimate:
    exists: bool = strawberry.field(description="Whether the repository is there; a push would make it.")
    fits: bool = strawberry.field(
        description="Whether there is room for all that is new, if what can be mounted is mounted."
    )
    fits_uploaded: bool = strawberry.field(
        description="Whether there is room even if all that is missing is uploaded at once."
    )
    refusal: str | None = strawberry.field(description="What a push would be told that does not fit; null if it does.")
    scopes: list[PushRoom] = strawberry.field(description="Repository, organization and account.")
    tightest: PushRoom | None = strawberry.field(
        description="The scope that would have least left; null if all are unlimited."
    )
    missing_digests: list[str] = strawberry.field(description="What the repository does not hold.")
    mountable_digests: list[str] = strawberry.field(
        description="What is missing and the organization holds elsewhere: mounted, it costs the organization nothing."
    )
    mismatches: list[SizeMismatch] = strawberry.field(description="Descriptors whose size is not the one stored.")

    @classmethod
    def of(cls, found: Estimate) -> "PushEstimate":
        return cls(
            exists=found.exists,
            fits=found.refusal is None,
            fits_uploaded=found.fits_uploaded,
            refusal=found.refusal,
            scopes=[PushRoom.of(room) for room in found.rooms],
            tightest=PushRoom.of(found.tightest) if found.tightest else None,
            missing_digests=list(found.missing),
            mountable_digests=list(found.mountable),
            mismatches=[SizeMismatch.of(one) for one in found.wrong],
        )


Descriptors = Annotated[
    list[DescriptorInput],
    strawberry.argument(description=f"All of the push, at most {MOST_PARTS}; a digest given twice counts once."),
]


@strawberry.type
class QuotaEstimateQueries:
    @strawberry.field(
        description="What a push would add to the quotas, and whether it fits. For those who may push; changes nothing."
    )
    async def estimate_push(
        self,
        info: Info,
        organization: Annotated[str, strawberry.argument(description="The organization's name.")],
        repository: Annotated[str, strawberry.argument(description="The repository's name in it, there or not.")],
        descriptors: Descriptors,
    ) -> PushEstimate | None:
        async with info.context.looking() as work:
            place = await creating.foreseen(work, organization, repository)
            parts = [Part(parse_digest(one.digest), one.size, one.media_type) for one in descriptors]
            found = await estimating.estimate(work, place, parts)
        info.context.looked("quota.estimate", place)
        return PushEstimate.of(found)
