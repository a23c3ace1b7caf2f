"""Shares: another account sees and pulls one private repository until a deadline."""

import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.schema.asking import DONE, Cast, ask, change, code_of, refusal, verdict
from tests.support import world
from tests.support.server import Server
from tests.support.world import Tenant

SHOWN = "share { id account description expiresAt inForce createdAt }"
REPOSITORY = """
    query($o: String!, $r: String!) {
        repository(organization: $o, name: $r) { name viewerPermission shares { account inForce description } }
    }
"""


async def place(cast: Cast) -> dict[str, str]:
    name = f"web-{secrets.token_hex(4)}"
    await world.repository(cast.acme, name)
    return {"organization": cast.acme.organization, "repository": name}


async def later(tenant: Tenant, **duration: float) -> str:
    """An instant of the server's clock."""
    return (await world.now(tenant) + timedelta(**duration)).isoformat()


async def shares(tidewaiter: Server, cast: Cast, where: dict[str, str]) -> Any:
    shown = await ask(tidewaiter, REPOSITORY, cast.manager, o=where["organization"], r=where["repository"])
    return shown["repository"]["shares"]


async def is_seen_by_receiver(tidewaiter: Server, cast: Cast, where: dict[str, str]) -> bool:
    query = REPOSITORY.replace("shares { account inForce description }", "")
    names = {"o": where["organization"], "r": where["repository"]}
    return (await ask(tidewaiter, query, cast.other.owner, **names))["repository"] is not None


