"""Any order of holds, windows, settlements, deletions, limits, ticks of the clock and crashes: the engine does what a
model of a few sets does.

The model knows what each repository holds and what is on its way; from that follow the content of each scope, and
whether a change has room. After each step, in one snapshot: each counter is content, holds and refunds (Q2), within its
limit unless that was lowered (Q1), the account is the sum of its organizations (Q9), and the recount agrees (Q3). That
the machine would notice is shown with planted faults: functions of the database that are replaced in one of its own.
"""

from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from registry.errors import QuotaExceeded
from registry.oci.digest import digest_of
from registry.organizations import founding
from registry.places import Place
from registry.quotas import recounting
from registry.repositories import deleting, uploading
from registry.repositories.uploading import Claim
from registry.tending import tidy
from tests.support.books import in_process, new_database, opened
from tests.support.inside import Household, index_of_nothing, settle
from tests.support.machines import Machine, Scene, failure, faulty, planted
from tests.support.server import Server

Result = TypeVar("Result")
CONTENTS = [bytes([65 + number]) * size for number, size in enumerate((10, 40, 90))]
BLOBS = {digest_of(content) for content in CONTENTS}
MARKS = ["x", "y"]
CRASH = st.sampled_from([False, False, False, True])
SPOTS = st.sampled_from([(0, "web"), (0, "app"), (1, "web"), (2, "web")])
STANDING = """
    SELECT q.scope_id, q.charged, CASE WHEN q.explicit THEN q.hard END AS hard, o.content, o.held, o.refunded
    FROM quota_counter q LEFT JOIN quota_owed() o USING (scope_kind, scope_id, key) WHERE q.key = 'STORAGE_BYTES'
"""


class Crash(RuntimeError):
    """The server dies before the commit."""


