"""GET /v2/_catalog: the repositories that the caller may see."""

import httpx2

from tests.support import world
from tests.support.handmade import knocking
from tests.support.server import Server

SCOPE = {"scope": "registry:catalog:*"}


async def bearer(tidewaiter: Server, person: world.Person | None) -> dict[str, str]:
    async with knocking(tidewaiter, person) as door:
        return {"Authorization": f"Bearer {(await door.get('/token', params=SCOPE)).json()['token']}"}


async def listed(tidewaiter: Server, person: world.Person | None) -> list[str]:
    """By the token that the challenge asks for, as clients do it."""
    async with httpx2.AsyncClient(
        base_url=tidewaiter.url, headers=await bearer(tidewaiter, person), verify=False
    ) as door:
        names: list[str] = (await door.get("/v2/_catalog")).json()["repositories"]
        return names


async def test_who_sends_nothing_is_asked_who_it_is(tidewaiter: Server) -> None:
    """A client that is answered at once never sends the credentials it has, and shows an empty list."""
    async with knocking(tidewaiter) as door:
        answer = await door.get("/v2/_catalog")
    assert answer.status_code == 401
    assert 'scope="registry:catalog:*"' in answer.headers["www-authenticate"]


async def test_each_sees_what_it_may_see(tidewaiter: Server) -> None:
    acme, other = await world.tenant(tidewaiter, "acme"), await world.tenant(tidewaiter, "other")
    await world.repository(acme, "hidden")
    await world.repository(acme, "open", visibility="PUBLIC")
    hidden, open_to_all = f"{acme.organization}/hidden", f"{acme.organization}/open"

    assert {hidden, open_to_all} <= set(await listed(tidewaiter, acme.owner))
    for person in (other.owner, None):
        seen = await listed(tidewaiter, person)
        assert open_to_all in seen
        assert hidden not in seen
