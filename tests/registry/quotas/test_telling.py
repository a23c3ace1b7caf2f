"""Any order of charges, refunds, limits and crashes at one counter: it says what a few lines of Python say, and its
owner is told once for each step that is reached (Q10), again only after it was well below.

That the machine would notice is shown with planted faults.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from policies import quotas
from policies.quotas import Key
from registry.access import finding
from registry.actors import SYSTEM, Origin
from registry.errors import QuotaExceeded
from registry.quotas import reserving, usage
from registry.quotas.usage import Limits
from registry.system import System
from tests.support.inside import Household, settle
from tests.support.log import events
from tests.support.machines import Machine, Scene, Spoil, failure, faulty, planted

KEY = Key.TRIGGERS
"""At accounts alone, and nothing else charges it yet."""
FORGET = """
    WITH refunds AS (DELETE FROM quota_refund WHERE scope_id = $1 AND key = 'TRIGGERS')
    DELETE FROM quota_counter WHERE scope_id = $1 AND key = 'TRIGGERS'
"""
STANDING = """
    SELECT q.charged, coalesce((SELECT sum(amount) FROM quota_refund f WHERE f.scope_id = q.scope_id
        AND f.key = q.key), 0)::int AS refunds, q.hard, q.soft, q.warned, q.soft_warned
    FROM quota_counter q WHERE q.scope_id = $1 AND q.key = 'TRIGGERS'
