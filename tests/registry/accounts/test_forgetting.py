"""Forgetting a person: nothing that tells of them can be read any more, and nothing of the log has changed."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from registry.accounts import forgetting, managing
from registry.actors import SYSTEM, Origin
from registry.audit.scrubbing import scrub_database
from registry.audit.showing import numbered, show
from registry.audit.verdicts import SOUND
from registry.events import Event, Outcome
from registry.identifiers import new_id
from registry.system import System
from tests.support import world
from tests.support.books import address_of, in_process, new_database, opened
from tests.support.handmade import knocking
from tests.support.inside import settle
from tests.support.server import Server
from tests.support.world import Person, Tenant

FORGET = "mutation($input: ForgetUserInput!) { forgetUser(input: $input) { user { name } errors { code message } } }"
LOG = """
    query($filter: AuditFilter) { auditLog(filter: $filter, first: 100) { edges { node {
        index action target leafHash reason source client actor { name id } } } } }
"""


async def forget(tenant: Tenant, user: str, by: Person) -> dict[str, Any]:
    query = await tenant.tidewaiter.graphql(
        FORGET, {"input": {"user": user, "reason": "asked for it"}}, user=by.name, password=by.password
    )
    return query["data"]["forgetUser"]


async def log(tenant: Tenant, **wanted: str) -> list[dict[str, Any]]:
    owner = tenant.owner
    answer = await tenant.tidewaiter.graphql(LOG, {"filter": wanted}, user=owner.name, password=owner.password)
    assert not answer.get("errors"), answer
    return [edge["node"] for edge in answer["data"]["auditLog"]["edges"]]


async def holding(connection: asyncpg.Connection, text: str) -> list[str]:
    """The tables in which the text stands somewhere."""
    tables = await connection.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname = 'public'"
    )
    found = []
    for table in tables:
        columns = await connection.fetch(
            "SELECT attname, atttypid::regtype::text AS kind FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
            table["name"],
        )
        for column in columns:
            name = f'"{column["attname"]}"'
            value = f"encode({name}, 'escape')" if column["kind"] == "bytea" else f"{name}::text"
            query = f"SELECT EXISTS (SELECT FROM {table['name']} WHERE strpos({value}, $1) > 0)"
            if await connection.fetchval(query, text):
                found.append(f"{table['name']}.{column['attname']}")
    return found


async def test_nothing_tells_of_a_person_who_was_forgotten(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "acme")
    person = await world.user(tenant, "canary", level="WRITE")
    agent = f"agent-{secrets.token_hex(6)}"
    async with knocking(tidewaiter, person) as door:
        door.headers["User-Agent"] = agent
        await door.push_image(f"{tenant.organization}/web", "1.0")
        assert (await door.get(f"/v2/{tenant.organization}/web/manifests/1.0")).status_code == 200
    async with knocking(tidewaiter, Person(person.name, "a wrong password")) as door:
        await door.get("/v2/")
    before = await log(tenant, actor=person.name)
    assert {entry["action"] for entry in before} >= {"image.push", "image.pull"}
    assert {entry["client"] for entry in before if entry["action"] == "image.pull"} == {agent}
    assert await log(tenant, target=person.name, action="user.create")

    forgotten = await forget(tenant, person.name, tenant.owner)
    assert forgotten["errors"] == []
    assert forgotten["user"]["name"].startswith("forgotten-")

    assert await log(tenant, actor=person.name) == []
    assert await log(tenant, target=person.name) == []
    name = forgotten["user"]["name"]
    after = await log(tenant, actor=name)
    assert [(entry["index"], entry["leafHash"]) for entry in after] == [
        (entry["index"], entry["leafHash"]) for entry in before
    ]
    assert {(entry["source"], entry["client"], entry["actor"]["name"]) for entry in after} == {(None, None, name)}
    told = await log(tenant, action="audit.subject_erased")
    assert [(entry["target"], entry["reason"]) for entry in told] == [(name, "asked for it")]
    async with knocking(tidewaiter, person) as door:
        assert (await door.get("/v2/")).status_code == 401
    async with opened(address_of(tidewaiter)) as owner:
        for canary in (person.name, agent):
            assert await holding(owner, canary) == []

    again = await tidewaiter.graphql(
        "mutation($input: CreateUserInput!) { createUser(input: $input) { errors { message } } }",
        {"input": {"account": tenant.account, "name": person.name, "password": "a long password"}},
        user=tenant.owner.name,
        password=tenant.owner.password,
    )
    assert again["data"]["createUser"]["errors"] == []
    assert await log(tenant, actor=person.name) == []


async def test_nobody_is_forgotten_by_who_may_not_or_as_the_last_who_can(tidewaiter: Server) -> None:
    tenant = await world.tenant(tidewaiter, "acme")
    other = await world.tenant(tidewaiter, "other")
    person = await world.user(tenant, "reader", level="READ")
    admin = Person("admin", tidewaiter.admin_password)
    for user, by, code in (
        (person.name, other.owner, "NOT_FOUND"),
        (tenant.owner.name, person, "NOT_FOUND"),
        ("nobody-of-that-name", tenant.owner, "NOT_FOUND"),
        (tenant.owner.name, tenant.owner, "LAST_ADMINISTRATOR"),
        (tenant.owner.name, admin, "LAST_ADMINISTRATOR"),
        ("admin", admin, "LAST_ADMINISTRATOR"),
    ):
        answer = await forget(tenant, user, by)
        assert [error["code"] for error in answer["errors"]] == [code], (user, by.name)


async def test_proofs_and_bytes_stay_what_they_were(tidewaiter: Server, tmp_path: Path) -> None:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system, opened(dsn) as owner:
        home = await settle(system, "ships")
        await home.push("web", "1.0")
        await system.sequencer.publish_now()
        before = await owner.fetch("SELECT seq, entry, leaf FROM audit_log ORDER BY seq")
        root = await owner.fetchval("SELECT root FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
        await erase(system, home.owner.name)
        await system.sequencer.publish_now()
        after = await owner.fetch("SELECT seq, entry, leaf FROM audit_log ORDER BY seq")
        assert after[: len(before)] == before
        assert await owner.fetchval("SELECT EXISTS (SELECT FROM audit_checkpoint WHERE root = $1)", root)
        assert (await scrub_database(system.foundation, system.sequencer.publisher)).status == SOUND


async def erase(system: System, name: str) -> None:
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        row = await work.fetchrow("SELECT * FROM users WHERE name = $1", name)
        another = managing.read_user(row).model_copy(update={"id": new_id(), "name": f"{name}-heir"})
        await work.add(another)
        await forgetting.forget_user(work, name)


async def test_strangers_are_forgotten_by_the_month(tidewaiter: Server, tmp_path: Path) -> None:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system, opened(dsn) as owner:
        for month in ("2026-01", "2026-02", "2026-03"):
            await owner.execute("INSERT INTO audit_subject VALUES ($1, $2)", f"strangers:{month}", b"wrapped")
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            assert await forgetting.forget_strangers(work, "2026-03") == 2
        left = await owner.fetch("SELECT subject FROM audit_subject WHERE wrapped IS NOT NULL AND subject LIKE 'str%'")
        assert [row["subject"] for row in left] == ["strangers:2026-03"]


async def test_a_server_that_still_has_the_key_seals_what_nobody_can_open(tidewaiter: Server, tmp_path: Path) -> None:
    """It keeps keys for a minute. Another server forgets the person in that minute."""
    canary = f"agent-{secrets.token_hex(6)}"
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system, opened(dsn) as owner:
        home = await settle(system, "ships")
        origin = Origin("request", "203.0.113.77", canary)

        async def act() -> None:
            at = system.foundation.clock.now()
            await system.foundation.ledger.append(Event(at, "test.happen", Outcome.ALLOWED, home.owner, origin, "x"))
            await system.foundation.ledger.catch_up()

        await act()
        async with in_process(dsn, tmp_path) as other:
            await erase(other, home.owner.name)
        await act()
        rows = await owner.fetch("SELECT * FROM audit_log WHERE action = 'test.happen' ORDER BY seq")
        assert "private" in orjson.loads(rows[-1]["entry"])["event"], "the key was kept"
        async with system.foundation.view(SYSTEM, Origin()) as work:
            shown = await show(work, [numbered(row) for row in rows])
        assert [(one.private, one.readable(f"user_{home.owner.user_id.hex}")) for one in shown] == [
            ({}, forgetting.forgotten_name(home.owner.user_id))
        ] * 2
        for text in (canary, "203.0.113.77"):
            assert await holding(owner, text) == []


async def test_two_who_forget_each_other_do_not_leave_an_account_without_an_owner(
    tidewaiter: Server, tmp_path: Path
) -> None:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system, opened(dsn) as owner:
        home = await settle(system, "ships")
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            row = await work.fetchrow("SELECT * FROM users WHERE id = $1", home.owner.user_id)
            heir = managing.read_user(row).model_copy(update={"id": new_id(), "name": "heir"})
            await work.add(heir)

        async def forgotten(name: str) -> str:
            try:
                async with system.foundation.begin(SYSTEM, Origin()) as work:
                    await forgetting.forget_user(work, name)
                return "done"
            except managing.LastAdministrator:
                return "refused"

        ends = await asyncio.gather(forgotten("heir"), forgotten(home.owner.name))
        assert sorted(ends) == ["done", "refused"]
        assert (
            await owner.fetchval("SELECT count(*) FROM users WHERE owner AND account_id = $1", row["account_id"]) == 1
        )
