"""Organizations come and go; names are unique in the installation and never change."""

from typing import Any

import asyncpg

from policies import naming
from policies.quotas import Key
from registry.access import finding
from registry.errors import Conflict, Invalid
from registry.organizations.tables import Organization
from registry.places import Place
from registry.quotas import charging
from registry.work import Work


class OrganizationNameInvalid(Invalid):
    code = "NAME_INVALID"


class OrganizationTaken(Conflict):
    code = "NAME_TAKEN"


class OrganizationNotEmpty(Conflict):
    """`detail` holds repositories, how many remain."""

    code = "ORGANIZATION_NOT_EMPTY"


async def found(work: Work, name: str, account: str | None = None) -> Organization:
    """A new organization of the actor's account, or of the one named.

    Raises `OrganizationNameInvalid`, `OrganizationTaken`, `QuotaExceeded`, and what `require` raises.
    """
    work.attempt("organization.create", name)
    _, owner = await finding.platform_and_account(work, account)
    work.require("create_organization", owner)
    if clause := naming.organization_clause(name):
        raise OrganizationNameInvalid(f"'{name[:80]}' is no name for an organization: {clause}", path=["name"])
    organization = Organization(account_id=owner.id, name=name, created_by=work.actor.user_id, created_at=work.now)
    try:
        await work.add(organization)
    except asyncpg.UniqueViolationError:
        raise OrganizationTaken(
            f"The organization name '{name}' is taken in this installation; choose another.", path=["name"]
        ) from None
    place = Place("organization", name, True, owner.id, organization.id)
    work.charge(Key.ORGANIZATIONS, 1, place)
    work.record(place=place, changes={"name": [None, name]})
    return organization


async def dissolve(work: Work, name: str) -> Organization:
    """Deletes an empty organization; its name is free again. Raises `OrganizationNotEmpty`."""
    work.attempt("organization.delete", name)
    place = await finding.organization(work, name)
    work.require("delete", place)
    row = await finding.lock(work, place)
    repositories = await work.fetchval("SELECT count(*) FROM repository WHERE organization_id = $1", place.id)
    if repositories:
        raise OrganizationNotEmpty(
            f"Organization '{name}' still holds {repositories} "
            f"{'repository' if repositories == 1 else 'repositories'}; delete them first.",
            repositories=repositories,
        )
    work.charge(Key.ORGANIZATIONS, -1, place)
    await charging.forget(work, place)
    await work.execute("DELETE FROM organization WHERE id = $1", place.id)
    work.record(changes={"name": [name, None]})
    return read_organization(row)


def read_organization(row: Any) -> Organization:
    return Organization(**{name: row[name] for name in Organization.model_fields})
