"""Refusals as clients see them: the spec's form and codes, our sentence, and silence about what may not be seen."""

import re
from typing import Any

import httpx2
import pytest

from tests.support import world
from tests.support.handmade import INDEX, Door, bearing, digest_of, index_of, knocking, refusal
from tests.support.server import Server
from tests.support.world import Person, Tenant

ABSENT = digest_of(b"absent")
UPLOAD = "018f2f4e-0000-7000-8000-000000000000"
EMPTY_INDEX = index_of()

ALL = [
    ("GET", "manifests/1.0"),
    ("HEAD", "manifests/1.0"),
    ("GET", f"manifests/{ABSENT}"),
    ("PUT", "manifests/1.0"),
    ("DELETE", "manifests/1.0"),
    ("DELETE", f"manifests/{ABSENT}"),
    ("GET", f"blobs/{ABSENT}"),
    ("HEAD", f"blobs/{ABSENT}"),
    ("DELETE", f"blobs/{ABSENT}"),
    ("POST", "blobs/uploads/"),
    ("POST", f"blobs/uploads/?digest={digest_of(EMPTY_INDEX)}"),
    ("POST", f"blobs/uploads/?mount={ABSENT}"),
    ("POST", f"blobs/uploads/?mount={ABSENT}&from={{name}}"),
    ("GET", f"blobs/uploads/{UPLOAD}"),
    ("PATCH", f"blobs/uploads/{UPLOAD}"),
    ("PUT", f"blobs/uploads/{UPLOAD}?digest={ABSENT}"),
    ("DELETE", f"blobs/uploads/{UPLOAD}"),
    ("GET", "tags/list"),
    ("GET", f"referrers/{ABSENT}"),
]


def as_seen(answer: httpx2.Response) -> tuple[Any, ...]:
    """All of an answer, but for what differs between any two."""
    request_id = answer.headers["x-request-id"]
    headers = {key: value for key, value in answer.headers.items() if key not in {"date", "x-request-id"}}
    return answer.status_code, headers, answer.text.replace(request_id, "")


async def ask_all(door: httpx2.AsyncClient, name: str) -> list[tuple[Any, ...]]:
    answers = []
    for method, address in ALL:
        body = EMPTY_INDEX if method in {"PUT", "POST", "PATCH"} else b""
        headers = {"Content-Type": INDEX} if body else {}
        url = f"/v2/{name}/{address.format(name=name)}"
        answers.append((method, address, *as_seen(await door.request(method, url, content=body, headers=headers))))
    return answers


@pytest.mark.parametrize("whom", ["another account", "a guest of the organization", "a colleague", "nobody", "a token"])
async def test_what_may_not_be_seen_answers_like_what_does_not_exist(
    tidewaiter: Server, other: Tenant, whom: str
) -> None:
    """Every request, byte for byte, before the repository is made and after."""
    acme = await world.tenant(tidewaiter, "acme")
    name = f"{acme.organization}/secret"
    if whom == "a guest of the organization":
        await world.repository(acme, "open", visibility="PUBLIC")
    person = None if whom in {"nobody", "a token"} else other.owner
    if whom == "a colleague":
        person = await world.user(acme, "colleague")
    opened = (
        bearing(tidewaiter, scope=f"repository:{name}:pull,push,delete")
        if whom == "a token"
        else knocking(tidewaiter, person)
    )
    async with opened as outsider:
        before = await ask_all(outsider, name)
        async with knocking(tidewaiter, acme.owner) as owner:
            await owner.push_image(name, "1.0", b"a layer")
        after = await ask_all(outsider, name)
    assert before == after
    assert all(answer[2] in {401, 403, 404} or "referrers" in answer[1] for answer in after)


async def test_an_organization_that_may_not_be_seen_answers_like_one_that_does_not_exist(
    tidewaiter: Server, other: Tenant
) -> None:
    acme = await world.tenant(tidewaiter, "acme")
    absent = f"{acme.organization[:-1]}{'0' if acme.organization[-1] != '0' else '1'}"
    async with knocking(tidewaiter, other.owner) as outsider:
        there = [str(answer) for answer in await ask_all(outsider, f"{acme.organization}/web")]
        nowhere = [str(answer) for answer in await ask_all(outsider, f"{absent}/web")]
    assert [answer.replace(acme.organization, absent) for answer in there] == nowhere


