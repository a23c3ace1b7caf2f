"""What goes out: manifests and the places of blobs. The hot path.

A pull is one statement (every fact the law needs and the manifest itself) and a share of one audit commit, and its
answer leaves after that commit. A HEAD asks the same and is not a pull, nor is a GET that is answered with 304. What is
recorded depends on what is sent, never on how a client calls itself or how much of a blob it asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from registry.access import finding
from registry.access.finding import FACTS, JOINS
from registry.actors import Actor, Origin
from registry.errors import NotFound
from registry.events import Event, Traffic
from registry.oci.digest import Digest
from registry.oci.media_types import accepted
from registry.places import Place
from registry.repositories.deleting import BlobUnknown, ManifestUnknown
from registry.work import Foundation

# $6 is a digest or a tag, whichever the reference was.
BY_DIGEST = f"""
    SELECT {FACTS}, m.digest, m.media_type, m.body, m.subject {JOINS}
    LEFT JOIN manifest m ON m.repository_id = r.id AND m.digest = $6
    WHERE $5::timestamptz IS NOT NULL
"""
BY_TAG = f"""
    SELECT {FACTS}, m.digest, m.media_type, m.body, m.subject {JOINS}
    LEFT JOIN tag t ON t.repository_id = r.id AND t.name = $6
    LEFT JOIN manifest m ON m.repository_id = r.id AND m.digest = t.digest
    WHERE $5::timestamptz IS NOT NULL
"""
BLOB = f"""
    SELECT {FACTS}, b.digest, b.size, rb.linked_at {JOINS}
    LEFT JOIN repository_blob rb ON rb.repository_id = r.id AND rb.digest = $6
    LEFT JOIN blob b ON b.digest = rb.digest
    WHERE $5::timestamptz IS NOT NULL
"""


KEEP = "UPDATE repository_blob SET linked_at = $3 WHERE repository_id = $1 AND digest = $2"


@dataclass(frozen=True, slots=True)
class Pulled:
    digest: Digest
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Blob:
    """`pulled` is what its pull leaves in the log, where those of blobs are recorded."""

    place: Place
    digest: Digest
    size: int
    pulled: Event


async def manifest(
    foundation: Foundation,
    actor: Actor,
    origin: Origin,
    spot: tuple[str, str],
    reference: str,
    accept: Sequence[str],
    known: Callable[[Digest], bool],
    *,
    look: bool,
) -> Pulled:
    """The manifest of a tag or digest. A pull is recorded before this returns: anything but a `look` at what is
    there, unless the manifest is `known` to the client, who then gets none.

    Raises `ManifestUnknown`, and what `require` raises.
    """
    by_digest = ":" in reference
    name = "/".join(spot)
    async with foundation.glance(actor, origin) as work:
        if not look:
            work.attempt("image.pull", f"{name}@{reference}" if by_digest else f"{name}:{reference}")
        keys = (actor.user_id, actor.credential_id, *spot, work.now, reference)
        row = await work.fetchrow(BY_DIGEST if by_digest else BY_TAG, *keys)
        assert row is not None  # noqa: S101
        place = finding.repository_place(work, row, *spot)
        work.require("pull", place)
        if row["digest"] is None or not accepted(row["media_type"], list(accept)):
            raise _unknown(place, reference, row)
        found = Pulled(Digest(row["digest"]), row["media_type"], row["body"])
        pulled = None
        if not look and not known(found.digest):
            kind, size = found.media_type, len(found.body)
            pulled = work.record(digest=found.digest, reason=_share(place), media_type=kind, size=size)
    if pulled is not None:
        tag = None if by_digest else reference
        traffic = foundation.meter.at_hand(place, tag, actor.user_id, pulled.at, 1, len(found.body))
        if traffic is None:
            async with foundation.glance(actor, origin) as work:
                work.attempt("image.pull", pulled.target, place=place, digest=found.digest)
                traffic = await foundation.meter.let_through(work, place, tag, 1, len(found.body))
        await foundation.ledger.append(pulled, traffic)
    return found


async def blob(
    foundation: Foundation, actor: Actor, origin: Origin, spot: tuple[str, str], digest: Digest, *, look: bool
) -> Blob:
    """A blob that the actor may pull. Who only looks may be about to push a manifest that needs it, so a link that is
    getting old is kept for another while. Raises `BlobUnknown`, and what `require` raises."""
    async with foundation.glance(actor, origin) as work:
        row = await work.fetchrow(BLOB, actor.user_id, actor.credential_id, *spot, work.now, digest)
        assert row is not None  # noqa: S101
        place = finding.repository_place(work, row, *spot)
        work.require("pull", place)
        if row["digest"] is None:
            raise BlobUnknown(f"Repository '{place.name}' has no blob {digest}.")
        kept = timedelta(hours=foundation.settings.unused_blob_hours)
        if look and kept / 2 < work.now - row["linked_at"] < kept:
            await work.execute(KEEP, place.id, digest, work.now)
        pulled = work.look("blob.pull", place, f"{place.name}@{digest}", digest)
        return Blob(place, digest, row["size"], replace(pulled, size=row["size"], reason=_share(place)))


async def begin_blob(foundation: Foundation, actor: Actor, origin: Origin, found: Blob, size: int) -> Traffic:
    """To be called when the first of so many bytes is about to leave: they are charged before. Raises `LogUnavailable`,
    and `QuotaExceeded` when the month's traffic is used up."""
    traffic = foundation.meter.at_hand(found.place, None, actor.user_id, found.pulled.at, 0, size)
    if traffic is None:
        async with foundation.glance(actor, origin) as work:
            work.attempt("blob.pull", found.pulled.target, place=found.place, digest=found.digest)
            traffic = await foundation.meter.let_through(work, found.place, None, 0, size)
    if foundation.settings.audit_blobs == "all":
        await foundation.ledger.append(found.pulled)
    foundation.ledger.count(traffic)
    return traffic


def end_blob(foundation: Foundation, traffic: Traffic, unsent: int) -> None:
    """To be called where a client went away before all had left."""
    foundation.ledger.count(foundation.meter.unsent(traffic, unsent))


def _unknown(place: Place, reference: str, row: Any) -> NotFound:
    if row["digest"] is None:
        kind = "manifest" if ":" in reference else "tag"
        return ManifestUnknown(f"Repository '{place.name}' has no {kind} '{reference}'.")
    return ManifestUnknown(
        f"'{reference}' in repository '{place.name}' is a {row['media_type']}, which the client does not accept."
    )


def _share(place: Place) -> str | None:
    """Says in the entry that the pull rested on a share alone."""
    shared = place.roles - {"flag.suspended"} == {"repository.shared"}
    return "pulled through a share" if shared else None
