"""What the explanation of a quota promises is what comes back when it is done: in worlds of images made at random, that
share layers within repositories, between them, and with other organizations."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from registry.errors import Refusal
from registry.oci.digest import Digest, digest_of
from registry.quotas import explaining, freeing, usage, weighing
from registry.quotas.explaining import RepositoryUse, Uses
from registry.quotas.freeing import GivenBack
from registry.quotas.weighing import TagWeight
from registry.repositories import deleting, pushing, tagging
from registry.repositories.pushing import Sent
from registry.system import System
from tests.support.handmade import INDEX, index_of, manifest_of
from tests.support.images import MANIFEST
from tests.support.inside import Household, settle

REPOSITORIES = ("web", "api", "jobs")
LAYERS = [bytes([number]) * 10**number for number in range(1, 5)] + [b"\xff" * 777]


@dataclass
class World:
    """A household with images in it, and the random choices that make them. The books are those of its organization."""

    ours: Household
    random: random.Random
    manifests: dict[str, list[bytes]] = field(default_factory=lambda: {name: [] for name in REPOSITORIES})

    async def grow(self, steps: int) -> None:
        for _ in range(steps):
            deeds = [self.image, self.image, self.index, self.signature, self.blob, self.retag, self.forget]
            await self.random.choice(deeds)(self.random.choice(REPOSITORIES))

    async def image(self, name: str) -> None:
        layers = self.random.sample(LAYERS, self.random.randint(0, 3))
        await self.push(name, manifest_of(b"{}", *layers), MANIFEST, layers)

    async def index(self, name: str) -> None:
        children = self.random.sample(self.manifests[name], min(len(self.manifests[name]), 2))
        await self.push(name, index_of(*children), INDEX, [])

    async def signature(self, name: str) -> None:
        if self.manifests[name]:
            subject = self.random.choice(self.manifests[name])
            said = {"mediaType": MANIFEST, "digest": digest_of(subject), "size": len(subject)}
            layer = self.random.choice(LAYERS)
            await self.push(name, manifest_of(b"{}", layer, subject=said), MANIFEST, [layer])

    async def blob(self, name: str) -> None:
        """Once, one that is a manifest too."""
        await self.ours.store(name, self.random.choice([*LAYERS, *self.manifests[name][:1]]))

    async def retag(self, name: str) -> None:
        found = await self.tags()
        source, tag = self.random.choice([one for one in found if one.startswith(name)] or [""]), self.tag()
        if source:
            async with self.ours.begin() as work:
                place = await self.ours.place(work, name)
                await tagging.retag(work, place, source.partition(":")[2], tag, override=True)

    async def forget(self, name: str) -> None:
        """Deletes a manifest, whether an index needs it or not."""
        if len(self.manifests[name]) > 2:
            body = self.manifests[name].pop(self.random.randrange(len(self.manifests[name])))
            async with self.ours.begin() as work:
                await deleting.delete_manifest(work, await self.ours.place(work, name), digest_of(body))

    def tag(self) -> str:
        return self.random.choice(["1.0", "2.0", "latest", "edge"])

    async def push(self, name: str, body: bytes, kind: str, layers: list[bytes]) -> Digest:
        for blob in (b"{}", *layers) if kind == MANIFEST else ():
            await self.ours.store(name, blob)
        tags = [self.tag()] if self.random.random() < 0.6 else []
        async with self.ours.begin() as work:
            pushed = await pushing.push(work, self.ours.name, name, Sent(digest_of(body), body, kind, tags))
        if body not in self.manifests[name]:
            self.manifests[name].append(body)
        return pushed.digest

    async def used(self, repository: str | None = None) -> int:
        async with self.ours.begin() as work:
            place = await usage.scope_of(work, account=None, organization=self.ours.name, repository=repository)
            return {quota.key: quota.used for quota in await usage.quotas_of(work, place)}[usage.Key.STORAGE_BYTES]

    async def uses(self, repository: str | None = None) -> Uses:
        async with self.ours.begin() as work:
            place = await usage.scope_of(work, account=None, organization=self.ours.name, repository=repository)
            return await explaining.uses(work, place)

    async def tags(self) -> dict[str, TagWeight]:
        found: dict[str, TagWeight] = {}
        uses = {one.id: one.name for one in (await self.uses()).repositories}
        async with self.ours.begin() as work:
            for repository, weights in (await weighing.tags(work, list(uses), 100)).items():
                found |= {f"{uses[repository]}:{weight.name}": weight for weight in weights}
        return found

    async def freed_by(self, *tags: str) -> GivenBack:
        async with self.ours.begin() as work:
            place = await usage.scope_of(work, account=None, organization=self.ours.name, repository=None)
            return await freeing.freed_by(work, place, tags)

    async def delete(self, back: GivenBack) -> None:
        for name in back.manifests:
            repository, _, digest = name.partition("/")[2].partition("@")
            async with self.ours.begin() as work:
                await deleting.delete_manifest(work, await self.ours.place(work, repository), Digest(digest))


@pytest.fixture
async def world(system: System, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(await settle(system, "explained"), random.Random(request.param))
    neighbour = World(await settle(system, "neighbour"), random.Random(request.param))
    await neighbour.grow(3)
    await world.ours.ensure(*REPOSITORIES)
    await world.grow(18)
    yield world


random_worlds = pytest.mark.parametrize("world", range(5), indirect=True)


@random_worlds
async def test_the_uses_of_a_scope_are_what_it_is_charged(world: World) -> None:
    uses = await world.uses()
    assert uses.used == await world.used()
    assert {one.name for one in uses.repositories} == set(REPOSITORIES)
    for one in uses.repositories:
        alone = await world.uses(one.name)
        assert one.used == alone.used == await world.used(one.name)
        assert alone.repositories == [one]
        assert 0 <= one.exclusive <= one.used
        assert 0 <= one.reclaimable <= one.untagged <= one.used
    assert uses.logical == sum(one.logical for one in uses.repositories)


@random_worlds
async def test_deleting_the_tags_one_after_the_other_gives_back_what_was_promised(world: World) -> None:
    while tags := await world.tags():
        name = world.random.choice(sorted(tags))
        repository = name.partition(":")[0]
        siblings = [
            one
            for one, weight in tags.items()
            if one.startswith(f"{repository}:") and weight.digest == tags[name].digest
        ]
        back = await world.freed_by(*siblings)
        assert (back.above, back.at_repository) == (tags[name].exclusive, tags[name].at_repository)
        assert back.above <= tags[name].total
        before = await world.used(), await world.used(repository)
        await untag(world, siblings)
        await world.delete(back)
        after = await world.used(), await world.used(repository)
        assert (before[0] - after[0], before[1] - after[1]) == (back.above, back.at_repository)


@random_worlds
async def test_several_tags_of_several_repositories_give_back_what_was_promised(world: World) -> None:
    tags = sorted(await world.tags())
    chosen = world.random.sample(tags, min(4, len(tags)))
    back = await world.freed_by(*chosen)
    before = await world.used()
    at_repositories = [await world.used(name) for name in REPOSITORIES]
    await untag(world, chosen)
    await world.delete(back)
    assert before - await world.used() == back.above
    assert sum(at_repositories) - sum([await world.used(name) for name in REPOSITORIES]) == back.at_repository


@random_worlds
async def test_what_is_reclaimable_comes_back_and_all_tags_still_lead_to_whole_images(world: World) -> None:
    for name in REPOSITORIES:
        (one,) = (await world.uses(name)).repositories
        before = await world.used(), await world.used(one.name)
        weights = await world.tags()
        await clean(world, one)
        assert (before[0] - await world.used(), before[1] - await world.used(one.name)) == (
            one.reclaimable,
            one.untagged,
        )
        assert totals(await world.tags()) == totals(weights)
        assert (await world.uses(one.name)).reclaimable == 0
    assert (await world.uses()).reclaimable == 0


@random_worlds
async def test_all_of_an_organization_that_is_reclaimable_comes_back_together(world: World) -> None:
    uses = await world.uses()
    before = await world.used()
    for one in uses.repositories:
        await clean(world, one)
    assert before - await world.used() == uses.reclaimable


@random_worlds
async def test_deleting_the_repositories_gives_back_what_each_holds_alone(world: World) -> None:
    for name in REPOSITORIES:
        (one,) = (await world.uses(name)).repositories
        before = await world.used()
        async with world.ours.begin() as work:
            await deleting.delete_repository(work, await world.ours.place(work, name))
        assert before - await world.used() == one.exclusive
    assert await world.used() == 0


def totals(weights: dict[str, TagWeight]) -> dict[str, int]:
    return {name: weight.total for name, weight in weights.items()}


async def untag(world: World, names: list[str]) -> None:
    for name in names:
        repository, _, tag = name.partition(":")
        async with world.ours.begin() as work:
            await tagging.untag(work, await world.ours.place(work, repository), tag)


async def clean(world: World, repository: RepositoryUse) -> None:
    """Takes out what no tag leads to, found by walking from the tags: manifests first, and what nothing needs then."""
    kept = {weight.digest for name, weight in (await world.tags()).items() if name.startswith(f"{repository.name}:")}
    async with world.ours.begin() as work:
        here = await work.fetch("SELECT digest, subject FROM manifest WHERE repository_id = $1", repository.id)
        parts = await work.fetch("SELECT * FROM manifest_part WHERE repository_id = $1", repository.id)
        blobs = await work.fetch("SELECT digest FROM repository_blob WHERE repository_id = $1", repository.id)
    digests = {row["digest"] for row in here}
    while True:
        more = {row["digest"] for row in parts if row["manifest_digest"] in kept and row["digest"] in digests}
        more |= {row["digest"] for row in here if row["subject"] in kept}
        if more <= kept:
            break
        kept |= more
    for digest in digests - kept:
        async with world.ours.begin() as work:
            await deleting.delete_manifest(work, await world.ours.place(work, repository.name), Digest(digest))
    for row in blobs:
        try:
            async with world.ours.begin() as work:
                await deleting.delete_blob(work, await world.ours.place(work, repository.name), Digest(row["digest"]))
        except Refusal:
            continue
