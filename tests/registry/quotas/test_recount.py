"""Whatever is done in whatever order, the counters say what a count from the content says."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from registry.errors import Refusal
from registry.oci.digest import Digest, digest_of
from registry.repositories import creating, deleting, tagging, uploading
from registry.system import System
from tests.support.books import in_process
from tests.support.inside import Household, index_of_nothing, settle
from tests.support.recount import differences

REPOSITORIES = ("web", "api", "jobs")
BLOBS = [bytes([number]) * 1000 * number for number in range(1, 5)]
MARKS = ("spring", "summer")
TAGS = ("1.0", "2.0", "latest")


class Wanderer:
    """Does one thing after another, chosen at random; a refusal is as good an end as any."""

    def __init__(self, seed: int, *households: Household) -> None:
        self.random = random.Random(seed)
        self.households = households
        self.claims: list[tuple[Household, uploading.Claim]] = []
        self.done = 0

    async def step(self) -> None:
        deeds: list[Callable[[Household, str], Awaitable[object]]] = [
            *(self.ensure, self.store, self.store, self.mount, self.hold, self.grow, self.finish, self.cancel),
            *(self.push, self.push, self.retag, self.untag, self.delete_manifest, self.delete_blob, self.remove),
        ]
        with suppress(Refusal):
            await self.random.choice(deeds)(self.random.choice(self.households), self.random.choice(REPOSITORIES))
            self.done += 1

    async def ensure(self, ours: Household, name: str) -> None:
        await ours.ensure(name)

    async def store(self, ours: Household, name: str) -> None:
        await ours.store(name, self.random.choice(BLOBS))

    async def mount(self, ours: Household, name: str) -> None:
        async with ours.begin() as work:
            source = await ours.place(work, self.random.choice(REPOSITORIES))
            target = await creating.ensure(work, ours.name, name)
            if source.exists:
                await uploading.mount(work, source, target, digest_of(self.random.choice(BLOBS)))

    async def hold(self, ours: Household, name: str) -> None:
        self.claims.append((ours, await ours.hold(name, self.random.randint(0, 5000))))

    async def grow(self, _: Household, __: str) -> None:
        if not self.claims:
            return
        number = self.random.randrange(len(self.claims))
        ours, claim = self.claims[number]
        async with ours.begin() as work:
            self.claims[number] = ours, await uploading.hold_window(work, claim, claim.held + 100)

    async def finish(self, _: Household, __: str) -> None:
        if self.claims:
            ours, claim = self.claims.pop()
            content = self.random.choice([blob for blob in BLOBS if len(blob) <= claim.held] or [b""])
            async with ours.begin() as work:
                await uploading.finish(work, claim, digest_of(content), len(content))

    async def cancel(self, _: Household, __: str) -> None:
        if self.claims:
            ours, claim = self.claims.pop()
            async with ours.begin() as work:
                await uploading.drop(work, claim)

    async def push(self, ours: Household, name: str) -> None:
        await ours.push(name, *self.random.sample(TAGS, 2), marked=self.random.choice(MARKS))

    async def retag(self, ours: Household, name: str) -> None:
        source, tag = self.random.sample(TAGS, 2)
        async with ours.begin() as work:
            await tagging.retag(work, await ours.place(work, name), source, tag, override=self.random.random() < 0.5)

    async def untag(self, ours: Household, name: str) -> None:
        async with ours.begin() as work:
            await tagging.untag(work, await ours.place(work, name), self.random.choice(TAGS))

    async def delete_manifest(self, ours: Household, name: str) -> None:
        digest = digest_of(index_of_nothing(self.random.choice(MARKS)))
        async with ours.begin() as work:
            await deleting.delete_manifest(work, await ours.place(work, name), digest)

    async def delete_blob(self, ours: Household, name: str) -> None:
        digest: Digest = digest_of(self.random.choice(BLOBS))
        async with ours.begin() as work:
            await deleting.delete_blob(work, await ours.place(work, name), digest)

    async def remove(self, ours: Household, name: str) -> None:
        if self.random.random() < 0.5:
            async with ours.begin() as work:
                await deleting.delete_repository(work, await ours.place(work, name))


@pytest.mark.parametrize("seed", range(3))
async def test_step_by_step(system: System, books: asyncpg.Connection, seed: int) -> None:
    wanderer = Wanderer(seed, await settle(system, "steps"), await settle(system, "steps"))
    for _ in range(60):
        await wanderer.step()
        assert await differences(books) == []
    assert wanderer.done > 20


async def test_many_at_once(system: System, books: asyncpg.Connection) -> None:
    """All in the same two organizations; nothing but refusals may stop them, and so no deadlock."""
    households = [await settle(system, "crowd") for _ in range(2)]
    wanderers = [Wanderer(seed, *households) for seed in range(8)]
    for _ in range(25):
        going = [asyncio.ensure_future(wanderer.step()) for wanderer in wanderers]
        while not all(one.done() for one in going):
            assert await differences(books) == []
        await asyncio.gather(*going)
    assert sum(wanderer.done for wanderer in wanderers) > 60


async def test_within_limits(dsn: str, books: asyncpg.Connection, data: Path) -> None:
    """The defaults of the settings are limits as good as those that were set."""
    async with in_process(dsn, data, quota_storage_bytes=9000, quota_tags=2, quota_repositories=2) as system:
        ours = await settle(system, "narrow")
        wanderers = [Wanderer(seed, ours) for seed in range(4)]
        for _ in range(25):
            await asyncio.gather(*(wanderer.step() for wanderer in wanderers))
            assert await differences(books) == []
            charged = await books.fetch(
                "SELECT key, charged FROM quota_counter q JOIN organization o ON q.scope_id = o.id WHERE o.name = $1",
                ours.name,
            )
            most = {"STORAGE_BYTES": 9000, "REPOSITORIES": 2}
            assert all(row["charged"] <= most.get(row["key"], 1000) for row in charged)


async def test_a_wrong_counter_is_found(system: System, books: asyncpg.Connection) -> None:
    """Else the other tests would prove nothing."""
    ours = await settle(system, "wrong")
    await ours.ensure("web")
    await ours.store("web", b"a layer")
    await ours.push("web", "1.0")
    for spoil, wrong in (
        ("UPDATE quota_counter SET charged = charged + 1", 9),
        ("UPDATE organization_blob SET links = links + 1", 2),
        ("DELETE FROM quota_counter", 8),
        ("DELETE FROM organization_blob", 2),
        ("UPDATE upload SET held = held + 1", 2),
    ):
        await ours.hold("web", 10)
        transaction = books.transaction()
        await transaction.start()
        before = await differences(books)
        await books.execute(spoil)
        assert (before, len(await differences(books)) >= wrong) == ([], True), spoil
        await transaction.rollback()
