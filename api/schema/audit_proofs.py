"""What proves the audit log, as its readers see it: checkpoints, and proofs to be checked with the public key alone."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated

import strawberry

from api.schema.audit import AuditEntry, entry_of_index, reads_any
from api.schema.context import Info
from api.schema.scalars import BigInt
from registry.access import finding
from registry.audit import archived, proving, reading
from registry.audit.proving import Consistency, Inclusion, Published
from registry.errors import SignInNeeded

Index = Annotated[BigInt, strawberry.argument(description="The number of an entry, from 0.")]


@strawberry.type(description="A signed statement of how long the log is and what it holds.")
class AuditCheckpoint:
    note: str = strawberry.field(description="The signed note, as C2SP's tools read it.")
    origin: str = strawberry.field(description="The log's name.")
    size: BigInt = strawberry.field(description="How many entries it covers.")
    root: str = strawberry.field(description="The root of the tree over them, in base64.")
    published_at: datetime = strawberry.field(description="When it was signed.")
    fork: str | None = strawberry.field(
        description="Why nothing more is signed; null as long as the log is the one that was signed."
    )

    @classmethod
    def of(cls, found: Published, fork: str | None) -> "AuditCheckpoint":
        return cls(
            note=found.note,
            origin=found.origin,
            size=BigInt(found.size),
            root=_text(found.root),
            published_at=found.at,
            fork=fork,
        )


@strawberry.type(description="Proves that an entry is in the log, to whoever has the entry and the public key.")
class AuditProof:
    index: BigInt = strawberry.field(description="The entry's number.")
    size: BigInt = strawberry.field(description="Of how many entries the log is in which it is proven.")
    root: str = strawberry.field(description="The root of that log, in base64.")
    leaf_hash: str = strawberry.field(description="The hash of the entry, in base64.")
    entry: str | None = strawberry.field(
        description="The exact bytes that were hashed, in base64; null if they are in an archive and not here any more."
    )
    proof: list[str] = strawberry.field(description="The hashes from the leaf up to the root, in base64.")
    checkpoint: str | None = strawberry.field(description="The signed note of that size; null if none was signed.")
    text: str | None = strawberry.field(
        description="All of it as a C2SP tlog-proof, for `tidewaiter audit verify`; null without a checkpoint."
    )

    @classmethod
    def of(cls, found: Inclusion, leaf: bytes, entry: bytes | None) -> "AuditProof":
        return cls(
            index=BigInt(found.index),
            size=BigInt(found.size),
            root=_text(found.root),
            leaf_hash=_text(leaf),
            entry=None if entry is None else _text(entry),
            proof=[_text(one) for one in found.hashes],
            checkpoint=found.published.note if found.published else None,
            text=found.text(entry),
        )


@strawberry.type(description="Proves that the log of one size is the beginning of that of another.")
class AuditConsistency:
    from_: BigInt = strawberry.field(name="from", description="The earlier size.")
    to: BigInt = strawberry.field(description="The later size.")
    from_root: str = strawberry.field(description="The root of the earlier log, in base64.")
    to_root: str = strawberry.field(description="The root of the later log, in base64.")
    proof: list[str] = strawberry.field(description="The hashes that lead from one to the other, in base64.")

    @classmethod
    def of(cls, found: Consistency) -> "AuditConsistency":
        return cls(
            from_=BigInt(found.first),
            to=BigInt(found.second),
            from_root=_text(found.first_root),
            to_root=_text(found.second_root),
            proof=[_text(one) for one in found.hashes],
        )


@strawberry.type
class AuditProofQueries:
    @strawberry.field(
        description="One entry of the log; null if there is none of this number that you may read. One that was "
        "archived and dropped is refused with ENTRY_ARCHIVED, which tells platform administrators where it is."
    )
    async def audit_entry(self, info: Info, index: Index) -> AuditEntry | None:
        _require_signed_in(info)
        return await entry_of_index(info, index, tell_archived=True)

    @strawberry.field(
        description="The proof that an entry you may read is in the log; null if there is no such entry. One that was "
        "archived and dropped is proven by its hash, for platform administrators."
    )
    async def audit_proof(
        self,
        info: Info,
        index: Index,
        size: Annotated[
            BigInt | None,
            strawberry.argument(description="In the log of how many entries; null for the newest checkpoint's."),
        ] = None,
    ) -> AuditProof | None:
        _require_signed_in(info)
        if not await reads_any(info):
            return None
        async with info.context.reading_log(index=index) as work:
            row = await reading.entry(work, index)
            leaf = row["leaf"] if row else await archived.leaf(work, index)
        if leaf is None:
            return None
        async with info.context.glancing() as work:
            return AuditProof.of(await proving.inclusion(work.fetch, index, size), leaf, row and row["entry"])

    @strawberry.field(description="The proof that nothing was rewritten between two sizes of the log.")
    async def audit_consistency(
        self,
        info: Info,
        from_: Annotated[BigInt, strawberry.argument(name="from", description="The earlier size, as of a checkpoint.")],
        to: Annotated[BigInt, strawberry.argument(description="The later size, as of a checkpoint.")],
    ) -> AuditConsistency:
        _require_signed_in(info)
        async with info.context.glancing() as work:
            return AuditConsistency.of(await proving.consistency(work.fetch, from_, to))

    @strawberry.field(description="The newest checkpoint of the log, or that of a size; null if there is none.")
    async def audit_checkpoint(
        self,
        info: Info,
        size: Annotated[
            BigInt | None, strawberry.argument(description="Of how many entries; null for the newest.")
        ] = None,
    ) -> AuditCheckpoint | None:
        _require_signed_in(info)
        async with info.context.glancing() as work:
            found = await proving.checkpoint(work.fetch, size)
            details = work.allows("view_audit", await finding.platform(work))
        return None if found is None else AuditCheckpoint.of(found, _fork(info, details=details))


def _fork(info: Info, *, details: bool) -> str | None:
    """Where the log differs is for those who run the installation."""
    fork = info.context.system.sequencer.publisher.standing.fork
    if fork is None or details:
        return fork
    return "The log is not the one that was signed before; nothing more is signed. Ask the operator."


def _require_signed_in(info: Info) -> None:
    if not info.context.signed_in:
        raise SignInNeeded("Sign in to read the audit log.")


def _text(data: bytes) -> str:
    return b64encode(data).decode()
