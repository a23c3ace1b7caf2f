"""Each change, push, pull and refusal, through both doors: one entry, in the words of the reference, and no secret."""

import base64
import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.support import log, recorded, world
from tests.support.actions import documented
from tests.support.books import address_of, opened
from tests.support.handmade import Door, digest_of, knocking, manifest_of
from tests.support.meters import limit
from tests.support.server import Server
from tests.support.world import Person, Tenant

CLIENT = "a client of its own/1.0"
BASE64 = re.compile(r"(?<=\")(?:[A-Za-z0-9+/]{4}){10,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?(?=\")")
SELECT = {
    "requestQuota": "request { id }",
    "createAccessKey": "accessKey { id } secret",
    "createLoginCommand": "docker",
}


@pytest.fixture
async def books(tidewaiter: Server) -> AsyncIterator[asyncpg.Connection]:
    async with opened(address_of(tidewaiter)) as connection:
        yield connection


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "entries")
    await world.repository(acme, "web")
    return acme


async def entries_of(tidewaiter: Server, answer: httpx2.Response, who: str) -> list[tuple[str, str, str]]:
    """Action, outcome and target of what the answer's request left; source and client are checked."""
    nodes = await recorded.entries_of(tidewaiter, answer)
    for node in nodes:
        assert (node["source"], node["client"], node["actor"]["name"]) == ("127.0.0.1", CLIENT, who)
        assert (node["reasonCode"] is None) == (node["outcome"] == "ALLOWED")
    return [(node["action"], node["outcome"], node["target"]) for node in nodes]


async def mutate(tidewaiter: Server, mutation: str, by: Person, **given: Any) -> tuple[httpx2.Response, dict[str, Any]]:
    """The whole answer, and what the mutation gave."""
    kind = f"{mutation[0].upper()}{mutation[1:]}Input"
    fields = f"{SELECT.get(mutation, '')} errors {{ message code path }}"
    query = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {fields} }} }}"
    headers = {"User-Agent": CLIENT}
    async with httpx2.AsyncClient(auth=(by.name, by.password), headers=headers, timeout=30, verify=False) as client:
        answer = await client.post(f"{tidewaiter.url}/graphql", json={"query": query, "variables": {"input": given}})
    body = answer.json()
    assert not body.get("errors"), body
    return answer, body["data"][mutation]


@dataclass(frozen=True)
class Walk:
    """Every mutation was made once, and what they must not leave in the log."""

    done: frozenset[str]
    secrets: tuple[str, ...]
    people: tuple[str, ...]
    forgotten: str
    mark: str


