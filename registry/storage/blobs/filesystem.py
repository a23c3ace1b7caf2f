"""Blobs in a folder.

    blobs/sha256/ab/abcdef…       one file a blob, put there by one rename
    uploads/<uuid>                bytes on their way

Bytes are hashed and written in batches by a few threads of the store's own. The state of a hash cannot be saved, so it
is kept in memory between the requests of one upload, and made anew from the staged bytes where it is not at hand.
"""

import asyncio
import errno
import os
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import anyio

from registry.oci.digest import Digest, hasher
from registry.oci.errors import DigestInvalid
from registry.storage.blobs import BlobMissing, StagingLost, StorageFull

BATCH = 1024 * 1024
THREADS = 8
REMEMBERED_HASHES = 1000
LEAST_FREE_BYTES = 64 * 1024 * 1024

Result = TypeVar("Result")


class FilesystemStore:
    """`durable` off skips every sync, for tests only."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.blobs, self.uploads = folder / "blobs", folder / "uploads"
        self.durable = durable
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")
        # Per upload: the offset that a hash stands at, its algorithm, when its file changed last, and the hash.
        self.hashes: OrderedDict[UUID, tuple[int, str, int, Any]] = OrderedDict()
        # Folders of blobs that are surely on the disk themselves. Another process may have made one a moment ago.
        self.settled: set[Path] = set()
        for each in (folder, self.blobs, self.uploads):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in (folder, folder.parent) if durable else ():
            _sync_folder(each)

    def close(self) -> None:
        self.threads.shutdown()

    async def open_upload(self, upload: UUID, offset: int, algorithm: str = "sha256") -> "FileStaging":
        known = self.hashes.pop(upload, None)
        at_hand = known[2:] if known and known[:2] == (offset, algorithm) else None
        return await self.run(_open_staging, self, upload, offset, algorithm, at_hand, undo=FileStaging.leave)

    async def discard_upload(self, upload: UUID) -> None:
        self.hashes.pop(upload, None)
        await self.run(self.staged(upload).unlink, True)

    async def size(self, digest: Digest) -> int | None:
        return await self.run(_size, self.file(digest))

    async def read(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        try:
            descriptor = await self.run(os.open, self.file(digest), os.O_RDONLY, undo=os.close)
        except FileNotFoundError:
            raise BlobMissing(f"The bytes of {digest} are not in the store.") from None
        try:
            while start <= end:
                chunk = await self.run(os.pread, descriptor, min(BATCH, end - start + 1), start)
                if not chunk:
                    raise BlobMissing(f"The bytes of {digest} end too soon in the store.")
                start += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    async def delete(self, digest: Digest) -> None:
        await self.run(self.file(digest).unlink, True)

    async def check(self) -> None:
        await self.run(_check_room, self.uploads)

    def local_file(self, digest: Digest) -> Path | None:
        return self.file(digest)

    def file(self, digest: Digest) -> Path:
        return self.blobs / digest.algorithm / digest.encoded[:2] / digest.encoded

    def staged(self, upload: UUID) -> Path:
        return self.uploads / str(upload)

    async def run(
        self, act: Callable[..., Result], *arguments: Any, undo: Callable[[Result], None] | None = None
    ) -> Result:
        """Calls in a thread of the store's own, so that bulk transfers cannot starve the rest of the process. A
        started call is always waited for, however often it is cancelled: its file must not be closed under it. `undo`
        takes back a result that nobody waits for any more."""
        running = asyncio.get_running_loop().run_in_executor(self.threads, act, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                while not running.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([running])
            if not running.cancelled() and running.exception() is None and undo is not None:
                undo(running.result())
            raise

    def remember(self, upload: UUID, offset: int, algorithm: str, changed: int, state: Any) -> None:
        self.hashes[upload] = (offset, algorithm, changed, state)
        while len(self.hashes) > REMEMBERED_HASHES:
            self.hashes.popitem(last=False)


class FileStaging:
    """`_flushed` bytes are in the file and in the hash; what came after waits in `_waiting`."""

    def __init__(self, store: FilesystemStore, upload: UUID, descriptor: int, offset: int, algorithm: str, state: Any):
        self._store, self._upload, self._descriptor = store, upload, descriptor
        self._flushed, self._algorithm, self._hash = offset, algorithm, state
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def offset(self) -> int:
        return self._flushed + self._waiting_bytes

    async def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= BATCH:
            await self._flush()

    async def pause(self) -> int:
        try:
            await self._flush()
            changed = os.fstat(self._descriptor).st_ctime_ns
        finally:
            self._close()
        self._store.remember(self._upload, self._flushed, self._algorithm, changed, self._hash)
        return self._flushed

    async def commit(self, expected: Digest) -> None:
        try:
            await self._flush()
            await self._check(expected)
            await self._store.run(_put_in_place, self._store, self._upload, self._descriptor, expected)
        except DigestInvalid:
            raise
        except BaseException:
            self._close()
            raise
        self._close()

    async def _check(self, expected: Digest) -> None:
        if expected.algorithm != self._algorithm:
            self._hash = await self._store.run(_hash_file, self._descriptor, self._flushed, expected.algorithm)
            self._algorithm = expected.algorithm
        if self._hash.hexdigest() != expected.encoded:
            found = f"{self._algorithm}:{self._hash.hexdigest()}"
            raise DigestInvalid(f"The bytes that arrived are {found}, not {expected}; nothing was stored.")

    def leave(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._close()

    async def abort(self, keep: int) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._descriptor >= 0:
            await self._store.run(os.ftruncate, self._descriptor, keep)
        self._close()

    async def _flush(self) -> None:
        if not self._waiting:
            return
        data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        await self._store.run(_append, self._descriptor, data, self._flushed, self._hash)
        self._flushed += len(data)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _open_staging(
    store: FilesystemStore, upload: UUID, offset: int, algorithm: str, at_hand: tuple[int, Any] | None
) -> FileStaging:
    try:
        with _full_disk_told():
            descriptor = os.open(store.staged(upload), os.O_RDWR | (os.O_CREAT if offset == 0 else 0), 0o600)
    except FileNotFoundError:
        raise _lost() from None
    try:
        found = os.fstat(descriptor)
        if found.st_size < offset:
            raise _lost()
        os.ftruncate(descriptor, offset)
        # The hash at hand is of other bytes if another server of this store has moved the upload since.
        fits = at_hand is not None and (found.st_size, found.st_ctime_ns) == (offset, at_hand[0])
        state = at_hand[1] if at_hand and fits else _hash_file(descriptor, offset, algorithm)
    except BaseException:
        os.close(descriptor)
        raise
    return FileStaging(store, upload, descriptor, offset, algorithm, state)


def _lost() -> StagingLost:
    return StagingLost("The bytes of this upload are gone; start a new one.")


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFull("The registry's disk is full; ask its operator for room.", retry_after=60) from error
        raise


def _append(descriptor: int, data: bytes, offset: int, state: Any) -> None:
    """Writes first: what could not be written must not be in the hash."""
    view = memoryview(data)
    try:
        with _full_disk_told():
            while view:
                view = view[os.pwrite(descriptor, view, offset + len(data) - len(view)) :]
    except BaseException:
        os.ftruncate(descriptor, offset)
        raise
    state.update(data)


def _hash_file(descriptor: int, size: int, algorithm: str) -> Any:
    state, offset = hasher(algorithm), 0
    while offset < size:
        chunk = os.pread(descriptor, min(BATCH, size - offset), offset)
        if not chunk:
            raise _lost()
        state.update(chunk)
        offset += len(chunk)
    return state


def _put_in_place(store: FilesystemStore, upload: UUID, descriptor: int, digest: Digest) -> None:
    """The bytes are on the disk before the rename shows them, and the rename before anybody is told."""
    target = store.file(digest)
    with _full_disk_told():
        if target.exists():  # another upload may have put it there a moment ago
            store.staged(upload).unlink(missing_ok=True)
        else:
            if store.durable:
                os.fdatasync(descriptor)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            store.staged(upload).rename(target)
        if store.durable:
            _settle(store, target.parent)


def _settle(store: FilesystemStore, folder: Path) -> None:
    _sync_folder(folder)
    if folder not in store.settled:
        _sync_folder(folder.parent)
        _sync_folder(store.blobs)
        store.settled.add(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _check_room(folder: Path) -> None:
    probe = folder / f".probe-{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        raise StorageFull("Less than 64 MiB are free where blobs are stored.", retry_after=60)
