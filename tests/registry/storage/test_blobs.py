"""What every store of blobs must do, and then what is particular about the one in a folder.

A store of another kind joins by a line in `STORES`.
"""

import asyncio
import contextlib
import os
import resource
import subprocess
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import Refusal
from registry.oci.digest import Digest, digest_of
from registry.oci.errors import DigestInvalid
from registry.storage.blobs import BlobMissing, BlobStore, StagingLost, StorageFull
from registry.storage.blobs.filesystem import BATCH, FilesystemStore
from tests.support.images import payload

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """`make` opens the store that lies in a folder; `staged` tells what of unfinished uploads lies there."""

    make: Callable[[Path], BlobStore]
    staged: Callable[[Path], list[str]]


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


STORES: Mapping[str, Kind] = {"filesystem": Kind(FilesystemStore, lambda folder: files_in(folder / "uploads"))}


@dataclass(slots=True)
class Bench:
    """One store, which may be opened again as after a kill: what was not put away is lost."""

    kind: Kind
    folder: Path
    opened: list[BlobStore]

    def open(self) -> BlobStore:
        self.opened.append(self.kind.make(self.folder))
        return self.opened[-1]

    @property
    def staged(self) -> list[str]:
        return self.kind.staged(self.folder)


@contextlib.contextmanager
def bench_of(kind: Kind, folder: Path) -> Iterator[Bench]:
    bench = Bench(kind, folder, [])
    yield bench
    for store in bench.opened:
        store.close()


@pytest.fixture(params=list(STORES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench_of(STORES[request.param], tmp_path / "store") as bench:
        yield bench


@pytest.fixture
def store(bench: Bench) -> BlobStore:
    return bench.open()


async def put(store: BlobStore, content: bytes, algorithm: str = "sha256") -> Digest:
    digest = digest_of(content, algorithm)
    staging = await store.open_upload(uuid.uuid4(), 0, algorithm)
    await staging.write(content)
    await staging.commit(digest)
    return digest


async def append(store: BlobStore, upload: UUID, offset: int, content: bytes) -> int:
    staging = await store.open_upload(upload, offset)
    await staging.write(content)
    return await staging.pause()


async def content_of(store: BlobStore, digest: Digest) -> bytes:
    size = await store.size(digest)
    assert size is not None
    return await part_of(store, digest, 0, size - 1)


async def part_of(store: BlobStore, digest: Digest, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest, start, end)])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- every store ------------------------------------------------------------------------------------------------------


async def test_a_blob_is_read_as_it_was_written(store: BlobStore, bench: Bench) -> None:
    content = payload("whole", 3 * MEBIBYTE + 5)
    digest = await put(store, content)
    assert await content_of(store, digest) == content
    assert await content_of(bench.open(), digest) == content
    assert bench.staged == []


async def test_a_blob_is_not_there_before_it_is_whole(store: BlobStore) -> None:
    content = payload("half", 2 * MEBIBYTE)
    upload = uuid.uuid4()
    offset = await append(store, upload, 0, content[:MEBIBYTE])
    for part in (content, content[:MEBIBYTE]):
        assert await store.size(digest_of(part)) is None
    staging = await store.open_upload(upload, offset)
    await staging.write(content[offset:])
    await staging.commit(digest_of(content))
    assert await store.size(digest_of(content)) == len(content)


async def test_the_empty_blob_is_a_blob(store: BlobStore) -> None:
    digest = await put(store, b"")
    assert await store.size(digest) == 0
    assert await content_of(store, digest) == b""


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_both_algorithms_name_the_same_bytes(store: BlobStore, algorithm: str) -> None:
    content = payload(algorithm, 1000)
    assert await content_of(store, await put(store, content, algorithm)) == content


async def test_an_upload_begun_for_one_algorithm_may_be_finished_for_the_other(store: BlobStore) -> None:
    """A client names the digest only with its last request."""
    content = payload("other", MEBIBYTE + 7)
    for begun, finished in (("sha256", "sha512"), ("sha512", "sha256")):
        staging = await store.open_upload(uuid.uuid4(), 0, begun)
        await staging.write(content)
        await staging.commit(digest_of(content, finished))
        assert await content_of(store, digest_of(content, finished)) == content


