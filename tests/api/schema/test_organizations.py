"""Organizations, as each kind of person meets them."""

import secrets

import pytest

from tests.api.schema.asking import ADMIN, DONE, NOBODY, Cast, ask, change, code_of, refusal, verdict
from tests.support import world
from tests.support.server import Server

ORGANIZATION = "query($name: String!) { organization(name: $name) { name account viewerPermission } }"


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


async def test_a_new_organization(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "founder")
    shown = "organization { id name account viewerPermission repositoryCount sizeBytes createdAt }"
    name = unique("org")
    made = (await change(tidewaiter, "createOrganization", tenant.owner, shown, name=name))["organization"]
    assert made["id"].startswith("org_")
    assert (made["name"], made["account"], made["viewerPermission"]) == (name, tenant.account, "MANAGE")
    assert (made["repositoryCount"], made["sizeBytes"]) == (0, 0)


async def test_who_makes_an_organization_of_an_account(tidewaiter: Server, cast: Cast) -> None:
    tenant = await world.tenant(tidewaiter, "founder")
    colleague = await world.user(tenant, "colleague")

    async def asked(person: world.Person) -> str:
        return await verdict(tidewaiter, "createOrganization", person, name=unique("org"), account=tenant.account)

    assert await asked(NOBODY) == "SIGN_IN_NEEDED"
    assert await asked(cast.other.owner) == "NOT_FOUND"
    assert await asked(colleague) == "DENIED"
    assert await asked(tenant.owner) == DONE
    assert await asked(ADMIN) == DONE


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("Acme", "ValidationError", "NAME_INVALID"),
        ("", "ValidationError", "NAME_INVALID"),
        ("a" * 65, "ValidationError", "NAME_INVALID"),
        ("library", "ValidationError", "NAME_INVALID"),
        ("graphql", "ValidationError", "NAME_INVALID"),
        ("a/b", "ValidationError", "NAME_INVALID"),
        ("ünïcode", "ValidationError", "NAME_INVALID"),
    ],
)
async def test_a_name_that_is_refused(tidewaiter: Server, cast: Cast, name: str, kind: str, code: str) -> None:
    error = await refusal(tidewaiter, "createOrganization", cast.acme.owner, "organization { id }", name=name)
    assert (error["__typename"], error["code"], error["path"]) == (kind, code, ["name"])


async def test_names_are_unique_in_the_installation(tidewaiter: Server, cast: Cast) -> None:
    error = await refusal(tidewaiter, "createOrganization", cast.other.owner, name=cast.acme.organization)
    assert (error["__typename"], error["code"], error["path"]) == ("ConflictError", "NAME_TAKEN", ["name"])


async def test_the_quota_of_organizations(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "founder")
    await change(tidewaiter, "setQuota", ADMIN, scope={"account": tenant.account}, key="ORGANIZATIONS", limit=1)
    error = await refusal(tidewaiter, "createOrganization", tenant.owner, "organization { id }", name=unique("org"))
    numbers = {name: error[name] for name in ("code", "key", "limit", "used", "requested")}
    assert error["__typename"] == "QuotaExceededError"
    assert numbers == {"code": "QUOTA_EXCEEDED", "key": "ORGANIZATIONS", "limit": 1, "used": 1, "requested": 1}


async def test_who_sees_an_organization(tidewaiter: Server, cast: Cast) -> None:
    seen = {
        role: (await ask(tidewaiter, ORGANIZATION, person, name=cast.acme.organization))["organization"]
        for role, person in cast.everybody.items()
    }
    levels = {role: shown and shown["viewerPermission"] for role, shown in seen.items()}
    assert [role for role, shown in seen.items() if shown is None] == ["nobody", "stranger", "colleague"]
    assert levels == {
        "nobody": None,
        "stranger": None,
        "colleague": None,
        "reader": "READ",
        "writer": "WRITE",
        "manager": "MANAGE",
        "owner": "MANAGE",
        "admin": levels["admin"],
    }


