"""Numbering: contiguous, dense within each organization, in the order of acknowledgement, whoever does it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from registry.actors import SYSTEM, Origin
from registry.audit import sequencing, tiling
from registry.audit.entries import columns_in, columns_of, unwrap
from registry.audit.recording import LogUnavailable
from registry.events import Event, Outcome
from registry.identifiers import new_id
from registry.system import System
from registry.transparency.merkle import leaf_hash
from tests.support.books import in_process, opened

ROWS = "SELECT * FROM audit_log ORDER BY seq"


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn) as connection:
        yield connection


def event(system: System, target: str = "somewhere", organization: UUID | None = None) -> Event:
    now = system.foundation.clock.now()
    return Event(now, "test.happen", Outcome.ALLOWED, SYSTEM, Origin(), target, organization_id=organization)


async def numbered(system: System, owner: asyncpg.Connection) -> list[asyncpg.Record]:
    """All entries, once nothing waits any more."""
    async with asyncio.timeout(20):
        while True:
            await system.foundation.ledger.catch_up()
            if not await owner.fetchval("SELECT EXISTS (SELECT FROM audit_inbox)"):
                return list(await owner.fetch(ROWS))


def check_whole(rows: list[asyncpg.Record]) -> None:
    """What must hold of any log, read off its rows."""
    heads: dict[UUID, int] = {}
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    assert [row["logged_at"] for row in rows] == sorted(row["logged_at"] for row in rows)
    for row in rows:
        assert row["leaf"] == leaf_hash(row["entry"])
        wrapped = unwrap(row["entry"])
        assert columns_in(row) == columns_of(wrapped)
        assert wrapped.logged_at == row["logged_at"].isoformat(timespec="microseconds").replace("+00:00", "Z")
        if organization := row["organization_id"]:
            assert row["org_seq"] == heads.get(organization, 0) + 1
            heads[organization] = row["org_seq"]


async def test_numbers_have_no_gaps_in_the_log_nor_in_any_organization(
    system: System, owner: asyncpg.Connection
) -> None:
    organizations = [uuid4(), uuid4(), None]
    events = [event(system, f"e{place}", organizations[place % 3]) for place in range(700)]
    await asyncio.gather(*(system.foundation.ledger.append(one) for one in events))
    rows = await numbered(system, owner)
    check_whole(rows)
    mine = [row["target"] for row in rows if row["action"] == "test.happen"]
    assert mine == [one.target for one in events]
    tree = await tiling.tree_of(owner.fetch)
    assert tree.size == len(rows)
    assert await owner.fetchval("SELECT count(*) FROM audit_tile WHERE level = 0") == len(rows) // 256
    heads = {row["organization_id"]: row["org_seq"] for row in await owner.fetch("SELECT * FROM audit_org_head")}
    assert sorted(heads.values()) == [233, 234]


async def test_several_servers_number_one_log_between_them(
    system: System, owner: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with in_process(dsn, tmp_path) as second, in_process(dsn, tmp_path) as third:
        acknowledged: list[str] = []

        async def write(through: System, name: str) -> None:
            for place in range(60):
                target = f"{name}-{place}"
                await through.foundation.ledger.append(event(through, target))
                acknowledged.append(target)

        servers = {"a": system, "b": second, "c": third, "d": second}
        await asyncio.gather(*(write(through, name) for name, through in servers.items()))
        rows = await numbered(third, owner)
    check_whole(rows)
    mine = [row["target"] for row in rows if row["action"] == "test.happen"]
    assert sorted(mine) == sorted(acknowledged)
    for name in servers:
        assert [one for one in mine if one.startswith(name)] == [f"{name}-{place}" for place in range(60)]


async def test_what_was_acknowledged_before_another_was_begun_has_the_smaller_number(
    system: System, owner: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """Through two servers in turn, while the sequencers work."""
    async with in_process(dsn, tmp_path) as other:
        for place in range(80):
            through = (system, other)[place % 2]
            await through.foundation.ledger.append(event(through, f"{place:03}"))
        rows = await numbered(system, owner)
    assert [row["target"] for row in rows if row["action"] == "test.happen"] == [f"{place:03}" for place in range(80)]


async def test_a_long_change_holds_nobody_up_and_is_numbered_when_it_is_done(
    system: System, owner: asyncpg.Connection, dsn: str
) -> None:
    async with opened(dsn, as_app=True) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(sequencing.RECORD, b'{"never": "seen before its commit"}')
        await system.foundation.ledger.append(event(system, "quick"))
        async with asyncio.timeout(10):
            while "quick" not in [row["target"] for row in await owner.fetch(ROWS)]:
                await system.foundation.ledger.catch_up()
        before = len(await owner.fetch(ROWS))
        await transaction.commit()
    rows = await numbered(system, owner)
    check_whole(rows)
    assert [row["action"] for row in rows[before:]] == ["audit.unreadable"]


async def test_a_clock_that_goes_back_does_not_take_the_log_with_it(
    system: System, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "clock").write_text("3600")
    await system.foundation.ledger.append(event(system, "later"))
    ahead = (await numbered(system, owner))[-1]["logged_at"]
    assert ahead > datetime.now(UTC) + timedelta(minutes=59)
    (tmp_path / "clock").write_text("0")
    await system.foundation.ledger.append(event(system, "back"))
    rows = await numbered(system, owner)
    check_whole(rows)
    assert rows[-1]["logged_at"] == ahead
    await system.foundation.ledger.append(event(system, "still back"))
    rows = await numbered(system, owner)
    told = [orjson.loads(unwrap(row["entry"]).body) for row in rows if row["action"] == "audit.clock"]
    assert len(told) == 1
    assert datetime.fromisoformat(told[0]["change"]["time"][0]) == ahead


FOREIGN = [
    b"no JSON",
    b"{}",
    b"\xff\xfe",
    b"[]",
    b'{"action": "x", "actor": {"kind": "user"}, "id": "not an id", "outcome": "allowed"}',
    b'{"action": "a\\u0000b", "actor": {"kind": "user"}, "id": "%s", "outcome": "allowed"}',
    b'{"action": "x", "actor": {"kind": "user"}, "id": "%s", "outcome": "allowed", "target": {"name": "'
    + b"y" * 9000
    + b'"}}',
    b'{"pad": "' + b"z" * 65_500 + b'"}',
    # What would be an event, were it not for one thing.
    b' {"action":"x","actor":{"kind":"user"},"id":"%s","outcome":"allowed"}',
    b'{"actor":{"kind":"user"},"action":"x","id":"%s","outcome":"allowed"}',
    b'{"action":"x","action":"x","actor":{"kind":"user"},"id":"%s","outcome":"allowed"}',
    b'{"action":5,"actor":{"kind":"user"},"id":"%s","outcome":"allowed"}',
    b'{"action":null,"actor":{"kind":"user"},"id":"%s","outcome":"allowed"}',
    b'{"action":"x","actor":{"kind":"user","tag":"123"},"id":"%s","outcome":"allowed"}',
    b'{"action":"x","actor":{"kind":"user","tag":"zzzzzzzzzzzzzzzz"},"id":"%s","outcome":"allowed"}',
    b'{"action":"x","actor":{"kind":"user"},"id":"%s","outcome":"allowed","reason":{"stated":0}}',
    b'{"action":"x","actor":{"kind":"user"},"id":"%s","outcome":"allowed","request":{"id":["a"]}}',
    b'{"action":"x","actor":{"kind":"user"},"id":"%s","outcome":"allowed","scope":[]}',
]


@pytest.mark.parametrize("body", FOREIGN, ids=range(len(FOREIGN)))
async def test_what_is_no_event_of_ours_does_not_stop_the_log(
    system: System, owner: asyncpg.Connection, dsn: str, body: bytes
) -> None:
    """Only a broken or hostile server writes such a thing."""
    body = body.replace(b"%s", new_id().hex.encode())
    async with opened(dsn, as_app=True) as app:
        await app.execute(sequencing.RECORD, body)
    await system.foundation.ledger.append(event(system, "after it"))
    rows = await numbered(system, owner)
    check_whole(rows)
    assert [row["action"] for row in rows][-2:] == ["audit.unreadable", "test.happen"]
    assert rows[-2]["target"].startswith("sha256:")


async def test_the_inbox_takes_nothing_that_no_entry_could_hold(dsn: str) -> None:
    """It would hold up whoever reads it."""
    async with opened(dsn, as_app=True) as app:
        with pytest.raises(asyncpg.CheckViolationError, match="audit_inbox_small"):
            await app.execute(sequencing.RECORD, b"x" * 65_536)


async def test_nothing_more_is_changed_when_too_much_waits(system: System, owner: asyncpg.Connection) -> None:
    system.sequencer.backlog = sequencing.Backlog(sequencing.OVERRUN + 1)
    with pytest.raises(LogUnavailable):
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            work.attempt("test.change", "something")
            await work.execute("INSERT INTO account (id, name, created_at) VALUES ($1, 'new', now())", uuid4())
            work.record()
    assert not await owner.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = 'new')")


async def test_a_body_is_as_it_was_written_byte_for_byte(system: System, owner: asyncpg.Connection, dsn: str) -> None:
    name = secrets.token_hex(8)
    async with opened(dsn) as blocker, blocker.transaction():
        await blocker.execute("SELECT pg_advisory_xact_lock($1)", sequencing.LOCK)
        await system.foundation.ledger.append(event(system, name))
        waiting = {bytes(row["body"]) for row in await owner.fetch("SELECT body FROM audit_inbox")}
    rows = await numbered(system, owner)
    assert waiting <= {unwrap(row["entry"]).body for row in rows}
    assert any(name.encode() in one for one in waiting)
