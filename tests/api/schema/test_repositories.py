"""Repositories, tags and manifests, as each kind of person meets them."""

import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, DONE, NOBODY, Cast, ask, change, code_of, refusal, verdict
from tests.support import world
from tests.support.handmade import digest_of, knocking
from tests.support.server import Server

SHOWN = """
    id name organization visibility category description sizeBytes tagCount pullCount createdAt updatedAt address
    viewerPermission
"""
REPOSITORY = f"""
    query($organization: String!, $name: String!) {{
        repository(organization: $organization, name: $name) {{
            {SHOWN} tags(first: 10) {{ nodes {{ name digest sizeBytes pushedBy pullCount lastPulledAt platforms }} }}
            manifests {{ nodes {{ digest mediaType sizeBytes tags pushedBy subject artifactType platforms }} }}
        }}
    }}
"""


async def place(cast: Cast, visibility: str = "PRIVATE") -> dict[str, str]:
    """A new repository of the cast's open organization."""
    name = f"web-{secrets.token_hex(4)}"
    await world.repository(cast.open, name, visibility)
    return {"organization": cast.open.organization, "name": name}


async def pushed(tidewaiter: Server, cast: Cast, tag: str = "1.0") -> tuple[dict[str, str], bytes]:
    """A new repository with one image, and its manifest."""
    where = await place(cast)
    async with knocking(tidewaiter, cast.writer) as door:
        layer = secrets.token_bytes(100)
        return where, await door.push_image(f"{where['organization']}/{where['name']}", tag, layer)


def in_it(where: Mapping[str, str]) -> dict[str, str]:
    """The place, as inputs about what is in a repository name it."""
    return {"organization": where["organization"], "repository": where["name"]}


async def seen(tidewaiter: Server, where: Mapping[str, str], by: world.Person = ADMIN) -> Any:
    return (await ask(tidewaiter, REPOSITORY, by, **where))["repository"]


async def test_a_new_repository(tidewaiter: Server, cast: Cast) -> None:
    name = f"web/{secrets.token_hex(4)}"
    where = {"organization": cast.open.organization, "name": name}
    about = {"visibility": "PUBLIC", "category": "DATABASE", "description": "Ünïcode, 数据库 and\nlines 🐘"}
    made = (await change(tidewaiter, "createRepository", cast.writer, f"repository {{ {SHOWN} }}", **where, **about))[
        "repository"
    ]
    assert {name: made[name] for name in (where | about)} == where | about
    assert (made["sizeBytes"], made["tagCount"], made["pullCount"]) == (0, 0, 0)
    assert made["address"] == f"{tidewaiter.registry}/{cast.open.organization}/{name}"
    assert made["viewerPermission"] == "WRITE"
    found = await seen(tidewaiter, where, cast.writer)
    assert {name: found[name] for name in made} == made


async def test_a_repository_is_private_unless_asked_otherwise(tidewaiter: Server, cast: Cast) -> None:
    where = {"organization": cast.acme.organization, "name": f"web-{secrets.token_hex(4)}"}
    shown = "repository { visibility category description }"
    made = await change(tidewaiter, "createRepository", cast.writer, shown, **where)
    assert made["repository"] == {"visibility": "PRIVATE", "category": "OTHER", "description": ""}


@pytest.mark.parametrize(
    ("given", "kind", "code", "path"),
    [
        ({"name": ""}, "ValidationError", "NAME_INVALID", ["name"]),
        ({"name": "Web"}, "ValidationError", "NAME_INVALID", ["name"]),
        ({"name": "a//b"}, "ValidationError", "NAME_INVALID", ["name"]),
        ({"name": "a" * 129}, "ValidationError", "NAME_INVALID", ["name"]),
        ({"name": "../etc"}, "ValidationError", "NAME_INVALID", ["name"]),
        ({"description": "x" * 30_001}, "ValidationError", "REPOSITORY_INVALID", ["description"]),
        ({"organization": "no-such-organization"}, "NotFoundError", "NOT_FOUND", None),
    ],
)
async def test_a_repository_that_is_refused(
    tidewaiter: Server, cast: Cast, given: dict[str, str], kind: str, code: str, path: list[str] | None
) -> None:
    right = {"organization": cast.acme.organization, "name": f"web-{secrets.token_hex(4)}"}
    error = await refusal(tidewaiter, "createRepository", cast.writer, "repository { id }", **(right | given))
    assert (error["__typename"], error["code"], error["path"]) == (kind, code, path)


