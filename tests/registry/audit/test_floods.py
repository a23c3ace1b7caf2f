"""Whoever is refused again and again cannot fill the log, and no denial goes uncounted."""

import signal
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.actors import ANONYMOUS, Actor, ActorKind, Origin
from registry.audit.floods import EQUAL, OF_ONE, Floods
from registry.errors import Denied
from registry.events import Event, Outcome
from registry.identifiers import new_id
from registry.system import System
from tests.api.schema.asking import ADMIN, ask
from tests.support import world
from tests.support.books import address_of, in_process, new_database, opened
from tests.support.handmade import knocking
from tests.support.inside import PATIENCE_SECONDS
from tests.support.server import Server, serving

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ALICE = Actor(ActorKind.USER, "alice", new_id(), new_id())


def denial(target: str = "ships/web", source: str = "192.0.2.1", actor: Actor = ALICE, **more: Any) -> Event:
    event = Event(NOON, "image.pull", Outcome.DENIED, actor, Origin("request", source, "a test"), target)
    return replace(event, **({"reason_code": "DENIED"} | more))


def count_of(flood: Event) -> int:
    assert flood.action == "denial.flood"
    count: int = flood.changes["count"][1]
    return count


# The rule


def test_the_first_twenty_stand_by_themselves() -> None:
    floods = Floods()
    assert [floods.swallows(denial(), NOON) for _ in range(25)] == [False] * EQUAL + [True] * 5


def test_the_next_opens_a_flood_and_the_end_of_the_minute_counts_the_rest() -> None:
    floods = Floods()
    for second in range(25):
        at = NOON + timedelta(seconds=second)
        floods.swallows(denial(at=at, organization_id=ALICE.account_id), at)
    (opened,) = floods.owed
    assert (opened.reason_code, opened.outcome, opened.target) == ("DENIED", Outcome.DENIED, "ships/web")
    assert opened.changes["count"] == [None, 1]
    floods.pass_time(NOON + timedelta(seconds=59))
    assert len(floods.owed) == 1
    floods.pass_time(NOON + timedelta(seconds=60))
    told = floods.owed[-1]
    assert told.changes == {
        "action": [None, "image.pull"],
        "count": [None, 4],
        "first": [None, NOON + timedelta(seconds=21)],
        "last": [None, NOON + timedelta(seconds=24)],
    }
    assert told.organization_id == ALICE.account_id
    assert told.id != opened.id
    assert not floods.swallows(denial(), NOON + timedelta(seconds=60))


def test_a_flood_that_ends_with_its_opening_says_no_more() -> None:
    floods = Floods()
    for _ in range(EQUAL + 1):
        floods.swallows(denial(), NOON)
    floods.end()
    assert [count_of(one) for one in floods.owed] == [1]


@pytest.mark.parametrize(
    "other",
    [
        denial("ships/other"),
        denial(source="192.0.2.2"),
        denial(actor=replace(ALICE, user_id=new_id())),
        denial(action="image.push"),
        denial(reason_code="QUOTA_EXCEEDED"),
    ],
    ids=["target", "source", "actor", "action", "reason"],
)
def test_denials_that_differ_are_not_equal(other: Event) -> None:
    floods = Floods()
    for _ in range(EQUAL):
        floods.swallows(denial(), NOON)
    assert floods.swallows(denial(), NOON)
    assert not floods.swallows(other, NOON)


def test_strangers_are_one_actor_whatever_name_they_claim() -> None:
    floods = Floods(of_one=5)
    names = [denial(str(n), actor=replace(ANONYMOUS, name=str(n)), action="user.sign_in") for n in range(8)]
    assert [floods.swallows(one, NOON) for one in names] == [False] * 5 + [True] * 3
    assert floods.owed[0].actor == ANONYMOUS


def test_ever_new_targets_are_counted_together_in_the_log_of_each_account() -> None:
    floods = Floods()
    accounts = [new_id(), new_id()]
    for number in range(OF_ONE + 10):
        floods.swallows(denial(f"ships/{number}", account_id=accounts[number % 2], about="bob"), NOON)
    floods.end()
    assert Counter(
        {one: sum(count_of(e) for e in floods.owed if e.account_id == one) for one in accounts}
    ) == dict.fromkeys(accounts, 5)
    assert {(one.target, one.about, one.changes["action"][1]) for one in floods.owed} == {("*", None, "*")}