@pytest.fixture(scope="module")
async def walk(tidewaiter: Server) -> Walk:
    """Each leaves its entries, under the reason that was given."""
    admin = Person("admin", tidewaiter.admin_password)
    mark = secrets.token_hex(4)
    a, b, owner, worker, far = (f"{name}-{mark}" for name in ("a", "b", "owner", "worker", "far"))
    first, second, third = (f"canary-{secrets.token_hex(8)}" for _ in range(3))
    boss = Person(owner, first)
    web, org = {"organization": a, "repository": "web"}, {"organization": a}
    planted, done = [first, second, third, tidewaiter.admin_password], dict[str, set[str]]()

    async def changes(mutation: str, by: Person, *expected: tuple[str, str], **given: Any) -> dict[str, Any]:
        reason = f"ticket {mark}: {mutation} {len(done.get(mutation, ()))}"
        answer, gave = await mutate(tidewaiter, mutation, by, **given, reason=reason)
        assert gave["errors"] == [], (mutation, gave)
        left = await entries_of(tidewaiter, answer, by.name)
        assert left == [(action, "ALLOWED", target) for action, target in expected], mutation
        for node in await recorded.entries_of(tidewaiter, answer):
            assert (node["statedReason"], node["reason"]) == (reason, reason), mutation
        assert await by_reason(tidewaiter, reason) == [action for action, _ in expected]
        done.setdefault(mutation, set()).update(action for action, _ in expected)
        return gave

    both = (("account.create", a), ("user.create", owner))
    await changes("createAccount", admin, *both, name=a, ownerName=owner, ownerPassword=first)
    await world.change(tidewaiter, "createAccount", name=b, ownerName=far, ownerPassword=third)
    await changes("createUser", boss, ("user.create", worker), account=a, name=worker, password=second)
    await changes("setPassword", boss, ("user.set_password", worker), user=worker, password=third)
    await changes("suspendUser", boss, ("user.suspend", worker), user=worker)
    await changes("resumeUser", boss, ("user.resume", worker), user=worker)
    gone = f"gone-{mark}"
    await world.change(tidewaiter, "createUser", by=boss, account=a, name=gone, password=third)
    erased = ("audit.subject_erased", f"forgotten-{await short_id(tidewaiter, boss, gone)}")
    await changes("forgetUser", boss, erased, user=gone)
    await changes("suspendAccount", admin, ("account.suspend", a), account=a)
    await changes("resumeAccount", admin, ("account.resume", a), account=a)
    key = await changes("createAccessKey", boss, ("access_key.create", "deploy"), name="deploy")
    planted.append(key["secret"])
    await changes("revokeAccessKey", boss, ("access_key.revoke", f"deploy:{owner}"), accessKey=key["accessKey"]["id"])
    login = await changes("createLoginCommand", boss, ("login.create", owner))
    planted.append(next(word for word in login["docker"].replace("'", " ").split() if word.startswith("tw_")))
    await changes("createOrganization", boss, ("organization.create", a), name=a)
    await changes("createRepository", boss, ("repository.create", f"{a}/web"), **org, name="web")
    await changes("updateRepository", boss, ("repository.update", f"{a}/web"), **org, name="web", description="d")
    granted = ("organization_permission.set", f"{a}:{worker}")
    await changes("setOrganizationPermission", boss, granted, **org, user=worker, level="READ")
    taken = ("organization_permission.remove", f"{a}:{worker}")
    await changes("removeOrganizationPermission", boss, taken, **org, user=worker)
    granted = ("repository_permission.set", f"{a}/web:{worker}")
    await changes("setRepositoryPermission", boss, granted, **web, user=worker, level="WRITE")
    taken = ("repository_permission.remove", f"{a}/web:{worker}")
    await changes("removeRepositoryPermission", boss, taken, **web, user=worker)
    await changes("createShare", boss, ("share.create", f"{a}/web:{b}"), **web, account=b, forever=True)
    await changes("updateShare", boss, ("share.update", f"{a}/web:{b}"), **web, account=b, description="why")
    await changes("deleteShare", boss, ("share.delete", f"{a}/web:{b}"), **web, account=b)
    scope = {"scope": org, "key": "TAGS", "limit": 9}
    await changes("setQuota", admin, ("quota.set", f"organization {a} TAGS"), **scope)
    for approve, decided in ((False, ["quota.decline"]), (True, ["quota.approve", "quota.set"])):
        asked = {"scope": org, "key": "TAGS", "limit": 12}
        request = await changes("requestQuota", boss, ("quota.request", f"organization {a} TAGS"), **asked)
        given = {"request": request["request"]["id"], "approve": approve}
        await changes("decideQuotaRequest", admin, *((one, f"organization {a} TAGS") for one in decided), **given)
    async with knocking(tidewaiter, boss) as door:
        await door.push_image(f"{a}/web", "1.0")
    await changes("createTag", boss, ("tag.create", f"{a}/web:2.0"), **web, source="1.0", name="2.0")
    await changes("deleteTag", boss, ("tag.delete", f"{a}/web:2.0"), **web, name="2.0")
    await changes("deleteRepository", boss, ("repository.delete", f"{a}/web"), **org, name="web")
    await changes("deleteOrganization", boss, ("organization.delete", a), name=a)
    strange = f"stranger-{mark}"
    planted += await signed_in_and_failed(tidewaiter, boss, strange)
    planted.append(await refusals_that_name(tidewaiter, boss, worker, far, strange))
    assert done == {mutation: documented()[mutation] for mutation in done}
    return Walk(frozenset(done), tuple(planted), (owner, worker, far, strange), gone, mark)


