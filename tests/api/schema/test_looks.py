"""A look that is allowed stands in the log before its answer leaves: once for each action and target."""

import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.app import application
from api.schema.context import MOST_LOOKS
from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, change
from tests.support import world
from tests.support.books import address_of, in_process, new_database, opened
from tests.support.handmade import bearing, knocking
from tests.support.recorded import entries_of, told_of
from tests.support.server import PASSWORD, Server, serving
from tests.support.world import Person


async def post(tidewaiter: Server, by: Person, query: str, **variables: Any) -> httpx2.Response:
    async with knocking(tidewaiter, by if by.name else None) as door:
        answer = await door.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(scope="module")
async def web(tidewaiter: Server, cast: Cast) -> str:
    """A repository of the cast's organization, with a permission and a share."""
    name = f"web-{secrets.token_hex(4)}"
    await world.repository(cast.acme, name)
    place = {"organization": cast.acme.organization, "repository": name}
    await change(tidewaiter, "setRepositoryPermission", cast.acme.owner, **place, user=cast.reader.name, level="READ")
    await change(tidewaiter, "createShare", cast.acme.owner, **place, account=cast.receiver, forever=True)
    return name


LOOKS = {
    "{ organizations { nodes { name } } }": [("organization.list", "platform")],
    '{ organization(name: "ORG") { name } }': [("organization.show", "ORG")],
    '{ organization(name: "ORG") { permissions { user } } }': [
        ("organization.show", "ORG"),
        ("organization_permission.show", "ORG"),
    ],
    '{ organization(name: "ORG") { repositories { nodes { name } } } }': [
        ("organization.show", "ORG"),
        ("repository.list", "ORG"),
    ],
    "{ repositories { totalCount } }": [("repository.list", "platform")],
    '{ repositories(filter: {organization: "ORG"}) { nodes { name } } }': [("repository.list", "ORG")],
    '{ repository(organization: "ORG", name: "WEB") { name } }': [("repository.show", "ORG/WEB")],
    '{ repository(organization: "ORG", name: "WEB") { tags { nodes { name } } } }': [
        ("repository.show", "ORG/WEB"),
        ("tag.list", "ORG/WEB"),
    ],
    '{ repository(organization: "ORG", name: "WEB") { manifests { nodes { digest } } } }': [
        ("repository.show", "ORG/WEB"),
        ("manifest.list", "ORG/WEB"),
    ],
    '{ repository(organization: "ORG", name: "WEB") { permissions { user } shares { account } } }': [
        ("repository.show", "ORG/WEB"),
        ("repository_permission.show", "ORG/WEB"),
        ("share.list", "ORG/WEB"),
    ],
    '{ quotas(scope: {organization: "ORG"}) { key } }': [("quota.list", "organization ORG")],
    '{ quotaExplain(scope: {organization: "ORG"}) { usedBytes freedBy(tags: []) { bytes } } }': [
        ("quota.explain", "organization ORG")
    ],
    "{ quotaRequests { nodes { id } } }": [("quota_request.list", "platform")],
    '{ estimatePush(organization: "ORG", repository: "WEB", descriptors: []) { fits } }': [
        ("quota.estimate", "ORG/WEB")
    ],
    '{ usage(scope: {organization: "ORG"}, key: TAGS, from: "2026-01-01", to: "2026-01-02") { trendPerDay } }': [
        ("quota.usage", "organization ORG TAGS")
    ],
    '{ topConsumers(scope: {organization: "ORG", repository: "WEB"}, key: TAGS) { users { name } } }': [
        ("quota.consumers", "repository ORG/WEB TAGS")
    ],
    '{ account(name: "ACCOUNT") { name } }': [("account.show", "ACCOUNT")],
    '{ account(name: "ACCOUNT") { users { nodes { name } } } }': [
        ("account.show", "ACCOUNT"),
        ("user.list", "ACCOUNT"),
    ],
    # What leaves none: oneself, the schema, and what is not there.
    "{ viewer { user { name } accessKeys { name } } }": [],
    "{ __schema { queryType { name } } }": [],
    '{ organization(name: "nowhere") { name } node(id: "repo_00000000000000000000000000000000") { id } }': [],
}


@pytest.mark.parametrize("query", LOOKS)
async def test_each_look_leaves_its_entry(tidewaiter: Server, cast: Cast, web: str, query: str) -> None:
    def filled(text: str) -> str:
        for word, name in (("ORG", cast.acme.organization), ("WEB", web), ("ACCOUNT", cast.acme.account)):
            text = text.replace(word, name)
        return text

    answer = await post(tidewaiter, cast.acme.owner, filled(query))
    assert "errors" not in answer.json(), answer.text
    expected = [(action, "ALLOWED", filled(target)) for action, target in LOOKS[query]]
    assert sorted(await told_of(tidewaiter, answer)) == sorted(expected)


