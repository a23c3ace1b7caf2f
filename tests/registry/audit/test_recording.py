"""What happens stands in the log, and no answer leaves before it does."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs

from registry.actors import SYSTEM, Actor, ActorKind, Origin
from registry.audit.bodies import shortened
from registry.audit.recording import LONGEST_QUEUE, Ledger, LogUnavailable
from registry.audit.writing import Scribe
from registry.errors import Denied
from registry.events import Event, Outcome, Traffic
from registry.identifiers import new_id
from registry.storage.database import DatabaseUnavailable
from registry.system import System
from registry.telemetry import configure
from tests.support import log, recorded, world
from tests.support.books import address_of, opened
from tests.support.handmade import knocking
from tests.support.server import Server

PATIENCE_SECONDS = 20
# The ledger waits for a lock on the inbox; so do those who wait for the ledger.
LEDGER_WAITS = """
    SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l USING (pid)
    WHERE NOT l.granted AND l.relation = 'audit_inbox'::regclass AND a.query LIKE '%INSERT INTO audit_inbox%'
"""
LEDGERS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%INSERT INTO audit_inbox%unnest%' AND state = 'idle'
"""


class NotNumbering:
    """In the place of a sequencer, where nothing needs a number."""

    overrun = False

    async def catch_up(self) -> None:
        """Nobody is to be waited for."""


def a_ledger(dsn: str) -> Ledger:
    return Ledger(dsn, configure(), Scribe(b"a master key for the tests......"), NotNumbering())  # type: ignore[arg-type]


def an_event(action: str = "test.happened", **more: Any) -> Event:
    given: dict[str, Any] = {"target": "somewhere", "actor": SYSTEM, "origin": Origin("request", "192.0.2.1", "a test")}
    return Event(at=datetime.now(UTC), action=action, outcome=Outcome.ALLOWED, **(given | more))


@pytest.fixture
async def books(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn) as connection:
        yield connection


@asynccontextmanager
async def working(ledger: Ledger) -> AsyncIterator[Ledger]:
    running = asyncio.ensure_future(ledger.run())
    try:
        yield ledger
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(connection: asyncpg.Connection, question: str, *arguments: Any) -> Any:
    """The first answer to the question that is one."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while (found := await connection.fetchval(question, *arguments)) is None:
            await anyio.sleep(0.01)
            # Else a transaction goes on seeing who was connected when it first looked.
            await connection.execute("SELECT pg_stat_clear_snapshot()")
    return found


async def happens(what: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not what():  # noqa: ASYNC110
            await anyio.sleep(0.001)


@asynccontextmanager
async def blocked(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Nobody else can write the log inside."""
    async with opened(dsn) as owner, owner.transaction():
        await owner.execute("LOCK TABLE audit_inbox IN EXCLUSIVE MODE")
        yield owner


async def actions(books: asyncpg.Connection, target: str) -> list[tuple[str, str]]:
    return [(action, outcome) for action, outcome, _ in await log.told(books, target={"name": target})]


async def named(books: asyncpg.Connection, beginning: str) -> list[str]:
    """The actions that begin so."""
    found = [action for action, _, _ in await log.told(books)]
    return [action for action in found if action.startswith(beginning)]


# A change and its entry


async def create_account(system: System, name: str, *, fault: Exception | None = None) -> None:
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        work.attempt("account.create", name)
        await work.execute("INSERT INTO account (id, name, created_at) VALUES ($1, $2, $3)", new_id(), name, work.now)
        work.record(changes={"name": [None, name]})
        if fault is not None:
            raise fault


async def is_made(books: asyncpg.Connection, name: str) -> bool:
    return bool(await books.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = $1)", name))


async def test_a_change_is_there_with_its_entry(system: System, books: asyncpg.Connection) -> None:
    await create_account(system, "kept")
    assert await is_made(books, "kept")
    assert await actions(books, "kept") == [("account.create", "allowed")]


async def test_a_fault_after_the_record_takes_both_back(system: System, books: asyncpg.Connection) -> None:
    with pytest.raises(RuntimeError, match="a fault"):
        await create_account(system, "lost", fault=RuntimeError("a fault"))
    assert not await is_made(books, "lost")
    assert await actions(books, "lost") == []


async def test_a_commit_that_fails_takes_both_back(system: System, books: asyncpg.Connection) -> None:
    await books.execute(
        "CREATE FUNCTION fail_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON account DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.name = 'doomed') EXECUTE FUNCTION fail_late()"
    )
    with pytest.raises(asyncpg.RaiseError, match="too late"):
        await create_account(system, "doomed")
    assert not await is_made(books, "doomed")
    assert await actions(books, "doomed") == []