async def test_a_name_that_is_taken(tidewaiter: Server, cast: Cast) -> None:
    error = await refusal(tidewaiter, "createRepository", cast.writer, **await place(cast))
    assert (error["__typename"], error["code"], error["path"]) == ("ConflictError", "NAME_TAKEN", ["name"])


async def test_the_quota_of_repositories(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "full")
    scope = {"organization": tenant.organization}
    await change(tidewaiter, "setQuota", ADMIN, scope=scope, key="REPOSITORIES", limit=0)
    error = await refusal(tidewaiter, "createRepository", tenant.owner, **scope, name="web")
    assert (error["__typename"], error["limit"], error["used"]) == ("QuotaExceededError", 0, 0)
    assert tenant.organization in error["scope"]


DENIED_BELOW_WRITE = {"nobody": "SIGN_IN_NEEDED", "stranger": "NOT_FOUND", "colleague": "NOT_FOUND", "reader": "DENIED"}
DENIED_BELOW_MANAGE = DENIED_BELOW_WRITE | {"writer": "DENIED"}


async def verdicts(tidewaiter: Server, cast: Cast, mutation: str, **given: Any) -> dict[str, str]:
    """Of everybody who may not, that is: all whose verdict changed nothing."""
    found = {}
    for role, person in cast.everybody.items():
        found[role] = await verdict(tidewaiter, mutation, person, **given)
        if found[role] == DONE:
            return found
    return found


async def test_who_makes_a_repository(tidewaiter: Server, cast: Cast) -> None:
    found = {}
    for role, person in cast.everybody.items():
        where = {"organization": cast.acme.organization, "name": f"web-{secrets.token_hex(4)}"}
        found[role] = await verdict(tidewaiter, "createRepository", person, **where)
    assert found == DENIED_BELOW_WRITE | {"writer": DONE, "manager": DONE, "owner": DONE, "admin": DONE}


