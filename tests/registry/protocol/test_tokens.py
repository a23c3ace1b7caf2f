"""/token: the docker token protocol (distribution, docs/content/spec/auth) by GET, and by POST as OAuth 2 has it."""

import base64
import json
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tests.support.handmade import Door, bearing, knocking, refusal
from tests.support.server import Server
from tests.support.world import Person, Tenant


def claims_of(answer: httpx2.Response) -> dict[str, Any]:
    """What a token says of itself, unverified."""
    middle = answer.json()["token"].split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


async def posted(tidewaiter: Server, **fields: str) -> httpx2.Response:
    async with knocking(tidewaiter) as door:
        return await door.post("/token", data=fields)


async def test_a_token_by_get(door: Door, tidewaiter: Server, acme: Tenant, web: str) -> None:
    scope = f"repository:{web}:push,pull"
    answer = await door.get("/token", params={"service": tidewaiter.registry, "scope": scope, "client_id": "docker"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token"] == body["access_token"]
    assert body["expires_in"] >= 60
    assert datetime.fromisoformat(body["issued_at"]).tzinfo is not None
    assert "refresh_token" not in body
    claims = claims_of(answer)
    assert claims["name"] == acme.owner.name
    assert claims["access"] == [{"type": "repository", "name": web, "actions": ["pull", "push"]}]


async def test_a_token_by_password_grant(tidewaiter: Server, acme: Tenant, web: str) -> None:
    """The granted scope is written as clients compare it: pull before push."""
    scope = f"repository:{web}:push,pull repository(plugin):{web}:delete"
    given = {"username": acme.owner.name, "password": acme.owner.password, "scope": scope, "service": "any"}
    answer = await posted(tidewaiter, grant_type="password", client_id="containerd", **given)
    assert answer.status_code == 200
    assert answer.json()["scope"] == f"repository:{web}:pull,push repository:{web}:delete"
    async with bearing(tidewaiter, answer.json()["access_token"]) as owner:
        assert (await owner.post(f"/v2/{web}/blobs/uploads/")).status_code == 202


@pytest.mark.parametrize("door_of", ["GET", "POST"])
async def test_an_offline_token_gives_tokens(tidewaiter: Server, acme: Tenant, door: Door, door_of: str) -> None:
    given = {"username": acme.owner.name, "password": acme.owner.password}
    if door_of == "GET":
        first = await door.get("/token", params={"offline_token": "true"})
    else:
        first = await posted(tidewaiter, grant_type="password", access_type="offline", **given)
    kept = first.json()["refresh_token"]
    answer = await posted(tidewaiter, grant_type="refresh_token", refresh_token=kept)
    assert answer.status_code == 200
    assert claims_of(answer)["name"] == acme.owner.name
    async with bearing(tidewaiter, answer.json()["token"]) as owner:
        assert (await owner.get("/v2/")).status_code == 200


async def test_docker_sends_its_offline_token_as_a_password(door: Door, tidewaiter: Server) -> None:
    kept = (await door.get("/token", params={"offline_token": "true"})).json()["refresh_token"]
    async with knocking(tidewaiter, Person("<token>", kept)) as docker:
        assert (await docker.get("/token")).status_code == 200


async def test_nobody_gets_a_token_for_what_is_public(tidewaiter: Server, web: str) -> None:
    async with knocking(tidewaiter) as nobody:
        answer = await nobody.get("/token", params={"scope": f"repository:{web}:pull", "offline_token": "true"})
    assert answer.status_code == 200
    assert claims_of(answer)["sub"] == "anonymous"
    assert "refresh_token" not in answer.json()


async def test_an_empty_name_and_password_are_nobody(tidewaiter: Server) -> None:
    async with knocking(tidewaiter, Person("", "")) as nobody:
        answer = await nobody.get("/token")
    assert answer.status_code == 200
    assert claims_of(answer)["sub"] == "anonymous"


async def test_a_wrong_password_gets_no_token(tidewaiter: Server, web: str) -> None:
    name = web.replace("/", "-")
    async with knocking(tidewaiter, Person(name, "a guess")) as guesser:
        by_get = await guesser.get("/token")
    by_post = await posted(tidewaiter, grant_type="password", username=name, password="a guess")
    for answer in (by_get, by_post):
        assert answer.status_code == 401
        assert refusal(answer)["detail"]["code"] == "SIGN_IN_FAILED"
        assert "www-authenticate" not in answer.headers


async def test_a_made_up_refresh_token_gets_no_token(tidewaiter: Server) -> None:
    answer = await posted(tidewaiter, grant_type="refresh_token", refresh_token="made up")
    assert answer.status_code == 401


async def test_asking_for_more_than_one_holds_is_no_error(tidewaiter: Server, other: Tenant, web: str) -> None:
    """A token grants nothing; the refusal that follows can say why."""
    async with bearing(tidewaiter, person=other.owner, scope=f"repository:{web}:pull,push,delete") as outsider:
        assert (await outsider.get(f"/v2/{web}/tags/list")).status_code == 404


async def test_scopes_that_come_twice_are_kept_once(door: Door, web: str) -> None:
    scope = f"repository:{web}:pull"
    answer = await door.get("/token", params={"scope": [scope] * 300})
    assert answer.status_code == 200
    assert len(claims_of(answer)["access"]) == 1


NO_SCOPES = (
    *("repository", "repository:a", ":a:pull", "Repository:a:pull", "repository:a b:pull,push:x", "repository::pull"),
    *("repository:a:PULL", "repository:ä:pull", "repository:a\x00:pull", '"', "repository:a\r\n:b"),
)


async def test_a_scope_is_read_by_its_grammar(door: Door) -> None:
    for scope in NO_SCOPES:
        answer = await door.get("/token", params={"scope": scope})
        assert answer.status_code == 400, scope
        assert refusal(answer)["detail"]["code"] == "SCOPE_INVALID"


async def test_a_name_may_hold_a_port(door: Door) -> None:
    answer = await door.get("/token", params={"scope": "repository:localhost:5000/a/b:pull"})
    assert claims_of(answer)["access"][0]["name"] == "localhost:5000/a/b"


@pytest.mark.parametrize("fields", [{}, {"grant_type": "client_credentials"}, {"grant_type": ""}])
async def test_a_grant_that_is_not_known_is_400(tidewaiter: Server, fields: dict[str, str]) -> None:
    answer = await posted(tidewaiter, **fields)
    assert answer.status_code == 400
    assert refusal(answer)["detail"]["code"] == "FORM_INVALID"


@pytest.mark.parametrize("body", [b"a=1&" * 51, b"x" * 20_000, b"\xff\xfe", b"grant_type=password&" + b"y=%ff&" * 60])
async def test_a_form_that_is_none_is_400(tidewaiter: Server, body: bytes) -> None:
    async with knocking(tidewaiter) as door:
        answer = await door.post("/token", content=body)
    assert answer.status_code == 400
    assert refusal(answer)["detail"]["code"] == "FORM_INVALID"


async def test_a_name_with_a_nul_is_nobodys(tidewaiter: Server, web: str) -> None:
    name = f"{web.replace('/', '-')}\x00"
    answer = await posted(tidewaiter, grant_type="password", username=name, password="x\x00y")
    assert answer.status_code == 401


async def test_a_token_is_given_for_no_other_kind_of_header(tidewaiter: Server) -> None:
    async with bearing(tidewaiter, "anything") as door:
        assert (await door.get("/token")).status_code == 401


async def test_other_methods_are_405(tidewaiter: Server) -> None:
    async with knocking(tidewaiter) as door:
        answer = await door.delete("/token")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
