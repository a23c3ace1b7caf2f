"""How far an entry is on its way: pending, integrated, published; each can be asked for by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from registry.audit import publishing, sequencing
from tests.api.schema.asking import ADMIN, NOBODY, ask, change, code_of, refusal
from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import knocking
from tests.support.server import Server
from tests.support.world import Person, Tenant

LOG = """
    query($filter: AuditFilter, $first: Int, $last: Int, $after: String, $before: String) {
        auditLog(filter: $filter, first: $first, last: $last, after: $after, before: $before) {
            nodes { id index state action target time requestId leafHash actor { name } rule levelHeld levelNeeded }
            pageInfo { hasNextPage endCursor }
        }
    }
"""


@asynccontextmanager
async def nobody_at(tidewaiter: Server, lock: int) -> AsyncIterator[None]:
    """Meanwhile no server numbers, or signs."""
    async with opened(address_of(tidewaiter)) as owner, owner.transaction():
        await owner.execute("SELECT pg_advisory_xact_lock($1)", lock)
        yield


async def found(tidewaiter: Server, by: Person, state: str | None = None, **asked: Any) -> list[dict[str, Any]]:
    """Without what the asking itself leaves."""
    wanted = asked.pop("filter", {}) | ({} if state is None else {"state": state})
    nodes = (await ask(tidewaiter, LOG, by, filter=wanted, **asked))["auditLog"]["nodes"]
    return [node for node in nodes if node["action"] != "audit.read"]


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    return await tenant(tidewaiter)


async def tenant(tidewaiter: Server) -> Tenant:
    """All that its making left has its number."""
    made = await world.tenant(tidewaiter, "states")
    assert await found(tidewaiter, made.owner)
    return made


async def repository(tenant: Tenant, name: str) -> None:
    await change(tenant.tidewaiter, "createRepository", tenant.owner, organization=tenant.organization, name=name)


async def test_what_has_no_number_yet_can_be_seen_by_those_who_may(tidewaiter: Server, acme: Tenant) -> None:
    other = await tenant(tidewaiter)
    async with nobody_at(tidewaiter, sequencing.LOCK):
        await repository(acme, "one")
        await repository(acme, "two")
        mine = await found(tidewaiter, acme.owner, "PENDING")
        assert [node["target"] for node in mine] == [f"{acme.organization}/two", f"{acme.organization}/one"]
        for node in mine:
            assert (node["state"], node["index"], node["leafHash"]) == ("PENDING", None, None)
            assert node["actor"]["name"] == acme.owner.name
            assert node["id"].startswith("audit_")
        assert await found(tidewaiter, other.owner, "PENDING") == []
        of_acme = {"account": acme.account}
        assert await found(tidewaiter, ADMIN, "PENDING", filter=of_acme) == mine
        assert await code_of(tidewaiter, LOG, other.owner, filter=of_acme | {"state": "PENDING"}) == "NOT_FOUND"
    (numbered, _) = await found(tidewaiter, acme.owner, filter={"action": "repository.create"})
    assert numbered["state"] != "PENDING"
    assert await found(tidewaiter, acme.owner, "PENDING") == []


async def test_what_is_pending_is_filtered_and_paged_like_all(tidewaiter: Server, acme: Tenant) -> None:
    async with nobody_at(tidewaiter, sequencing.LOCK):
        for name in ("a", "b", "c"):
            await repository(acme, name)
        (one,) = await found(tidewaiter, acme.owner, "PENDING", filter={"target": f"{acme.organization}/b"})
        assert [one] == await found(tidewaiter, acme.owner, "PENDING", filter={"requestId": one["requestId"]})
        assert await found(tidewaiter, acme.owner, "PENDING", filter={"outcome": "DENIED"}) == []
        wanted = {"state": "PENDING", "action": "repository.*"}
        first = (await ask(tidewaiter, LOG, acme.owner, filter=wanted, first=2))["auditLog"]
        after = first["pageInfo"]["endCursor"]
        rest = (await ask(tidewaiter, LOG, acme.owner, filter=wanted, first=2, after=after))["auditLog"]
        last = (await ask(tidewaiter, LOG, acme.owner, filter=wanted, last=2))["auditLog"]
    names = [node["target"].rpartition("/")[2] for page in (first, rest) for node in page["nodes"]]
    assert names == ["c", "b", "a"]
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert [node["target"].rpartition("/")[2] for node in last["nodes"]] == ["b", "a"]


async def test_a_cursor_of_numbered_entries_is_none_of_pending_ones(tidewaiter: Server, acme: Tenant) -> None:
    after = (await ask(tidewaiter, LOG, acme.owner, first=1))["auditLog"]["pageInfo"]["endCursor"]
    assert await code_of(tidewaiter, LOG, acme.owner, filter={"state": "PENDING"}, after=after) == "INVALID_CURSOR"


async def test_bytes_that_are_no_event_are_passed_over(tidewaiter: Server, acme: Tenant) -> None:
    async with nobody_at(tidewaiter, sequencing.LOCK), opened(address_of(tidewaiter), as_app=True) as app:
        for body in (b"no JSON", b"[]", b'{"action":"x"}'):
            await app.execute(sequencing.RECORD, body)
        await repository(acme, "one")
        assert len(await found(tidewaiter, acme.owner, "PENDING")) == 1
        assert len(await found(tidewaiter, ADMIN, "PENDING", filter={"action": "x"})) == 0


async def test_what_is_signed_and_what_is_not_yet_make_up_the_log(tidewaiter: Server, acme: Tenant) -> None:
    async with nobody_at(tidewaiter, publishing.LOCK):
        await repository(acme, "later")
        integrated = await found(tidewaiter, acme.owner, "INTEGRATED")
        published = await found(tidewaiter, acme.owner, "PUBLISHED")
        whole = await found(tidewaiter, acme.owner)
    assert {node["state"] for node in integrated} == {"INTEGRATED"}
    assert f"{acme.organization}/later" in [node["target"] for node in integrated]
    assert {node["state"] for node in published} <= {"PUBLISHED"}
    assert [node["index"] for node in integrated + published] == [node["index"] for node in whole]
    told = tidewaiter.command("audit", "checkpoint")
    assert told.returncode == 0, told.stderr
    signed = await found(tidewaiter, acme.owner, "PUBLISHED", filter={"action": "repository.create"})
    assert [node["target"] for node in signed] == [f"{acme.organization}/later"]


async def test_an_entry_says_by_which_rule_it_was_decided(tidewaiter: Server, acme: Tenant) -> None:
    reader = await world.user(acme, "reader", "READ")
    await repository(acme, "mine")
    await refusal(tidewaiter, "createRepository", reader, organization=acme.organization, name="theirs")
    denied, allowed = await found(tidewaiter, acme.owner, filter={"action": "repository.create"})
    assert (allowed["rule"], allowed["levelHeld"], allowed["levelNeeded"]) == (
        "organization.write organization create_repository",
        None,
        None,
    )
    assert (denied["rule"], denied["levelHeld"], denied["levelNeeded"]) == (None, "READ", "WRITE")


async def test_who_may_read_no_log_writes_none_by_asking(tidewaiter: Server, acme: Tenant) -> None:
    """But for the denial, which is counted when it comes in floods."""
    reader = await world.user(acme, "curious", "READ")
    query = """{ auditEntry(index: 0) { index } auditProof(index: 0) { index } node(id: "audit_0") { id } }"""
    assert set((await ask(tidewaiter, query, reader)).values()) == {None}
    by_reader = {"actor": reader.name, "action": "audit.read"}
    shown = (await ask(tidewaiter, LOG, ADMIN, filter=by_reader))["auditLog"]["nodes"]
    assert len(shown) == 3
    assert (await ask(tidewaiter, LOG, ADMIN, filter=by_reader | {"outcome": "ALLOWED"}))["auditLog"]["nodes"] == []
    nobody = {"actor": "anonymous", "action": "audit.read"}
    before = (await ask(tidewaiter, LOG, ADMIN, filter=nobody, first=100))["auditLog"]["nodes"]
    assert await ask(tidewaiter, """{ node(id: "audit_0") { id } }""", NOBODY) == {"node": None}
    assert await code_of(tidewaiter, LOG, NOBODY) == "SIGN_IN_NEEDED"
    assert (await ask(tidewaiter, LOG, ADMIN, filter=nobody, first=100))["auditLog"]["nodes"] == before


async def test_an_entry_names_organization_repository_and_tag_apart(tidewaiter: Server, acme: Tenant) -> None:
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(f"{acme.organization}/team/web", "1.0", b"layer")
    query = """{ auditLog(filter: {action: "image.push"}) { nodes { target organization repository tag digest } } }"""
    (pushed,) = (await ask(tidewaiter, query, acme.owner))["auditLog"]["nodes"]
    assert pushed["target"] == f"{acme.organization}/team/web:1.0"
    assert (pushed["organization"], pushed["repository"], pushed["tag"]) == (acme.organization, "team/web", "1.0")


async def test_a_suspended_account_is_refused_by_the_rule_that_freezes_it(tidewaiter: Server, acme: Tenant) -> None:
    await change(tidewaiter, "suspendAccount", ADMIN, account=acme.account)
    await refusal(tidewaiter, "createRepository", acme.owner, organization=acme.organization, name="more")
    (denied,) = await found(tidewaiter, ADMIN, filter={"action": "repository.create", "account": acme.account})
    assert denied["rule"] == "flag.suspended organization create_repository deny"
    assert denied["levelHeld"] == "MANAGE"
