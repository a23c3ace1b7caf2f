"""A list is read with as many statements however long it is."""

import secrets

import pytest

from tests.api.schema.asking import ADMIN, Cast, ask, change, statements_of, told
from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Tenant

NESTED = """
    query($ids: [ID!]!) {
        nodes(ids: $ids) {
            ... on Organization {
                name viewerPermission repositoryCount sizeBytes permissions { user level }
                repositories(first: 10) {
                    nodes {
                        name sizeBytes tagCount pullCount viewerPermission
                        tags(first: 5) { nodes { name digest sizeBytes } }
                        manifests(last: 5) { edges { cursor node { digest tags } } }
                        permissions { user level }
                        shares { account inForce }
                    }
                }
            }
        }
    }
"""


LISTED = """
    {
        organizations(first: 50) {
            nodes { repositories(first: 2) { nodes { name tags(first: 1) { edges { node { digest } } } } } }
        }
    }
"""


async def grown(tidewaiter: Server, tenant: Tenant, receiver: Tenant, tags: int) -> None:
    """One more repository in the tenant's organization, with tags, permissions and a share."""
    name = f"web-{secrets.token_hex(4)}"
    await world.repository(tenant, name)
    async with knocking(tidewaiter, tenant.owner) as door:
        for number in range(tags):
            await door.push_image(f"{tenant.organization}/{name}", f"{number}.0", secrets.token_bytes(10))
    person = await world.user(tenant, secrets.token_hex(4), "READ")
    place = {"organization": tenant.organization, "repository": name}
    await change(tidewaiter, "setRepositoryPermission", tenant.owner, **place, user=person.name, level="WRITE")
    await change(tidewaiter, "createShare", tenant.owner, **place, account=receiver.account, forever=True)


async def test_organizations_repositories_tags(tidewaiter: Server, cast: Cast) -> None:
    first = await world.tenant(tidewaiter, "nested")
    await grown(tidewaiter, first, cast.other, tags=1)
    ids = [await id_of(tidewaiter, first)]
    few = await statements_of(tidewaiter, NESTED, first.owner, ids=ids), await listed(tidewaiter, first)
    second = Tenant(tidewaiter, first.account, f"{first.organization}-2", first.owner)
    await change(tidewaiter, "createOrganization", first.owner, name=second.organization)
    for place in (first, second, second):
        await grown(tidewaiter, place, cast.other, tags=2)
    ids.append(await id_of(tidewaiter, second))
    shown = (await ask(tidewaiter, NESTED, first.owner, ids=ids))["nodes"]
    assert [len(one["repositories"]["nodes"]) for one in shown] == [2, 2]
    repositories = [repository for one in shown for repository in one["repositories"]["nodes"]]
    assert sorted(len(one["tags"]["nodes"]) for one in repositories) == [1, 2, 2, 2]
    assert all(one["permissions"] and one["shares"] for one in repositories)
    many = await statements_of(tidewaiter, NESTED, first.owner, ids=ids), await listed(tidewaiter, first)
    assert many == few


async def id_of(tidewaiter: Server, tenant: Tenant) -> str:
    query = "query($name: String!) { organization(name: $name) { id } }"
    return str((await ask(tidewaiter, query, tenant.owner, name=tenant.organization))["organization"]["id"])


async def listed(tidewaiter: Server, tenant: Tenant) -> int:
    return await statements_of(tidewaiter, LISTED, tenant.owner)


async def test_accounts_and_their_users(tidewaiter: Server, cast: Cast) -> None:
    query = "query($first: Int) { accounts(first: $first) { nodes { name users(first: 3) { nodes { name } } } } }"
    shown = (await ask(tidewaiter, query, ADMIN, first=3))["accounts"]["nodes"]
    assert len([one for one in shown if one["users"]["nodes"]]) == 3  # admin and the cast's two
    one = await statements_of(tidewaiter, query, ADMIN, first=1)
    assert await statements_of(tidewaiter, query, ADMIN, first=3) == one