async def test_all_accounts(tidewaiter: Server) -> None:
    answer = await post(tidewaiter, ADMIN, "{ accounts(first: 1) { nodes { name } } }")
    assert await told_of(tidewaiter, answer) == [("account.list", "ALLOWED", "platform")]


async def test_things_by_their_ids(tidewaiter: Server, cast: Cast, web: str) -> None:
    org = cast.acme.organization
    found = await ask(
        tidewaiter,
        """
        query($org: String!, $web: String!, $account: String!) {
            organization(name: $org) { id }
            repository(organization: $org, name: $web) { id shares { id } }
            account(name: $account) { id users(first: 50) { nodes { id name } } }
        }
        """,
        cast.acme.owner,
        org=org,
        web=web,
        account=cast.acme.account,
    )
    users = {one["name"]: one["id"] for one in found["account"]["users"]["nodes"]}
    ids = [
        *(found[kind]["id"] for kind in ("organization", "repository", "account")),
        found["repository"]["shares"][0]["id"],
        users[cast.reader.name],
        users[cast.acme.owner.name],  # oneself leaves none
    ]
    answer = await post(tidewaiter, cast.acme.owner, "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert sorted(await told_of(tidewaiter, answer)) == [
        ("account.show", "ALLOWED", cast.acme.account),
        ("organization.show", "ALLOWED", org),
        ("repository.show", "ALLOWED", f"{org}/{web}"),
        ("share.show", "ALLOWED", f"{org}/{web}:{cast.receiver}"),
        ("user.show", "ALLOWED", cast.reader.name),
    ]
    async with opened(address_of(tidewaiter)) as owner:
        kept = await owner.fetchval("SELECT target FROM audit_log WHERE action = 'user.show' ORDER BY seq DESC LIMIT 1")
    assert kept == users[cast.reader.name]  # by id: a person may have to be forgotten


async def test_the_same_look_by_many_resolvers_is_one_entry(tidewaiter: Server, cast: Cast, web: str) -> None:
    field = f'repository(organization: "{cast.acme.organization}", name: "{web}") {{ tags {{ nodes {{ name }} }} }}'
    answer = await post(tidewaiter, cast.acme.owner, f"{{ a: {field} b: {field} c: {field} }}")
    target = f"{cast.acme.organization}/{web}"
    assert sorted(await told_of(tidewaiter, answer)) == [
        ("repository.show", "ALLOWED", target),
        ("tag.list", "ALLOWED", target),
    ]


async def test_a_look_stands_in_the_log_of_whose_it_is(tidewaiter: Server, cast: Cast, web: str) -> None:
    answer = await post(
        tidewaiter, ADMIN, f'{{ quotas(scope: {{organization: "{cast.acme.organization}"}}) {{ key }} }}'
    )
    query = "query($request: String!) { auditLog(filter: {requestId: $request}) { nodes { action actor { name } } } }"
    told = await ask(tidewaiter, query, cast.acme.owner, request=answer.headers["x-request-id"])
    assert told["auditLog"]["nodes"] == [{"action": "quota.list", "actor": {"name": "admin"}}]
    theirs = await ask(tidewaiter, query, cast.other.owner, request=answer.headers["x-request-id"])
    assert theirs["auditLog"]["nodes"] == []


async def test_a_look_that_is_denied_stays_what_it_was(tidewaiter: Server, cast: Cast) -> None:
    query = f'{{ organization(name: "{cast.acme.organization}") {{ permissions {{ user }} }} }}'
    answer = await post(tidewaiter, cast.reader, query)
    assert sorted(await told_of(tidewaiter, answer)) == [
        ("organization.grant", "DENIED", cast.acme.organization),
        ("organization.show", "ALLOWED", cast.acme.organization),
    ]


async def test_what_a_change_shows_besides_is_a_look_and_the_changed_thing_is_none(
    tidewaiter: Server, cast: Cast
) -> None:
    name = f"made-{secrets.token_hex(4)}"
    answer = await post(
        tidewaiter,
        cast.acme.owner,
        "mutation($input: CreateRepositoryInput!) {"
        " createRepository(input: $input) { repository { name permissions { user } } errors { code } } }",
        input={"organization": cast.acme.organization, "name": name},
    )
    assert sorted(await told_of(tidewaiter, answer)) == [
        ("repository.create", "ALLOWED", f"{cast.acme.organization}/{name}"),
        ("repository_permission.show", "ALLOWED", f"{cast.acme.organization}/{name}"),
    ]


