"""What a push would be charged, asked before: it is what the push is charged then, and is told to nobody who may not
push."""

import random
from typing import Any

import httpx2
import pytest

from tests.api.schema.asking import ADMIN, NOBODY, Cast, ask, change, code_of
from tests.support import world
from tests.support.handmade import digest_of, knocking, manifest_of, refusal
from tests.support.meters import limit, used
from tests.support.server import Server
from tests.support.world import Person, Tenant

ESTIMATE = """
    query($organization: String!, $repository: String!, $descriptors: [DescriptorInput!]!) {
        estimatePush(organization: $organization, repository: $repository, descriptors: $descriptors) {
            exists fits fitsUploaded refusal
            scopes { kind name newBytes roomBytes fits }
            tightest { kind }
            missingDigests mountableDigests
            mismatches { digest size storedSize }
        }
    }
"""
KINDS = ("repository", "organization", "account")
LAYERS = [bytes([number]) * 100 * number for number in range(1, 7)]


def named(*contents: bytes) -> list[dict[str, Any]]:
    return [{"digest": digest_of(content), "size": len(content)} for content in contents]


async def estimate(
    acme: Tenant, *descriptors: dict[str, Any], by: Person | None = None, repository: str = "web"
) -> Any:
    place = {"organization": acme.organization, "repository": repository}
    found = await ask(acme.tidewaiter, ESTIMATE, by or acme.owner, **place, descriptors=list(descriptors))  # type: ignore[arg-type]
    return found["estimatePush"]


def new(found: Any) -> list[int]:
    assert [scope["kind"] for scope in found["scopes"]] == list(KINDS)
    return [scope["newBytes"] for scope in found["scopes"]]


async def code(acme: Tenant, descriptors: Any, by: Person | None = None, repository: str = "web") -> str:
    place = {"organization": acme.organization, "repository": repository}
    return await code_of(acme.tidewaiter, ESTIMATE, by or acme.owner, **place, descriptors=descriptors)  # type: ignore[arg-type]


def sentence(answer: httpx2.Response) -> str:
    """What a push was told, without the name of its request."""
    message: str = refusal(answer)["message"]
    return message.partition(" [request")[0]


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "estimates")
    await world.repository(acme, "web")
    return acme


@pytest.mark.parametrize("seed", range(3))
async def test_a_push_is_charged_what_was_estimated(tidewaiter: Server, acme: Tenant, seed: int) -> None:
    chosen = random.Random(seed)
    second = f"{acme.organization}-2"
    await change(tidewaiter, "createOrganization", acme.owner, name=second)
    async with knocking(tidewaiter, acme.owner) as door:
        for number in range(10):
            repository, layers = chosen.choice(["web", "api"]), chosen.sample(LAYERS, chosen.randint(0, 3))
            if chosen.random() < 0.3:
                await door.push_image(f"{second}/web", "1.0", *layers)
            manifest = manifest_of(b"{}", *layers)
            found = await estimate(acme, *named(b"{}", *layers, manifest), repository=repository)
            before = [await used_at(acme, kind, repository, found["exists"]) for kind in KINDS]
            await door.push_image(f"{acme.organization}/{repository}", f"{number}", *layers)
            after = [await used_at(acme, kind, repository, True) for kind in KINDS]
            assert new(found) == [now - then for now, then in zip(after, before, strict=True)]
            assert (await estimate(acme, *named(b"{}", *layers, manifest), repository=repository))[
                "missingDigests"
            ] == []


async def used_at(acme: Tenant, kind: str, repository: str, exists: bool) -> int:
    if kind != "repository":
        return (await used(acme, kind=kind))[0]
    query = "query($scope: QuotaScope!) { quotas(scope: $scope) { key used } }"
    scope = {"organization": acme.organization, "repository": repository}
    if not exists:
        return 0
    found = await ask(acme.tidewaiter, query, acme.owner, scope=scope)  # type: ignore[arg-type]
    return next(int(quota["used"]) for quota in found["quotas"] if quota["key"] == "STORAGE_BYTES")


async def test_what_is_here_is_not_missing_and_what_is_elsewhere_can_be_mounted(
    tidewaiter: Server, acme: Tenant
) -> None:
    here, elsewhere, nowhere = b"h" * 10, b"e" * 200, b"n" * 3000
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/web", here)).status_code == 201
        assert (await door.push_blob(f"{acme.organization}/api", elsewhere)).status_code == 201
    found = await estimate(acme, *named(here, elsewhere, nowhere, nowhere))
    assert new(found) == [3200, 3000, 3000]
    assert found["missingDigests"] == [digest_of(elsewhere), digest_of(nowhere)]
    assert found["mountableDigests"] == [digest_of(elsewhere)]
    assert (found["fits"], found["refusal"], found["tightest"], found["mismatches"]) == (True, None, None, [])