async def test_a_refusal_says_who_holds_what_and_who_can_help(
    door: Door, tidewaiter: Server, acme: Tenant, reader: Person, web: str
) -> None:
    await door.push_image(web, "1.0", b"a layer")
    async with knocking(tidewaiter, reader) as lesser:
        answer = await lesser.post(f"/v2/{web}/blobs/uploads/")
    assert answer.status_code == 403
    error = refusal(answer)
    assert error["code"] == "DENIED"
    assert error["message"] == (
        f"Pushing to repository '{web}' was refused: you hold READ in organization '{acme.organization}' and need "
        f"WRITE. A manager of organization '{acme.organization}' or the owner of its account can grant it. "
        f"[request {answer.headers['x-request-id']}]"
    )
    detail = {key: error["detail"][key] for key in ("code", "held", "needed", "organization")}
    assert detail == {"code": "DENIED", "held": "READ", "needed": "WRITE", "organization": acme.organization}
    # Some clients show a refusal's text only if they were told where to sign in.
    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_nobody_is_told_to_sign_in(tidewaiter: Server, web: str) -> None:
    async with bearing(tidewaiter, scope=f"repository:{web}:pull") as nobody:
        answer = await nobody.get(f"/v2/{web}/manifests/1.0")
    assert answer.status_code == 401
    assert refusal(answer)["code"] == "UNAUTHORIZED"
    assert "Sign in" in refusal(answer)["message"]


async def test_a_full_quota_is_a_refusal_for_good(tidewaiter: Server) -> None:
    """403, since docker repeats a push after 413 or 5xx; with the numbers, for who repeats it all the same too."""
    tenant = await world.tenant(tidewaiter, "small")
    await world.limit_storage(tenant, 1000)
    name = f"{tenant.organization}/web"
    async with knocking(tidewaiter, tenant.owner) as door:
        whole = await door.push_blob(name, b"x" * 1001)
        location = await door.begin_upload(name)
        piece = await door.patch(location, content=b"x" * 1001)
        again = await door.patch(location, content=b"x" * 1001)
        assert (await door.get(location)).headers["range"] == "0-0"
        assert (await door.push_blob(name, b"x" * 1000)).status_code == 201
    for answer in (whole, piece, again):
        assert (answer.status_code, refusal(answer)["code"]) == (403, "DENIED")
        detail = refusal(answer)["detail"]
        assert (detail["code"], detail["limit"]) == ("QUOTA_EXCEEDED", 1000)


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/{web}/tags/list", "GET"),
        ("PATCH", "/v2/{web}/manifests/1.0", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v2/{web}/blobs/uploads/", "POST"),
        ("POST", f"/v2/{{web}}/blobs/uploads/{UPLOAD}", "GET, PATCH, PUT, DELETE"),
        ("PUT", f"/v2/{{web}}/blobs/{ABSENT}", "GET, HEAD, DELETE"),
        ("OPTIONS", "/v2/{web}/manifests/1.0", "GET, HEAD, PUT, DELETE"),
    ],
)
async def test_another_method_is_405(tidewaiter: Server, web: str, method: str, address: str, allowed: str) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.request(method, address.format(web=web))
    assert (answer.status_code, refusal(answer)["code"]) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("address", ["/v2/x", "/v2/a/b", "/v2/a/b/manifests/", "/v2/_oci/ext/discover", "/v2//"])
async def test_an_address_without_anything_is_404(door: Door, address: str) -> None:
    answer = await door.get(address)
    assert (answer.status_code, refusal(answer)["code"]) == (404, "NAME_UNKNOWN")


async def test_a_head_has_no_body(tidewaiter: Server, door: Door, web: str) -> None:
    for address in (f"/v2/{web}/manifests/1.0", f"/v2/{web}/blobs/{ABSENT}", f"/v2/{web}/blobs/x", "/v2/a/B/blobs/x"):
        answer = await door.head(address)
        assert answer.status_code in {400, 404}
        assert answer.content == b""
        assert re.fullmatch("[0-9]+", answer.headers["content-length"])
