"""The stream of an upload, from the first byte to the visible blob.

Bytes are hashed as they arrive and stored once. No database connection is held while they move: the quota is held
ahead, in windows where no length was announced. When the sender goes away, what came in whole stays, and the upload
resumes there. When the quota refuses, nothing stays.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import anyio

from registry.access import finding
from registry.actors import Actor, Origin
from registry.errors import QuotaExceeded, Refusal
from registry.oci.digest import Digest
from registry.oci.errors import RangeInvalid, SizeInvalid
from registry.places import Place
from registry.repositories import uploading
from registry.repositories.uploading import BlobTooLarge, Claim, UploadBusy, UploadUnknown
from registry.repositories.waiting import when_there_is_room
from registry.storage.blobs import Staging, StagingLost
from registry.work import Foundation, Work

RENEW_AFTER = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request's part of an upload. `start` is where it says it begins (none: where the upload stands), `length`
    what it announces (none: chunked)."""

    organization: str
    repository: str
    upload: UUID
    chunks: AsyncIterator[bytes]
    start: int | None = None
    length: int | None = None


class SenderGone(Exception):
    """The connection was cut; what came before is kept."""


@dataclass(slots=True)
class Receiver:
    """One request moving one upload."""

    foundation: Foundation
    actor: Actor
    origin: Origin

    async def append(self, incoming: Incoming) -> int:
        """Takes a chunk; returns the bytes received in all. Raises `RangeInvalid` when it does not follow the ones
        before, `SizeInvalid`, `BlobTooLarge`, `QuotaExceeded`, `UploadUnknown`, `UploadBusy`."""
        async with self._claiming(incoming):
            mine = await when_there_is_room(self._promise, lambda work: self._claim(work, incoming), incoming.upload)
        async with self._moving(mine) as staging:
            await self._pour(mine, incoming, staging)
            return await self._advance(mine, staging)

    async def close(self, incoming: Incoming, digest: Digest) -> int:
        """Takes the last chunk, if there is one, and makes the blob visible; returns its size. Raises
        `DigestInvalid`, and as `append`. Repeating it after success is a success."""

        async def claim(work: Work) -> Claim | int:
            try:
                return await self._claim(work, incoming)
            except UploadUnknown:
                if (size := await self._size_if_done(work, incoming, digest)) is not None:
                    return size
                raise

        async with self._claiming(incoming):
            mine = await when_there_is_room(self._promise, claim, incoming.upload)
        if isinstance(mine, int):
            return mine
        async with self._moving(mine) as staging:
            await self._pour(mine, incoming, staging)
            return await self._finish(mine, staging, digest)

    async def store(self, incoming: Incoming, digest: Digest) -> int:
        """As `close`, for a blob that comes with the request that began its upload. Where that fails nothing is kept:
        nobody has been told of the upload, so nobody can go on with it."""
        try:
            return await self.close(incoming, digest)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._forget(incoming)
            raise

    @asynccontextmanager
    async def _claiming(self, incoming: Incoming) -> AsyncIterator[None]:
        """When the length of a claim is refused, what came before it goes too; where nothing did, the upload stays, so
        that who repeats the request is refused for the same reason."""
        try:
            yield
        except (QuotaExceeded, BlobTooLarge):
            await self._forget(incoming, even_empty=False)
            raise

    async def _claim(self, work: Work, incoming: Incoming) -> Claim:
        place = await self._place(work, incoming)
        mine = await uploading.claim(work, place, incoming.upload, incoming.length)
        if incoming.start is not None and incoming.start != mine.received:
            raise RangeInvalid(
                f"This chunk starts at {incoming.start}, but the upload stands at {mine.received}.",
                received=mine.received,
            )
        return mine

    @asynccontextmanager
    async def _moving(self, mine: Claim) -> AsyncIterator[Staging]:
        """The staged bytes. Whatever goes wrong with them, the upload does not stay leased."""
        try:
            staging = await self.foundation.blobs.open_upload(mine.upload, mine.received, mine.algorithm)
        except StagingLost:
            await self._discard(mine)
            raise uploading.unknown() from None
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._release(mine, error)
            raise
        try:
            yield staging
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._give_up(mine, staging, error)
            raise

    async def _give_up(self, mine: Claim, staging: Staging, error: BaseException) -> None:
        """Leaves the upload as others may find it. One that is not surely ours any more is not touched."""
        try:
            await self._renew(mine)
        except Exception:
            staging.leave()
            return
        if isinstance(error, SenderGone):
            await self._advance(mine, staging)
            return
        await staging.abort(mine.received)
        if isinstance(error, QuotaExceeded | BlobTooLarge):
            await self._discard(mine)
        else:
            await self._release(mine, error)

    async def _pour(self, mine: Claim, incoming: Incoming, staging: Staging) -> None:
        end = None if incoming.length is None else mine.received + incoming.length
        renewed = self.foundation.clock.now()
        async for chunk in incoming.chunks:
            renewed = await self._renew_in_time(mine, renewed)
            reached = staging.offset + len(chunk)
            if end is not None and reached > end:
                raise SizeInvalid("More bytes arrived than the request announced; none of them were kept.")
            while reached > mine.held:
                mine = await self._hold_window(mine, reached)
            await staging.write(chunk)
        await self._renew_in_time(mine, renewed)
        if end is not None and staging.offset < end:
            raise SizeInvalid(
                f"The request announced {incoming.length} bytes and ended after {staging.offset - mine.received}; "
                "none of them were kept."
            )

    async def _renew_in_time(self, mine: Claim, renewed: datetime) -> datetime:
        """Before bytes are written, and not after: whoever was silent for too long may have lost the upload."""
        now = self.foundation.clock.now()
        if now - renewed <= RENEW_AFTER:
            return renewed
        await self._renew(mine)
        return now

    async def _renew(self, mine: Claim) -> None:
        async with self._promise() as work:
            await uploading.renew(work, mine)

    async def _hold_window(self, mine: Claim, until: int) -> Claim:
        async def hold(work: Work) -> Claim:
            work.attempt("image.push", mine.place.name, place=mine.place)
            return await uploading.hold_window(work, mine, until)

        async def give_way() -> None:
            nonlocal mine
            if mine.held:
                async with self._promise() as work:
                    mine = await uploading.give_way(work, mine)

        return await when_there_is_room(self._promise, hold, mine.upload, give_way)

    async def _advance(self, mine: Claim, staging: Staging) -> int:
        received = await staging.pause()
        async with self._promise() as work:
            await uploading.advance(work, mine, received)
        return received

    async def _finish(self, mine: Claim, staging: Staging, digest: Digest) -> int:
        size = staging.offset
        await staging.commit(digest)
        async with self._begin() as work:
            work.attempt("image.push", mine.place.name, place=mine.place, digest=digest)
            await uploading.finish(work, mine, digest, size)
        await self.foundation.blobs.discard_upload(mine.upload)
        return size

    async def _release(self, mine: Claim, error: BaseException) -> None:
        """Lets the upload stand where it stood, and puts it on the books that what came was refused."""
        async with self._promise() as work:
            work.attempt("image.push", mine.place.name, place=mine.place)
            await uploading.advance(work, mine, mine.received)
        if isinstance(error, Refusal):
            await work.refused(error)

    async def _discard(self, mine: Claim) -> None:
        async with self._promise() as work:
            await uploading.drop(work, mine)
        await self.foundation.blobs.discard_upload(mine.upload)

    async def _forget(self, incoming: Incoming, *, even_empty: bool = True) -> None:
        """Ends the upload, unless it has ended, as with its repository, or another request moves it."""
        with suppress(UploadUnknown, UploadBusy):
            async with self._promise() as work:
                place = await finding.repository(work, incoming.organization, incoming.repository)
                if place.exists:
                    if not even_empty and not await uploading.progress(work, place, incoming.upload):
                        return
                    await uploading.cancel(work, place, incoming.upload)
            await self.foundation.blobs.discard_upload(incoming.upload)

    async def _size_if_done(self, work: Work, incoming: Incoming, digest: Digest) -> int | None:
        place = await self._place(work, incoming)
        size: int | None = await work.fetchval(uploading.SOURCE, place.id, digest)
        return size

    async def _place(self, work: Work, incoming: Incoming) -> Place:
        work.attempt("image.push", f"{incoming.organization}/{incoming.repository}")
        place = await finding.repository(work, incoming.organization, incoming.repository)
        work.require("push", place)
        return place

    def _begin(self) -> Work:
        return self.foundation.begin(self.actor, self.origin)

    def _promise(self) -> Work:
        return self.foundation.promise(self.actor, self.origin)