async def test_without_its_entry_a_change_is_not_made(
    system: System, books: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError("no log")

    monkeypatch.setattr(system.foundation.ledger, "write", fail)
    with pytest.raises(DatabaseUnavailable):
        await create_account(system, "unwritten")
    assert not await is_made(books, "unwritten")


async def test_a_refusal_is_recorded_though_all_else_is_taken_back(system: System, books: asyncpg.Connection) -> None:
    with pytest.raises(Denied):
        async with system.foundation.begin(SYSTEM, Origin()) as work:
            work.attempt("account.create", "refused")
            await work.execute("INSERT INTO account (id, name, created_at) VALUES ($1, 'refused', now())", new_id())
            raise Denied("You may not.", truth="too young")
    assert not await is_made(books, "refused")
    (entry,) = await log.events(books, target={"name": "refused"})
    assert (entry["outcome"], entry["reason"]) == ("denied", {"code": "DENIED", "text": "too young"})


async def test_refusals_say_what_came_of_it_and_why(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "why")
    reader = await world.user(acme, "reader", level="READ")
    async with knocking(tidewaiter, reader) as door:
        assert (await door.push_blob(f"{acme.organization}/new", b"bytes")).status_code == 403
    await world.repository(acme, "taken")
    with pytest.raises(AssertionError, match="NAME_TAKEN"):
        await world.repository(acme, "taken")
    failed, denied = [entry for entry in await world.entries(acme) if entry.outcome != "ALLOWED"]
    assert denied.told == ("image.push", "DENIED", reader.name)
    assert denied.target == f"{acme.organization}/new"
    assert "you hold READ" in (denied.reason or "")
    assert failed.told == ("repository.create", "FAILED", acme.owner.name)
    assert failed.target == f"{acme.organization}/taken"
    assert "already has a repository 'taken'" in (failed.reason or "")


# Pulls


async def pulled(tidewaiter: Server, name: str) -> tuple[world.Tenant, str]:
    """An image to pull, and its address."""
    acme = await world.tenant(tidewaiter, name)
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0", name.encode())
    return acme, f"/v2/{acme.organization}/web/manifests/1.0"


async def test_a_pull_is_answered_only_when_its_entry_is_committed(tidewaiter: Server) -> None:
    acme, address = await pulled(tidewaiter, "waits")
    dsn = address_of(tidewaiter)
    async with knocking(tidewaiter, acme.owner) as door, opened(dsn) as books:
        async with blocked(dsn) as owner:
            pull = asyncio.ensure_future(door.get(address))
            await until(owner, LEDGER_WAITS)
            # The server goes on with everything else: only what waits for the log is not answered.
            assert (await door.get("/healthz")).status_code == 200
            assert not pull.done()
        assert (await pull).status_code == 200
        entries = await actions(books, f"{acme.organization}/web:1.0")
    assert entries == [("image.push", "allowed"), ("image.pull", "allowed")]


async def test_pulls_are_counted_as_they_are_recorded(tidewaiter: Server) -> None:
    """A HEAD is no pull, and neither is a look that finds nothing new."""
    acme, address = await pulled(tidewaiter, "counts")
    async with knocking(tidewaiter, acme.owner) as door:
        etag = (await door.get(address)).headers["etag"]
        by_digest = f"/v2/{acme.organization}/web/manifests/{etag.strip(chr(34))}"
        assert (await door.head(address)).status_code == 200
        assert (await door.get(address, headers={"If-None-Match": etag})).status_code == 304
        assert (await door.get(address, headers={"If-None-Match": '"other"'})).status_code == 200
        answers = await asyncio.gather(*(door.get(at) for at in [address, by_digest] * 20))
    assert {answer.status_code for answer in answers} == {200}
    async with opened(address_of(tidewaiter)) as books:
        pulls = [target for _, _, target in await log.told(books, action="image.pull")]
        counted = await books.fetch(
            "SELECT tag, pulls FROM pull_count c JOIN repository r ON r.id = c.repository_id"
            " JOIN organization o ON o.id = r.organization_id WHERE o.name = $1 ORDER BY tag",
            acme.organization,
        )
    assert len([target for target in pulls if target.startswith(f"{acme.organization}/web")]) == 42
    assert [tuple(row) for row in counted] == [("", 42), ("1.0", 22)]


def commits(tidewaiter: Server) -> tuple[int, int]:
    """Entries and commits of the group commit so far."""
    text = tidewaiter.metrics()
    found = [re.search(rf"^registry_audit_append_entries_{kind}\S* (\S+)$", text, re.M) for kind in ("sum", "count")]
    entries, batches = (int(float(match[1])) if match else 0 for match in found)
    return entries, batches


async def test_pulls_side_by_side_share_commits(tidewaiter: Server) -> None:
    acme, address = await pulled(tidewaiter, "shares")
    dsn = address_of(tidewaiter)
    async with knocking(tidewaiter, acme.owner) as door:
        # The first takes a lease on the month's traffic, for which all would wait together.
        assert (await door.get(address)).status_code == 200
        before = commits(tidewaiter)
        async with blocked(dsn) as owner:
            pulls = [asyncio.ensure_future(door.get(address)) for _ in range(60)]
            await until(owner, LEDGER_WAITS)
            await happens(lambda: queue_length(tidewaiter) == 60)
        answers = await asyncio.gather(*pulls)
    assert {answer.status_code for answer in answers} == {200}
    entries, batches = (after - earlier for after, earlier in zip(commits(tidewaiter), before, strict=True))
    # What came while the first commit was on its way is the second.
    assert (entries, batches) == (60, 2)


def queue_length(tidewaiter: Server) -> int:
    found = re.search(r"^registry_audit_queue_length\S* (\S+)$", tidewaiter.metrics(), re.M)
    assert found is not None
    return int(float(found[1]))


# Strange things that strangers send


async def test_what_a_client_writes_of_itself_never_stops_a_pull(tidewaiter: Server) -> None:
    acme, address = await pulled(tidewaiter, "strange")
    names = [b"x" * 20_000, b"\xed\xa0\x80 \xff\xfe", b"tab\tseparated"]
    async with knocking(tidewaiter, acme.owner) as door:
        answers = await asyncio.gather(*(door.get(address, headers=[(b"user-agent", name)]) for name in names * 3))
    assert {answer.status_code for answer in answers} == {200}
    entries = [await recorded.entries_of(tidewaiter, answer) for answer in answers]
    told = {one["client"] for several in entries for one in several}
    assert len(told) == 3
    assert max(map(len, told)) <= 2001


@pytest.mark.parametrize(
    "name", ["mallory", "ü" * 300, "".join(chr(0x4E00 + 7 * n) for n in range(2500))], ids=["plain", "long", "longer"]
)
async def test_a_failed_sign_in_is_recorded_with_the_claimed_name(tidewaiter: Server, name: str) -> None:
    header = "Basic " + base64.b64encode(f"{name}:a wrong password".encode()).decode()
    async with httpx2.AsyncClient(base_url=tidewaiter.url, verify=False) as nobody:
        answer = await nobody.get("/v2/", headers={"Authorization": header})
    assert answer.status_code == 401
    (entry,) = await recorded.entries_of(tidewaiter, answer)
    assert (entry["actor"]["kind"], entry["outcome"], entry["reason"]) == ("ANONYMOUS", "DENIED", "no such user")
    assert entry["actor"]["name"].rstrip("…") == name[:256]
    assert entry["target"].rstrip("…") == name[:2000]


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "x" * 2001, "\ud800" * 3000, "…"])
def test_any_text_can_be_kept(text: str) -> None:
    kept = shortened(text)
    assert kept is not None
    assert len(kept) <= 2001
    assert "\x00" not in kept
    kept.encode()