async def test_a_share_lets_another_account_see_until_its_deadline(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    assert not await is_seen_by_receiver(tidewaiter, cast, where)
    until = await later(cast.acme, minutes=10)
    terms = {"account": cast.other.account, "expiresAt": until, "description": "For their tests"}
    made = (await change(tidewaiter, "createShare", cast.manager, SHOWN, **where, **terms))["share"]
    assert (made["account"], made["description"], made["inForce"]) == (cast.other.account, "For their tests", True)
    assert datetime.fromisoformat(made["expiresAt"]) == datetime.fromisoformat(until)
    assert await is_seen_by_receiver(tidewaiter, cast, where)
    tidewaiter.advance(timedelta(minutes=10).total_seconds())
    assert not await is_seen_by_receiver(tidewaiter, cast, where)
    assert await shares(tidewaiter, cast, where) == [
        {"account": cast.other.account, "inForce": False, "description": "For their tests"}
    ]


async def test_a_share_is_changed_and_ended(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    share = where | {"account": cast.other.account}
    await change(tidewaiter, "createShare", cast.manager, SHOWN, **share, forever=True, description="First")
    until = await later(cast.acme, days=1)
    now = (await change(tidewaiter, "updateShare", cast.manager, SHOWN, **share, expiresAt=until))["share"]
    assert datetime.fromisoformat(now["expiresAt"]) == datetime.fromisoformat(until)
    assert now["description"] == "First"
    now = (await change(tidewaiter, "updateShare", cast.manager, SHOWN, **share, description="Second"))["share"]
    assert (now["description"], now["expiresAt"] is None) == ("Second", False)
    now = (await change(tidewaiter, "updateShare", cast.manager, SHOWN, **share, expiresAt=None))["share"]
    assert (now["description"], now["expiresAt"]) == ("Second", None)
    gone = (await change(tidewaiter, "deleteShare", cast.manager, SHOWN, **share))["share"]
    assert (gone["account"], gone["description"]) == (cast.other.account, "Second")
    assert not await is_seen_by_receiver(tidewaiter, cast, where)
    assert await shares(tidewaiter, cast, where) == []


@pytest.mark.parametrize(
    ("given", "kind", "code", "path"),
    [
        ({}, "ValidationError", "SHARE_INVALID", ["expiresAt"]),
        ({"forever": True, "expiresAt": "2999-01-01T00:00:00Z"}, "ValidationError", "SHARE_INVALID", ["expiresAt"]),
        ({"expiresAt": "2001-01-01T00:00:00Z"}, "ValidationError", "SHARE_INVALID", ["expiresAt"]),
        ({"forever": True, "description": "x" * 1001}, "ValidationError", "SHARE_INVALID", ["description"]),
        ({"forever": True, "account": "no-such-account"}, "NotFoundError", "NOT_FOUND", ["account"]),
        ({"forever": True, "repository": "gone"}, "NotFoundError", "NOT_FOUND", None),
    ],
)
async def test_a_share_that_is_refused(
    tidewaiter: Server, cast: Cast, given: dict[str, Any], kind: str, code: str, path: list[str] | None
) -> None:
    share = await place(cast) | {"account": cast.other.account}
    error = await refusal(tidewaiter, "createShare", cast.manager, SHOWN, **(share | given))
    assert (error["__typename"], error["code"], error["path"]) == (kind, code, path)


async def test_shares_that_make_no_sense(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    own = await refusal(tidewaiter, "createShare", cast.manager, **where, account=cast.acme.account, forever=True)
    assert (own["code"], own["path"]) == ("SHARE_INVALID", ["account"])
    share = where | {"account": cast.other.account}
    await change(tidewaiter, "createShare", cast.manager, **share, forever=True)
    twice = await refusal(tidewaiter, "createShare", cast.manager, SHOWN, **share, forever=True)
    assert (twice["__typename"], twice["code"]) == ("ConflictError", "ALREADY_SHARED")
    past = await refusal(tidewaiter, "updateShare", cast.manager, SHOWN, **share, expiresAt="2001-01-01T00:00:00Z")
    assert (past["code"], past["path"]) == ("SHARE_INVALID", ["expiresAt"])
    await world.repository(cast.open, where["repository"], "PUBLIC")
    public = share | {"organization": cast.open.organization}
    assert await verdict(tidewaiter, "createShare", cast.manager, **public, forever=True) == "SHARE_INVALID"


async def test_what_is_not_shared_cannot_be_changed(tidewaiter: Server, cast: Cast) -> None:
    share = await place(cast) | {"account": cast.other.account}
    for mutation in ("updateShare", "deleteShare"):
        error = await refusal(tidewaiter, mutation, cast.manager, SHOWN, **share)
        assert (error["__typename"], error["code"]) == ("NotFoundError", "NOT_FOUND")


@pytest.mark.parametrize("mutation", ["createShare", "updateShare", "deleteShare"])
async def test_who_shares(tidewaiter: Server, cast: Cast, mutation: str) -> None:
    share = await place(cast) | {"account": cast.other.account}
    given: dict[str, Any] = {"description": "new"} if mutation == "updateShare" else {}
    if mutation == "createShare":
        given = {"forever": True}
    else:
        await change(tidewaiter, "createShare", cast.manager, **share, forever=True)
    # The receiver sees the repository once it is shared, and so is told why.
    stranger = "NOT_FOUND" if mutation == "createShare" else "DENIED"
    found = {}
    for role, person in cast.everybody.items():
        found[role] = await verdict(tidewaiter, mutation, person, **share, **given)
        if found[role] == DONE:
            break
    below = {"nobody": "SIGN_IN_NEEDED", "stranger": stranger, "colleague": "NOT_FOUND"}
    assert found == below | {"reader": "DENIED", "writer": "DENIED", "manager": DONE}


async def test_who_sees_shares(tidewaiter: Server, cast: Cast) -> None:
    where = await place(cast)
    await change(tidewaiter, "createShare", cast.manager, **where, account=cast.other.account, forever=True)
    names = {"o": where["organization"], "r": where["repository"]}
    for role, person in cast.everybody.items():
        found = await code_of(tidewaiter, REPOSITORY, person, **names)
        assert found == ("DENIED" if role in {"stranger", "reader", "writer"} else DONE), role