"""
REFUND = "INSERT INTO quota_refund (scope_kind, scope_id, key, amount) VALUES ('account', $1, 'TRIGGERS', $2)"


LEVELS = st.sampled_from([70, 76, 79, 80, 83, 86, 89, 90, 91, 96, 99, 100, 101])
AMOUNTS = st.sampled_from([1, 4, 6, 11, 30])
"""Back to where a step stays told, and to where it is told again."""


class Crash(RuntimeError):
    """The server dies before the commit."""


@dataclass
class Counter:
    """What a counter is by the rules."""

    charged: int = 0
    refunds: int = 0
    limit: int | None = None
    soft: int | None = None
    told: int = 0
    soft_told: bool = False
    alerts: list[str] = field(default_factory=list)

    @property
    def used(self) -> int:
        return self.charged - self.refunds

    def charge(self, amount: int) -> bool:
        """Whether there is room, once what has been given back is taken off."""
        if not quotas.has_room(self.charged, amount, self.limit):
            if not quotas.has_room(self.used, amount, self.limit):
                return False
            self.apply()
        self.move(amount)
        self.tell()
        return True

    def apply(self) -> None:
        if self.refunds:
            self.move(-self.refunds)
            self.refunds = 0

    def move(self, amount: int) -> None:
        self.charged += amount

    def tell(self) -> None:
        """By what is used: what has been given back does not count, taken off or not."""
        after = quotas.standing(self.told, self.used, self.limit)
        soft_after = quotas.soft_standing(self.soft_told, self.used, self.soft)
        self.alerts += [f"{step} %" for step in quotas.STEPS if self.told < step <= after]
        self.alerts += ["soft limit"] if soft_after > self.soft_told else []
        self.told, self.soft_told = after, soft_after


class Telling(Machine):
    ours: Household
    account: Any

    @initialize(soft=st.sampled_from([None, 85]))
    def begin(self, soft: int | None) -> None:
        self.scene.run(self.scene.books.execute(FORGET, self.account))
        self.before = len(self.scene.run(self._told()))
        self.counter = Counter(limit=100, soft=soft)
        self._set(Limits(frozenset({"limit", "soft_limit"}), limit=100, soft_limit=soft))

    @rule(level=LEVELS, crash=st.sampled_from([False, False, False, True]))
    def rise(self, level: int, crash: bool) -> None:
        if (amount := level - self.counter.used) <= 0:
            return
        expected = replace(self.counter, alerts=list(self.counter.alerts))
        room = expected.charge(amount)
        with suppress(Crash):
            try:
                self.scene.run(self._charge(amount, crash))
            except QuotaExceeded:
                assert not room, "refused, although there was room"
                return
            assert room, "done, although there was no room"
            self.counter = expected

    @precondition(lambda self: self.counter.used)
    @rule(amount=AMOUNTS)
    def fall(self, amount: int) -> None:
        """Never refused (Q8)."""
        amount = min(amount, self.counter.used)
        self.scene.run(self._charge(-amount))
        self.counter.charge(-amount)

    @precondition(lambda self: self.counter.used)
    @rule(amount=AMOUNTS)
    def give_back(self, amount: int) -> None:
        amount = min(amount, self.counter.used)
        self.scene.run(self.scene.books.execute(REFUND, self.account, amount))
        self.counter.refunds += amount

    @precondition(lambda self: self.counter.refunds)
    @rule()
    def tidy(self) -> None:
        self.scene.run(reserving.apply_refunds(self.scene.system.foundation))
        self.counter.apply()

    @rule(limit=st.sampled_from([None, 80, 100, 100, 105]))
    def limit(self, limit: int | None) -> None:
        self.counter.limit = limit
        self._set(Limits(frozenset({"limit"}), limit=limit))

    def _set(self, limits: Limits) -> None:
        self.scene.run(self._limit(limits))
        self.counter.tell()

    @invariant()
    def the_counter_is_as_the_rules_say(self) -> None:
        row = self.scene.run(self.scene.books.fetchrow(STANDING, self.account))
        ours = self.counter
        said = (ours.charged, ours.refunds, ours.limit, ours.soft, ours.told, ours.soft_told)
        assert (tuple(row) if row else (0, 0, None, None, 0, False)) == said

    def teardown(self) -> None:
        if hasattr(self, "counter"):
            assert self.scene.run(self._told())[self.before :] == self.counter.alerts, "told otherwise"

    async def _charge(self, amount: int, crash: bool = False) -> None:
        async with self.scene.system.foundation.begin(SYSTEM, Origin()) as work:
            work.charge(KEY, amount, await finding.account(work, self.ours.name))
            if crash:
                await self.scene.system.foundation.settle(work)
                raise Crash

    async def _limit(self, limits: Limits) -> None:
        async with self.scene.system.foundation.begin(self.ours.admin, Origin()) as work:
            await usage.set_limit(work, await finding.account(work, self.ours.name), KEY, limits)

    async def _told(self) -> list[str]:
        found = await events(self.scene.books, action="quota.alert", target={"name": f"account {self.ours.name} {KEY}"})
        return [entry["change"]["step"][1] for entry in found]


@pytest.fixture
async def telling(system: System, books: asyncpg.Connection) -> type[Telling]:
    ours = await settle(system, "telling")
    account = await books.fetchval("SELECT id FROM account WHERE name = $1", ours.name)
    return type("Telling", (Telling,), {"ours": ours, "account": account})


async def run(system: System, books: asyncpg.Connection, machine: type[Telling], examples: int) -> BaseException | None:
    found = await failure(machine, Scene(system, books), examples, same=examples > 30)
    await books.execute(FORGET, machine.account)
    return found


async def test_the_counter_does_what_the_rules_say(
    system: System, books: asyncpg.Connection, telling: type[Telling]
) -> None:
    assert await run(system, books, telling, 30) is None


FAULTS = {
    "what was told is forgotten": faulty("quota_standing", ("told >= 80 AND", "false AND")),
    "what was told is never forgotten": faulty("quota_standing", ("charged * 100 >= top * 75", "true")),
    "a soft limit is told at each charge beyond it": faulty(
        "quota_soft_standing", ("charged * 100 >= soft * 95", "false")
    ),
    "a step is told twice": faulty("quota_judge", ("RETURN NEXT;", "RETURN NEXT; RETURN NEXT;")),
    "what was given back is told": faulty("quota_judge", ("sum(f.amount)", "0 * sum(f.amount)")),
    "a refund is no room": faulty("quota_locked", ("needed > 0 AND", "false AND")),
    "a limit is passed by one": faulty(
        "quota_charge", ("amounts[i] > top - c.charged", "amounts[i] > top + 1 - c.charged")
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_machine_finds_a_planted_fault(
    system: System, books: asyncpg.Connection, telling: type[Telling], fault: str
) -> None:
    spoil: Spoil = FAULTS[fault]
    async with planted(books, spoil):
        found = await run(system, books, telling, 100)
    assert isinstance(found, AssertionError)
