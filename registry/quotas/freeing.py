"""What tags would give back if they went: asked before anything is deleted, and exact.

A tag that is deleted alone gives nothing back. The manifest behind it does, once it has no other tag and nothing
else leads to it; so the answer says which manifests to delete.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from registry.errors import Invalid, NotFound
from registry.oci.errors import shown
from registry.places import Place
from registry.quotas import weighing
from registry.quotas.scopes import WITHIN
from registry.quotas.weighing import Freed, Spot
from registry.work import Work

MOST_NAMED = 100

NAMED = """
    SELECT n.place, o.id AS organization_id, r.id AS repository_id, t.name, t.digest,
        (SELECT count(*) FROM tag x WHERE x.repository_id = t.repository_id AND x.digest = t.digest) AS tags
    FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS n (organization, repository, tag, place)
    JOIN organization o ON o.name = n.organization
    JOIN repository r ON r.organization_id = o.id AND r.name = n.repository
    JOIN tag t ON t.repository_id = r.id AND t.name = n.tag WHERE {within}
"""
NAMES = """
    SELECT r.id, o.name || '/' || r.name AS name FROM repository r JOIN organization o ON o.id = r.organization_id
    WHERE r.id = ANY($1::uuid[])
"""


class TagsUnknown(NotFound):
    code = "NOT_FOUND"


class TooManyNamed(Invalid):
    code = "TOO_MANY_TAGS"


@dataclass(frozen=True, slots=True)
class GivenBack:
    """`manifests` are those to delete for it, as `organization/repository@digest`."""

    at_repository: int
    above: int
    manifests: Sequence[str]


async def freed_by(work: Work, place: Place, named: Sequence[str]) -> GivenBack:
    """What is given back when these tags go, and with them what nothing else leads to. Tags are named
    `repository:tag`, in an account `organization/repository:tag`. As for `uses`; raises `TagsUnknown`, `TooManyNamed`,
    `TooMuchToExplain`."""
    wanted = _read(place, named)
    columns = [list(column) for column in zip(*wanted, strict=True)] or [[], [], []]
    rows = await work.fetch(NAMED.format(within=WITHIN[place.kind]), place.id, *columns)
    found = {row["place"] - 1 for row in rows}
    if missing := [name for number, name in enumerate(dict.fromkeys(named)) if number not in found]:
        raise TagsUnknown(
            f"There {'is no tag' if len(missing) == 1 else 'are no tags'} {', '.join(map(shown, missing[:5]))} in "
            f"{place.kind} '{place.name}'. Write them as {_form(place)}.",
            path=["tags"],
        )
    return await _named_out(work, await weighing.freed(work, _left_without_tags(rows)))


def _read(place: Place, named: Sequence[str]) -> list[tuple[str, str, str]]:
    """Organization, repository and tag of each name, once."""
    if len(named) > MOST_NAMED:
        raise TooManyNamed(
            f"At most {MOST_NAMED} tags can be asked for at once; these are {len(named)}.", path=["tags"]
        )
    prefix = "" if place.kind == "account" else place.name.partition("/")[0] + "/"
    found = []
    for name in dict.fromkeys(named):
        whole, _, tag = (prefix + name).rpartition(":")
        organization, _, repository = whole.partition("/")
        found.append((organization, repository, tag))
    return found


def _form(place: Place) -> str:
    return "'organization/repository:tag'" if place.kind == "account" else "'repository:tag'"


def _left_without_tags(rows: Sequence[Any]) -> dict[UUID, set[Spot]]:
    """The images all of whose tags are named, by organization."""
    tags: dict[tuple[UUID, Spot], tuple[set[str], int]] = {}
    for row in rows:
        image = row["organization_id"], (row["repository_id"], row["digest"])
        tags.setdefault(image, (set(), row["tags"]))[0].add(row["name"])
    found: dict[UUID, set[Spot]] = {}
    for (organization, spot), (names, all_tags) in tags.items():
        if len(names) == all_tags:
            found.setdefault(organization, set()).add(spot)
    return found


async def _named_out(work: Work, freed: Freed) -> GivenBack:
    ids = list({repository for repository, _ in freed.manifests})
    names = {row["id"]: row["name"] for row in await work.fetch(NAMES, ids)} if ids else {}
    manifests = [f"{names[repository]}@{digest}" for repository, digest in freed.manifests]
    return GivenBack(freed.at_repository, freed.above, manifests)
