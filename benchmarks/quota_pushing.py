"""A worker of the quotas' crash run: it pushes, breaks off, repeats itself and deletes until it is killed.

Its tasks use the verbs behind the doors, in one organization that is nearly full. Each has repositories of its own, of
which it notes every image that was acknowledged. Whoever deletes a repository notes that before and after: so it is
known which images must still be there. What is done in the repositories that all share is not noted.
"""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from benchmarks.killing import MISHAPS, Notes, again_and_again
from registry.access import finding
from registry.actors import Actor, ActorKind, Origin
from registry.errors import QuotaExceeded
from registry.identifiers import new_id
from registry.oci.digest import Digest, digest_of
from registry.places import Place
from registry.repositories import creating, deleting, pushing, uploading
from registry.repositories.pushing import Sent
from registry.repositories.receiving import Incoming, Receiver, SenderGone
from registry.settings import Settings
from registry.system import System, running
from registry.telemetry import configure
from registry.tending import tidy
from registry.work import Work
from tests.support.handmade import manifest_of
from tests.support.images import MANIFEST, payload

TASKS, SEASON, TIDY_SECONDS = 12, 15, 0.5
SHARED = ("shared-1", "shared-2", "shared-3")
PIECE = 5000
ORIGIN = Origin("request", "192.0.2.1", "a crash run")
OWNER = """
    SELECT u.id, u.name, u.account_id, u.generation, o.name AS organization
    FROM users u JOIN organization o USING (account_id) WHERE u.owner AND o.name LIKE 'crash-%'
"""
OWN = "SELECT name FROM repository WHERE organization_id = $1 AND name LIKE 'own-%' ORDER BY random() LIMIT 1"
TAGGED = "SELECT digest FROM manifest WHERE repository_id = $1 ORDER BY random() LIMIT 1"
LINKED = "SELECT digest FROM repository_blob WHERE repository_id = $1 ORDER BY random() LIMIT 1"


def settings_of(folder: Path) -> Settings:
    """Uploads and unused blobs go within the hours that the run's clock is moved by."""
    return Settings(
        data=folder,
        admin_password=SecretStr("the administrator's password"),
        clock_file=folder / "clock",
        upload_hours=1,
        unused_blob_hours=1,
        log_level="error",
    )