class Engine(Machine):
    """Organizations 0 and 1 are of one account, 2 of another. `held` and `content` are the model."""

    @initialize()
    def begin(self) -> None:
        self.content: dict[tuple[int, str], dict[str, int]] = {}
        self.uploads: list[tuple[tuple[int, str], Claim]] = []
        self.limits: dict[Any, int] = {}
        self.over: dict[Any, int] = {}
        self.scene.run(self._settle())

    async def _settle(self) -> None:
        first, third = await settle(self.scene.system, "first"), await settle(self.scene.system, "third")
        second = Household(self.scene.system, f"{first.name}-two", first.owner, first.admin)
        async with first.begin() as work:
            await founding.found(work, second.name)
        self.homes = [first, second, third]
        self.places = {}
        for number, name in ((0, "web"), (0, "app"), (1, "web"), (2, "web")):
            await self.homes[number].ensure(name)
            async with self.homes[number].begin() as work:
                self.places[number, name] = await self.homes[number].place(work, name)
            self.content[number, name] = {}

    # What the model says

    def _scopes(self, spot: tuple[int, str]) -> list[Any]:
        place = self.places[spot]
        return [place.repository_id, place.organization_id, place.account_id]

    def _contents(self) -> dict[Any, int]:
        found: dict[Any, int] = {}
        organizations: dict[Any, dict[str, int]] = {}
        for spot, digests in self.content.items():
            repository, organization, _ = self._scopes(spot)
            found[repository] = sum(digests.values())
            organizations.setdefault(organization, {}).update(digests)
        accounts = {self._scopes(spot)[1]: self._scopes(spot)[2] for spot in self.content}
        for organization, digests in organizations.items():
            found[organization] = sum(digests.values())
            found[accounts[organization]] = found.get(accounts[organization], 0) + found[organization]
        return found

    def _held(self) -> dict[Any, int]:
        found: dict[Any, int] = {}
        for spot, claim in self.uploads:
            for scope in self._scopes(spot):
                found[scope] = found.get(scope, 0) + claim.held
        return found

    def _has_room(self, spot: tuple[int, str], amounts: list[int]) -> bool:
        content, held = self._contents(), self._held()
        return all(
            amount <= 0
            or scope not in self.limits
            or content[scope] + held.get(scope, 0) + amount <= self.limits[scope]
            for scope, amount in zip(self._scopes(spot), amounts, strict=True)
        )

    def _added(self, spot: tuple[int, str], digest: str, size: int) -> list[int]:
        """What linking a digest adds at repository, organization and account."""
        fresh = digest not in self.content[spot]
        novel = not any(digest in held for other, held in self.content.items() if other[0] == spot[0])
        return [size if fresh else 0, size if novel else 0, size if novel else 0]

    def _try(self, act: Coroutine[Any, Any, Result], room: bool) -> Result | None:
        """It is done exactly where there is room."""
        try:
            done = self.scene.run(act)
        except QuotaExceeded:
            assert not room, "refused, although there was room"
            return None
        assert room, "done, although there was no room"
        return done

    # What can happen

    @rule(spot=SPOTS, size=st.sampled_from([0, 30, 60, 120]))
    def hold(self, spot: tuple[int, str], size: int) -> None:
        claim = self._try(self.homes[spot[0]].hold(spot[1], size), self._has_room(spot, [size] * 3))
        if claim:
            self.uploads.append((spot, claim))

    @precondition(lambda self: self.uploads)
    @rule(needed=st.sampled_from([1, 20, 90]))
    def widen(self, needed: int) -> None:
        spot, claim = self.uploads.pop()
        room = self._has_room(spot, [needed + claim.held] * 3)
        wider = self._try(self._widen(spot, claim, claim.held + needed), room)
        self.uploads.append((spot, wider or claim))

    async def _widen(self, spot: tuple[int, str], claim: Claim, until: int) -> Claim:
        async with self.homes[spot[0]].begin() as work:
            return await uploading.hold_window(work, claim, until)

    @precondition(lambda self: self.uploads)
    @rule(content=st.sampled_from(CONTENTS), crash=CRASH)
    def finish(self, content: bytes, crash: bool) -> None:
        spot, claim = self.uploads.pop(0)
        if len(content) > claim.held:
            self.uploads.append((spot, claim))
            return
        self._settle_one(spot, claim, content, crash)

    @rule(spot=SPOTS, content=st.sampled_from(CONTENTS), beyond=st.sampled_from([0, 30]), crash=CRASH)
    def store(self, spot: tuple[int, str], content: bytes, beyond: int, crash: bool) -> None:
        """Announced and settled, with more held than was needed or not."""
        size = len(content) + beyond
        if claim := self._try(self.homes[spot[0]].hold(spot[1], size), self._has_room(spot, [size] * 3)):
            self._settle_one(spot, claim, content, crash)

    @rule(content=st.sampled_from(CONTENTS))
    def share(self, content: bytes) -> None:
        """The same layer in two repositories of an organization."""
        for name in ("web", "app"):
            self.store((0, name), content, 0, False)

    def _settle_one(self, spot: tuple[int, str], claim: Claim, content: bytes, crash: bool) -> None:
        with suppress(Crash):
            self.scene.run(self._finish(spot, claim, content, crash))
            self.content[spot][digest_of(content)] = len(content)
            return
        self.uploads.append((spot, claim))

    async def _finish(self, spot: tuple[int, str], claim: Claim, content: bytes, crash: bool) -> None:
        async with self.homes[spot[0]].begin() as work:
            await uploading.finish(work, claim, digest_of(content), len(content))
            if crash:
                raise Crash

    @precondition(lambda self: self.uploads)
    @rule()
    def cancel(self) -> None:
        spot, claim = self.uploads.pop(0)
        self.scene.run(self._cancel(spot, claim))

    async def _cancel(self, spot: tuple[int, str], claim: Claim) -> None:
        async with self.homes[spot[0]].begin() as work:
            await uploading.drop(work, claim)

    @rule(content=st.sampled_from(CONTENTS), source=SPOTS, into=SPOTS)
    def mount(self, content: bytes, source: tuple[int, str], into: tuple[int, str]) -> None:
        digest = digest_of(content)
        if digest in self.content[source] and source != into:
            added = self._added(into, digest, len(content))
            if self._try(self._mount(source, into, digest), self._has_room(into, added)):
                self.content[into][digest] = len(content)

    async def _mount(self, source: tuple[int, str], target: tuple[int, str], digest: Any) -> bool:
        async with self.homes[target[0]].begin() as work:
            return await uploading.mount(work, self.places[source], self.places[target], digest)

    @rule(spot=SPOTS, mark=st.sampled_from(MARKS))
    def push(self, spot: tuple[int, str], mark: str) -> None:
        body = index_of_nothing(mark)
        room = self._has_room(spot, self._added(spot, digest_of(body), len(body)))
        if self._try(self.homes[spot[0]].push(spot[1], mark, marked=mark), room):
            self.content[spot][digest_of(body)] = len(body)

    @precondition(lambda self: any(self.content.values()))
    @rule(which=st.integers(0, 100), crash=CRASH)
    def delete(self, which: int, crash: bool) -> None:
        """Never refused by a quota."""
        there = sorted((spot, digest) for spot, digests in self.content.items() for digest in digests)
        spot, digest = there[which % len(there)]
        with suppress(Crash):
            self.scene.run(self._delete(spot, digest, digest in BLOBS, crash))
            del self.content[spot][digest]

    @precondition(lambda self: self._shared())
    @rule(which=st.integers(0, 100))
    def unshare(self, which: int) -> None:
        """What another repository of the organization holds, too."""
        spot, digest = self._shared()[which % len(self._shared())]
        self.scene.run(self._delete(spot, digest, digest in BLOBS, False))
        del self.content[spot][digest]

    def _shared(self) -> list[tuple[tuple[int, str], str]]:
        held = [(spot, digest) for spot, digests in self.content.items() for digest in digests]
        organizations = [(spot[0], digest) for spot, digest in held]
        return sorted(one for one in held if organizations.count((one[0][0], one[1])) > 1)

    async def _delete(self, spot: tuple[int, str], digest: Any, is_blob: bool, crash: bool) -> None:
        async with self.homes[spot[0]].begin() as work:
            place = await self.homes[spot[0]].place(work, spot[1])
            await (deleting.delete_blob if is_blob else deleting.delete_manifest)(work, place, digest)
            if crash:
                raise Crash

    @rule(spot=SPOTS, crash=CRASH)
    def empty(self, spot: tuple[int, str], crash: bool) -> None:
        """The repository goes with all that is in it and on its way to it, and is made anew."""
        with suppress(Crash):
            self.places[spot] = self.scene.run(self._empty(spot, crash))
            self.content[spot] = {}
            self.uploads = [one for one in self.uploads if one[0] != spot]

    async def _empty(self, spot: tuple[int, str], crash: bool) -> Place:
        home, name = self.homes[spot[0]], spot[1]
        async with home.begin() as work:
            await deleting.delete_repository(work, await home.place(work, name))
            if crash:
                raise Crash
        await home.ensure(name)
        async with home.begin() as work:
            return await home.place(work, name)

    @rule(spot=SPOTS, level=st.integers(0, 2), room=st.sampled_from([-60, 0, 30, 100, 5000]))
    def set_limit(self, spot: tuple[int, str], level: int, room: int) -> None:
        """Near to what is there, above or below."""
        scope, kind = self._scopes(spot)[level], ("repository", "organization", "account")[level]
        self.over[scope] = self._contents()[scope] + self._held().get(scope, 0)
        self.limits[scope] = max(self.over[scope] + room, 0)
        self.scene.run(
            self.scene.books.execute(
                "INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit, hard)"
                " VALUES ($1, $2, 'STORAGE_BYTES', 0, true, $3)"
                " ON CONFLICT (scope_kind, scope_id, key) DO UPDATE SET explicit = true, hard = $3",
                *(kind, scope, self.limits[scope]),
            )
        )

    @rule(spot=SPOTS, level=st.integers(0, 2), size=st.sampled_from([30, 60]))
    def fill(self, spot: tuple[int, str], level: int, size: int) -> None:
        """Q4: what fits exactly is done, whatever has been given back and not been taken off yet."""
        self.set_limit(spot, level, size)
        self.hold(spot, size)

    @rule(minutes=st.sampled_from([1, 16]))
    def tick(self, minutes: int) -> None:
        """Q7: what nobody moves holds nothing after a quarter of an hour, and the janitor leaves no refund."""
        self.scene.seconds += minutes * 60
        clock = self.scene.system.foundation.settings.clock_file
        assert clock is not None
        clock.write_text(str(self.scene.seconds))
        self.scene.run(tidy(self.scene.system.foundation))
        if minutes == 16:
            self.uploads = []

    # What always holds

    @invariant()
    def books_are_right(self) -> None:
        content, held = self._contents(), self._held()
        rows = {row["scope_id"]: row for row in self.scene.run(self.scene.books.fetch(STANDING))}
        for scope, amount in content.items():
            row = rows.get(scope)
            if row is None:
                assert amount + held.get(scope, 0) == 0
                continue
            assert (row["content"] or 0, row["held"] or 0) == (amount, held.get(scope, 0))
            assert row["charged"] == amount + held.get(scope, 0) + (row["refunded"] or 0)
            if scope in self.limits:
                # What is not taken off yet counts, but nobody is refused for it, so it may stand above a lower limit.
                assert row["charged"] - (row["refunded"] or 0) <= max(self.limits[scope], self.over[scope])
        assert self.scene.run(self.scene.books.fetch(recounting.DIFFERENCES)) == []