async def test_a_wrong_digest_shows_nothing_and_keeps_what_was_staged(store: BlobStore, bench: Bench) -> None:
    content, other = b"what came", b"what was meant"
    upload = uuid.uuid4()
    offset = await append(store, upload, 0, content)
    staging = await store.open_upload(upload, offset)
    await staging.write(b" and more")
    with pytest.raises(DigestInvalid, match=digest_of(other)):
        await staging.commit(digest_of(other))
    await staging.abort(offset)
    for each in (content, other, content + b" and more"):
        assert await store.size(digest_of(each)) is None
    again = await store.open_upload(upload, offset)
    await again.commit(digest_of(content))
    assert await content_of(store, digest_of(content)) == content
    assert bench.staged == []


@pytest.mark.parametrize("after_a_kill", [False, True])
async def test_an_upload_goes_on_where_it_was_put_away(store: BlobStore, bench: Bench, after_a_kill: bool) -> None:
    content = payload("resumed", 2 * MEBIBYTE + 3)
    upload, offset = uuid.uuid4(), 0
    for end in (10, MEBIBYTE + 1, len(content)):
        offset = await append(store, upload, offset, content[offset:end])
        assert offset == end
        store = bench.open() if after_a_kill else store
    staging = await store.open_upload(upload, offset)
    assert staging.offset == offset
    await staging.commit(digest_of(content))
    assert await content_of(store, digest_of(content)) == content


@pytest.mark.parametrize("after_a_kill", [False, True])
async def test_more_bytes_than_the_database_has_seen_are_cut_off(
    store: BlobStore, bench: Bench, after_a_kill: bool
) -> None:
    """The server died between putting bytes away and writing down that they came."""
    upload = uuid.uuid4()
    seen = await append(store, upload, 0, b"seen")
    await append(store, upload, seen, b" and never written down, and long")
    store = bench.open() if after_a_kill else store
    staging = await store.open_upload(upload, seen)
    assert staging.offset == seen
    await staging.write(b" anew")
    await staging.commit(digest_of(b"seen anew"))
    assert await content_of(store, digest_of(b"seen anew")) == b"seen anew"


async def test_bytes_of_a_request_that_was_killed_are_not_counted(store: BlobStore, bench: Bench) -> None:
    upload = uuid.uuid4()
    seen = await append(store, upload, 0, b"seen")
    killed = await store.open_upload(upload, seen)
    await killed.write(payload("killed", 3 * MEBIBYTE))
    after = bench.open()
    staging = await after.open_upload(upload, seen)
    await staging.commit(digest_of(b"seen"))
    assert await content_of(after, digest_of(b"seen")) == b"seen"
    killed.leave()


@pytest.mark.parametrize("came", [None, b"", b"few"])
async def test_fewer_bytes_than_the_database_has_seen_cannot_go_on(store: BlobStore, came: bytes | None) -> None:
    upload, before = uuid.uuid4(), open_files()
    if came is not None:
        await append(store, upload, 0, came)
    with pytest.raises(StagingLost, match="start a new one"):
        await store.open_upload(upload, 10)
    assert open_files() == before


async def test_the_same_bytes_may_come_from_many_at_once(store: BlobStore, bench: Bench) -> None:
    content = payload("same", MEBIBYTE)
    second = bench.open()
    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(put, (store, second)[number % 2], content)
    digest = await put(store, content)
    assert await content_of(store, digest) == content
    assert bench.staged == []


async def test_a_reader_keeps_what_it_began_when_the_same_blob_comes_again(store: BlobStore) -> None:
    content = payload("again", 3 * MEBIBYTE)
    digest = await put(store, content)
    reading = store.read(digest, 0, len(content) - 1)
    got = await anext(reading)
    await put(store, content)
    assert got + b"".join([chunk async for chunk in reading]) == content


