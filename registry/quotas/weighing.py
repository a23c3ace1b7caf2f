"""What single images weigh: all their bytes, and what would be given back if they went.

Only the families of the images in question are read, with counts of what else leads to them, so that one image of a
large repository costs what it alone is. The arithmetic is `policies.images`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import anyio

from policies import images
from policies.images import Blob, Holding, Manifest
from registry.errors import Invalid
from registry.work import Work

MOST_ROWS = 250_000
"""Of manifests or of what they name, in one question: hostile images may name tens of thousands of parts each."""

TAGS = """
    SELECT repository_id, name, digest FROM (
        SELECT t.repository_id, t.name, t.digest,
            row_number() OVER (PARTITION BY t.repository_id ORDER BY m.total_size DESC, t.name) AS place
        FROM tag t JOIN manifest m USING (repository_id, digest) WHERE t.repository_id = ANY($1::uuid[])) AS ranked
    WHERE place <= $2 ORDER BY repository_id, place
"""
MEMBERS = """
    WITH RECURSIVE family AS (
        SELECT * FROM unnest($1::uuid[], $2::text[]) AS root (repository_id, digest)
        UNION SELECT next.* FROM family f, LATERAL (
            SELECT p.repository_id, p.digest FROM manifest_part p
            WHERE p.repository_id = f.repository_id AND p.manifest_digest = f.digest AND p.kind = 'MANIFEST'
            UNION ALL SELECT m.repository_id, m.digest FROM manifest m
            WHERE m.repository_id = f.repository_id AND m.subject = f.digest) AS next)
    SELECT f.repository_id, f.digest, m.size, held.links,
        (SELECT s.digest FROM manifest s WHERE s.repository_id = m.repository_id AND s.digest = m.subject) AS subject,
        (SELECT count(*) FROM tag t WHERE t.repository_id = m.repository_id AND t.digest = m.digest) AS tags,
        (SELECT count(*) FROM manifest_part p
            WHERE p.repository_id = m.repository_id AND p.digest = m.digest AND p.kind = 'MANIFEST') AS parents
    FROM family f JOIN manifest m USING (repository_id, digest) JOIN repository r ON r.id = f.repository_id
    JOIN organization_blob held ON held.organization_id = r.organization_id AND held.digest = f.digest
    LIMIT $3
"""
PARTS = """
    SELECT p.repository_id, p.manifest_digest, p.digest, p.kind
    FROM unnest($1::uuid[], $2::text[]) AS f (repository_id, digest)
    JOIN manifest_part p ON p.repository_id = f.repository_id AND p.manifest_digest = f.digest LIMIT $3
"""
BLOBS = """
    SELECT f.repository_id, f.digest, b.size, held.links,
        (SELECT count(*) FROM manifest_part p
            WHERE p.repository_id = f.repository_id AND p.digest = f.digest AND p.kind = 'BLOB') AS needed_by
    FROM unnest($1::uuid[], $2::text[]) AS f (repository_id, digest) JOIN blob b USING (digest)
    JOIN repository r ON r.id = f.repository_id
    JOIN organization_blob held ON held.organization_id = r.organization_id AND held.digest = f.digest
