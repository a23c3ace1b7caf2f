"""What is looked for: a filter means the same whether it is asked of the table or of an event without a number."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import col

from registry.actors import ANONYMOUS, SYSTEM, Actor, ActorKind, Origin
from registry.audit import filtering, reading
from registry.audit.entries import COLUMNS, columns_in
from registry.audit.filtering import EntryFilter, Sought
from registry.audit.tables import AuditRow
from registry.events import Event, Outcome
from registry.system import System
from tests.support.books import in_process, new_database
from tests.support.server import Server

ACCOUNTS = [UUID(int=number) for number in (1, 2)]
USERS = [UUID(int=number) for number in (11, 12)]
Filled = tuple[System, list[Any]]
LONG = "long/" + "y" * 500
TARGETS = [
    "acme/web",
    "acme/web:1.0",
    "acme/web_2",
    "acme/Web",
    "acme",
    "",
    "ac%e/web",
    "añb/ü",
    "\U0010ffff",
    LONG,
    LONG + "z",
]
ACTIONS = ["image.pull", "image.push", "image", "organization.create"]
REASONS = [None, "incident-1", "incident-12", "INCIDENT-1", "50%_of/it\\done*", LONG]


@pytest.fixture(scope="module")
async def system(
    tidewaiter: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[System, list[Any]]]:
    folder: Path = tmp_path_factory.mktemp("filtering")
    async with new_database(tidewaiter) as dsn, in_process(dsn, folder) as system:
        for number in range(220):
            async with system.foundation.pool.acquire() as connection:
                await system.foundation.ledger.write(connection, [event(system, number)])  # type: ignore[list-item]
        await system.foundation.ledger.catch_up()
        yield system, await system.foundation.pool.fetch("SELECT * FROM audit_log ORDER BY logged_at DESC, seq DESC")


def event(system: System, number: int) -> Event:
    """All kinds of everything, in turns that do not keep step."""
    who = [SYSTEM, ANONYMOUS, *(Actor(ActorKind.USER, "somebody", user, ACCOUNTS[0], 0) for user in USERS)][number % 4]
    return Event(
        system.foundation.clock.now() + timedelta(seconds=number),
        ACTIONS[number % len(ACTIONS)],
        list(Outcome)[number % 3],
        who,
        Origin(source=f"192.0.2.{number % 5}", request_id=f"{number % 6:032x}"),
        TARGETS[number % len(TARGETS)],
        account_id=[None, *ACCOUNTS][number % 3],
        stated=REASONS[number % len(REASONS)],
    )


def texts(known: list[Any]) -> st.SearchStrategy[str | None]:
    """One that is there, its beginning with a star, or whatever."""
    there = st.sampled_from([one for one in known if one is not None])
    begun = st.builds(lambda text, length: text[:length] + "*", there, st.integers(0, 450))
    return (
        st.none()
        | there
        | begun
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
    )


def parts(known: list[Any]) -> st.SearchStrategy[str]:
    """What stands anywhere in one, with stars around it; its end, with one before; and stars alone."""
    there = st.sampled_from([one for one in known if one is not None])
    cut = st.builds(lambda text, begin, end: text[begin : begin + end], there, st.integers(0, 450), st.integers(0, 450))
    return st.builds("*{}{}".format, cut, st.sampled_from(["", "*"])) | st.sampled_from(["*", "**", "***"])


@st.composite
def sought(draw: st.DrawFn) -> Sought:
    plain = EntryFilter(
        action=draw(texts(ACTIONS)),
        reason=draw(texts(REASONS) | parts(REASONS)),
        outcome=draw(st.none() | st.sampled_from(list(Outcome))),
        request_id=draw(st.none() | st.sampled_from([f"{number:032x}" for number in range(7)])),
    )
    targets = draw(st.lists(texts(TARGETS).filter(bool), max_size=2, unique=True))
    actor = draw(st.sampled_from([None, None, "system", "anonymous", "somebody", "nobody"]))
    return Sought(
        replace(plain, actor=actor),
        draw(st.sampled_from([None, *ACCOUNTS])),
        targets=tuple(one for one in targets if one is not None) or None,
        actor_kind=actor if actor in filtering.NOBODY else None,
        actor_id=draw(st.sampled_from(USERS)) if actor == "somebody" else None,
    )


@given(wanted=sought())
async def test_the_table_and_an_event_without_a_number_are_asked_the_same(
    system: tuple[System, list[Any]], wanted: Sought
) -> None:
    """The oracle is plain Python over all rows, as the events without a number are asked."""
    foundation, rows = system[0].foundation, system[1]
    async with foundation.view(SYSTEM, Origin()) as work:
        ways = await filtering.alternatives(work, wanted)
        statements = [select(*reading.LINE).where(*way) for way in ways]
        found = await work.fetch(reading.first_of(statements, limit=1000, newest=True))
    held = [row["seq"] for row in rows if filtering.holds(wanted, columns(row), row["logged_at"])]
    assert [row["seq"] for row in found] == held


def columns(row: Any) -> dict[str, Any]:
    return dict(zip(COLUMNS, columns_in(row), strict=True))


async def test_a_beginning_that_nothing_lies_behind_is_no_wish_for_everything(system: Filled) -> None:
    wanted = Sought(EntryFilter(target="\U0010ffff*"), None, targets=("\U0010ffff*",))
    async with system[0].foundation.view(SYSTEM, Origin()) as work:
        ways = await filtering.alternatives(work, wanted)
        found = await work.fetch(reading.first_of([select(*reading.LINE).where(*ways[0])], limit=1000, newest=True))
    assert {row["seq"] for row in found} == {row["seq"] for row in system[1] if row["target"].startswith("\U0010ffff")}
    assert 0 < len(found) < len(system[1])


@pytest.mark.parametrize("newest", [True, False])
async def test_of_several_statements_the_first_rows_come_in_order(
    system: tuple[System, list[Any]], newest: bool
) -> None:
    foundation, rows = system[0].foundation, system[1]
    users = [row["seq"] for row in rows if row["actor_id"] is not None]
    statements = [select(*reading.LINE).where(col(AuditRow.actor_id) == user) for user in USERS]
    async with foundation.view(SYSTEM, Origin()) as work:
        found = await work.fetch(reading.first_of(statements, limit=7, newest=newest))
        none = await work.fetch(reading.first_of([], limit=7, newest=newest))
    assert [row["seq"] for row in found] == (users if newest else users[::-1])[:7]
    assert none == []