async def test_one_entry_that_cannot_be_kept_does_not_take_others_with_it(dsn: str, books: asyncpg.Connection) -> None:
    ledger = a_ledger(dsn)
    actor = Actor(ActorKind.USER, "alice")
    events = [an_event(f"poison.{n}", actor=actor) for n in range(5)]
    events[2] = an_event("poison.\ud800")
    waiting = [
        asyncio.ensure_future(ledger.append(event, Traffic(new_id(), new_id(), "1.0", None, event.at, 1, 100)))
        for event in events
    ]
    await happens(lambda: ledger.length == 5)
    async with working(ledger):
        came = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in came] == [type(None), type(None), LogUnavailable, type(None), type(None)]
    assert await named(books, "poison.") == ["poison.0", "poison.1", "poison.3", "poison.4"]


# The ledger itself


async def test_a_full_queue_refuses_rather_than_loses(dsn: str) -> None:
    ledger = a_ledger(dsn)
    waiting = [asyncio.ensure_future(ledger.append(an_event())) for _ in range(LONGEST_QUEUE)]
    await happens(lambda: ledger.length == LONGEST_QUEUE)
    with pytest.raises(LogUnavailable) as refused:
        await ledger.append(an_event())
    assert refused.value.detail["retry_after"] > 0
    async with working(ledger):
        await asyncio.gather(*waiting)
        await ledger.append(an_event())