async def test_strangers_who_look_at_what_is_public(tidewaiter: Server, cast: Cast) -> None:
    name = f"public-{secrets.token_hex(4)}"
    await world.repository(cast.open, name, "PUBLIC")
    query = f'{{ repository(organization: "{cast.open.organization}", name: "{name}") {{ name }} }}'
    (entry,) = await entries_of(tidewaiter, await post(tidewaiter, NOBODY, query))
    assert entry["action"] == "repository.show"
    assert entry["actor"] == {"kind": "ANONYMOUS", "name": "anonymous"}


async def test_beyond_a_hundred_the_looks_of_an_operation_are_counted(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "many")
    made = range(MOST_LOOKS // 2 + 3)
    async with bearing(tidewaiter, person=acme.owner, scope=scopes(acme, made)) as door:
        for number in made:
            await door.begin_upload(f"{acme.organization}/r{number}")  # which makes the repository
    query = """
        query($org: String!) {
            organization(name: $org) {
                repositories(first: 100) { nodes { tags(first: 1) { nodes { name } } permissions { user } } }
            }
        }
    """
    answer = await post(tidewaiter, acme.owner, query, org=acme.organization)
    *_, last = await entries_of(tidewaiter, answer)
    assert (last["action"], last["outcome"], last["target"]) == ("look.more", "ALLOWED", "platform")
    looks = 2 + 2 * len(made)
    assert sum(count for _, count in last["changes"].values()) == looks - MOST_LOOKS
    async with opened(address_of(tidewaiter)) as owner:
        question = "SELECT count(*) FROM audit_log WHERE request_id = $1"
        assert await owner.fetchval(question, answer.headers["x-request-id"]) == MOST_LOOKS + 1


def scopes(acme: world.Tenant, numbers: Iterable[int]) -> str:
    return " ".join(f"repository:{acme.organization}/r{number}:pull,push" for number in numbers)


async def test_looks_of_one_operation_share_a_commit(tidewaiter: Server, cast: Cast, web: str) -> None:
    query = """
        query($org: String!) {
            organization(name: $org) { permissions { user } repositories { nodes { tags { nodes { name } } } } }
        }
    """
    await post(tidewaiter, cast.acme.owner, query, org=cast.acme.organization)
    before = commits(tidewaiter)
    await post(tidewaiter, cast.acme.owner, query, org=cast.acme.organization)
    assert commits(tidewaiter) == before + 1


def commits(tidewaiter: Server) -> int:
    (line,) = (
        line for line in tidewaiter.metrics().splitlines() if line.startswith("registry_audit_append_entries_count")
    )
    return int(float(line.rpartition(" ")[2]))


@pytest.fixture(scope="module")
async def silent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    with serving(tmp_path_factory.mktemp("silent"), TIDEWAITER_AUDIT_READS="denied") as server:
        yield server


async def test_the_switch_leaves_denials_only(silent: Server) -> None:
    acme = await world.tenant(silent, "silent")
    reader = await world.user(acme, "reader", "READ")
    query = f'{{ organization(name: "{acme.organization}") {{ name permissions {{ user }} }} }}'
    assert await told_of(silent, await post(silent, acme.owner, query)) == []
    assert await told_of(silent, await post(silent, reader, query)) == [
        ("organization.grant", "DENIED", acme.organization)
    ]
    async with knocking(silent, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0")
        for address in (f"{acme.organization}/web/tags/list", "_catalog"):
            answer = await door.get(f"/v2/{address}")
            assert answer.status_code == 200
            assert await told_of(silent, answer) == []


CREATE = """
    mutation {
        createOrganization(input: {name: "ships"}) { organization { permissions { user } } errors { code } }
    }
"""


async def test_a_look_that_cannot_be_recorded_is_refused(tidewaiter: Server, tmp_path: Path) -> None:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        async with opened(dsn) as owner:
            await owner.execute("ALTER TABLE audit_inbox RENAME TO away")
        door = httpx2.ASGITransport(app=application(system))
        async with httpx2.AsyncClient(transport=door, base_url="http://here", auth=("admin", PASSWORD)) as admin:
            look = await admin.post("/graphql", json={"query": "{ organizations { nodes { name } } }"})
            change = await admin.post("/graphql", json={"query": CREATE})
            nothing = await admin.post("/graphql", json={"query": "{ viewer { user { name } } }"})
    assert look.status_code == 503
    assert look.json()["errors"][0]["extensions"]["code"] == "AUDIT_UNAVAILABLE"
    assert "data" not in look.json()
    assert change.status_code == 200  # refused as a whole: nothing was changed, so nothing was looked at
    assert nothing.json() == {"data": {"viewer": {"user": {"name": "admin"}}}}
