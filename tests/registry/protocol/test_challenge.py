"""GET /v2/, and the WWW-Authenticate header by which clients learn where tokens come from."""

import re

import pytest

from tests.support.handmade import Door, bearing, knocking, refusal
from tests.support.server import Server
from tests.support.world import Person, Tenant


async def test_the_base_is_open_to_who_has_signed_in(door: Door) -> None:
    for address in ("/v2/", "/v2"):
        answer = await door.get(address)
        assert (answer.status_code, answer.content) == (200, b"{}")
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
        assert answer.headers["content-type"] == "application/json"


async def test_the_base_asks_nobody_in_particular_to_sign_in(tidewaiter: Server) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.get("/v2/")
    assert answer.status_code == 401
    assert refusal(answer)["code"] == "UNAUTHORIZED"
    expected = f'Bearer realm="{tidewaiter.url}/token",service="{tidewaiter.registry}"'
    assert answer.headers["www-authenticate"] == expected


async def test_the_realm_does_not_follow_what_a_request_claims(tidewaiter: Server) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.get("/v2/", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert "evil" not in answer.headers["www-authenticate"]


async def test_an_anonymous_token_opens_the_base(tidewaiter: Server) -> None:
    async with bearing(tidewaiter) as nobody:
        assert (await nobody.get("/v2/")).status_code == 200


@pytest.mark.parametrize(
    ("method", "address", "actions"),
    [
        ("GET", "manifests/1.0", "pull"),
        ("HEAD", "manifests/1.0", "pull"),
        ("PUT", "manifests/1.0", "pull,push"),
        ("DELETE", "manifests/1.0", "delete"),
        ("GET", f"blobs/sha256:{'0' * 64}", "pull"),
        ("HEAD", f"blobs/sha256:{'0' * 64}", "pull,push"),
        ("DELETE", f"blobs/sha256:{'0' * 64}", "delete"),
        ("POST", "blobs/uploads/", "pull,push"),
        ("GET", "blobs/uploads/018f2f4e-0000-7000-8000-000000000000", "pull,push"),
        ("PATCH", "blobs/uploads/018f2f4e-0000-7000-8000-000000000000", "pull,push"),
        ("PUT", f"blobs/uploads/018f2f4e-0000-7000-8000-000000000000?digest=sha256:{'0' * 64}", "pull,push"),
        ("DELETE", "blobs/uploads/018f2f4e-0000-7000-8000-000000000000", "pull,push"),
        ("GET", "tags/list", "pull"),
        ("GET", f"referrers/sha256:{'0' * 64}", "pull"),
    ],
)
async def test_a_challenge_names_what_the_request_needs(
    tidewaiter: Server, web: str, method: str, address: str, actions: str
) -> None:
    async with knocking(tidewaiter) as nobody:
        manifest = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
        body = manifest if (method, address) == ("PUT", "manifests/1.0") else b""
        answer = await nobody.request(method, f"/v2/{web}/{address}", content=body)
    assert answer.status_code == 401
    assert f'scope="repository:{web}:{actions}"' in answer.headers["www-authenticate"]
    assert "error=" not in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "blobs/uploads/018f2f4e-0000-7000-8000-000000000000"),
        ("DELETE", "blobs/uploads/018f2f4e-0000-7000-8000-000000000000"),
        ("POST", "blobs/uploads/"),
        ("DELETE", "manifests/1.0"),
        ("GET", "tags/list"),
    ],
)
async def test_the_token_that_a_challenge_asks_for_is_enough(
    tidewaiter: Server, acme: Tenant, door: Door, web: str, method: str, address: str
) -> None:
    await door.push_image(web, "1.0", b"layer")
    async with knocking(tidewaiter) as nobody:
        header = (await nobody.request(method, f"/v2/{web}/{address}")).headers["www-authenticate"]
    found = re.search('scope="([^"]+)"', header)
    assert found is not None
    async with bearing(tidewaiter, person=acme.owner, scope=found[1]) as owner:
        answer = await owner.request(method, f"/v2/{web}/{address}")
    assert answer.status_code in {200, 202, 404}, answer.text