async def test_repositories_with_their_tags(tidewaiter: Server, cast: Cast) -> None:
    tenant = await world.tenant(tidewaiter, "tagged")
    query = """
        query($first: Int, $filter: RepositoryFilter) {
            repositories(first: $first, filter: $filter) {
                totalCount nodes { name tags { nodes { name } } permissions { user } shares { account } }
            }
        }
    """
    for _ in range(3):
        await grown(tidewaiter, tenant, cast.other, tags=1)
    wanted = {"organization": tenant.organization}
    one = await statements_of(tidewaiter, query, tenant.owner, first=1, filter=wanted)
    assert await statements_of(tidewaiter, query, tenant.owner, first=3, filter=wanted) == one


async def test_the_audit_log_with_its_actors(tidewaiter: Server) -> None:
    query = "query($first: Int) { auditLog(first: $first) { nodes { action actor { id name } target changes } } }"
    one = await statements_of(tidewaiter, query, ADMIN, first=1)
    assert len((await ask(tidewaiter, query, ADMIN, first=3))["auditLog"]["nodes"]) == 3
    assert await statements_of(tidewaiter, query, ADMIN, first=3) == one


async def test_quotas(tidewaiter: Server, cast: Cast) -> None:
    query = "query($scope: QuotaScope!) { quotas(scope: $scope) { key limit used held } }"
    repository = {"organization": cast.acme.organization, "repository": f"web-{secrets.token_hex(4)}"}
    await world.repository(cast.acme, repository["repository"])
    one = await statements_of(tidewaiter, query, cast.acme.owner, scope=repository)
    organization = {"organization": cast.acme.organization}
    assert len((await ask(tidewaiter, query, cast.acme.owner, scope=repository))["quotas"]) == 2
    assert len((await ask(tidewaiter, query, cast.acme.owner, scope=organization))["quotas"]) == 5
    assert await statements_of(tidewaiter, query, cast.acme.owner, scope=organization) == one


@pytest.mark.parametrize("kind", ["accounts", "organizations", "repositories", "users"])
async def test_things_by_their_ids(tidewaiter: Server, cast: Cast, kind: str) -> None:
    for name in ("a", "b", "c"):
        await world.repository(cast.acme, f"{name}-{secrets.token_hex(4)}")
    lists = {
        "accounts": "accounts(first: 3) { nodes { id } }",
        "organizations": "organizations(first: 3) { nodes { id } }",
        "repositories": "repositories(first: 3) { nodes { id } }",
        "users": f'account(name: "{cast.acme.account}") {{ users(first: 3) {{ nodes {{ id }} }} }}',
    }
    (found,) = (await ask(tidewaiter, f"{{ {lists[kind]} }}", ADMIN)).values()
    ids = [node["id"] for node in found.get("users", found)["nodes"]]
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert (await ask(tidewaiter, query, ADMIN, ids=ids))["nodes"] == [{"id": id} for id in ids]
    assert len(ids) == 3
    one = await statements_of(tidewaiter, query, ADMIN, ids=ids[:1])
    assert await statements_of(tidewaiter, query, ADMIN, ids=ids) == one


async def test_lists_that_are_refused_leave_no_connection_behind(tidewaiter: Server, cast: Cast) -> None:
    """What was under way when a field failed must have ended before the answer."""
    query = """
        query($ids: [ID!]!) {
            nodes(ids: $ids) { id }
            organizations(first: 5) { nodes { repositories(first: 0) { nodes { id } } } }
            repositories(first: 5) { totalCount nodes { tags { nodes { name } } } }
        }
    """
    for ids in ([f"repo_{'0' * 32}", "wrong"], ["wrong"], [f"acct_{'0' * 32}", f"org_{'0' * 32}", "wrong"]):
        answer = await told(tidewaiter, query, cast.acme.owner, ids=ids)
        assert {error["extensions"]["code"] for error in answer["errors"]} <= {"INVALID_ID", "PAGE_SIZE_OUT_OF_RANGE"}
    assert 'db_client_connection_count{db_client_connection_state="used"} 0.0' in tidewaiter.metrics()
    assert 'error_type="AttributeError"' not in tidewaiter.metrics()
