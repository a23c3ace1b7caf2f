"""Making and changing repositories. GraphQL and a first push call the same `create`, so both doors refuse the same
names in the same words."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from policies import naming
from policies.quotas import Key
from registry.access import finding
from registry.deciding import PlaceNotFound
from registry.errors import Conflict, Invalid
from registry.places import Place
from registry.repositories.tables import Repository
from registry.work import Work

CATEGORIES = ("APP_SERVER", "LINUX", "FRAMEWORK_APP", "DATABASE", "LANG", "OTHER", "WINDOWS", "ARM")
LONGEST_DESCRIPTION = 30_000

INSERT = """
    INSERT INTO repository (id, organization_id, name, visibility, category, description, created_by, created_at,
        updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (organization_id, name) DO NOTHING RETURNING id
"""


class RepositoryNameInvalid(Invalid):
    code = "NAME_INVALID"


class RepositoryInvalid(Invalid):
    code = "REPOSITORY_INVALID"


class RepositoryTaken(Conflict):
    code = "NAME_TAKEN"


async def create(
    work: Work,
    organization: str,
    name: str,
    *,
    visibility: str = "PRIVATE",
    category: str = "OTHER",
    description: str = "",
) -> Repository:
    """Raises `RepositoryNameInvalid`, `RepositoryInvalid`, `RepositoryTaken`, `QuotaExceeded`, and what `require`
    raises; never makes an organization."""
    work.attempt("repository.create", f"{organization}/{name}")
    return await _create(work, organization, name, visibility, category, description)


async def ensure(work: Work, organization: str, name: str) -> Place:
    """The repository to push to, made (private) if it is not there and the actor may make it.

    The attempt stays the push that asked for it; that a repository was made is recorded besides.
    """
    place = await finding.repository(work, organization, name)
    if not place.exists:
        # Another push may make it first; it is as good as ours.
        with suppress(RepositoryTaken):
            await _create(work, organization, name, "PRIVATE", "OTHER", "")
        place = await finding.repository(work, organization, name)
    await _require_push(work, place, organization)
    await finding.hold(work, place)
    return place


async def foreseen(work: Work, organization: str, name: str) -> Place:
    """The repository as a push would find it, or would make it: then it does not exist yet. Makes nothing, and raises
    what a push would."""
    place = await finding.repository(work, organization, name)
    if place.exists:
        await _require_push(work, place, organization)
        return place
    made = replace(await _creatable(work, organization, name), kind="repository", name=place.name)
    work.require("push", made)  # who may make it need not be one who may push to it
    return replace(made, exists=False)


async def update(work: Work, place: Place, changed: dict[str, Any]) -> Repository:
    """Changes only the fields given: description, category, visibility. Raises `RepositoryInvalid`, and `NotFound` when
    it has gone in between."""
    work.attempt("repository.update", place.name, place=place)
    work.require("publish" if "visibility" in changed else "update", place)
    _check_description(changed.get("description", ""))
    before = read_repository(await finding.lock(work, place))
    after = Repository(**(before.model_dump() | changed | {"updated_at": work.now}))
    await work.execute(
        "UPDATE repository SET visibility = $2, category = $3, description = $4, updated_at = $5 WHERE id = $1",
        place.id,
        after.visibility,
        after.category,
        after.description,
        work.now,
    )
    work.record(changes={field: [getattr(before, field), value] for field, value in changed.items()})
    return after


def read_repository(row: Any) -> Repository:
    return Repository(**{name: row[name] for name in Repository.model_fields})


async def _require_push(work: Work, place: Place, organization: str) -> None:
    try:
        work.require("push", place)
    except PlaceNotFound:
        # What is hidden is refused in the words in which making it would have been.
        work.require("create_repository", await finding.organization(work, organization))
        raise


async def _creatable(work: Work, organization: str, name: str) -> Place:
    """The organization that a repository of this name may be made in. Raises `RepositoryNameInvalid`, and what
    `require` raises."""
    place = await finding.organization(work, organization)
    work.require("create_repository", place)
    if clause := naming.repository_clause(name):
        raise RepositoryNameInvalid(f"'{name[:140]}' is no name for a repository: {clause}", path=["name"])
    return place


async def _create(
    work: Work, organization: str, name: str, visibility: str, category: str, description: str
) -> Repository:
    place = await _creatable(work, organization, name)
    _check_description(description)
    await finding.hold(work, place)
    repository = Repository(
        organization_id=place.id,
        name=name,
        visibility=visibility,
        category=category,
        description=description,
        created_by=work.actor.user_id,
        created_at=work.now,
        updated_at=work.now,
    )
    await _insert(work, place, repository)
    work.charge(Key.REPOSITORIES, 1, place)
    made = replace(place, kind="repository", name=f"{organization}/{name}", repository_id=repository.id)
    work.also("repository.create", made, {"name": [None, name], "visibility": [None, visibility]})
    return repository


async def _insert(work: Work, place: Place, repository: Repository) -> None:
    # Not an exception of the database: a push goes on when another has just made the same repository.
    made = await work.fetchval(
        INSERT,
        repository.id,
        repository.organization_id,
        repository.name,
        repository.visibility,
        repository.category,
        repository.description,
        repository.created_by,
        repository.created_at,
    )
    if made is None:
        raise RepositoryTaken(
            f"Organization '{place.name}' already has a repository '{repository.name}'.", path=["name"]
        )


def _check_description(description: str) -> None:
    if len(description) > LONGEST_DESCRIPTION:
        raise RepositoryInvalid(
            f"A description has at most {LONGEST_DESCRIPTION} characters; this one has {len(description)}.",
            path=["description"],
        )