async def short_id(tidewaiter: Server, boss: Person, name: str) -> str:
    """The end of the user's id."""
    query = "{ viewer { account { users(first: 9) { nodes { id name } } } } }"
    told = await tidewaiter.graphql(query, user=boss.name, password=boss.password)
    users = told["data"]["viewer"]["account"]["users"]["nodes"]
    return str(next(user["id"] for user in users if user["name"] == name))[-12:]


async def by_reason(tidewaiter: Server, reason: str) -> list[str]:
    """The actions that were done for it, oldest first."""
    query = "query($reason: String!) { auditLog(first: 9, filter: {reason: $reason}) { nodes { action } } }"
    told = await tidewaiter.graphql(query, {"reason": reason})
    return [node["action"] for node in told["data"]["auditLog"]["nodes"]][::-1]


async def refusals_that_name(tidewaiter: Server, boss: Person, worker: str, far: str, strange: str) -> str:
    """Each of these holds a user's name, in its target or its sentence, and where it may a password, which is given."""
    wrong = f"canary-{secrets.token_hex(8)}"
    for mutation, given in {
        "createUser": {"account": boss.name.replace("owner", "a"), "name": worker, "password": wrong},
        "setPassword": {"user": far, "password": wrong},
        "suspendUser": {"user": strange},
        "resumeUser": {"user": boss.name},
        "createAccount": {"name": f"x-{strange}", "ownerName": worker, "ownerPassword": wrong},
    }.items():
        by = Person("admin", tidewaiter.admin_password) if mutation == "createAccount" else boss
        _, gave = await mutate(tidewaiter, mutation, by, **given)
        assert len(gave["errors"]) == 1, mutation
    await world.change(tidewaiter, "createOrganization", by=boss, name=f"names-{worker[-8:]}")
    for person in (far, strange, boss.name, worker):
        given = {"organization": f"names-{worker[-8:]}", "user": person}
        _, gave = await mutate(tidewaiter, "removeOrganizationPermission", boss, **given)
        assert len(gave["errors"]) == 1, person
    return wrong


async def signed_in_and_failed(tidewaiter: Server, boss: Person, stranger: str) -> list[str]:
    """What was offered or given as a secret at every door."""
    wrong = f"canary-{secrets.token_hex(8)}"
    async with httpx2.AsyncClient(base_url=tidewaiter.url, verify=False) as client:
        for name in (boss.name, stranger):
            for address in ("/v2/", "/token"):
                assert (await client.get(address, auth=(name, wrong))).status_code == 401
            form = {"grant_type": "password", "username": name, "password": wrong}
            assert (await client.post("/token", data=form)).status_code == 401
            asked = {"query": "{ __typename }"}
            assert (await client.post("/graphql", json=asked, auth=(name, wrong))).is_error
            bearing = {"Authorization": f"Bearer {wrong}"}
            assert (await client.get("/v2/", headers=bearing)).status_code == 401
            assert (await client.post("/graphql", json=asked, headers=bearing)).is_error
        form |= {"username": boss.name, "password": boss.password, "access_type": "offline"}
        given = (await client.post("/token", data=form)).json()
        fresh = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
        again = (await client.post("/token", data=fresh)).json()
        assert (await client.post("/token", data=fresh | {"refresh_token": wrong})).status_code == 401
    return [wrong, given["access_token"], given["refresh_token"], again["access_token"]]