async def test_who_changes_a_repository(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    assert await verdicts(tidewaiter, cast, "updateRepository", **where, description="new") == (
        DENIED_BELOW_WRITE | {"writer": DONE}
    )
    assert await verdicts(tidewaiter, cast, "updateRepository", **where, visibility="PUBLIC") == (
        DENIED_BELOW_MANAGE | {"manager": DONE}
    )


async def test_who_deletes_a_repository(tidewaiter: Server, cast: Cast) -> None:
    found = await verdicts(tidewaiter, cast, "deleteRepository", **await place(cast))
    assert found == DENIED_BELOW_MANAGE | {"manager": DONE}


async def test_a_change_of_a_repository_leaves_the_rest(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    shown = "repository { visibility category description }"
    await change(tidewaiter, "updateRepository", cast.manager, **where, description="About", category="ARM")
    now = await change(tidewaiter, "updateRepository", cast.manager, shown, **where, visibility="PUBLIC")
    assert now["repository"] == {"visibility": "PUBLIC", "category": "ARM", "description": "About"}
    now = await change(tidewaiter, "updateRepository", cast.manager, shown, **where, description="", category=None)
    assert now["repository"] == {"visibility": "PUBLIC", "category": "ARM", "description": ""}
    error = await refusal(tidewaiter, "updateRepository", cast.manager, **where, description="x" * 30_001)
    assert (error["code"], error["path"]) == ("REPOSITORY_INVALID", ["description"])


async def test_a_repository_is_deleted_once_its_name_is_confirmed(tidewaiter: Server, cast: Cast) -> None:
    where, _ = await pushed(tidewaiter, cast)
    id = (await seen(tidewaiter, where))["id"]
    error = await refusal(tidewaiter, "deleteRepository", cast.manager, "deletedId", **where, confirm="other")
    assert (error["__typename"], error["code"], error["path"]) == ("ConflictError", "NOT_CONFIRMED", ["confirm"])
    gone = await change(tidewaiter, "deleteRepository", cast.manager, "deletedId", **where, confirm=where["name"])
    assert gone["deletedId"] == id
    assert await seen(tidewaiter, where) is None
    assert await verdict(tidewaiter, "deleteRepository", cast.manager, **where) == "NOT_FOUND"


async def test_who_sees_a_private_repository(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    found = {role: await seen(tidewaiter, where, person) for role, person in cast.everybody.items()}
    assert [role for role, shown in found.items() if shown is None] == ["nobody", "stranger", "colleague"]
    assert found["reader"]["viewerPermission"] == "READ"


async def test_everybody_sees_a_public_repository_and_nobody_more_for_it(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast, "PUBLIC")
    for role, person in cast.everybody.items():
        shown = await seen(tidewaiter, where, person)
        assert shown["name"] == where["name"]
        if role in {"nobody", "stranger", "colleague"}:
            assert shown["viewerPermission"] is None
            query = REPOSITORY.replace(SHOWN, "permissions { user } ")
            assert await code_of(tidewaiter, query, person, **where) == "DENIED"
            denied = await verdict(tidewaiter, "deleteRepository", person, **where)
            assert denied == ("SIGN_IN_NEEDED" if role == "nobody" else "DENIED")


async def test_what_was_pushed_and_pulled(tidewaiter: Server, cast: Cast) -> None:
    where, manifest = await pushed(tidewaiter, cast)
    async with knocking(tidewaiter, cast.reader) as door:
        for reference in ("1.0", digest_of(manifest)):
            answer = await door.get(f"/v2/{where['organization']}/{where['name']}/manifests/{reference}")
            assert answer.status_code == 200
    shown = await seen(tidewaiter, where, cast.reader)
    size = len(manifest) + len(b"{}") + 100
    assert (shown["tagCount"], shown["sizeBytes"], shown["pullCount"]) == (1, size, 2)
    (tag,) = shown["tags"]["nodes"]
    assert tag.pop("lastPulledAt")
    assert tag == {
        "name": "1.0",
        "digest": digest_of(manifest),
        "sizeBytes": size,
        "pushedBy": cast.writer.name,
        "pullCount": 1,
        "platforms": [],
    }
    (one,) = shown["manifests"]["nodes"]
    assert (one["digest"], one["tags"], one["sizeBytes"]) == (digest_of(manifest), ["1.0"], size)


async def test_a_further_tag_and_its_end(tidewaiter: Server, cast: Cast) -> None:
    where, manifest = await pushed(tidewaiter, cast)
    tags = in_it(where)
    made = await change(
        tidewaiter, "createTag", cast.writer, "tag { name digest pushedBy }", **tags, source="1.0", name="latest"
    )
    assert made["tag"] == {"name": "latest", "digest": digest_of(manifest), "pushedBy": cast.writer.name}
    gone = await change(tidewaiter, "deleteTag", cast.manager, "digest", **tags, name="1.0")
    assert gone["digest"] == digest_of(manifest)
    shown = await seen(tidewaiter, where)
    assert ([tag["name"] for tag in shown["tags"]["nodes"]], shown["tagCount"]) == (["latest"], 1)
    await change(tidewaiter, "deleteTag", cast.manager, **tags, name="latest")
    assert [one["tags"] for one in (await seen(tidewaiter, where))["manifests"]["nodes"]] == [[]]


async def test_a_tag_that_exists_is_moved_only_on_purpose(tidewaiter: Server, cast: Cast) -> None:
    where, first = await pushed(tidewaiter, cast)
    async with knocking(tidewaiter, cast.writer) as door:
        second = await door.push_image(f"{where['organization']}/{where['name']}", "2.0", secrets.token_bytes(50))
    tags = in_it(where)
    taken = await refusal(tidewaiter, "createTag", cast.writer, "tag { name }", **tags, source="2.0", name="1.0")
    assert (taken["__typename"], taken["code"], taken["path"]) == ("ConflictError", "TAG_TAKEN", ["name"])
    by_name = {tag["name"]: tag["digest"] for tag in (await seen(tidewaiter, where))["tags"]["nodes"]}
    assert by_name == {"1.0": digest_of(first), "2.0": digest_of(second)}
    await change(tidewaiter, "createTag", cast.writer, **tags, source="2.0", name="1.0", override=True)
    by_name = {tag["name"]: tag["digest"] for tag in (await seen(tidewaiter, where))["tags"]["nodes"]}
    assert by_name == {"1.0": digest_of(second), "2.0": digest_of(second)}


async def test_tags_that_are_refused(tidewaiter: Server, cast: Cast) -> None:
    where, _ = await pushed(tidewaiter, cast)
    tags = in_it(where)
    for name in ("", "a b", "-x", "x" * 129, "ü"):
        assert await verdict(tidewaiter, "createTag", cast.writer, **tags, source="1.0", name=name) == "TAG_INVALID"
    for mutation, given in (("createTag", {"source": "none", "name": "x"}), ("deleteTag", {"name": "none"})):
        error = await refusal(tidewaiter, mutation, cast.manager, **tags, **given)
        assert (error["__typename"], error["code"]) == ("NotFoundError", "NOT_FOUND")
    scope = {"organization": where["organization"], "repository": where["name"]}
    await change(tidewaiter, "setQuota", ADMIN, scope=scope, key="TAGS", limit=1)
    full = await refusal(tidewaiter, "createTag", cast.writer, **tags, source="1.0", name="2.0")
    assert (full["__typename"], full["key"], full["limit"], full["used"]) == ("QuotaExceededError", "TAGS", 1, 1)


async def test_who_tags(tidewaiter: Server, cast: Cast) -> None:
    where, _ = await pushed(tidewaiter, cast)
    assert await verdicts(tidewaiter, cast, "createTag", **in_it(where), source="1.0", name="2.0") == (
        DENIED_BELOW_WRITE | {"writer": DONE}
    )
    assert await verdict(tidewaiter, "createTag", ADMIN, **in_it(where), source="1.0", name="3.0") == "DENIED"
    assert await verdicts(tidewaiter, cast, "deleteTag", **in_it(where), name="1.0") == (
        DENIED_BELOW_MANAGE | {"manager": DONE}
    )


async def test_hidden_and_absent_look_alike(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    for person in (cast.other.owner, cast.colleague):
        for mutation in ("updateRepository", "deleteRepository"):
            hidden = await refusal(tidewaiter, mutation, person, **where)
            absent = await refusal(tidewaiter, mutation, person, **(where | {"name": "gone"}))
            assert hidden["message"].replace(where["name"], "gone") == absent["message"]
            assert hidden["code"] == absent["code"] == "NOT_FOUND"


LIST = """
    query($filter: RepositoryFilter, $order: RepositoryOrder) {
        repositories(filter: $filter, orderBy: $order, first: 100) {
            totalCount nodes { name visibility category tagCount }
        }
    }
"""


async def test_repositories_are_filtered_and_sorted(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "sorted")
    for name, about in {
        "b_1": {"category": "ARM"},
        "bx1": {"visibility": "PUBLIC"},
        "a": {"category": "ARM", "visibility": "PUBLIC"},
    }.items():
        await change(tidewaiter, "createRepository", tenant.owner, organization=tenant.organization, name=name, **about)
    async with knocking(tidewaiter, tenant.owner) as door:
        await door.push_image(f"{tenant.organization}/bx1", "1.0", b"one layer")

    async def found(order: dict[str, str] | None = None, **wanted: str) -> list[str]:
        wanted["organization"] = tenant.organization
        page = (await ask(tidewaiter, LIST, tenant.owner, filter=wanted, order=order))["repositories"]
        assert page["totalCount"] == len(page["nodes"])
        return [node["name"] for node in page["nodes"]]

    assert await found() == ["a", "b_1", "bx1"]
    assert await found({"field": "NAME", "direction": "DESC"}) == ["bx1", "b_1", "a"]
    assert (await found({"field": "TAG_COUNT", "direction": "DESC"}))[0] == "bx1"
    assert (await found({"field": "UPDATED_AT", "direction": "DESC"}))[0] == "bx1"
    assert await found(category="ARM") == ["a", "b_1"]
    assert await found(visibility="PUBLIC") == ["a", "bx1"]
    assert await found(category="ARM", visibility="PUBLIC") == ["a"]
    assert await found(name="b_") == ["b_1"]
    assert await found(name="%") == []


async def test_a_stranger_finds_only_what_is_public(tidewaiter: Server, cast: Cast) -> None:
    tenant = await world.tenant(tidewaiter, "hidden")
    await world.repository(tenant, "open", "PUBLIC")
    await world.repository(tenant, "closed")
    for person in (NOBODY, cast.other.owner):
        found = await ask(tidewaiter, LIST, person, filter={"organization": tenant.organization})
        assert [node["name"] for node in found["repositories"]["nodes"]] == ["open"]
        assert found["repositories"]["totalCount"] == 1
        query = "query($name: String!) { organization(name: $name) { repositories { nodes { name } } } }"
        listed = await ask(tidewaiter, query, person, name=tenant.organization)
        assert listed["organization"]["repositories"]["nodes"] == [{"name": "open"}]
