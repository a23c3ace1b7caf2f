"""`node` and `nodes`: everything by its id, for who may see it; to all others it does not exist."""

import secrets

import pytest

from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, change, code_of, told
from tests.support import world
from tests.support.server import Server

NODE = "query($id: ID!) { node(id: $id) { __typename id } }"
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
SEEN_BY = {
    "Account": {"colleague", "reader", "writer", "manager", "owner", "admin"},
    "User": {"reader", "owner", "admin"},
    "Organization": {"reader", "writer", "manager", "owner", "admin"},
    "Repository": {"reader", "writer", "manager", "owner", "admin"},
    "Share": {"manager", "owner", "admin"},
    "AccessKey": {"reader"},
    "QuotaRequest": {"manager", "owner", "admin"},
    "AuditEntry": {"owner", "admin"},
}


async def ids_of(tidewaiter: Server, cast: Cast) -> dict[str, str]:
    """One id of each kind, all of the cast's account; user and key are the reader's."""
    name = f"web-{secrets.token_hex(4)}"
    await world.repository(cast.acme, name)
    place = {"organization": cast.acme.organization, "repository": name}
    share = await change(
        tidewaiter, "createShare", cast.manager, "share { id }", **place, account=cast.receiver, forever=True
    )
    key = await change(tidewaiter, "createAccessKey", cast.reader, "accessKey { id }", name="ci")
    tags = {"scope": place, "key": "TAGS"}
    await change(tidewaiter, "setQuota", ADMIN, **tags, limit=1)
    request = await change(tidewaiter, "requestQuota", cast.manager, "request { id }", **tags, limit=2)
    found = await ask(
        tidewaiter,
        """
        query($organization: String!, $repository: String!) {
            organization(name: $organization) { id }
            repository(organization: $organization, name: $repository) { id }
            viewer { account { id } }
            auditLog(first: 1) { nodes { id } }
        }
        """,
        cast.acme.owner,
        **place,
    )
    reader = await ask(tidewaiter, "{ viewer { user { id } } }", cast.reader)
    return {
        "Account": found["viewer"]["account"]["id"],
        "User": reader["viewer"]["user"]["id"],
        "Organization": found["organization"]["id"],
        "Repository": found["repository"]["id"],
        "Share": share["share"]["id"],
        "AccessKey": key["accessKey"]["id"],
        "QuotaRequest": request["request"]["id"],
        "AuditEntry": found["auditLog"]["nodes"][0]["id"],
    }


async def test_who_finds_what_by_its_id(tidewaiter: Server, cast: Cast) -> None:
    ids = await ids_of(tidewaiter, cast)
    for role, person in cast.everybody.items():
        for kind, id in ids.items():
            found = (await ask(tidewaiter, NODE, person, id=id))["node"]
            expected = {"__typename": kind, "id": id} if role in SEEN_BY[kind] else None
            assert found == expected, (role, kind)
        many = (await ask(tidewaiter, NODES, person, ids=list(ids.values())))["nodes"]
        kinds = [kind if role in SEEN_BY[kind] else None for kind in ids]
        assert [one and one["__typename"] for one in many] == kinds, role


async def test_every_kind_of_node_is_found_by_its_id(tidewaiter: Server) -> None:
    schema = await ask(tidewaiter, '{ __type(name: "Node") { possibleTypes { name } } }', ADMIN)
    assert {kind["name"] for kind in schema["__type"]["possibleTypes"]} == set(SEEN_BY)


async def test_hidden_and_absent_ids_are_answered_alike(tidewaiter: Server, cast: Cast) -> None:
    for kind, id in (await ids_of(tidewaiter, cast)).items():
        absent = "audit_999999999999" if kind == "AuditEntry" else f"{id.partition('_')[0]}_{'0' * 32}"
        for person in (NOBODY, cast.other.owner, cast.colleague):
            if kind != "Account" or person != cast.colleague:
                assert await told(tidewaiter, NODE, person, id=id) == await told(tidewaiter, NODE, person, id=absent)


async def test_what_was_deleted_is_absent(tidewaiter: Server, cast: Cast) -> None:
    ids = await ids_of(tidewaiter, cast)
    found = await ask(
        tidewaiter, "query($id: ID!) { node(id: $id) { ... on Repository { name } } }", ADMIN, id=ids["Repository"]
    )
    place = {"organization": cast.acme.organization, "name": found["node"]["name"]}
    await change(tidewaiter, "deleteRepository", cast.manager, **place)
    for kind in ("Repository", "Share", "QuotaRequest"):
        assert (await ask(tidewaiter, NODE, cast.acme.owner, id=ids[kind]))["node"] is None


@pytest.mark.parametrize(
    "id", ["", "repo", "repo_", "_", f"repo_{'0' * 31}", f"repo_{'0' * 33}", f"repo_{'g' * 32}", "audit_", "audit_-1"]
)
async def test_what_is_no_id(tidewaiter: Server, id: str) -> None:
    assert await code_of(tidewaiter, NODE, ADMIN, id=id) == "INVALID_ID"
    assert await code_of(tidewaiter, NODES, ADMIN, ids=[id]) == "INVALID_ID"


async def test_an_id_of_an_unknown_kind_is_absent(tidewaiter: Server) -> None:
    assert (await ask(tidewaiter, NODE, ADMIN, id=f"ghost_{'0' * 32}"))["node"] is None


async def test_an_id_under_the_prefix_of_another_kind_is_absent(tidewaiter: Server, cast: Cast) -> None:
    repository = (await ids_of(tidewaiter, cast))["Repository"]
    for prefix in ("acct", "user", "org", "share", "key", "request"):
        id = repository.replace("repo", prefix)
        assert (await ask(tidewaiter, NODE, ADMIN, id=id))["node"] is None


async def test_many_ids_keep_their_order(tidewaiter: Server, cast: Cast) -> None:
    ids = await ids_of(tidewaiter, cast)
    absent = f"repo_{'0' * 32}"
    asked = [ids["Repository"], absent, ids["Account"], ids["Repository"]]
    found = (await ask(tidewaiter, NODES, cast.acme.owner, ids=asked))["nodes"]
    assert [one and one["id"] for one in found] == [ids["Repository"], None, ids["Account"], ids["Repository"]]
    assert (await ask(tidewaiter, NODES, cast.acme.owner, ids=[]))["nodes"] == []


async def test_at_most_a_hundred_ids(tidewaiter: Server) -> None:
    absent = f"repo_{'0' * 32}"
    assert (await ask(tidewaiter, NODES, ADMIN, ids=[absent] * 100))["nodes"] == [None] * 100
    assert await code_of(tidewaiter, NODES, ADMIN, ids=[absent] * 101) == "TOO_MANY_IDS"