async def test_a_part_is_read_from_its_first_to_its_last_byte(store: BlobStore) -> None:
    content = payload("parts", 2 * MEBIBYTE + 100)
    digest = await put(store, content)
    last = len(content) - 1
    around = ((0, 0), (5, 9), (last, last), (0, last), (MEBIBYTE - 1, MEBIBYTE), (1, MEBIBYTE + 1), (last - 5, last))
    for start, end in around:
        assert await part_of(store, digest, start, end) == content[start : end + 1]


async def test_reading_holds_no_more_than_a_mebibyte_at_a_time(store: BlobStore) -> None:
    digest = await put(store, payload("chunks", 2 * MEBIBYTE + 1))
    assert max([len(chunk) async for chunk in store.read(digest, 0, 2 * MEBIBYTE)]) <= MEBIBYTE


async def test_a_reader_who_leaves_early_leaves_nothing_open(store: BlobStore) -> None:
    digest = await put(store, payload("left", 3 * MEBIBYTE))
    before = open_files()
    for _ in range(20):
        reading = store.read(digest, 0, 3 * MEBIBYTE - 1)
        await anext(reading)
        await reading.aclose()
    assert open_files() == before


async def test_whoever_is_cancelled_leaves_nothing_open(store: BlobStore) -> None:
    """At whatever step of its work."""
    content = payload("cancelled", 2 * MEBIBYTE)
    digest = await put(store, content)
    before = open_files()

    async def one() -> None:
        await part_of(store, digest, 0, len(content) - 1)

    async def two() -> None:
        staging = await store.open_upload(uuid.uuid4(), 0)
        try:
            await staging.write(content)
        finally:
            staging.leave()

    for work in (one, two):
        for steps in range(12):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                for _ in range(steps):
                    await checkpoint()
                tasks.cancel_scope.cancel()
    assert open_files() == before


async def test_what_is_missing_is_said_at_the_first_byte(store: BlobStore) -> None:
    digest = digest_of(b"never stored")
    assert await store.size(digest) is None
    for end in (-1, 10):
        with pytest.raises(BlobMissing, match=digest):
            await anext(store.read(digest, 0, end))


async def test_deleting_and_discarding_may_be_repeated(store: BlobStore, bench: Bench) -> None:
    digest, upload = await put(store, b"short-lived"), uuid.uuid4()
    await append(store, upload, 0, b"never finished")
    for _ in range(2):
        await store.delete(digest)
        await store.discard_upload(upload)
    assert await store.size(digest) is None
    assert bench.staged == []
    with pytest.raises(StagingLost):
        await store.open_upload(upload, 5)
    assert await put(store, b"short-lived") == digest
    assert await content_of(store, digest) == b"short-lived"


async def test_leaving_changes_nothing_that_was_put_away(store: BlobStore) -> None:
    upload = uuid.uuid4()
    offset = await append(store, upload, 0, b"mine")
    staging = await store.open_upload(upload, offset)
    await staging.write(b" and what never counts")
    staging.leave()
    again = await store.open_upload(upload, offset)
    await again.commit(digest_of(b"mine"))


async def test_a_store_with_room_says_so_and_leaves_no_trace(store: BlobStore, bench: Bench) -> None:
    await store.check()
    assert bench.staged == []


async def test_where_there_is_a_file_it_holds_just_these_bytes(store: BlobStore) -> None:
    content = payload("file", 1000)
    path = store.local_file(await put(store, content))
    assert path is None or path.read_bytes() == content


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", STORES.values(), ids=STORES)
def test_however_it_is_cut_the_same_bytes_make_the_same_blob(kind: Kind, data: st.DataObject) -> None:
    """In writes of any size, put away and taken up anywhere, by the same server or the next, for either algorithm."""
    size = data.draw(st.sampled_from([0, 1, 5000, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 17]))
    cuts = data.draw(st.lists(st.integers(0, size), max_size=6).map(sorted))
    between = data.draw(st.lists(st.sampled_from(["write", "pause", "kill"]), min_size=len(cuts), max_size=len(cuts)))
    algorithm = data.draw(st.sampled_from(["sha256", "sha512"]))
    content = payload(str(size), size)

    async def upload_it(bench: Bench) -> None:
        store, upload, start = bench.open(), uuid.uuid4(), 0
        staging = await store.open_upload(upload, 0)
        for end, what in zip(cuts, between, strict=True):
            await staging.write(content[start:end])
            start = end
            if what != "write":
                assert await staging.pause() == end
                store = bench.open() if what == "kill" else store
                staging = await store.open_upload(upload, end)
        await staging.write(content[start:])
        digest = digest_of(content, algorithm)
        await staging.commit(digest)
        assert await content_of(store, digest) == content
        assert bench.staged == []

    with tempfile.TemporaryDirectory() as folder, bench_of(kind, Path(folder)) as bench:
        asyncio.run(upload_it(bench))


