"""POST ?mount=: a blob of another repository, if the one who asks may pull it there. Whatever speaks against it looks
like a blob that nobody has."""

import secrets

import pytest

from tests.support import world
from tests.support.handmade import Door, bearing, digest_of, knocking, refusal
from tests.support.server import Server
from tests.support.world import Tenant


@pytest.fixture
def content() -> bytes:
    return secrets.token_bytes(1000)


async def push_scope(door: Door, *scopes: str) -> str:
    token: str = (await door.get("/token", params={"scope": list(scopes)})).json()["token"]
    return token


async def test_a_blob_is_mounted(door: Door, web: str, content: bytes) -> None:
    await door.push_blob(f"{web}/base", content)
    answer = await door.mount(web, digest_of(content), f"{web}/base")
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v2/{web}/blobs/{digest_of(content)}"
    assert answer.headers["docker-content-digest"] == digest_of(content)
    assert (await door.get(answer.headers["location"])).content == content


async def test_a_blob_by_sha512(door: Door, web: str, content: bytes) -> None:
    digest = digest_of(content, "sha512")
    await door.post(f"/v2/{web}/base/blobs/uploads/?digest={digest}", content=content)
    answer = await door.mount(web, digest, f"{web}/base")
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)


async def test_without_a_source_it_is_looked_for(door: Door, web: str, content: bytes) -> None:
    await door.push_blob(f"{web}/base", content)
    answer = await door.post(f"/v2/{web}/blobs/uploads/?mount={digest_of(content)}")
    assert answer.status_code == 201
    assert (await door.get(answer.headers["location"])).content == content


async def test_it_is_looked_for_where_the_caller_may_read(
    door: Door, tidewaiter: Server, other: Tenant, web: str, content: bytes
) -> None:
    """However many others, hidden from the caller, hold it too."""
    await door.push_blob(f"{web}/base", content)
    async with knocking(tidewaiter, other.owner) as outsider:
        for number in range(12):
            pushed = await outsider.push_blob(f"{other.organization}/{secrets.token_hex(4)}-{number}", content)
            assert pushed.status_code == 201
    answer = await door.post(f"/v2/{web}/blobs/uploads/?mount={digest_of(content)}")
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "source", ["", "&from={hidden}", "&from={absent}", "&from=", "&from=../..", "&from=%00", "&from=A/B"]
)
async def test_what_cannot_be_read_looks_like_what_is_not_there(
    door: Door, tidewaiter: Server, other: Tenant, web: str, content: bytes, source: str
) -> None:
    """An upload is begun, whether the blob is somewhere or nowhere."""
    await door.push_blob(web, content)
    source = source.format(hidden=web, absent=f"{web}/absent")
    answers = []
    async with knocking(tidewaiter, other.owner) as outsider:
        name = f"{other.organization}/{secrets.token_hex(4)}"
        for digest in (digest_of(content), digest_of(b"nowhere" + content)):
            answer = await outsider.post(f"/v2/{name}/blobs/uploads/?mount={digest}{source}")
            upload = answer.headers["docker-upload-uuid"]
            headers = {key: value.replace(upload, "") for key, value in answer.headers.items() if key != "x-request-id"}
            answers.append((answer.status_code, answer.content, {**headers, "date": ""}))
        assert (await outsider.head(f"/v2/{name}/blobs/{digest_of(content)}")).status_code == 404
    assert answers[0] == answers[1]
    assert answers[0][0] == 202


async def test_the_upload_that_is_begun_instead_can_be_used(door: Door, web: str, content: bytes) -> None:
    answer = await door.mount(web, digest_of(content), f"{web}/base")
    assert answer.status_code == 202
    closed = await door.put(answer.headers["location"], params={"digest": digest_of(content)}, content=content)
    assert closed.status_code == 201


async def test_a_public_source_is_everybodys(
    door: Door, tidewaiter: Server, acme: Tenant, other: Tenant, content: bytes
) -> None:
    name = f"open-{secrets.token_hex(4)}"
    await world.repository(acme, name, visibility="PUBLIC")
    await door.push_blob(f"{acme.organization}/{name}", content)
    async with knocking(tidewaiter, other.owner) as outsider:
        target = f"{other.organization}/{secrets.token_hex(4)}"
        answer = await outsider.mount(target, digest_of(content), f"{acme.organization}/{name}")
    assert answer.status_code == 201


@pytest.mark.parametrize("said", [True, False])
async def test_a_token_that_does_not_reach_the_source_is_asked_for_more(
    door: Door, tidewaiter: Server, web: str, content: bytes, said: bool
) -> None:
    """It does not do in one repository what it was issued for in another; the client learns what to ask for."""
    source = f"{web}/base"
    await door.push_blob(source, content)
    address = f"/v2/{web}/blobs/uploads/?mount={digest_of(content)}" + (f"&from={source}" if said else "")
    target = f"repository:{web}:pull,push"
    async with bearing(tidewaiter, await push_scope(door, target)) as client:
        answer = await client.post(address)
    assert answer.status_code == 401
    assert f'scope="{target} repository:{source}:pull",error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert refusal(answer)["detail"]["code"] == "INSUFFICIENT_SCOPE"
    async with bearing(tidewaiter, await push_scope(door, f"{target} repository:{source}:pull")) as client:
        assert (await client.post(address)).status_code == 201


async def test_a_token_tells_nothing_of_what_its_bearer_may_not_read(
    door: Door, tidewaiter: Server, other: Tenant, web: str, content: bytes
) -> None:
    await door.push_blob(web, content)
    name = f"{other.organization}/{secrets.token_hex(4)}"
    async with bearing(tidewaiter, person=other.owner, scope=f"repository:{name}:pull,push") as outsider:
        for source in (f"&from={web}", f"&from={web}/absent", ""):
            answer = await outsider.post(f"/v2/{name}/blobs/uploads/?mount={digest_of(content)}{source}")
            assert answer.status_code == 202


async def test_a_digest_that_is_none_is_400(door: Door, web: str) -> None:
    for digest in ("", "sha256:abc", "%00", "latest"):
        answer = await door.mount(web, digest, f"{web}/base")
        assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")


async def test_mounting_takes_the_right_to_push(
    door: Door, tidewaiter: Server, reader: world.Person, web: str, content: bytes
) -> None:
    await door.push_blob(f"{web}/base", content)
    await door.push_blob(web, b"x")
    async with knocking(tidewaiter, reader) as lesser:
        answer = await lesser.mount(web, digest_of(content), f"{web}/base")
    assert (answer.status_code, refusal(answer)["code"]) == (403, "DENIED")
    assert (await door.head(f"/v2/{web}/blobs/{digest_of(content)}")).status_code == 404
