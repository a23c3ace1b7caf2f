"""Permissions on organizations and repositories: given, changed, taken away, and by whom."""

import secrets
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, DONE, NOBODY, Cast, ask, change, code_of, refusal, verdict
from tests.support import world
from tests.support.server import Server
from tests.support.world import Person

SHOWN = "permission { user level createdAt updatedAt }"


async def place(cast: Cast, kind: str) -> dict[str, str]:
    """A place of the kind, as inputs name it."""
    name = f"web-{secrets.token_hex(4)}"
    await world.repository(cast.acme, name)
    where = {"organization": cast.acme.organization}
    return where if kind == "Organization" else where | {"repository": name}


async def level_of(tidewaiter: Server, person: Person, where: dict[str, str]) -> str | None:
    query = "query($o: String!, $r: String!) { repository(organization: $o, name: $r) { viewerPermission } }"
    shown = await ask(tidewaiter, query, person, o=where["organization"], r=where["repository"])
    return shown["repository"] and str(shown["repository"]["viewerPermission"])


async def test_a_level_on_a_repository_is_given_changed_and_taken(tidewaiter: Server, cast: Cast) -> None:
    person, where = await world.user(cast.acme, secrets.token_hex(4)), await place(cast, "Repository")
    assert await level_of(tidewaiter, person, where) is None
    given = where | {"user": person.name}
    made = await change(tidewaiter, "setRepositoryPermission", cast.manager, SHOWN, **given, level="READ")
    assert (made["permission"]["user"], made["permission"]["level"]) == (person.name, "READ")
    assert await level_of(tidewaiter, person, where) == "READ"
    again = await change(tidewaiter, "setRepositoryPermission", cast.manager, SHOWN, **given, level="MANAGE")
    assert again["permission"]["level"] == "MANAGE"
    assert again["permission"]["createdAt"] == made["permission"]["createdAt"]
    assert await level_of(tidewaiter, person, where) == "MANAGE"
    gone = await change(tidewaiter, "removeRepositoryPermission", cast.manager, SHOWN, **given)
    assert gone["permission"]["level"] == "MANAGE"
    assert await level_of(tidewaiter, person, where) is None


async def test_a_level_on_an_organization_holds_for_its_repositories(tidewaiter: Server, cast: Cast) -> None:
    person, where = await world.user(cast.acme, secrets.token_hex(4)), await place(cast, "Repository")
    given = {"organization": cast.acme.organization, "user": person.name}
    await change(tidewaiter, "setOrganizationPermission", cast.manager, SHOWN, **given, level="WRITE")
    assert await level_of(tidewaiter, person, where) == "WRITE"
    await change(tidewaiter, "setRepositoryPermission", cast.manager, **where, user=person.name, level="READ")
    assert await level_of(tidewaiter, person, where) == "WRITE"
    await change(tidewaiter, "removeOrganizationPermission", cast.manager, SHOWN, **given)
    assert await level_of(tidewaiter, person, where) == "READ"


@pytest.mark.parametrize("kind", ["Organization", "Repository"])
async def test_who_gives_and_takes_levels(tidewaiter: Server, cast: Cast, kind: str) -> None:
    person, where = await world.user(cast.acme, secrets.token_hex(4)), await place(cast, kind)
    hidden = {"nobody": "SIGN_IN_NEEDED", "stranger": "NOT_FOUND", "colleague": "NOT_FOUND"}
    expected = hidden | {"reader": "DENIED", "writer": "DENIED", "manager": DONE, "owner": DONE, "admin": DONE}
    for role, somebody in cast.everybody.items():
        given = where | {"user": person.name}
        found = await verdict(tidewaiter, f"set{kind}Permission", somebody, **given, level="READ")
        assert found == expected[role], role
        await change(tidewaiter, f"set{kind}Permission", cast.manager, **given, level="READ")
        assert await verdict(tidewaiter, f"remove{kind}Permission", somebody, **given) == expected[role], role


@pytest.mark.parametrize("kind", ["Organization", "Repository"])
async def test_levels_that_are_refused(tidewaiter: Server, cast: Cast, kind: str) -> None:
    where = await place(cast, kind)

    async def refused(by: Person, user: str) -> tuple[Any, ...]:
        error = await refusal(tidewaiter, f"set{kind}Permission", by, SHOWN, **where, user=user, level="READ")
        return error["__typename"], error["code"], error["path"]

    assert await refused(cast.manager, "nobody-of-this-name") == ("NotFoundError", "NOT_FOUND", ["user"])
    assert await refused(cast.manager, cast.other.owner.name) == ("NotFoundError", "NOT_FOUND", ["user"])
    assert await refused(cast.manager, cast.manager.name) == ("PermissionDeniedError", "OWN_PERMISSION", None)
    gone = where | {"organization": "gone"}
    absent = await refusal(tidewaiter, f"set{kind}Permission", ADMIN, **gone, user=cast.reader.name, level="READ")
    assert (absent["__typename"], absent["code"]) == ("NotFoundError", "NOT_FOUND")


@pytest.mark.parametrize("kind", ["Organization", "Repository"])
async def test_what_is_not_held_cannot_be_taken(tidewaiter: Server, cast: Cast, kind: str) -> None:
    where = await place(cast, kind)
    given = where | {"user": cast.colleague.name}
    error = await refusal(tidewaiter, f"remove{kind}Permission", cast.manager, SHOWN, **given)
    assert (error["__typename"], error["code"]) == ("NotFoundError", "NOT_FOUND")


async def test_a_denial_says_what_is_held_and_needed(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast, "Repository")
    given = where | {"user": cast.colleague.name, "level": "READ"}
    error = await refusal(tidewaiter, "setRepositoryPermission", cast.writer, **given)
    assert (error["held"], error["needed"]) == ("WRITE", "MANAGE")


async def test_who_sees_the_permissions_of_a_repository(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast, "Repository")
    await change(tidewaiter, "setRepositoryPermission", cast.manager, **where, user=cast.reader.name, level="WRITE")
    query = """
        query($o: String!, $r: String!) { repository(organization: $o, name: $r) { permissions { user level } } }
    """
    names = {"o": where["organization"], "r": where["repository"]}
    for role in ("manager", "owner", "admin"):
        shown = await ask(tidewaiter, query, cast.everybody[role], **names)
        assert shown["repository"]["permissions"] == [{"user": cast.reader.name, "level": "WRITE"}]
    assert await code_of(tidewaiter, query, cast.writer, **names) == "DENIED"
    assert (await ask(tidewaiter, query, NOBODY, **names))["repository"] is None
