"""What goes out: manifests and the places of blobs. The hot path.

A pull is one statement (every fact the law needs and the manifest itself) and a share of one audit commit, and its
answer leaves after that commit. A HEAD asks the same and is not a pull, nor is a GET that is answered with 304. What is
recorded depends on what is sent, never on how a client calls itself or how much of a blob it asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from registry.access import finding
from registry.access.finding import FACTS, JOINS
from registry.actors import Actor, Origin
from registry.errors import NotFound
from registry.events import Event, Pull
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
    SELECT {FACTS}, b.digest, b.size {JOINS}
    LEFT JOIN repository_blob rb ON rb.repository_id = r.id AND rb.digest = $6
    LEFT JOIN blob b ON b.digest = rb.digest
    WHERE $5::timestamptz IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Pulled:
    digest: Digest
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Blob:
    """`pulled` is what its pull leaves in the log; none where those of blobs are not recorded."""

    size: int
    pulled: Event | None


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
        await foundation.ledger.append(pulled, Pull(place.id, None if by_digest else reference))
    return found


async def blob(foundation: Foundation, actor: Actor, origin: Origin, spot: tuple[str, str], digest: Digest) -> Blob:
    """A blob that the actor may pull. Raises `BlobUnknown`, and what `require` raises."""
    async with foundation.glance(actor, origin) as work:
        row = await work.fetchrow(BLOB, actor.user_id, actor.credential_id, *spot, work.now, digest)
        assert row is not None  # noqa: S101
        place = finding.repository_place(work, row, *spot)
        work.require("pull", place)
        if row["digest"] is None:
            raise BlobUnknown(f"Repository '{place.name}' has no blob {digest}.")
        if foundation.settings.audit_blobs == "denied":
            return Blob(row["size"], None)
        pulled = work.look("blob.pull", place, f"{place.name}@{digest}", digest)
        return Blob(row["size"], replace(pulled, size=row["size"], reason=_share(place)))


async def begin_blob(foundation: Foundation, found: Blob) -> None:
    """To be called when the first byte is about to leave. Raises `LogUnavailable`."""
    if found.pulled is not None:
        await foundation.ledger.append(found.pulled)


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
