"""The people and places of a registry in this process, where a test opens transactions itself and lets them meet.

ours = await settle(system, "ships")
async with ours.begin() as work:
    await deleting.delete_repository(work, await ours.place(work, "web"))
"""

import asyncio
import json
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
import asyncpg
from argon2 import PasswordHasher

from registry.access import finding
from registry.accounts import managing
from registry.accounts.passwords import Passwords
from registry.actors import Actor, ActorKind, Origin
from registry.oci.digest import Digest, digest_of
from registry.organizations import founding
from registry.places import Place
from registry.repositories import creating, pushing, uploading
from registry.repositories.pushing import Sent
from registry.system import System
from registry.work import Work

INDEX = "application/vnd.oci.image.index.v1+json"
PASSWORD = "a password that is long enough"
PATIENCE_SECONDS = 20
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class Quick(Passwords):
    """Hashed with next to no effort: else that takes longer than all else that a household needs."""

    def __init__(self) -> None:
        super().__init__()
        self._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True, slots=True)
class Household:
    """An account with one organization of the same name, the owner who acts, and the administrator of them all."""

    system: System
    name: str
    owner: Actor
    admin: Actor

    def begin(self) -> Work:
        return self.system.foundation.begin(self.owner, Origin("request", "192.0.2.1", "a test"))

    async def place(self, work: Work, repository: str) -> Place:
        return await finding.repository(work, self.name, repository)

    async def ensure(self, *repositories: str) -> None:
        for repository in repositories:
            async with self.begin() as work:
                work.attempt("image.push", f"{self.name}/{repository}")
                await creating.ensure(work, self.name, repository)

    async def hold(self, repository: str, size: int) -> uploading.Claim:
        """A claimed upload of an announced size; the repository is made if it is not there."""
        async with self.begin() as work:
            work.attempt("image.push", f"{self.name}/{repository}")
            place = await creating.ensure(work, self.name, repository)
            upload = await uploading.start(work, place, size, "sha256")
            return await uploading.claim(work, place, upload, None)

    async def store(self, repository: str, content: bytes) -> Digest:
        """A blob in the repository, without its bytes in the store."""
        claim = await self.hold(repository, len(content))
        async with self.begin() as work:
            await uploading.finish(work, claim, digest_of(content), len(content))
        return digest_of(content)

    async def push(self, repository: str, *tags: str, marked: str = "") -> Digest:
        """An index of nothing, which needs no blobs; another mark makes another digest. The tags point at it."""
        async with self.begin() as work:
            return await self.push_with(work, repository, *tags, marked=marked)

    async def push_with(self, work: Work, repository: str, *tags: str, marked: str = "") -> Digest:
        body = index_of_nothing(marked)
        return (await pushing.push(work, self.name, repository, Sent(digest_of(body), body, INDEX, tags))).digest


def index_of_nothing(mark: str) -> bytes:
    whole = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"mark": mark}}
    return json.dumps(whole).encode()


async def settle(system: System, name: str) -> Household:
    """Another household at each call; names begin with `name`."""
    unique = f"{name}-{secrets.token_hex(4)}"
    foundation, admin = system.foundation, await administrator(system)
    async with foundation.begin(admin, Origin()) as work:
        account, user = await managing.create_account(work, Quick(), unique, f"{unique}-owner", PASSWORD)
    owner = Actor(ActorKind.USER, user.name, user.id, account.id, user.generation)
    async with foundation.begin(owner, Origin()) as work:
        await founding.found(work, unique)
    return Household(system, unique, owner, admin)


async def meets(books: asyncpg.Connection, what: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """Begins it, and returns when it waits for another or is done. `books` is in no transaction: one looks at one
    moment for ever."""
    before = await books.fetchval(WAITING)
    task = asyncio.ensure_future(what)
    with anyio.fail_after(PATIENCE_SECONDS):
        while not task.done() and await books.fetchval(WAITING) == before:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    return task


async def administrator(system: System) -> Actor:
    """The platform's, as the first start made it."""
    found = await system.foundation.pool.fetchrow("SELECT id, account_id, generation FROM users WHERE name = 'admin'")
    assert found is not None
    return Actor(ActorKind.USER, "admin", found["id"], found["account_id"], found["generation"])