async def test_every_mutation_leaves_its_entries_with_the_reason_that_was_given(tidewaiter: Server, walk: Walk) -> None:
    schema = await tidewaiter.graphql("{ __schema { mutationType { fields { name } } } }")
    assert walk.done == {field["name"] for field in schema["data"]["__schema"]["mutationType"]["fields"]}


@pytest.fixture(scope="module")
def exported(tidewaiter: Server, walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All that leaves the log by the operator's hand, by format; what is in Base64 stands beside it in the clear."""
    assert walk.done
    folder, shown = tmp_path_factory.mktemp("exports"), {}
    for name, options in {"jsonl": [], "opened": ["--personal"], "ocsf": [], "cloudevents": []}.items():
        path, kind = folder / name, "jsonl" if name == "opened" else name
        came = tidewaiter.command("audit", "export", "--format", kind, "--output", str(path), *options)
        assert came.returncode == 0, came.stderr
        text = path.read_text()
        shown[name] = text + "".join(base64.b64decode(one).decode("utf-8", "replace") for one in BASE64.findall(text))
    shown["list"] = tidewaiter.command("audit", "list", "--json", "-n", "10000").stdout
    return shown


async def test_no_secret_stands_in_an_entry(
    tidewaiter: Server, walk: Walk, books: asyncpg.Connection, exported: dict[str, str]
) -> None:
    assert await log.mentions(books, f"ticket {walk.mark}") > len(walk.done)
    assert all(f"ticket {walk.mark}" in text for text in exported.values())
    for secret in walk.secrets:
        assert await log.mentions(books, secret) == 0
        assert [name for name, text in exported.items() if secret in text] == []
        assert secret not in tidewaiter.output


async def test_no_person_stands_in_an_entry_by_name(
    walk: Walk, books: asyncpg.Connection, exported: dict[str, str]
) -> None:
    """Those who may read see the names all the same, also such as are nobody's, until they are forgotten."""
    for name in walk.people:
        assert await log.mentions(books, name) == 0
        assert name not in exported["jsonl"]
        assert name in exported["list"]
    assert await log.mentions(books, walk.forgotten) == 0
    assert [name for name, text in exported.items() if walk.forgotten in text] == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  two words ", "two words"),
        ("one line\r\nanother\x1b[2J\u202e", "one line another [2J"),
        ("\t\n", None),
        ("", None),
        (None, None),
        ("ü" * 500, "ü" * 500),
    ],
    ids=str,
)
async def test_a_reason_is_kept_as_one_line(tidewaiter: Server, acme: Tenant, given: str, kept: str | None) -> None:
    answer, gave = await mutate(tidewaiter, "createAccessKey", acme.owner, name="ci", reason=given)
    assert gave["errors"] == []
    (entry,) = await recorded.entries_of(tidewaiter, answer)
    assert (entry["statedReason"], entry["reason"]) == (kept, kept)


async def test_a_reason_that_is_too_long_is_refused_and_nothing_is_done(tidewaiter: Server, acme: Tenant) -> None:
    place = {"organization": acme.organization, "name": "unreasonable"}
    answer, gave = await mutate(tidewaiter, "createRepository", acme.owner, **place, reason="x" * 501)
    (error,) = gave["errors"]
    assert (error["code"], error["path"]) == ("REASON_TOO_LONG", ["reason"])
    assert "500" in error["message"]
    assert await recorded.entries_of(tidewaiter, answer) == []
    _, gave = await mutate(tidewaiter, "deleteRepository", acme.owner, **place)
    assert [one["code"] for one in gave["errors"]] == ["NOT_FOUND"]


async def test_a_refusal_keeps_the_reason_of_who_was_refused(tidewaiter: Server, acme: Tenant) -> None:
    reader = await world.user(acme, "reader", level="READ")
    place = {"organization": acme.organization, "name": "web"}
    answer, _ = await mutate(tidewaiter, "deleteRepository", reader, **place, reason="tidying up")
    (entry,) = await recorded.entries_of(tidewaiter, answer)
    assert (entry["outcome"], entry["statedReason"]) == ("DENIED", "tidying up")
    assert "you hold READ" in entry["reason"]