async def explored(dsn: str, folder: Path, examples: int, *, same: bool = False) -> BaseException | None:
    async with in_process(dsn, folder) as system, opened(dsn) as books:
        return await failure(Engine, Scene(system, books), examples, same=same)


async def test_the_engine_does_what_the_model_says(tidewaiter: Server, tmp_path: Path) -> None:
    async with new_database(tidewaiter) as dsn:
        assert await explored(dsn, tmp_path, 12) is None


FAULTS = {
    "a duplicate is charged twice": faulty("quota_settle", ("RETURNING b.links = 1", "RETURNING true")),
    "what was held and is not needed stays": faulty("quota_give_back", ("IF amount > 0", "IF false")),
    "a refund is taken off twice": faulty("quota_take_off", ("quota_move(c, -back)", "quota_move(c, -2 * back)")),
    "a refund is lost": faulty("quota_take_off", ("quota_move(c, -back)", "quota_move(c, 0)")),
    "a limit is passed": faulty(
        "quota_charge",
        ("amounts[i] > top - c.charged", "amounts[i] > top + 100 - c.charged"),
    ),
    "a refund is no room": faulty("quota_locked", ("needed > 0 AND", "false AND")),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_machine_finds_a_planted_fault(tidewaiter: Server, tmp_path: Path, fault: str) -> None:
    async with new_database(tidewaiter) as dsn, opened(dsn) as owner, planted(owner, FAULTS[fault]):
        assert await explored(dsn, tmp_path, 60, same=True) is not None


TRIGGERS = {
    "what is shared goes with its first holder": (
        "BEFORE UPDATE",
        "IF NEW.links < OLD.links THEN NEW.links := 0; END IF; RETURN NEW;",
    ),
    "a copy in another organization goes with it": (
        "AFTER DELETE",
        "DELETE FROM organization_blob WHERE digest = OLD.digest; RETURN OLD;",
    ),
}


@pytest.mark.parametrize("fault", TRIGGERS)
async def test_the_machine_finds_links_that_go_by_mistake(tidewaiter: Server, tmp_path: Path, fault: str) -> None:
    when, does = TRIGGERS[fault]
    async with new_database(tidewaiter) as dsn:
        async with opened(dsn) as owner:
            await owner.execute(
                f"""
                CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does} END $$;
                CREATE TRIGGER planted {when} ON organization_blob FOR EACH ROW EXECUTE FUNCTION planted();
                """
            )
        assert await explored(dsn, tmp_path, 60, same=True) is not None
