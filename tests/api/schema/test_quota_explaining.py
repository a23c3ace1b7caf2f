"""What a scope's quota is used for, as GraphQL tells it: the numbers, who sees which, and what cannot be asked."""

from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, change, code_of, statements_of, told
from tests.support import world
from tests.support.handmade import INDEX, described, digest_of, index_of, knocking, manifest_of
from tests.support.images import MANIFEST
from tests.support.server import Server
from tests.support.world import Person, Tenant

NUMBERS = "usedBytes exclusiveBytes sharedBytes untaggedBytes reclaimableBytes logicalBytes"
EXPLAIN = f"""
    query($scope: QuotaScope!, $tags: [String!] = []) {{
        quotaExplain(scope: $scope) {{
            usedBytes logicalBytes reclaimableBytes repositoryCount
            repositories {{
                organization repository {NUMBERS}
                tags {{ tag digest bytes exclusiveBytes sharedBytes repositoryBytes }}
            }}
            freedBy(tags: $tags) {{ bytes repositoryBytes manifests }}
            uploads {{ organization repository user client received held startedAt heldUntil expiresAt }}
            leases {{ key amount used expiresAt }}
            refunds {{ key amount }}
        }}
        quotas(scope: $scope) {{ key used held }}
    }}
"""


async def explained(by: Person, tidewaiter: Server, tags: list[str] | None = None, /, **scope: str) -> Any:
    """The explanation, which must agree with what the quotas of the scope say at that moment."""
    found = await ask(tidewaiter, EXPLAIN, by, scope=scope, tags=tags or [])
    explanation, quotas = found["quotaExplain"], {quota["key"]: quota for quota in found["quotas"]}
    assert explanation["usedBytes"] == quotas["STORAGE_BYTES"]["used"]
    assert sum(upload["held"] for upload in explanation["uploads"]) == quotas["STORAGE_BYTES"]["held"]
    for key in {"EGRESS_BYTES", "PULLS"} & set(quotas):
        leases = [lease for lease in explanation["leases"] if lease["key"] == key]
        assert sum(lease["amount"] - lease["used"] for lease in leases) == quotas[key]["held"]
    return explanation


async def freed(by: Person, acme: Tenant, *tags: str) -> Any:
    explanation = await explained(by, acme.tidewaiter, list(tags), organization=acme.organization)  # type: ignore[arg-type]
    return explanation["freedBy"]


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "explained")


async def test_what_two_repositories_share_is_exclusive_to_none(tidewaiter: Server, acme: Tenant) -> None:
    own, shared = b"a" * 1000, b"b" * 5000
    async with knocking(tidewaiter, acme.owner) as door:
        one = await door.push_image(f"{acme.organization}/web", "1.0", own, shared)
        other = await door.push_image(f"{acme.organization}/api", "1.0", shared)
    found = await explained(acme.owner, tidewaiter, organization=acme.organization)
    web, api = found["repositories"]
    assert (web["repository"], web["usedBytes"]) == ("web", 1000 + 5000 + 2 + len(one))
    assert (web["exclusiveBytes"], web["sharedBytes"]) == (1000 + len(one), 5000 + 2)
    assert (api["repository"], api["exclusiveBytes"]) == ("api", len(other))
    assert found["usedBytes"] == 6002 + len(one) + len(other)
    assert found["logicalBytes"] == 11004 + len(one) + len(other)
    assert found["repositoryCount"] == 2
    (tag,) = web["tags"]
    assert tag == {
        "tag": "1.0",
        "digest": digest_of(one),
        "bytes": web["usedBytes"],
        "exclusiveBytes": 1000 + len(one),
        "sharedBytes": 5002,
        "repositoryBytes": web["usedBytes"],
    }


async def test_one_of_two_tags_frees_nothing_and_both_free_all(tidewaiter: Server, acme: Tenant) -> None:
    place = {"organization": acme.organization, "repository": "web"}
    async with knocking(tidewaiter, acme.owner) as door:
        manifest = await door.push_image(f"{acme.organization}/web", "1.0", b"a" * 1000)
    await change(tidewaiter, "createTag", acme.owner, **place, source="1.0", name="latest")
    for tag in ("web:1.0", "web:latest"):
        assert await freed(acme.owner, acme, tag) == {"bytes": 0, "repositoryBytes": 0, "manifests": []}
    assert await freed(acme.owner, acme, "web:1.0", "web:latest", "web:1.0") == {
        "bytes": 1002 + len(manifest),
        "repositoryBytes": 1002 + len(manifest),
        "manifests": [f"{acme.organization}/web@{digest_of(manifest)}"],
    }