"""

Spot = tuple[UUID, str]
"""A repository, and the digest of a manifest or blob in it."""


class TooMuchToExplain(Invalid):
    code = "TOO_MUCH_TO_EXPLAIN"


@dataclass(frozen=True, slots=True)
class TagWeight:
    """`total` is the image's whole weight. Were it to go with all its tags, the repository would get `at_repository`
    back, and its organization `exclusive`."""

    name: str
    digest: str
    total: int
    at_repository: int
    exclusive: int


@dataclass(slots=True)
class Freed:
    """What is given back at the repositories, and at their organizations, by the manifests that go."""

    at_repository: int = 0
    above: int = 0
    manifests: list[Spot] = field(default_factory=list)


async def tags(work: Work, repositories: list[UUID], first: int) -> dict[UUID, list[TagWeight]]:
    """The largest images of each repository, by tag. Raises `TooMuchToExplain`."""
    rows = await work.fetch(TAGS, repositories, first)
    holdings = await load(work, {(row["repository_id"], row["digest"]) for row in rows})
    return await anyio.to_thread.run_sync(_weighed, repositories, rows, holdings)


async def freed(work: Work, images_of: dict[UUID, set[Spot]]) -> Freed:
    """What is given back when the last tags of these images go, by organization: what two of its repositories share
    comes back with both. Raises `TooMuchToExplain`."""
    holdings = await load(work, {spot for spots in images_of.values() for spot in spots})
    return await anyio.to_thread.run_sync(_freed, images_of, holdings)


async def load(work: Work, roots: Iterable[Spot]) -> dict[UUID, Holding]:
    """The families of these images. Raises `TooMuchToExplain`."""
    holdings: dict[UUID, Holding] = {}
    members = _bounded(await work.fetch(MEMBERS, *_columns(roots), MOST_ROWS + 1))
    spots = [(row["repository_id"], row["digest"]) for row in members]
    parts = _bounded(await work.fetch(PARTS, *_columns(spots), MOST_ROWS + 1))
    needed = {(row["repository_id"], row["digest"]) for row in parts if row["kind"] == "BLOB"}
    blobs = await work.fetch(BLOBS, *_columns(needed))
    await anyio.to_thread.run_sync(_fill, holdings, members, parts, blobs)
    return holdings


def _bounded(rows: Sequence[Any]) -> Sequence[Any]:
    if len(rows) > MOST_ROWS:
        raise TooMuchToExplain(
            f"These images have more than {MOST_ROWS} parts, which is too much for one question. Ask for fewer tags."
        )
    return rows


def _columns(spots: Iterable[Spot]) -> tuple[list[UUID], list[str]]:
    listed = list(spots)
    return [repository for repository, _ in listed], [digest for _, digest in listed]


def _fill(holdings: dict[UUID, Holding], members: Sequence[Any], parts: Sequence[Any], blobs: Sequence[Any]) -> None:
    here = {(row["repository_id"], row["digest"]) for row in members}
    named: dict[tuple[UUID, str, str], set[str]] = {}
    for row in parts:
        if row["kind"] == "MANIFEST" and (row["repository_id"], row["digest"]) not in here:
            continue  # an image may have been deleted that an index names
        named.setdefault((row["repository_id"], row["manifest_digest"], row["kind"]), set()).add(row["digest"])
    for row in members:
        spot = row["repository_id"], row["digest"]
        children, layers = (frozenset(named.get((*spot, kind), ())) for kind in ("MANIFEST", "BLOB"))
        holding = holdings.setdefault(row["repository_id"], Holding())
        manifest = Manifest(row["size"], row["tags"], row["parents"], row["subject"], children, layers)
        holding.add(row["digest"], manifest)
        holding.links[row["digest"]] = row["links"]
    for row in blobs:
        holding = holdings[row["repository_id"]]
        holding.blobs[row["digest"]] = Blob(row["size"], row["needed_by"])
        holding.links[row["digest"]] = row["links"]


def _weighed(
    repositories: list[UUID], rows: Sequence[Any], holdings: dict[UUID, Holding]
) -> dict[UUID, list[TagWeight]]:
    found: dict[UUID, list[TagWeight]] = {one: [] for one in repositories}
    known: dict[Spot, tuple[int, int, int]] = {}
    for row in rows:
        spot = row["repository_id"], row["digest"]
        if spot not in known:
            known[spot] = _weight(holdings[row["repository_id"]], row["digest"])
        found[row["repository_id"]].append(TagWeight(row["name"], row["digest"], *known[spot]))
    return found


def _weight(holding: Holding, digest: str) -> tuple[int, int, int]:
    drops = images.dropped(holding, images.going(holding, [digest]))
    sizes = {one: holding.size_of(one) for one in drops}
    return images.weight(holding, [digest]), _linked(drops, sizes), images.given_back(drops, holding.links, sizes)


def _freed(images_of: dict[UUID, set[Spot]], holdings: dict[UUID, Holding]) -> Freed:
    found = Freed()
    for spots in images_of.values():
        drops: Counter[str] = Counter()
        links: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for repository in sorted({repository for repository, _ in spots}):
            holding = holdings[repository]
            gone = images.going(holding, {digest for place, digest in spots if place == repository})
            given_up = images.dropped(holding, gone)
            found.manifests += [(repository, digest) for digest in sorted(gone)]
            sizes |= {digest: holding.size_of(digest) for digest in given_up}
            links |= holding.links
            drops += given_up
        found.at_repository += _linked(drops, sizes)
        found.above += images.given_back(drops, links, sizes)
    return found


def _linked(drops: Counter[str], sizes: dict[str, int]) -> int:
    """What the repositories get back: each link was charged by itself."""
    return sum(sizes[digest] * count for digest, count in drops.items())