async def test_a_lost_connection_costs_no_later_entry(dsn: str, books: asyncpg.Connection) -> None:
    async with working(a_ledger(dsn)) as ledger:
        await ledger.append(an_event("lost.before"))
        async with blocked(dsn) as owner:
            caught = asyncio.ensure_future(ledger.append(an_event("lost.meanwhile")))
            pid = await until(owner, LEDGER_WAITS)
            await owner.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(LogUnavailable):
                await caught
        await ledger.append(an_event("lost.after"))
    assert await named(books, "lost.") == ["lost.before", "lost.after"]


async def test_a_connection_lost_in_silence_costs_at_most_one_answer(tidewaiter: Server) -> None:
    acme, address = await pulled(tidewaiter, "silence")
    async with knocking(tidewaiter, acme.owner) as door, opened(address_of(tidewaiter)) as books:
        assert (await door.get(address)).status_code == 200
        for pid in [row["pid"] for row in await books.fetch(LEDGERS)]:
            await books.execute("SELECT pg_terminate_backend($1)", pid)
        statuses = [(await door.get(address)).status_code for _ in range(3)]
        kept = await actions(books, f"{acme.organization}/web:1.0")
    assert statuses[1:] == [200, 200]
    assert kept.count(("image.pull", "allowed")) == 1 + statuses.count(200)


async def test_a_failure_without_words_is_logged_by_its_kind(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_slow(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(asyncpg, "connect", too_slow)
    with capture_logs() as logged:
        async with working(a_ledger(dsn)) as ledger:
            with pytest.raises(LogUnavailable):
                await ledger.append(an_event())
    assert [line["error"] for line in logged if line["log_level"] == "error"] == ["TimeoutError()"]


async def test_drain_returns_when_all_is_committed(dsn: str, books: asyncpg.Connection) -> None:
    async with working(a_ledger(dsn)) as ledger:
        await ledger.append(an_event("drain.before"))
        async with blocked(dsn) as owner:
            waiting = asyncio.ensure_future(ledger.append(an_event("drain.last")))
            await until(owner, LEDGER_WAITS)
            drained = asyncio.ensure_future(ledger.drain())
            await anyio.wait_all_tasks_blocked()
            assert not drained.done()
        await drained
        assert await named(books, "drain.last") == ["drain.last"]
        await waiting


async def test_a_ledger_that_ends_leaves_nobody_waiting(dsn: str) -> None:
    ledger = a_ledger(dsn)
    running = asyncio.ensure_future(ledger.run())
    await ledger.append(an_event("end.before"))
    async with blocked(dsn) as owner:
        waiting = [asyncio.ensure_future(ledger.append(an_event("end.on_its_way")))]
        await until(owner, LEDGER_WAITS)
        waiting += [asyncio.ensure_future(ledger.append(an_event(f"end.{number}"))) for number in range(3)]
        await happens(lambda: ledger.length == 4)
        running.cancel()
        came = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in came} == {LogUnavailable}
    assert ledger.length == 0
    with pytest.raises(LogUnavailable):
        await ledger.append(an_event("end.after"))
    await ledger.drain()
    await asyncio.wait([running])


async def test_who_leaves_does_not_disturb_who_waits(dsn: str, books: asyncpg.Connection) -> None:
    async with working(a_ledger(dsn)) as ledger:
        async with blocked(dsn) as owner:
            leaving, staying = (asyncio.ensure_future(ledger.append(an_event(f"leave.{n}"))) for n in range(2))
            await until(owner, LEDGER_WAITS)
            leaving.cancel()
        await staying
    assert leaving.cancelled()
    assert len(await named(books, "leave.")) == 2


async def test_numbers_grow_with_each_entry_that_was_answered(dsn: str, books: asyncpg.Connection) -> None:
    async with working(a_ledger(dsn)) as ledger:
        for number in range(20):
            await asyncio.gather(*(ledger.append(an_event(f"order.{number}")) for _ in range(3)))
    assert await named(books, "order.") == [f"order.{number}" for number in range(20) for _ in range(3)]