# --- a disk that is full ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file of this process may grow beyond that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def uploads_until_full(store: BlobStore, content: bytes) -> Refusal:
    """One request sends it all; what it is told when that does not fit. Afterwards nothing of it is left."""
    upload, before = uuid.uuid4(), open_files()
    staging = await store.open_upload(upload, 0)
    with pytest.raises(StorageFull) as refused:
        for start in range(0, len(content), 64 * 1024):
            await staging.write(content[start : start + 64 * 1024])
        await staging.commit(digest_of(content))
    await staging.abort(0)
    await store.discard_upload(upload)
    assert open_files() == before
    assert await store.size(digest_of(content)) is None
    return refused.value


@pytest.mark.parametrize("size", [2 * MEBIBYTE, 10 * MEBIBYTE], ids=["at its last step", "on its way"])
async def test_a_blob_beyond_the_largest_file_is_refused_in_plain_words(
    store: BlobStore, bench: Bench, size: int
) -> None:
    with limited_files(2 * MEBIBYTE - 1):
        refusal = await uploads_until_full(store, payload("large", size))
    assert refusal.message == "The registry's disk is full; ask its operator for room."
    assert refusal.detail == {"retry_after": 60}
    assert bench.staged == []


async def test_what_was_put_away_before_the_disk_was_full_goes_on_when_there_is_room(store: BlobStore) -> None:
    content = payload("patient", 2 * MEBIBYTE)
    upload = uuid.uuid4()
    offset = await append(store, upload, 0, content[:MEBIBYTE])
    with limited_files(MEBIBYTE + 10):
        staging = await store.open_upload(upload, offset)
        await staging.write(content[MEBIBYTE:-1])
        with pytest.raises(StorageFull):
            await staging.pause()
    staging = await store.open_upload(upload, offset)
    await staging.write(content[MEBIBYTE:])
    await staging.commit(digest_of(content))
    assert await content_of(store, digest_of(content)) == content


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Two mebibytes, and room for a dozen files and folders."""
    disk = tmp_path / "tiny"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=12", "tidewaiter-tests", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("LOUD: no small disk can be mounted here, so a full one is only tested by the limit on files")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_refuses_and_has_its_room_back(tiny_disk: Path) -> None:
    with bench_of(STORES["filesystem"], tiny_disk / "store") as bench:
        store = bench.open()
        room = os.statvfs(tiny_disk).f_bfree
        for size in (3 * MEBIBYTE, 2 * MEBIBYTE + 1):
            refusal = await uploads_until_full(store, payload("full", size))
            assert isinstance(refusal, StorageFull)
            assert os.statvfs(tiny_disk).f_bfree == room
        with pytest.raises(StorageFull, match="64 MiB"):
            await store.check()
        small = payload("small", MEBIBYTE // 2)
        assert await content_of(store, await put(store, small)) == small


async def test_a_disk_without_room_for_another_file_refuses_alike(tiny_disk: Path) -> None:
    """Be it the staged one, or the folder of the blob."""
    with bench_of(STORES["filesystem"], tiny_disk / "store") as bench:
        store, before = bench.open(), open_files()
        with pytest.raises(StorageFull):
            for number in range(20):
                await put(store, str(number).encode())
        while os.statvfs(tiny_disk).f_ffree:
            (tiny_disk / str(uuid.uuid4())).touch()
        with pytest.raises(StorageFull):
            await store.open_upload(uuid.uuid4(), 0)
        assert open_files() == before


# --- the one in a folder ----------------------------------------------------------------------------------------------


@pytest.fixture
async def folder_store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What the system was asked to bring to the disk or to rename, in that order."""
    asked: list[tuple[str, Path]] = []
    fsync, fdatasync, rename = os.fsync, os.fdatasync, os.rename

    def noted(name: str, act: Callable[[int], None]) -> Callable[[int], None]:
        def noting(file: int) -> None:
            asked.append((name, Path(f"/proc/self/fd/{file}").readlink()))
            act(file)

        return noting

    def renaming(source: Path, target: Path) -> None:
        asked.append(("rename", Path(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted("sync", fsync))
    monkeypatch.setattr(os, "fdatasync", noted("sync", fdatasync))
    monkeypatch.setattr(os, "rename", renaming)
    return asked


async def test_bytes_reach_the_disk_before_their_name_and_the_name_before_the_answer(
    folder_store: FilesystemStore, disk: list[tuple[str, Path]]
) -> None:
    upload = uuid.uuid4()
    staging = await folder_store.open_upload(upload, 0)
    await staging.write(b"durable")
    digest = digest_of(b"durable")
    await staging.commit(digest)
    target = folder_store.file(digest)
    assert disk == [
        ("sync", folder_store.staged(upload)),
        ("rename", target),
        ("sync", target.parent),
        ("sync", target.parent.parent),
        ("sync", folder_store.blobs),
    ]


async def test_what_another_server_just_put_there_is_brought_to_the_disk_before_it_is_relied_on(
    folder_store: FilesystemStore, disk: list[tuple[str, Path]]
) -> None:
    """It may have been about to; its folders too may be as new."""
    digest = digest_of(b"the same")
    target = folder_store.file(digest)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"the same")
    await put(folder_store, b"the same")
    folders = [target.parent, target.parent.parent, folder_store.blobs]
    assert disk == [("sync", folder) for folder in folders]
    disk.clear()
    await put(folder_store, b"the same")
    assert disk == [("sync", target.parent)]


async def test_without_durability_nothing_waits_for_the_disk(tmp_path: Path, disk: list[tuple[str, Path]]) -> None:
    store = FilesystemStore(tmp_path / "store", durable=False)
    await put(store, b"careless")
    store.close()
    assert [what for what, _ in disk] == ["rename"]


async def test_bytes_that_another_server_replaced_are_hashed_anew(tmp_path: Path) -> None:
    """One server put bytes away but could not write that down; the client sent others to another server of the same
    folder. Else wrong bytes could be given a digest."""
    first, second = FilesystemStore(tmp_path / "store"), FilesystemStore(tmp_path / "store")
    upload = uuid.uuid4()
    await append(first, upload, 0, b"promised")
    await append(second, upload, 0, b"poisoned")
    staging = await first.open_upload(upload, len(b"promised"))
    with pytest.raises(DigestInvalid):
        await staging.commit(digest_of(b"promised"))
    await staging.commit(digest_of(b"poisoned"))
    for store in (first, second):
        store.close()


async def test_a_call_is_waited_for_however_often_it_is_cancelled(folder_store: FilesystemStore) -> None:
    """Its file would be closed under it, and its number be another file's by then."""
    begun, may_end = threading.Event(), threading.Event()
    over: list[str] = []

    def call() -> None:
        begun.set()
        may_end.wait(20)
        over.append("call")

    async def waits() -> None:
        try:
            await folder_store.run(call)
        finally:
            over.append("caller")

    async with anyio.create_task_group() as tasks:
        task = asyncio.create_task(waits())
        await anyio.to_thread.run_sync(begun.wait, 20)
        for _ in range(3):
            task.cancel()
            await checkpoint()
        tasks.start_soon(waits)
        await checkpoint()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for _ in range(10):
                await checkpoint()
            assert over == []
            may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(over) == ["call", "call", "caller", "caller"]
    assert over[0] == "call"


async def test_nobody_else_can_enter_the_store(folder_store: FilesystemStore) -> None:
    upload = uuid.uuid4()
    await append(folder_store, upload, 0, b"private")
    digest = await put(folder_store, b"private too")
    for place in (folder_store.blobs, folder_store.uploads, folder_store.staged(upload), folder_store.file(digest)):
        assert place.stat().st_mode & 0o077 == 0
