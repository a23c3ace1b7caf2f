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
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

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
        # Per upload: the offset that a hash stands at, its algorithm, and the hash.
        self.hashes: OrderedDict[UUID, tuple[int, str, Any]] = OrderedDict()
        for each in (folder, self.blobs, self.uploads):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close(self) -> None:
        self.threads.shutdown()

    async def open_upload(self, upload: UUID, offset: int, algorithm: str = "sha256") -> "FileStaging":
        known = self.hashes.pop(upload, None)
        at_hand = known[2] if known and known[:2] == (offset, algorithm) else None
        return await self.run(_open_staging, self, upload, offset, algorithm, at_hand)

    async def discard_upload(self, upload: UUID) -> None:
        self.hashes.pop(upload, None)
        await self.run(self.staged(upload).unlink, True)

    async def size(self, digest: Digest) -> int | None:
        return await self.run(_size, self.file(digest))

    async def read(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        try:
            descriptor = await self.run(os.open, self.file(digest), os.O_RDONLY)
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

    async def run(self, act: Callable[..., Result], *arguments: Any) -> Result:
        """Calls in a thread of the store's own, so that bulk transfers cannot starve the rest of the process. A
        started call is always waited for: its file must not be closed under it."""
        running = asyncio.get_running_loop().run_in_executor(self.threads, act, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            with suppress(Exception):
                await running
            raise

    def remember(self, upload: UUID, offset: int, algorithm: str, state: Any) -> None:
        self.hashes[upload] = (offset, algorithm, state)
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
        finally:
            self._close()
        self._store.remember(self._upload, self._flushed, self._algorithm, self._hash)
        return self._flushed

    async def commit(self, expected: Digest) -> None:
        await self._flush()
        if expected.algorithm != self._algorithm:
            self._hash = await self._store.run(_hash_file, self._descriptor, self._flushed, expected.algorithm)
            self._algorithm = expected.algorithm
        if self._hash.hexdigest() != expected.encoded:
            found = f"{self._algorithm}:{self._hash.hexdigest()}"
            raise DigestInvalid(f"The bytes that arrived are {found}, not {expected}; nothing was stored.")
        await self._store.run(_put_in_place, self._store, self._upload, self._descriptor, expected)
        self._close()

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


def _open_staging(store: FilesystemStore, upload: UUID, offset: int, algorithm: str, state: Any) -> FileStaging:
    path = store.staged(upload)
    descriptor = (
        os.open(path, os.O_RDWR | (os.O_CREAT if offset == 0 else 0) | os.O_CLOEXEC, 0o600)
        if (offset == 0 or path.exists())
        else -1
    )
    if descriptor < 0 or os.fstat(descriptor).st_size < offset:
        if descriptor >= 0:
            os.close(descriptor)
        raise StagingLost("The bytes of this upload are gone; start a new one.")
    os.ftruncate(descriptor, offset)
    state = state or _hash_file(descriptor, offset, algorithm)
    return FileStaging(store, upload, descriptor, offset, algorithm, state)


def _append(descriptor: int, data: bytes, offset: int, state: Any) -> None:
    """Writes first: what could not be written must not be in the hash."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.pwrite(descriptor, view, offset + len(data) - len(view)) :]
    except OSError as error:
        os.ftruncate(descriptor, offset)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFull("The registry's disk is full; ask its operator for room.", retry_after=60) from error
        raise
    state.update(data)


def _hash_file(descriptor: int, size: int, algorithm: str) -> Any:
    state, offset = hasher(algorithm), 0
    while offset < size:
        chunk = os.pread(descriptor, min(BATCH, size - offset), offset)
        if not chunk:
            raise StagingLost("The bytes of this upload are gone; start a new one.")
        state.update(chunk)
        offset += len(chunk)
    return state


def _put_in_place(store: FilesystemStore, upload: UUID, descriptor: int, digest: Digest) -> None:
    target = store.file(digest)
    if target.exists():
        store.staged(upload).unlink(missing_ok=True)
        if store.durable:  # another upload may have put it there a moment ago
            _sync_folder(target.parent)
        return
    if store.durable:
        os.fdatasync(descriptor)
    made = not target.parent.is_dir()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.staged(upload).rename(target)
    if store.durable:
        for folder in (target.parent, *((target.parent.parent, store.blobs) if made else ())):
            _sync_folder(folder)


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