@dataclass(slots=True)
class Pusher:
    """One task. `own` is the repository whose acknowledged images it notes."""

    system: System
    notes: Notes
    owner: Actor
    organization: str
    name: str
    chance: random.Random
    own: str = ""

    async def live(self) -> None:
        deeds: list[Callable[[], Awaitable[None]]] = [
            *(self.push_own,) * 8,
            *(self.push_shared,) * 4,
            *(self.push_image,) * 3,
            *(self.break_off,) * 2,
            *(self.abandon, self.cancel, self.delete_manifest, self.delete_blob),
        ]
        for season in itertools.count():
            self.own = f"own-{self.name}-{season}"
            for _ in range(SEASON):
                await self.attempt(self.chance.choice(deeds))

    async def attempt(self, deed: Callable[[], Awaitable[None]]) -> None:
        try:
            await deed()
            self.notes.write("done", deed.__name__)
        except QuotaExceeded as refusal:
            self.notes.write("refused", refusal.detail["key"])
            if self.chance.random() < 0.5:
                await self.attempt(self.make_room)
        except SenderGone:
            self.notes.write("done", deed.__name__)
        except MISHAPS:
            await asyncio.sleep(0.02)

    # Deeds

    async def push_own(self) -> None:
        """Under no tag: of those, there are few."""
        asked, layer = time.monotonic_ns(), self.content()
        manifest = await self.push_whole(self.own, layer, None)
        for part in (layer, manifest):
            self.notes.write("kept", self.own, digest_of(part), len(part), asked)

    async def push_shared(self) -> None:
        await self.push(self.chance.choice(SHARED), self.content())

    async def push_image(self) -> None:
        await self.push_whole(self.chance.choice(SHARED), self.content(), f"tag-{self.chance.randrange(9)}")

    async def break_off(self) -> None:
        """The connection is cut, in what was announced or not."""
        content = self.content()
        upload = await self.start(repository := self.chance.choice(SHARED), None)
        length = self.chance.choice((None, 2 * len(content)))
        await self.receiver.append(self.incoming(repository, upload, cut(content), length))

    async def abandon(self) -> None:
        """Begun, and nobody comes back."""
        content = self.content()
        upload = await self.start(repository := self.chance.choice(SHARED), None)
        await self.receiver.append(self.incoming(repository, upload, pieces(content), None))

    async def cancel(self) -> None:
        repository, length = self.chance.choice(SHARED), self.chance.randrange(50_000)
        upload = await self.start(repository, length)
        async with self.promise() as work:
            await uploading.cancel(work, await self.place(work, repository), upload)

    async def delete_manifest(self) -> None:
        async with self.begin() as work:
            place = await self.place(work, self.chance.choice(SHARED))
            if place.exists and (digest := await work.fetchval(TAGGED, place.id)):
                await deleting.delete_manifest(work, place, Digest(digest))

    async def delete_blob(self) -> None:
        async with self.begin() as work:
            place = await self.place(work, self.chance.choice(SHARED))
            if place.exists and (digest := await work.fetchval(LINKED, place.id)):
                await deleting.delete_blob(work, place, Digest(digest))

    async def make_room(self) -> None:
        """Deletes a repository: one of another task, often of a worker that is dead, or one of those that all share."""
        async with self.begin() as work:
            organization = await finding.organization(work, self.organization)
            name = await work.fetchval(OWN, organization.id)
            if name is None or self.chance.random() < 0.1:
                name = self.chance.choice(SHARED)
            deed = new_id()
            self.notes.write("going", name, deed)
            await deleting.delete_repository(work, await self.place(work, name))
        self.notes.write("gone", deed, time.monotonic_ns())

    # How

    async def push_whole(self, repository: str, layer: bytes, tag: str | None) -> bytes:
        """An image; returns its manifest."""
        for part in (b"{}", layer):
            await self.push(repository, part)
        manifest = manifest_of(b"{}", layer)
        async with self.begin() as work:
            sent = Sent(tag or digest_of(manifest), manifest, MANIFEST)
            await pushing.push(work, self.organization, repository, sent)
        return manifest

    async def push(self, repository: str, content: bytes) -> None:
        """All at once and announced, or in a stream that says its digest in the end."""
        if self.chance.random() < 0.5:
            upload = await self.start(repository, len(content))
            incoming = self.incoming(repository, upload, pieces(content), len(content))
            await self.receiver.store(incoming, digest_of(content))
        else:
            upload = await self.start(repository, None)
            await self.receiver.append(self.incoming(repository, upload, pieces(content), None))
            await self.receiver.close(self.incoming(repository, upload, pieces(b""), 0), digest_of(content))

    async def start(self, repository: str, length: int | None) -> UUID:
        async with self.promise() as work:
            work.attempt("image.push", f"{self.organization}/{repository}")
            place = await creating.ensure(work, self.organization, repository)
            return await uploading.start(work, place, length, "sha256")

    def content(self) -> bytes:
        """New bytes, or some that others push as well."""
        known = self.chance.random() < 0.3
        seed = f"{self.chance.randrange(6)}" if known else f"{self.name} {self.chance.random()}"
        return payload(seed, random.Random(seed).randint(500, 40_000))

    def incoming(self, repository: str, upload: UUID, chunks: AsyncIterator[bytes], length: int | None) -> Incoming:
        return Incoming(self.organization, repository, upload, chunks, length=length)

    @property
    def receiver(self) -> Receiver:
        return Receiver(self.system.foundation, self.owner, ORIGIN)

    def begin(self) -> Work:
        return self.system.foundation.begin(self.owner, ORIGIN)

    def promise(self) -> Work:
        return self.system.foundation.promise(self.owner, ORIGIN)

    async def place(self, work: Work, repository: str) -> Place:
        return await finding.repository(work, self.organization, repository)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


async def cut(content: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(content):
        yield piece
    raise SenderGone


async def tend(system: System) -> None:
    while True:
        await tidy(system.foundation)
        await asyncio.sleep(TIDY_SECONDS)


async def work(dsn: str, folder: Path, name: str) -> None:
    notes = Notes(folder, name)

    async def come_up() -> None:
        async with running(settings_of(folder), configure(), dsn) as system, asyncio.TaskGroup() as tasks:
            found = await system.foundation.pool.fetchrow(OWNER)
            assert found is not None
            owner = Actor(ActorKind.USER, found["name"], found["id"], found["account_id"], found["generation"])
            tasks.create_task(tend(system))
            for number in range(TASKS):
                called = f"{name}-{time.monotonic_ns()}-{number}"
                chance = random.Random(called)
                tasks.create_task(Pusher(system, notes, owner, found["organization"], called, chance).live())

    await again_and_again(come_up)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