def test_what_is_kept_has_a_bound_and_what_makes_room_is_written() -> None:
    floods = Floods(equal=1, kept=3)
    for number in range(10):
        for _ in range(4):
            floods.swallows(denial(str(number)), NOON)
    assert len(floods._kinds) == 3
    assert sum(count_of(one) for one in floods.owed) == 7 * 3 + 3  # the last three have only opened
    floods.end()
    assert sum(count_of(one) for one in floods.owed) == 30


def test_when_nothing_can_be_written_denials_stand_by_themselves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.audit.floods.MOST_OWED", 1)
    floods = Floods(equal=1)
    assert [floods.swallows(denial(), NOON) for _ in range(4)] == [False, True, False, False]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["x", "y"]), st.integers(min_value=0, max_value=40)
        ),
        max_size=120,
    ),
    st.integers(min_value=1, max_value=8),
)
def test_nothing_goes_uncounted(given: list[tuple[str, str, int]], kept: int) -> None:
    """Whatever comes: so many went in as stand by themselves and in counts."""
    floods = Floods(equal=2, of_one=5, kept=kept)
    now, singles = NOON, 0
    for target, source, seconds in given:
        now += timedelta(seconds=seconds)
        singles += not floods.swallows(denial(target, source, at=now), now)
    floods.end()
    assert singles + sum(map(count_of, floods.owed)) == len(given)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["x", "y"]), st.integers(min_value=0, max_value=20)
        ),
        max_size=120,
    )
)
def test_no_minute_has_more_single_ones_than_the_limits(given: list[tuple[str, str, int]]) -> None:
    floods = Floods(equal=2, of_one=5)
    now = NOON
    of_kind: Counter[tuple[datetime, str, str]] = Counter()
    of_one: Counter[tuple[datetime, str]] = Counter()
    for target, source, seconds in given:
        now += timedelta(seconds=seconds)
        minute = now.replace(second=0)
        if not floods.swallows(denial(target, source, at=now), now):
            of_kind[minute, source, target] += 1
            of_one[minute, source] += 1
    assert max(of_kind.values(), default=0) <= 2
    assert max(of_one.values(), default=0) <= 5


# The ledger


async def test_only_denials_are_counted(tidewaiter: Server, tmp_path: Path) -> None:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        for outcome in (Outcome.ALLOWED, Outcome.FAILED):
            for _ in range(EQUAL + 5):
                await system.foundation.ledger.append(
                    replace(denial(at=system.foundation.clock.now()), outcome=outcome)
                )
        await system.foundation.ledger.catch_up()
        rows = await system.foundation.pool.fetch(
            "SELECT outcome, count(*) FROM audit_log WHERE action = 'image.pull' GROUP BY outcome ORDER BY outcome"
        )
    assert [tuple(row) for row in rows] == [("allowed", EQUAL + 5), ("failed", EQUAL + 5)]


async def refuse(system: System, times: int) -> None:
    """So many equal refusals, as a Work records them."""
    for _ in range(times):
        work = system.foundation.glance(ALICE, Origin("request", "192.0.2.1"))
        work.attempt("image.pull", "ships/web")
        await work.refused(Denied("Not for you."))


def early(folder: Path) -> None:
    """Moves a clock to the beginning of a minute, so that none ends while a test refuses."""
    (folder / "clock").write_text(str(61 - datetime.now(UTC).second))


async def test_a_clean_stop_writes_what_was_counted(tidewaiter: Server, tmp_path: Path) -> None:
    early(tmp_path)
    async with new_database(tidewaiter) as dsn:
        async with in_process(dsn, tmp_path) as system:
            await refuse(system, EQUAL + 7)
        async with in_process(dsn, tmp_path) as system:
            await system.foundation.ledger.catch_up()
            rows = await system.foundation.pool.fetch("SELECT entry FROM audit_log WHERE action = 'denial.flood'")
    assert sorted(orjson.loads(row["entry"])["event"]["change"]["count"][1] for row in rows) == [1, 6]


async def test_a_counted_denial_waits_for_no_commit(tidewaiter: Server, tmp_path: Path) -> None:
    early(tmp_path)
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        ledger: Any = system.foundation.ledger
        await refuse(system, EQUAL)
        waiting = ledger.append(denial("ships/web", at=system.foundation.clock.now()))
        with pytest.raises(StopIteration):  # it ran to its end without waiting for anything
            waiting.send(None)