async def test_three_together_free_what_none_frees_alone(tidewaiter: Server, acme: Tenant) -> None:
    """And doing as the answer says brings it back."""
    big = b"b" * 9000
    tags = ["web:1.0", "web:2.0", "api:1.0"]
    async with knocking(tidewaiter, acme.owner) as door:
        for number, tag in enumerate(tags):
            repository, _, name = tag.partition(":")
            await door.push_image(f"{acme.organization}/{repository}", name, big, bytes([number]) * 10)
        alone = [(await freed(acme.owner, acme, tag))["bytes"] for tag in tags]
        together = await freed(acme.owner, acme, *tags)
        assert together["bytes"] == sum(alone) + len(big) + len(b"{}")
        assert max(alone) < 1000
        for name in together["manifests"]:
            repository, _, digest = name.partition("@")
            assert (await door.delete(f"/v2/{repository}/manifests/{digest}")).status_code == 202
    assert (await explained(acme.owner, tidewaiter, organization=acme.organization))["usedBytes"] == 0


async def test_an_index_weighs_what_its_images_weigh_and_frees_those_no_tag_leads_to(
    tidewaiter: Server, acme: Tenant
) -> None:
    name = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door:
        arm = await door.push_image(name, "arm", b"a" * 1000)
        amd = await door.push_image(name, "amd", b"b" * 2000)
        index = index_of(arm, amd)
        assert (await door.push_manifest(name, "all", index, INDEX)).status_code == 201
        assert (await door.delete(f"/v2/{name}/manifests/arm")).status_code == 202
    (web,) = (await explained(acme.owner, tidewaiter, organization=acme.organization))["repositories"]
    tags = {tag["tag"]: tag for tag in web["tags"]}
    assert tags["all"]["bytes"] == web["usedBytes"] == 3002 + len(arm) + len(amd) + len(index)
    assert tags["all"]["exclusiveBytes"] == 1000 + len(arm) + len(index)
    assert tags["amd"]["exclusiveBytes"] == 0  # the index needs it
    assert web["untaggedBytes"] == 0
    both = await freed(acme.owner, acme, "web:all", "web:amd")
    assert both["bytes"] == web["usedBytes"]
    assert len(both["manifests"]) == 3


async def test_what_no_tag_leads_to_is_reclaimable_and_signatures_are_led_to(tidewaiter: Server, acme: Tenant) -> None:
    name = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door:
        web = await door.push_image(name, "1.0", b"a" * 1000)
        signature = manifest_of(b"{}", subject=described(MANIFEST, web))
        assert (await door.push_manifest(name, digest_of(signature), signature)).status_code == 201
        old = await door.push_image(name, "1.1", b"o" * 400)
        assert (await door.push_manifest(name, "1.1", web)).status_code == 201
        assert (await door.push_blob(name, b"of a push that never came to its end")).status_code == 201
    (found,) = (await explained(acme.owner, tidewaiter, organization=acme.organization))["repositories"]
    assert found["untaggedBytes"] == found["reclaimableBytes"] == 400 + len(old) + 36
    assert found["tags"][0]["exclusiveBytes"] == 1000 + len(web) + len(signature)  # the config is the old one's too


async def test_an_account_is_explained_over_its_organizations(tidewaiter: Server, acme: Tenant) -> None:
    second = f"{acme.organization}-2"
    await change(tidewaiter, "createOrganization", acme.owner, name=second)
    async with knocking(tidewaiter, acme.owner) as door:
        for organization in (acme.organization, second):
            await door.push_image(f"{organization}/web", "1.0", b"a" * 1000)
    name = f"{second}/web:1.0"
    found = await explained(acme.owner, tidewaiter, [name], account=acme.account)
    assert [one["exclusiveBytes"] == one["usedBytes"] for one in found["repositories"]] == [True, True]
    assert {one["organization"] for one in found["repositories"]} == {acme.organization, second}
    assert found["freedBy"]["bytes"] * 2 == found["usedBytes"]


