"""Taking things out: a manifest with its tags, the link to a blob, a whole repository.

Quota returns at once, in the same transaction: with a manifest goes what no other manifest of its repository needs.
Bytes of blobs stay in the store until nothing links to them and a collector takes them.
"""

from policies.quotas import Key
from registry.access import finding
from registry.errors import Conflict, NotFound
from registry.oci.digest import Digest
from registry.places import Place
from registry.quotas import charging
from registry.repositories.creating import read_repository
from registry.repositories.tables import Repository
from registry.work import Work

HELD = "SELECT media_type, size FROM manifest WHERE repository_id = $1 AND digest = $2 FOR UPDATE"
UNLINK = """
    DELETE FROM repository_blob WHERE repository_id = $1 AND digest = $2
    RETURNING (SELECT size FROM blob WHERE digest = $2) AS size
"""
USED = "SELECT manifest_digest FROM manifest_part WHERE repository_id = $1 AND digest = $2 AND kind = 'BLOB' LIMIT 1"
# Layers and config of a manifest, locked: whoever pushes another that needs them has done so, or finds them gone.
PARTS = """
    SELECT rb.digest FROM manifest_part p JOIN repository_blob rb USING (repository_id, digest)
    WHERE p.repository_id = $1 AND p.manifest_digest = $2 AND p.kind = 'BLOB' ORDER BY rb.digest FOR UPDATE OF rb
"""
UNLINK_UNUSED = """
    DELETE FROM repository_blob rb USING blob b WHERE rb.repository_id = $1 AND rb.digest = ANY($2::text[])
        AND b.digest = rb.digest AND NOT EXISTS (
            SELECT FROM manifest_part p WHERE p.repository_id = $1 AND p.digest = rb.digest AND p.kind = 'BLOB')
    RETURNING rb.digest, b.size
"""
# Tags are locked in the order of pushes that point several, and counts in the order of commits that carry pulls.
UNTAG = """
    WITH mine AS (SELECT name FROM tag WHERE repository_id = $1 AND digest = $2 ORDER BY name FOR UPDATE)
    DELETE FROM tag t USING mine WHERE t.repository_id = $1 AND t.name = mine.name RETURNING t.name
"""
UNCOUNT = """
    WITH theirs AS (
        SELECT tag FROM pull_count WHERE repository_id = $1 AND ($2::text[] IS NULL OR tag = ANY($2))
        ORDER BY tag FOR UPDATE)
    DELETE FROM pull_count p USING theirs WHERE p.repository_id = $1 AND p.tag = theirs.tag
"""
# What is given back is what goes in this statement: of what another change takes out or adds to at this moment, a
# look beforehand would tell wrongly.
EMPTY = """
    WITH blobs AS (DELETE FROM repository_blob WHERE repository_id = $1 RETURNING digest),
    manifests AS (DELETE FROM manifest WHERE repository_id = $1 RETURNING digest),
    uploads AS (DELETE FROM upload WHERE repository_id = $1 RETURNING held),
    shares AS (DELETE FROM share WHERE repository_id = $1 RETURNING 1)
    SELECT (SELECT coalesce(array_agg(digest), '{}') FROM blobs)
        || (SELECT coalesce(array_agg(digest), '{}') FROM manifests) AS digests,
        (SELECT coalesce(sum(held), 0)::bigint FROM uploads) AS held,
        (SELECT count(*) FROM shares) AS shares
"""


class ManifestUnknown(NotFound):
    code = "MANIFEST_UNKNOWN"


class BlobUnknown(NotFound):
    code = "BLOB_UNKNOWN"


class BlobInUse(Conflict):
    code = "BLOB_IN_USE"


class NameNotConfirmed(Conflict):
    code = "NOT_CONFIRMED"


async def delete_manifest(work: Work, place: Place, digest: Digest) -> None:
    """Deletes a manifest and every tag that points at it. Raises `ManifestUnknown`."""
    work.attempt("image.delete", f"{place.name}@{digest}", place=place, digest=digest)
    work.require("delete_tag", place)
    await finding.hold(work, place)
    # Its parts first, as where it is pushed. Then itself: whoever points a tag at it has done so, or finds it gone.
    parts = [row["digest"] for row in await work.fetch(PARTS, place.id, digest)]
    manifest = await work.fetchrow(HELD, place.id, digest)
    if manifest is None:
        raise ManifestUnknown(f"Repository '{place.name}' has no manifest {digest}.")
    names = sorted(row["name"] for row in await work.fetch(UNTAG, place.id, digest))
    await work.execute("DELETE FROM manifest WHERE repository_id = $1 AND digest = $2", place.id, digest)
    unused = await work.fetch(UNLINK_UNUSED, place.id, parts) if parts else []
    gone = [(digest, manifest["size"]), *((row["digest"], row["size"]) for row in unused)]
    freed = await charging.unlink(work, gone, place)
    await work.execute(UNCOUNT, place.id, names)
    work.charge(Key.TAGS, -len(names), place)
    changes = {"digest": [digest, None], "tags": [names, []], "freedBytes": [None, freed]}
    work.record(changes=changes, media_type=manifest["media_type"], size=manifest["size"])


async def delete_blob(work: Work, place: Place, digest: Digest) -> None:
    """Takes the link to a blob out of the repository. Raises `BlobUnknown`, `BlobInUse`."""
    work.attempt("blob.delete", f"{place.name}@{digest}", place=place, digest=digest)
    work.require("delete_tag", place)
    await finding.hold(work, place)
    gone = await work.fetchrow(UNLINK, place.id, digest)
    if gone is None:
        raise BlobUnknown(f"Repository '{place.name}' has no blob {digest}.")
    # Asked after the row is locked: a manifest that is being pushed holds the row, so one of the two sees the other.
    if user := await work.fetchval(USED, place.id, digest):
        raise BlobInUse(f"Manifest {user} in repository '{place.name}' needs this blob; delete the manifest first.")
    await charging.unlink(work, [(digest, gone["size"])], place)
    work.record(changes={"digest": [digest, None]}, size=gone["size"])


async def delete_repository(work: Work, place: Place, confirm: str | None = None) -> Repository:
    """Deletes a repository with all that is in it. `confirm`, when given, must repeat its name."""
    work.attempt("repository.delete", place.name, place=place)
    work.require("delete", place)
    if confirm is not None and confirm not in {place.name, place.name.partition("/")[2]}:
        raise NameNotConfirmed(f"To delete repository '{place.name}', repeat its name.", path=["confirm"])
    row = await finding.lock(work, place)
    tags = await work.execute("DELETE FROM tag WHERE repository_id = $1", place.id)
    gone = await work.fetchrow(EMPTY, place.id)
    assert gone is not None  # noqa: S101
    await work.execute(UNCOUNT, place.id, None)
    await work.execute("DELETE FROM repository WHERE id = $1", place.id)
    freed = await charging.unlink(work, [(digest, 0) for digest in gone["digests"]], place)
    work.charge(Key.STORAGE_BYTES, -gone["held"], place)
    for key, count in ((Key.REPOSITORIES, 1), (Key.TAGS, tags), (Key.SHARES, gone["shares"])):
        work.charge(key, -count, place)
    await charging.forget(work, place)
    work.record(changes={"name": [place.name, None], "tags": [tags, 0], "sizeBytes": [freed, 0]})
    return read_repository(row)