async def test_what_others_hold_is_as_new_as_what_nobody_holds(tidewaiter: Server, acme: Tenant) -> None:
    other = await world.tenant(tidewaiter, "estimates-other")
    async with knocking(tidewaiter, other.owner) as door:
        assert (await door.push_blob(f"{other.organization}/web", b"a secret")).status_code == 201
    theirs, nobodys = named(b"a secret")[0], named(b"a riddle")[0]
    answers = [await estimate(acme, one) for one in (theirs, nobodys, theirs | {"size": 8})]
    for answer, descriptor in zip(answers, (theirs, nobodys, theirs), strict=True):
        assert answer.pop("missingDigests") == [descriptor["digest"]]
    assert answers[0] == answers[1] == answers[2]
    assert await estimate(acme, theirs | {"size": 9}) == await estimate(acme, theirs | {"size": 9}) | {"mismatches": []}


async def test_what_one_may_not_see_is_as_new_as_what_nobody_holds(tidewaiter: Server, acme: Tenant) -> None:
    """Its size is not told either, not even to who may push beside it."""
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/secret", b"a secret")).status_code == 201
        assert (await door.push_blob(f"{acme.organization}/web", b"here")).status_code == 201
    writer = await world.user(acme, "writer")
    place = {"organization": acme.organization, "repository": "web", "user": writer.name, "level": "WRITE"}
    await change(tidewaiter, "setRepositoryPermission", acme.owner, **place)
    hidden, nobodys, (here,) = named(b"a secret")[0], named(b"a riddle")[0], named(b"here")
    for size in (8, 9):
        answers = [await estimate(acme, one | {"size": size}, here, by=writer) for one in (hidden, nobodys)]
        assert [answer.pop("missingDigests") for answer in answers] == [[hidden["digest"]], [nobodys["digest"]]]
        assert answers[0] == answers[1]
        assert answers[0]["mountableDigests"] == answers[0]["mismatches"] == []
    assert (await estimate(acme, hidden))["mountableDigests"] == [hidden["digest"]]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_scope_that_is_too_full_says_what_the_push_will_say(
    tidewaiter: Server, acme: Tenant, kind: str
) -> None:
    """With what is on its way taken off."""
    name = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(name, b"a" * 500)).status_code == 201
        upload = await door.begin_upload(name)
        assert (await door.patch(upload, content=b"b" * 300)).status_code == 202
        assert await limit(acme, "STORAGE_BYTES", kind, 1000) == []
        fitting = await estimate(acme, *named(b"c" * 200))
        assert (fitting["fits"], fitting["fitsUploaded"], fitting["tightest"]) == (True, True, {"kind": kind})
        rooms = {scope["kind"]: scope["roomBytes"] for scope in fitting["scopes"]}
        assert rooms == dict.fromkeys(KINDS) | {kind: 200}
        found = await estimate(acme, *named(b"c" * 201))
        assert [scope["kind"] for scope in found["scopes"] if not scope["fits"]] == [kind]
        answer = await door.push_blob(name, b"c" * 201)
        assert answer.status_code == 403
        assert (found["fits"], found["refusal"]) == (False, sentence(answer))


async def test_a_limit_below_what_is_used_leaves_no_room_and_takes_none_from_what_is_there(
    tidewaiter: Server, acme: Tenant
) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/web", b"a" * 500)).status_code == 201
    assert await limit(acme, "STORAGE_BYTES", "organization", 100) == []
    found = await estimate(acme, *named(b"a" * 500))
    assert (found["fits"], found["scopes"][1]["roomBytes"], new(found)) == (True, 0, [0, 0, 0])
    assert (await estimate(acme, *named(b"b")))["fits"] is False


async def test_what_is_mounted_fits_where_what_is_uploaded_would_not(tidewaiter: Server, acme: Tenant) -> None:
    layer = b"a" * 500
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/api", layer)).status_code == 201
        assert await limit(acme, "STORAGE_BYTES", "organization", 900) == []
        found = await estimate(acme, *named(layer))
        assert (found["fits"], found["fitsUploaded"], new(found)) == (True, False, [500, 0, 0])
        assert (await door.push_blob(f"{acme.organization}/web", layer)).status_code == 403
        source = f"{acme.organization}/api"
        assert (await door.mount(f"{acme.organization}/web", digest_of(layer), source)).status_code == 201


async def test_a_repository_that_a_push_would_make_is_empty_and_is_not_made(tidewaiter: Server, acme: Tenant) -> None:
    found = await estimate(acme, *named(b"a" * 500), repository="to/be/made")
    assert (found["exists"], new(found), found["fits"]) == (False, [500, 500, 500], True)
    assert found["scopes"][0]["name"] == f"{acme.organization}/to/be/made"
    assert (await used(acme, "REPOSITORIES"))[0] == 1
    assert await code(acme, [], repository="No Name") == "NAME_INVALID"


@pytest.mark.parametrize("kind", ["organization", "account"])
async def test_where_no_repository_can_be_made_a_push_to_a_new_one_does_not_fit(
    tidewaiter: Server, acme: Tenant, kind: str
) -> None:
    assert await limit(acme, "REPOSITORIES", kind, 1) == []
    found = await estimate(acme, *named(b"a"), repository="new")
    async with knocking(tidewaiter, acme.owner) as door:
        answer = await door.push_blob(f"{acme.organization}/new", b"a")
    assert answer.status_code == 403
    assert (found["fits"], found["refusal"]) == (False, sentence(answer))
    assert (await estimate(acme, *named(b"a")))["fits"] is True