async def test_what_a_manifest_is_stands_in_its_entries(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    web = f"{acme.organization}/web"
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_blob(web, b"{}")
        image = manifest_of(b"{}")
        digest = digest_of(image)
        address = f"/v2/{web}/manifests/{digest}"
        kind = json.loads(image)["mediaType"]
        put = await door.put(f"{address}?tag=a&tag=b", content=image, headers={"Content-Type": kind})
        assert put.status_code == 201
        assert (await door.get(f"/v2/{web}/manifests/a")).status_code == 200
        _, gave = await mutate(
            tidewaiter, "createTag", acme.owner, organization=acme.organization, repository="web", source="a", name="c"
        )
        assert gave["errors"] == []
        assert (await door.delete(address)).status_code == 202
        await door.push_blob(web, b"{}")
        assert (await door.delete(f"/v2/{web}/blobs/{digest_of(b'{}')}")).status_code == 202
    manifest = {"digest": digest, "bytes": len(image), "media_type": kind}
    found = [one for one in await log.events(books) if one.get("target", {}).get("name", "").startswith(web)]
    assert [(one["action"], one["target"]) for one in found if one["action"] != "repository.create"] == [
        ("image.push", {"name": f"{web}:a", **manifest}),
        ("tag.create", {"name": f"{web}:b", **manifest}),
        ("image.pull", {"name": f"{web}:a", **manifest}),
        ("tag.create", {"name": f"{web}:c", **manifest}),
        ("image.delete", {"name": f"{web}@{digest}", **manifest}),
        ("blob.delete", {"name": f"{web}@{digest_of(b'{}')}", "digest": digest_of(b"{}"), "bytes": 2}),
    ]


async def test_a_refused_change_leaves_its_refusal_alone(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    reader = await world.user(acme, "reader", level="READ")
    other = await world.tenant(tidewaiter, "stranger")
    org, name = {"organization": acme.organization}, acme.organization
    weak = {"name": f"{acme.account}-x", "ownerName": f"{acme.account}-y", "ownerPassword": "short"}
    admin = Person("admin", tidewaiter.admin_password)
    told = [
        # An account that was recorded, and then its owner's password is refused: neither is there.
        (admin, "createAccount", weak, ("user.create", "FAILED", weak["ownerName"])),
        (reader, "createRepository", org | {"name": "new"}, ("repository.create", "DENIED", f"{name}/new")),
        (acme.owner, "createRepository", org | {"name": "web"}, ("repository.create", "FAILED", f"{name}/web")),
        (acme.owner, "createRepository", org | {"name": "A B"}, ("repository.create", "FAILED", f"{name}/A B")),
        (other.owner, "deleteRepository", org | {"name": "web"}, ("repository.delete", "DENIED", f"{name}/web")),
        (other.owner, "deleteRepository", org | {"name": "no"}, ("repository.delete", "FAILED", f"{name}/no")),
        (acme.owner, "deleteOrganization", {"name": name}, ("organization.delete", "FAILED", name)),
        (
            acme.owner,
            "setQuota",
            {"scope": org, "key": "TAGS", "limit": 1},
            ("quota.set", "DENIED", f"organization {name} TAGS"),
        ),
    ]
    for who, mutation, given, expected in told:
        answer, gave = await mutate(tidewaiter, mutation, who, **given)
        assert len(gave["errors"]) == 1, mutation
        assert await entries_of(tidewaiter, answer, who.name) == [expected]
    assert not await books.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = $1)", weak["name"])
    (hidden,) = await log.events(books, action="repository.delete", outcome="denied", target={"name": f"{name}/web"})
    account = await books.fetchval("SELECT id FROM account WHERE name = $1", acme.account)
    assert hidden["scope"]["account"] == account.hex


async def test_every_push_and_pull_leaves_one_entry_and_so_does_every_refusal(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    reader = await world.user(acme, "reader", level="READ")
    other = await world.tenant(tidewaiter, "stranger")
    web, manifest = f"{acme.organization}/web", manifest_of(b"{}")
    by_tag, digest = f"/v2/{web}/manifests/1.0", digest_of(manifest)
    by_digest, uploads = f"/v2/{web}/manifests/{digest}", f"/v2/{web}/blobs/uploads/"

    async def leaves(answer: httpx2.Response, status: int, who: Person, *expected: tuple[str, str, str]) -> None:
        assert answer.status_code == status, answer.text
        assert await entries_of(tidewaiter, answer, who.name) == list(expected), answer.request.url

    def as_client(door: Door) -> Door:
        door.headers["User-Agent"] = CLIENT
        return door

    async with (
        knocking(tidewaiter, acme.owner) as owners,
        knocking(tidewaiter, reader) as readers,
        knocking(tidewaiter, other.owner) as strangers,
    ):
        mine, read, far = (as_client(one) for one in (owners, readers, strangers))
        lone = manifest_of(b"not here")
        await leaves(
            await mine.push_manifest(web, "1.0", lone), 400, acme.owner, ("image.push", "FAILED", f"{web}:1.0")
        )
        failed = ("image.push", "FAILED", f"{web}:1.0")
        await leaves(await mine.push_manifest(web, "1.0", b"no manifest"), 400, acme.owner, failed)
        digestless = ("image.push", "FAILED", f"{web}@{digest}")
        await leaves(await mine.push_manifest(web, digest, lone), 400, acme.owner, digestless)
        for sent in (b"other bytes", b"{}, and then some"):
            address = f"/v2/{web}/blobs/uploads/?digest={digest_of(b'{}')}"
            await leaves(await mine.post(address, content=sent), 400, acme.owner, ("image.push", "FAILED", web))
        await leaves(await mine.push_blob(web, b"{}"), 201, acme.owner)
        pushed = ("image.push", "ALLOWED", f"{web}:1.0")
        await leaves(await mine.push_manifest(web, "1.0", manifest), 201, acme.owner, pushed)
        await leaves(await mine.push_manifest(web, "1.0", manifest), 201, acme.owner, pushed)
        await leaves(await read.get(by_tag), 200, reader, ("image.pull", "ALLOWED", f"{web}:1.0"))
        await leaves(await read.get(by_digest), 200, reader, ("image.pull", "ALLOWED", f"{web}@{digest}"))
        await leaves(await read.head(by_tag), 200, reader)
        await leaves(await read.get(f"{by_tag}1"), 404, reader, ("image.pull", "FAILED", f"{web}:1.01"))
        await leaves(await far.get(by_tag), 404, other.owner, ("image.pull", "DENIED", f"{web}:1.0"))
        denied = ("image.push", "DENIED", web)
        await leaves(await read.post(uploads), 403, reader, denied)
        await leaves(await read.push_blob(web, b"more"), 403, reader, denied)
        tagged = ("image.push", "DENIED", f"{web}:2.0")
        await leaves(await read.push_manifest(web, "2.0", manifest), 403, reader, tagged)
        await leaves(await read.delete(by_tag), 403, reader, ("tag.delete", "DENIED", f"{web}:1.0"))
        await leaves(await read.delete(by_digest), 403, reader, ("image.delete", "DENIED", f"{web}@{digest}"))
        assert await limit(acme, "STORAGE_BYTES", "organization", 2 + len(manifest)) == []
        await leaves(await mine.push_blob(web, b"more"), 403, acme.owner, denied)
        address = (await mine.post(uploads)).headers["location"]
        await leaves(await mine.patch(address, content=streamed()), 403, acme.owner, denied)
        await leaves(await mine.push_manifest(web, "2.0", manifest_of(b"{}", b"{}")), 403, acme.owner, tagged)
        repeated = await upload_twice(mine, web)
        await leaves(repeated, 201, acme.owner)
        deleted = ("image.delete", "ALLOWED", f"{web}@{digest}")
        await leaves(await mine.delete(by_digest), 202, acme.owner, deleted)


async def streamed() -> AsyncIterator[bytes]:
    yield b"more"


async def upload_twice(door: Door, name: str) -> httpx2.Response:
    """The answer to a repeated last request, which a client sends again when the first answer was lost."""
    await door.delete(f"/v2/{name}/blobs/{digest_of(b'none')}")
    address = await door.begin_upload(name)
    for _ in range(2):
        answer = await door.put(address, params={"digest": digest_of(b"")})
    return answer


async def test_who_did_not_sign_in(tidewaiter: Server, acme: Tenant, books: asyncpg.Connection) -> None:
    await world.repository(acme, "open", visibility="PUBLIC")
    name = f"{acme.organization}/open"
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(name, "1.0")
    async with knocking(tidewaiter) as nobody:
        nobody.headers["User-Agent"] = CLIENT
        pulled = await nobody.get(f"/v2/{name}/manifests/1.0")
        assert await entries_of(tidewaiter, pulled, "anonymous") == [("image.pull", "ALLOWED", f"{name}:1.0")]
        for answer in (
            await nobody.get("/v2/"),
            await nobody.get(f"/v2/{acme.organization}/web/manifests/1.0"),
            await nobody.post(f"/v2/{name}/blobs/uploads/"),
        ):
            assert answer.status_code == 401
            assert await entries_of(tidewaiter, answer, "anonymous") == []
        wrong = (acme.owner.name, "not the password")
        for answer in (
            await nobody.get("/v2/", auth=wrong),
            await nobody.get("/token", auth=wrong),
            await nobody.post("/graphql", json={"query": "{ __typename }"}, auth=wrong),
        ):
            assert answer.status_code == 401
            failed = ("user.sign_in", "DENIED", acme.owner.name)
            assert await entries_of(tidewaiter, answer, acme.owner.name) == [failed]
        token = await nobody.get("/token", auth=(acme.owner.name, acme.owner.password))
        signed_in = ("user.sign_in", "ALLOWED", acme.owner.name)
        assert await entries_of(tidewaiter, token, acme.owner.name) == [signed_in]
    (entry,) = await log.events(books, request={"id": pulled.headers["x-request-id"]})
    assert entry["actor"] == {"kind": "anonymous"}
    assert await log.mentions(books, json.loads(token.text)["token"]) == 0


async def test_a_key_that_was_revoked_is_refused_on_its_users_page(tidewaiter: Server, acme: Tenant) -> None:
    _, made = await mutate(tidewaiter, "createAccessKey", acme.owner, name="lost")
    await mutate(tidewaiter, "revokeAccessKey", acme.owner, accessKey=made["accessKey"]["id"])
    async with knocking(tidewaiter, Person(acme.owner.name, made["secret"])) as door:
        assert (await door.get("/token")).status_code == 401
    latest = (await world.entries(acme))[0]
    assert latest.told == ("user.sign_in", "DENIED", acme.owner.name)
    assert "revoked" in (latest.reason or "")


async def test_a_secret_sent_as_the_name_is_not_written_down(
    tidewaiter: Server, acme: Tenant, books: asyncpg.Connection
) -> None:
    _, made = await mutate(tidewaiter, "createAccessKey", acme.owner, name="ci")
    async with knocking(tidewaiter, Person(made["secret"], "x")) as door:
        answer = await door.get("/token", headers={"User-Agent": CLIENT})
    assert answer.status_code == 401
    assert await entries_of(tidewaiter, answer, "tw_…") == [("user.sign_in", "DENIED", "tw_…")]
