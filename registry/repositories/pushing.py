"""A manifest arrives: what it names must be here, its tag is pointed at it, and the books are told.

A manifest is charged before its tag exists, and stored byte for byte. Pushing the same bytes again changes nothing
but the tag; a moved tag leaves the manifest it pointed at where it is, to be pulled by digest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from registry.errors import Invalid
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest, digest_of, looks_like_digest, parse_digest
from registry.oci.errors import DigestInvalid, ManifestInvalid
from registry.oci.manifest import Manifest, parse
from registry.oci.reference import check_tag
from registry.places import Place
from registry.quotas import charging
from registry.repositories import creating, tagging
from registry.repositories.tables import Manifest as Row
from registry.work import Work

MOST_TAGS = 50

# Locked in one order, which is also that of who deletes a manifest.
BLOBS_HERE = """
    SELECT rb.digest, b.size FROM repository_blob rb JOIN blob b ON b.digest = rb.digest
    WHERE rb.repository_id = $1 AND rb.digest = ANY($2::text[]) ORDER BY rb.digest FOR KEY SHARE OF rb
"""
MANIFESTS_HERE = """
    SELECT digest, size, total_size FROM manifest
    WHERE repository_id = $1 AND digest = ANY($2::text[]) ORDER BY digest FOR KEY SHARE
"""
# Two pushes of the same manifest: the second waits for the first, and finds it done. One that is being deleted is
# waited for too, and found gone.
KNOWN = "SELECT 1 FROM manifest WHERE repository_id = $1 AND digest = $2 FOR KEY SHARE"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
PARTS = """
    INSERT INTO manifest_part (repository_id, manifest_digest, digest, kind)
    SELECT $1, $2, * FROM unnest($3::text[], $4::text[])
"""


class PartsMissing(Invalid):
    """`detail` holds missing, the digests that are not in the repository."""

    code = "MANIFEST_BLOB_UNKNOWN"


class TooManyTags(Invalid):
    code = "TOO_MANY_TAGS"


@dataclass(frozen=True, slots=True)
class Sent:
    """A manifest as it was sent. `reference` is a tag or digest; `tags` may come along with a digest."""

    reference: str
    body: bytes
    media_type: str | None
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Pushed:
    place: Place
    digest: Digest
    tags: Sequence[str]
    subject: str | None


def announce(work: Work, organization: str, repository: str, reference: str) -> None:
    """For what is refused before the manifest is known."""
    name = f"{organization}/{repository}"
    work.attempt("image.push", f"{name}{'@' if looks_like_digest(reference) else ':'}{reference}")


async def push(work: Work, organization: str, repository: str, sent: Sent) -> Pushed:
    """Stores a manifest and points its tags at it.

    Raises `ManifestInvalid`, `DigestInvalid`, `TagInvalid`, `TooManyTags`, `PartsMissing`, `QuotaExceeded`, and what
    `require` raises.
    """
    name = f"{organization}/{repository}"
    announce(work, organization, repository, sent.reference)
    place = await creating.ensure(work, organization, repository)
    manifest, (digest, tags) = parse(sent.body, sent.media_type), _digest_and_tags(sent)
    work.attempt("image.push", f"{name}:{tags[0]}" if tags else f"{name}@{digest}", place=place, digest=digest)
    total = await _check_parts(work, place, manifest)
    await work.execute(LOCK, f"{place.id}{digest}")
    if await work.fetchval(KNOWN, place.id, digest) is None:
        await _store(work, place, manifest, digest, total)
    before = await tagging.point(work, place, tags, digest)
    kind, size = manifest.media_type, len(manifest.body)
    work.record(
        place=place, changes={"digest": [before[tags[0]] if tags else None, digest]}, media_type=kind, size=size
    )
    for tag in tags[1:]:
        changes = {"tag": [None, tag], "digest": [before[tag], digest]}
        work.also("tag.create", place, changes, target=f"{name}:{tag}", digest=digest, media_type=kind, size=size)
    return Pushed(place, digest, tags, manifest.subject.digest if manifest.subject else None)


def _digest_and_tags(sent: Sent) -> tuple[Digest, list[str]]:
    if not looks_like_digest(sent.reference):
        return digest_of(sent.body), [check_tag(sent.reference)]
    said = parse_digest(sent.reference)
    digest = digest_of(sent.body, said.algorithm)
    if digest != said:
        raise DigestInvalid(f"The manifest was sent as {said}, but its bytes are {digest}.")
    tags = list(dict.fromkeys(sent.tags))
    if len(tags) > MOST_TAGS:
        raise TooManyTags(f"At most {MOST_TAGS} tags can be given with one manifest; these are {len(tags)}.")
    return digest, [check_tag(tag) for tag in tags]


async def _check_parts(work: Work, place: Place, manifest: Manifest) -> int:
    """The bytes of the distinct blobs below this manifest. Raises `PartsMissing`, `ManifestInvalid`."""
    here = await work.fetch(BLOBS_HERE, place.id, _digests(manifest.needed_blobs)) if manifest.needed_blobs else []
    blobs = {row["digest"]: row["size"] for row in here}
    here = (
        await work.fetch(MANIFESTS_HERE, place.id, _digests(manifest.needed_manifests))
        if manifest.needed_manifests
        else []
    )
    children = {row["digest"]: row for row in here}
    missing = [part.digest for part in manifest.needed_blobs if part.digest not in blobs]
    missing += [part.digest for part in manifest.needed_manifests if part.digest not in children]
    if missing:
        raise PartsMissing(
            f"The manifest names {len(missing)} {'part' if len(missing) == 1 else 'parts'} that "
            f"repository '{place.name}' does not hold: {', '.join(missing[:5])}. Push them first.",
            missing=missing,
        )
    for part in manifest.needed_blobs:
        _check_size(part.digest, part.size, blobs[part.digest])
    for part in manifest.needed_manifests:
        _check_size(part.digest, part.size, children[part.digest]["size"])
    total: int = sum(blobs.values()) + sum(child["total_size"] for child in children.values())
    return total


async def _store(work: Work, place: Place, manifest: Manifest, digest: Digest, total: int) -> None:
    size = len(manifest.body)
    await work.add(
        Row(
            repository_id=place.id,
            digest=digest,
            media_type=manifest.media_type,
            artifact_type=manifest.artifact_type,
            subject=manifest.subject.digest if manifest.subject else None,
            config_digest=manifest.config.digest if manifest.config else None,
            annotations=dict(manifest.annotations),
            platforms=list(manifest.platforms),
            body=manifest.body,
            size=size,
            total_size=total + size,
            pushed_by=work.actor.user_id,
            pushed_at=work.now,
        )
    )
    parts = {part.digest: "MANIFEST" for part in manifest.needed_manifests}
    parts |= {part.digest: "BLOB" for part in manifest.needed_blobs}
    if parts:
        await work.execute(PARTS, place.id, digest, list(parts), list(parts.values()))
    charging.link(work, digest, size, place)


def _digests(parts: Sequence[Descriptor]) -> list[str]:
    return [part.digest for part in parts]


def _check_size(digest: str, said: int, held: int) -> None:
    if said != held:
        raise ManifestInvalid(f"The manifest says that {digest} has {said} bytes; it has {held}.")