async def test_a_token_for_something_else_is_told_so(tidewaiter: Server, acme: Tenant, door: Door, web: str) -> None:
    await door.push_image(web, "1.0", b"layer")
    async with bearing(tidewaiter, person=acme.owner, scope=f"repository:{acme.organization}/else:pull") as owner:
        answer = await owner.get(f"/v2/{web}/manifests/1.0")
    assert answer.status_code == 401
    assert refusal(answer)["detail"]["code"] == "INSUFFICIENT_SCOPE"
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_a_token_for_pulling_does_not_push(tidewaiter: Server, acme: Tenant, door: Door, web: str) -> None:
    await door.push_image(web, "1.0", b"layer")
    async with bearing(tidewaiter, person=acme.owner, scope=f"repository:{web}:pull") as owner:
        answer = await owner.post(f"/v2/{web}/blobs/uploads/")
        assert (await owner.get(f"/v2/{web}/manifests/1.0")).status_code == 200
    assert answer.status_code == 401
    assert f'scope="repository:{web}:pull,push",error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "a.b.c.d.e", "a.b"])
async def test_what_is_no_token_of_this_registry_is_refused(tidewaiter: Server, web: str, token: str) -> None:
    """The scope stands in the challenge all the same: a client fetches its next token by it."""
    async with bearing(tidewaiter, token) as nobody:
        answer = await nobody.get(f"/v2/{web}/manifests/1.0")
    assert answer.status_code == 401
    assert refusal(answer)["code"] == "UNAUTHORIZED"
    assert answer.headers["www-authenticate"].endswith(f'scope="repository:{web}:pull",error="invalid_token"')


async def test_a_token_ends(tidewaiter: Server, acme: Tenant, web: str) -> None:
    async with bearing(tidewaiter, person=acme.owner, scope=f"repository:{web}:pull") as owner:
        assert (await owner.get(f"/v2/{web}/manifests/1.0")).status_code == 404
        tidewaiter.advance(3600)
        answer = await owner.get(f"/v2/{web}/manifests/1.0")
    assert answer.status_code == 401
    assert refusal(answer)["detail"]["code"] == "TOKEN_INVALID"
    assert f'scope="repository:{web}:pull"' in answer.headers["www-authenticate"]


async def test_a_wrong_password_is_401(tidewaiter: Server, acme: Tenant) -> None:
    async with knocking(tidewaiter, Person(f"{acme.organization}-nobody", "a guess")) as guesser:
        answer = await guesser.get("/v2/")
    assert answer.status_code == 401
    assert refusal(answer)["detail"]["code"] == "SIGN_IN_FAILED"


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Digest x", "Bearer", "Basic AAA6"])
async def test_a_header_that_says_nothing_is_401(tidewaiter: Server, header: str) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.get("/v2/", headers={"Authorization": header})
    assert answer.status_code == 401
    assert refusal(answer)["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("source", ["x%0d%0aSet-Cookie: a=b", "%e4%bd%a0/%e5%a5%bd", 'a"b/c', "../..", "%00/x"])
async def test_a_mount_source_cannot_write_headers(tidewaiter: Server, web: str, source: str) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.post(f"/v2/{web}/blobs/uploads/?mount=sha256:{'0' * 64}&from={source}")
    assert answer.status_code == 401
    assert f'scope="repository:{web}:pull,push"' in answer.headers["www-authenticate"]
    assert "set-cookie" not in answer.headers


async def test_a_mount_asks_for_its_source_too(tidewaiter: Server, acme: Tenant, web: str) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.mount(web, f"sha256:{'0' * 64}", f"{acme.organization}/base")
    wanted = f'scope="repository:{web}:pull,push repository:{acme.organization}/base:pull"'
    assert wanted in answer.headers["www-authenticate"]