async def test_a_size_that_is_not_the_stored_one_is_told_and_the_stored_one_counts(
    tidewaiter: Server, acme: Tenant
) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        assert (await door.push_blob(f"{acme.organization}/api", b"a" * 500)).status_code == 201
    digest = digest_of(b"a" * 500)
    for repository, at_repository in (("web", 500), ("api", 0)):
        found = await estimate(acme, {"digest": digest, "size": 7}, repository=repository)
        assert found["mismatches"] == [{"digest": digest, "size": 7, "storedSize": 500}]
        assert new(found) == [at_repository, 0, 0]


async def test_foreign_layers_count_nothing(acme: Tenant) -> None:
    foreign = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    found = await estimate(acme, named(b"a" * 500)[0] | foreign, *named(b"b"))
    assert (new(found), found["missingDigests"]) == ([1, 1, 1], [digest_of(b"b")])


async def test_a_layer_that_no_upload_may_have_is_told_before(acme: Tenant) -> None:
    found = await estimate(acme, {"digest": digest_of(b""), "size": 10 * 1024**3 + 1})
    assert found["fits"] is False
    assert "10737418240 bytes" in found["refusal"]


GOOD = digest_of(b"good")


@pytest.mark.parametrize(
    ("descriptors", "expected"),
    [
        ([], "DONE"),
        ([{"digest": GOOD, "size": 0}], "DONE"),
        ([{"digest": GOOD, "size": 2**63 - 1}], "DONE"),
        ([{"digest": GOOD, "size": 1}] * 500, "DONE"),
        ([{"digest": GOOD, "size": 1}] * 501, "TOO_MANY_DESCRIPTORS"),
        ([{"digest": GOOD, "size": -1}], "DESCRIPTOR_INVALID"),
        ([{"digest": GOOD, "size": 1}, {"digest": GOOD, "size": 2}], "DESCRIPTOR_INVALID"),
        ([{"digest": GOOD, "size": 2**63 - 1}, {"digest": digest_of(b"2"), "size": 1}], "DESCRIPTOR_INVALID"),
        ([{"digest": GOOD, "size": 2**63}], "INVALID_QUERY"),
        ([{"digest": GOOD, "size": "1"}], "INVALID_QUERY"),
        ([{"digest": GOOD.upper(), "size": 1}], "DIGEST_INVALID"),
        ([{"digest": "sha256:abc", "size": 1}], "DIGEST_INVALID"),
        ([{"digest": "", "size": 1}], "DIGEST_INVALID"),
        ([{"digest": f"md5:{'0' * 32}", "size": 1}], "DIGEST_INVALID"),
        ([{"digest": f"{GOOD[:-1]}\u0000", "size": 1}], "INVALID_REQUEST"),
    ],
    ids=lambda value: str(value)[-40:],
)
async def test_what_cannot_be_pushed_cannot_be_estimated(acme: Tenant, descriptors: Any, expected: str) -> None:
    assert await code(acme, descriptors) == expected


PUSHERS = {"owner", "manager", "writer"}


@pytest.mark.parametrize("there", [True, False], ids=["a repository that is there", "a repository to be made"])
async def test_who_may_not_push_is_refused_as_the_push_would_be(tidewaiter: Server, cast: Cast, there: bool) -> None:
    name = f"estimated-{there}".lower()
    if there:
        await world.repository(cast.acme, name)
    for role, person in cast.everybody.items():
        found = await code(cast.acme, named(b"a"), by=person, repository=name)
        assert (found == "DONE") == (role in PUSHERS), (role, found)
        if role in {"stranger", "colleague", "nobody"}:
            assert found == "NOT_FOUND"
        elif role not in PUSHERS:
            assert found == "DENIED"
    assert await code(cast.acme, [{"digest": "wrong", "size": -1}], by=cast.other.owner, repository=name) == "NOT_FOUND"


async def test_of_a_suspended_account_nothing_is_estimated(tidewaiter: Server, acme: Tenant) -> None:
    await change(tidewaiter, "suspendAccount", ADMIN, account=acme.account)
    for repository in ("web", "new"):
        assert await code(acme, named(b"a"), repository=repository) == "ACCOUNT_SUSPENDED"


async def test_who_may_not_push_hears_the_same_of_what_is_there_and_what_is_not(
    tidewaiter: Server, acme: Tenant
) -> None:
    other = await world.tenant(tidewaiter, "stranger")
    for person in (other.owner, NOBODY):
        answers = set()
        for repository in ("web", "new"):
            place = {"organization": acme.organization, "repository": repository}
            answer = await tidewaiter.graphql(ESTIMATE, {**place, "descriptors": []}, person.name, person.password)
            answers.add(answer["errors"][0]["message"])
        assert len(answers) == 1