async def test_a_list_holds_what_its_reader_can_see(tidewaiter: Server, cast: Cast) -> None:
    query = "{ organizations(first: 100) { nodes { name } } }"
    for role, person in cast.everybody.items():
        if role != "admin":  # who sees all there are, and they are many
            nodes = (await ask(tidewaiter, query, person))["organizations"]["nodes"]
            sees_it = role in {"reader", "writer", "manager", "owner"}
            assert ({"name": cast.acme.organization} in nodes) is sees_it, role


async def test_who_deletes_an_organization(tidewaiter: Server, cast: Cast) -> None:
    tenant = await world.tenant(tidewaiter, "founder")
    writer = await world.user(tenant, "writer", "WRITE")
    manager = await world.user(tenant, "manager", "MANAGE")

    async def asked(person: world.Person) -> str:
        return await verdict(tidewaiter, "deleteOrganization", person, name=tenant.organization)

    assert await asked(NOBODY) == "SIGN_IN_NEEDED"
    assert await asked(cast.other.owner) == "NOT_FOUND"
    assert await asked(writer) == "DENIED"
    denied = await refusal(tidewaiter, "deleteOrganization", writer, "deletedId", name=tenant.organization)
    assert (denied["__typename"], denied["held"], denied["needed"]) == ("PermissionDeniedError", "WRITE", "MANAGE")
    await world.repository(tenant, "web")
    full = await refusal(tidewaiter, "deleteOrganization", manager, "deletedId", name=tenant.organization)
    assert (full["__typename"], full["code"]) == ("ConflictError", "ORGANIZATION_NOT_EMPTY")
    await change(tidewaiter, "deleteRepository", manager, organization=tenant.organization, name="web")
    id = await ask(
        tidewaiter, "query($name: String!) { organization(name: $name) { id } }", manager, name=tenant.organization
    )
    gone = await change(tidewaiter, "deleteOrganization", manager, "deletedId", name=tenant.organization)
    assert gone["deletedId"] == id["organization"]["id"]
    assert await asked(tenant.owner) == "NOT_FOUND"
    assert (await ask(tidewaiter, ORGANIZATION, tenant.owner, name=tenant.organization))["organization"] is None


async def test_who_sees_the_permissions_of_an_organization(tidewaiter: Server, cast: Cast) -> None:
    query = "query($name: String!) { organization(name: $name) { permissions { user level } } }"
    for role, person in cast.everybody.items():
        code = await code_of(tidewaiter, query, person, name=cast.acme.organization)
        assert code == ("DENIED" if role in {"reader", "writer"} else DONE), role
    shown = (await ask(tidewaiter, query, cast.manager, name=cast.open.organization))["organization"]
    assert shown["permissions"] == [
        {"user": cast.manager.name, "level": "MANAGE"},
        {"user": cast.reader.name, "level": "READ"},
        {"user": cast.writer.name, "level": "WRITE"},
    ]


async def test_who_sees_one_of_its_repositories_learns_nothing_of_the_others(tidewaiter: Server, cast: Cast) -> None:
    tenant = await world.tenant(tidewaiter, "partly")
    await world.repository(tenant, "open", "PUBLIC")
    await world.repository(tenant, "closed")
    query = """
        query($name: String!) {
            organization(name: $name) { repositoryCount sizeBytes repositories { nodes { name } } }
        }
    """
    whole = (await ask(tidewaiter, query, tenant.owner, name=tenant.organization))["organization"]
    assert (whole["repositoryCount"], whole["sizeBytes"]) == (2, 0)
    assert await ask(tidewaiter, query, ADMIN, name=tenant.organization) == {"organization": whole}
    for person in (NOBODY, cast.other.owner):
        part = (await ask(tidewaiter, query, person, name=tenant.organization))["organization"]
        assert part == {"repositoryCount": None, "sizeBytes": None, "repositories": {"nodes": [{"name": "open"}]}}