async def test_an_upload_on_its_way_is_told_with_who_and_with_what(tidewaiter: Server, acme: Tenant) -> None:
    writer = await world.user(acme, "writer", "WRITE")
    async with knocking(tidewaiter, writer) as door:
        upload = await door.begin_upload(f"{acme.organization}/web")
        answer = await door.patch(upload, content=b"b" * 1000, headers={"User-Agent": "a client/1.0"})
        assert answer.status_code == 202
        started = await door.post(f"/v2/{acme.organization}/web/blobs/uploads/", headers={"User-Agent": "a client/2.0"})
        assert started.status_code == 202
    found = await explained(acme.owner, tidewaiter, organization=acme.organization)
    first, second = found["uploads"]
    assert (first["repository"], first["user"], first["received"], first["held"]) == ("web", writer.name, 1000, 1000)
    assert (second["client"], second["received"], second["held"]) == ("a client/2.0", 0, 0)
    assert first["startedAt"] < first["heldUntil"] < first["expiresAt"]


async def test_traffic_that_is_let_through_ahead_is_told_where_it_counts(tidewaiter: Server, acme: Tenant) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0", b"a" * 1000)
        assert (await door.get(f"/v2/{acme.organization}/web/manifests/1.0")).status_code == 200
    found = await explained(acme.owner, tidewaiter, organization=acme.organization)
    assert {lease["key"] for lease in found["leases"]} == {"EGRESS_BYTES", "PULLS"}
    assert [lease["used"] for lease in found["leases"] if lease["key"] == "PULLS"] == [1]
    assert (await explained(acme.owner, tidewaiter, account=acme.account))["leases"] == []


async def test_many_repositories_take_no_more_statements_than_one(tidewaiter: Server, acme: Tenant) -> None:
    query = """
        query($scope: QuotaScope!, $n: Int) { quotaExplain(scope: $scope) {
            usedBytes reclaimableBytes repositories(first: $n) { repository tags(first: $n) { bytes } }
        } }
    """
    scope = {"organization": acme.organization}
    async with knocking(tidewaiter, acme.owner) as door:
        for number in range(3):
            await door.push_image(f"{acme.organization}/web-{number}", "1.0", bytes([number]))
            await door.push_image(f"{acme.organization}/web-{number}", "2.0", bytes([number]), b"more")
    one = await statements_of(tidewaiter, query, acme.owner, scope=scope, n=1)
    assert await statements_of(tidewaiter, query, acme.owner, scope=scope, n=3) == one


async def test_who_only_sees_a_repository_is_told_its_own_numbers_alone(tidewaiter: Server, acme: Tenant) -> None:
    """What other repositories hold, and who pushes with what, is for managers."""
    reader = await world.user(acme, "reader", "READ")
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0", b"a" * 1000)
        await door.push_image(f"{acme.organization}/hidden", "1.0", b"a" * 1000)
        upload = await door.begin_upload(f"{acme.organization}/web")
        assert (await door.patch(upload, content=b"b" * 10)).status_code == 202
    scope = {"organization": acme.organization, "repository": "web"}
    seen = await explained(reader, tidewaiter, ["web:1.0"], **scope)
    whole = await explained(acme.owner, tidewaiter, ["web:1.0"], **scope)
    hidden = {"exclusiveBytes": None, "sharedBytes": None, "reclaimableBytes": None}
    (web,), (tag,) = whole["repositories"], whole["repositories"][0]["tags"]
    no_shares = {"exclusiveBytes": None, "sharedBytes": None}
    assert seen["repositories"] == [web | hidden | {"tags": [tag | no_shares]}]
    assert seen["freedBy"] == whole["freedBy"] | {"bytes": None}
    assert seen["uploads"] == [whole["uploads"][0] | {"user": None, "client": None}]
    assert (seen["usedBytes"], seen["reclaimableBytes"]) == (whole["usedBytes"], None)
    assert whole["uploads"][0]["user"] == acme.owner.name


MAY = {
    "account": {"owner", "admin"},
    "organization": {"owner", "admin", "manager"},
    "repository": {"owner", "admin", "manager", "writer", "reader"},
}
SCOPE = "query($scope: QuotaScope!) { quotaExplain(scope: $scope) { usedBytes uploads { user } } }"


