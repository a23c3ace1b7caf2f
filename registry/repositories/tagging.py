"""Tags: names that point at a manifest and may be moved."""

from collections.abc import Sequence
from dataclasses import dataclass

from policies.quotas import Key
from registry.access import finding
from registry.errors import Conflict, NotFound
from registry.oci.reference import check_tag
from registry.places import Place
from registry.work import Work

# The tag is locked and read as a source of the rows to insert: read only in RETURNING, it would be the new one already.
POINT = """
    WITH before AS (SELECT digest FROM tag WHERE repository_id = $1 AND name = $2 FOR UPDATE)
    INSERT INTO tag AS t (repository_id, name, digest, created_at, pushed_by, pushed_at)
    SELECT $1, $2, $3, $4, $5, $4 FROM (VALUES (1)) AS one LEFT JOIN before ON true
    ON CONFLICT (repository_id, name) DO UPDATE SET digest = $3, pushed_by = $5, pushed_at = $4 WHERE $6
    RETURNING (SELECT digest FROM before) AS before, t.xmax = 0 AS fresh
"""

# The manifest is locked, not the tag: it must not go before another tag points at it.
SOURCE = """
    SELECT m.digest, m.media_type, m.size FROM tag t JOIN manifest m USING (repository_id, digest)
    WHERE t.repository_id = $1 AND t.name = $2 FOR KEY SHARE OF m
"""


class TagNotFound(NotFound):
    code = "NOT_FOUND"


class TagTaken(Conflict):
    code = "TAG_TAKEN"


@dataclass(frozen=True, slots=True)
class Tagged:
    name: str
    digest: str


async def point(
    work: Work, place: Place, tags: Sequence[str], digest: str, *, override: bool = True
) -> dict[str, str | None]:
    """Points tags at a manifest that is here; returns the digest that each pointed at before.

    The repository must be held. Raises `QuotaExceeded`, and without `override` `TagTaken`.
    """
    before: dict[str, str | None] = {}
    fresh = 0
    # Rows in one order: pushes of several tags never wait for each other in a circle.
    for tag in sorted(tags):
        row = await work.fetchrow(POINT, place.id, tag, digest, work.now, work.actor.user_id, override)
        if row is None:
            raise TagTaken(
                f"Tag '{tag}' exists already in repository '{place.name}'; set override to move it.",
                path=["name"],
            )
        before[tag] = row["before"]
        fresh += row["fresh"]
    work.charge(Key.TAGS, fresh, place)
    return before


async def retag(work: Work, place: Place, source: str, name: str, *, override: bool) -> Tagged:
    """A second tag for the manifest of `source`. Raises `TagNotFound`, `TagTaken`, `TagInvalid`, `QuotaExceeded`."""
    work.attempt("tag.create", f"{place.name}:{name}", place=place)
    work.require("push", place)
    check_tag(name)
    await finding.hold(work, place)
    row = await work.fetchrow(SOURCE, place.id, source)
    if row is None:
        raise absent(place, source)
    digest: str = row["digest"]
    before = await point(work, place, [name], digest, override=override)
    changes = {"digest": [before[name], digest]}
    work.record(digest=digest, changes=changes, media_type=row["media_type"], size=row["size"])
    return Tagged(name, digest)


async def untag(work: Work, place: Place, name: str) -> Tagged:
    """Deletes a tag; its manifest and other tags on it stay. Raises `TagNotFound`."""
    work.attempt("tag.delete", f"{place.name}:{name}", place=place)
    work.require("delete_tag", place)
    digest = await work.fetchval(
        "DELETE FROM tag WHERE repository_id = $1 AND name = $2 RETURNING digest", place.id, name
    )
    if digest is None:
        raise absent(place, name)
    await work.execute("DELETE FROM pull_count WHERE repository_id = $1 AND tag = $2", place.id, name)
    work.charge(Key.TAGS, -1, place)
    work.record(digest=digest, changes={"digest": [digest, None]})
    return Tagged(name, digest)


def absent(place: Place, name: str) -> TagNotFound:
    return TagNotFound(f"Repository '{place.name}' has no tag '{name}'.")
