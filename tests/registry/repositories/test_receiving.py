"""An upload whose bytes meet trouble on the way to the disk can be gone on with at once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from registry.actors import Origin
from registry.errors import Refusal
from registry.oci.digest import digest_of
from registry.repositories import creating, uploading
from registry.repositories.receiving import Incoming, Receiver
from registry.storage.blobs import Staging, StorageFull
from registry.work import Foundation
from tests.support.inside import Household

CONTENT = b"a layer of few bytes"


class Troubled:
    """A store that fails once, at one step."""

    def __init__(self, store: Any, step: str) -> None:
        self.store, self.step = store, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def open_upload(self, *arguments: Any) -> Staging:
        self.fail("open")
        return Held(await self.store.open_upload(*arguments), self)  # type: ignore[return-value]

    def fail(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            raise StorageFull("The disk is full.", retry_after=60)


class Held:
    def __init__(self, staging: Any, trouble: Troubled) -> None:
        self.staging, self.trouble = staging, trouble

    def __getattr__(self, name: str) -> Any:
        return getattr(self.staging, name)

    async def write(self, data: bytes) -> None:
        self.trouble.fail("write")
        await self.staging.write(data)

    async def pause(self) -> int:
        self.trouble.fail("pause")
        received: int = await self.staging.pause()
        return received

    async def commit(self, digest: Any) -> None:
        self.trouble.fail("commit")
        await self.staging.commit(digest)


async def begun(ours: Household) -> UUID:
    async with ours.begin() as work:
        work.attempt("image.push", f"{ours.name}/web")
        place = await creating.ensure(work, ours.name, "web")
        return await uploading.start(work, place, None, "sha256")


def incoming(ours: Household, upload: UUID) -> Incoming:
    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT

    return Incoming(ours.name, "web", upload, chunks(), None, len(CONTENT))


def receiver(ours: Household, foundation: Foundation) -> Receiver:
    return Receiver(foundation, ours.owner, Origin())


@pytest.mark.parametrize("step", ["open", "write", "commit"])
async def test_the_last_request_can_be_repeated_at_once(ours: Household, step: str) -> None:
    foundation = ours.system.foundation
    troubled = replace(foundation, blobs=Troubled(foundation.blobs, step))  # type: ignore[arg-type]
    upload, digest = await begun(ours), digest_of(CONTENT)
    with pytest.raises(Refusal) as caught:
        await receiver(ours, troubled).close(incoming(ours, upload), digest)
    assert isinstance(caught.value, StorageFull)
    assert await receiver(ours, troubled).close(incoming(ours, upload), digest) == len(CONTENT)


@pytest.mark.parametrize("step", ["open", "write", "pause"])
async def test_a_chunk_can_be_repeated_at_once(ours: Household, step: str) -> None:
    foundation = ours.system.foundation
    troubled = replace(foundation, blobs=Troubled(foundation.blobs, step))  # type: ignore[arg-type]
    upload = await begun(ours)
    with pytest.raises(StorageFull):
        await receiver(ours, troubled).append(incoming(ours, upload))
    assert await receiver(ours, troubled).append(incoming(ours, upload)) == len(CONTENT)