@pytest.mark.parametrize("kind", MAY)
async def test_who_may_see_the_quotas_of_a_scope_may_have_them_explained(
    tidewaiter: Server, cast: Cast, kind: str
) -> None:
    await change(
        tidewaiter, "createRepository", cast.acme.owner, organization=cast.acme.organization, name=f"of-{kind}"
    )
    scope = {
        "account": {"account": cast.acme.account},
        "organization": {"organization": cast.acme.organization},
        "repository": {"organization": cast.acme.organization, "repository": f"of-{kind}"},
    }[kind]
    for role, person in cast.everybody.items():
        code = await code_of(tidewaiter, SCOPE, person, scope=scope)
        assert (code == "DONE") == (role in MAY[kind]), role
    assert await code_of(tidewaiter, SCOPE, cast.other.owner, scope=scope) == "NOT_FOUND"
    assert await code_of(tidewaiter, SCOPE, NOBODY, scope=scope) == "NOT_FOUND"


FREED = """
    query($scope: QuotaScope!, $tags: [String!]!) { quotaExplain(scope: $scope) { freedBy(tags: $tags) { bytes } } }
"""


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([], "DONE"),
        (["web:1.0"], "DONE"),
        (["web:1.0"] * 100, "DONE"),
        (["web:1.0"] * 101, "TOO_MANY_TAGS"),
        (["web:2.0"], "NOT_FOUND"),
        (["web"], "NOT_FOUND"),
        ([""], "NOT_FOUND"),
        ([":"], "NOT_FOUND"),
        (["other/web:1.0"], "NOT_FOUND"),
        (["web:1.0", "we\u0000b:1.0"], "INVALID_REQUEST"),
        (["'; DROP TABLE tag; --:1.0"], "NOT_FOUND"),
        (["w" * 20_000 + ":1.0"], "NOT_FOUND"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_tags_that_are_not_there_free_nothing_but_a_refusal(
    tidewaiter: Server, acme: Tenant, tags: list[str], code: str
) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0", b"a" * 1000)
    scope = {"organization": acme.organization}
    assert await code_of(tidewaiter, FREED, acme.owner, scope=scope, tags=tags) == code


async def test_tags_of_other_scopes_are_not_there(tidewaiter: Server, acme: Tenant) -> None:
    other = await world.tenant(tidewaiter, "explained-other")
    async with knocking(tidewaiter, other.owner) as door:
        await door.push_image(f"{other.organization}/web", "1.0", b"a" * 1000)
    await world.repository(acme, "web")
    for scope, tag in (
        ({"account": acme.account}, f"{other.organization}/web:1.0"),
        ({"organization": acme.organization}, "web:1.0"),
        ({"organization": acme.organization, "repository": "web"}, f"{other.organization}/web:1.0"),
    ):
        answer = await told(tidewaiter, FREED, acme.owner, scope=scope, tags=[tag])
        assert answer["errors"][0]["extensions"]["code"] == "NOT_FOUND"
        assert tag in answer["errors"][0]["message"]


@pytest.mark.parametrize("first", [0, -1, 101, 2**31 - 1])
async def test_lists_have_bounds(tidewaiter: Server, acme: Tenant, first: int) -> None:
    await world.repository(acme, "web")
    for field in ("repositories(first: $n) { usedBytes }", "uploads(first: $n) { held }", "leases(first: $n) { key }"):
        query = f"query($scope: QuotaScope!, $n: Int) {{ quotaExplain(scope: $scope) {{ {field} }} }}"
        scope = {"organization": acme.organization}
        assert await code_of(tidewaiter, query, acme.owner, scope=scope, n=first) == "PAGE_SIZE_OUT_OF_RANGE"


async def test_large_lists_of_large_lists_cost_too_much(tidewaiter: Server) -> None:
    query = """
        { quotaExplain(scope: {organization: "any"}) {
            repositories(first: 100) { tags(first: 100) { bytes } }
        } }
    """
    assert await code_of(tidewaiter, query, ADMIN) == "COST_EXCEEDED"


async def test_an_empty_scope_holds_nothing(tidewaiter: Server, acme: Tenant) -> None:
    found = await explained(acme.owner, tidewaiter, organization=acme.organization)
    assert (found["usedBytes"], found["logicalBytes"], found["reclaimableBytes"]) == (0, 0, 0)
    assert (found["repositories"], found["uploads"], found["refunds"]) == ([], [], [])
    await world.repository(acme, "web")
    (web,) = (await explained(acme.owner, tidewaiter, organization=acme.organization))["repositories"]
    assert (web["usedBytes"], web["tags"]) == (0, [])