async def test_a_count_that_cannot_be_written_is_owed_until_it_can(tidewaiter: Server, tmp_path: Path) -> None:
    early(tmp_path)
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        await refuse(system, EQUAL + 3)
        async with opened(dsn) as owner:
            await owner.execute("ALTER TABLE audit_inbox RENAME TO audit_inbox_away")
            await system.foundation.ledger.drain()
            waiting = (
                "SELECT count(*) FROM audit_inbox_away WHERE position('denial.flood' in encode(body, 'escape')) > 0"
            )
            written = await owner.fetchval(waiting)
            await owner.execute("ALTER TABLE audit_inbox_away RENAME TO audit_inbox")
        count = "SELECT count(*) FROM audit_log WHERE action = 'denial.flood'"
        with anyio.fail_after(PATIENCE_SECONDS):  # who numbers them has lost its connection, and is waited for a second
            while await system.foundation.pool.fetchval(count) < 2:
                await system.foundation.ledger.catch_up()
        assert await system.foundation.pool.fetchval(count) == 2
    assert written <= 1  # that the flood began may have been written before


# Through the door


FLOODS = """
    query($target: String!) {
        auditLog(first: 50, filter: {action: "denial.flood", target: $target}) {
            nodes { outcome target reason reasonCode source changes actor { name } }
        }
    }
"""


async def test_a_flood_of_refused_pulls(tidewaiter: Server) -> None:
    acme = await world.tenant(tidewaiter, "flood")
    await world.repository(acme, "web")
    colleague = await world.user(acme, "colleague")
    target = f"{acme.organization}/web:1.0"
    await until_early_in_a_minute(tidewaiter, acme)
    async with knocking(tidewaiter, colleague) as door:
        answers = [await door.get(f"/v2/{acme.organization}/web/manifests/1.0") for _ in range(EQUAL + 9)]
    assert {answer.status_code for answer in answers} == {404}
    tidewaiter.advance(60)
    told = await floods_of(tidewaiter, acme.owner, target)
    assert [one["changes"]["count"] for one in told] == [[None, 8], [None, 1]]
    assert {(one["outcome"], one["actor"]["name"], one["source"]) for one in told} == {
        ("DENIED", colleague.name, "127.0.0.1")
    }
    assert told[0]["changes"]["action"] == [None, "image.pull"]
    assert told[0]["changes"]["first"][1] <= told[0]["changes"]["last"][1]
    singles = [one for one in await world.entries(acme) if one.action == "image.pull"]
    assert [(one.outcome, one.target) for one in singles] == [("DENIED", target)] * EQUAL


async def until_early_in_a_minute(tidewaiter: Server, tenant: world.Tenant) -> None:
    """Moves the server's clock to the beginning of a minute, so that none ends while a test refuses."""
    now = await world.now(tenant)
    tidewaiter.advance(61 - now.second)


async def test_a_server_that_is_killed_leaves_the_beginning_of_a_flood(tmp_path: Path) -> None:
    """What was counted since is lost, but not that there was something to count."""
    with serving(tmp_path) as server:
        acme = await world.tenant(server, "killed")
        await world.repository(acme, "web")
        colleague = await world.user(acme, "colleague")
        await until_early_in_a_minute(server, acme)
        async with knocking(server, colleague) as door:
            for _ in range(EQUAL + 4):
                await door.get(f"/v2/{acme.organization}/web/manifests/1.0")
        # Failed sign-ins without a name, which no throttle of a name slows.
        async with knocking(server, world.Person("", "a wrong password")) as door:
            statuses = {(await door.get("/v2/")).status_code for _ in range(EQUAL + 6)}
        async with opened(address_of(server)) as owner:
            with anyio.fail_after(20):
                while await owner.fetchval(BEGUN) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        server.stop(signal.SIGKILL)
        server.start()
        pulls = await floods_of(server, acme.owner, f"{acme.organization}/web:1.0")
        sign_ins = await floods_of(server, ADMIN, "")
        singles = [one for one in await world.entries(acme) if one.action == "image.pull"]
    assert statuses == {401}
    assert [one["changes"]["count"] for one in pulls] == [[None, 1]]
    assert [one["changes"]["action"] for one in sign_ins] == [[None, "user.sign_in"]]
    assert len(singles) == EQUAL


BEGUN = "SELECT count(*) FROM audit_log WHERE action = 'denial.flood'"


async def floods_of(server: Server, reader: world.Person, target: str) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await ask(server, FLOODS, reader, target=target))["auditLog"]["nodes"]
    return nodes
