"""Servers and PostgreSQL killed at random while an organization is pushed full; then its quotas are counted anew.

    report = await crash_run(folder, seconds=60, workers=3, seed=1)
    assert report.sound, report

All the while snapshots are taken: in each, every counter is content, holds and refunds together, and none is over its
limit. The clock is moved, too, so that holds expire under those who are slow. Afterwards what was abandoned expires:
then nothing is held, nothing waits to be taken off, every counter is what is there, and what was acknowledged and not
deleted is there, with its bytes, and charged once.
"""

import asyncio
import math
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.killing import MISHAPS, Scene, read_notes, staged, told
from benchmarks.quota_pushing import settings_of
from policies.quotas import Key
from registry.actors import Origin
from registry.oci.digest import Digest
from registry.quotas import usage
from registry.quotas.usage import Limits
from registry.storage.database import Connection
from registry.system import System, running
from registry.telemetry import configure
from registry.tending import tidy
from tests.support.inside import administrator, settle
from tests.support.recount import beyond, differences

MODULE = "benchmarks.quota_pushing"
SECONDS, WORKERS = 60, 3
LIMITS = {Key.STORAGE_BYTES: 1_500_000, Key.REPOSITORIES: 24, Key.TAGS: 20}
PAUSES, LOOK_SECONDS = (1.0, 4.0), 0.02
MINUTES = (1.5, 16.0, 61.0)
"""By which the clock is moved: an upload's lease ends, what it holds is given back, it expires."""
LONG_HOURS = 30
UPLOADS = "SELECT count(*) FROM upload"
LEFT_OVER = "SELECT (SELECT count(*) FROM upload) + (SELECT count(*) FROM quota_refund)"
# What repositories hold, with the size that their organization is charged for.
THERE = """
    SELECT r.name, c.digest, c.size, ob.size AS charged, c.manifest
    FROM repository r JOIN (
        SELECT repository_id, digest, size, false AS manifest FROM repository_blob JOIN blob USING (digest)
        UNION ALL SELECT repository_id, digest, size, true FROM manifest) AS c ON c.repository_id = r.id
    LEFT JOIN organization_blob ob ON ob.organization_id = r.organization_id AND ob.digest = c.digest
"""


@dataclass(slots=True)
class Report:
    """Counts; all of the second group must be 0. Of what was acknowledged, `kept` is what nobody deleted."""

    snapshots: int = 0
    done: int = 0
    refused: int = 0
    acknowledged: int = 0
    kept: int = 0
    workers_killed: int = 0
    databases_killed: int = 0

    wrong: int = 0
    over: int = 0
    lost: int = 0
    left_over: int = 0
    failed: int = 0

    @property
    def sound(self) -> bool:
        return not any((self.wrong, self.over, self.lost, self.left_over, self.failed))


async def crash_run(folder: Path, *, seconds: float, workers: int, seed: int) -> Report:
    report, chance = Report(), random.Random(seed)
    async with staged(MODULE, folder) as scene:
        await _furnish(scene)
        async with _watched(scene, report):
            await scene.start(workers)
            await scene.torment(
                seconds,
                chance,
                begun=lambda: _is_full(folder),
                pauses=PAUSES,
                besides=lambda: _advance(folder, chance.choice(MINUTES)),
            )
            await scene.kill_all()
        killed = scene.killed
        report.workers_killed, report.databases_killed, report.failed = killed.workers, killed.databases, killed.failed
        await _settle_up(scene, report)
    return report


async def _furnish(scene: Scene) -> None:
    """One organization, with limits that are soon reached."""
    async with running(settings_of(scene.folder), configure(), scene.database.dsn) as system:
        household = await settle(system, "crash")
        async with system.foundation.begin(await administrator(system), Origin()) as work:
            place = await usage.scope_of(work, account=None, organization=household.name, repository=None)
            for key, most in LIMITS.items():
                await usage.set_limit(work, place, key, Limits(frozenset({"limit"}), limit=most))


def _is_full(folder: Path) -> bool:
    return any(words == ["refused", Key.STORAGE_BYTES] for words in read_notes(folder))


def _advance(folder: Path, minutes: float) -> None:
    """Moves the clock of all servers."""
    clock, fresh = folder / "clock", folder / "clock.new"
    before = float(clock.read_text()) if clock.exists() else 0.0
    fresh.write_text(str(before + 60 * minutes))
    fresh.rename(clock)


# Snapshots


@asynccontextmanager
async def _watched(scene: Scene, report: Report) -> AsyncIterator[None]:
    """Looks again and again until the block is left, whenever there is a database."""
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            try:
                await _look(scene, report, done)
            except MISHAPS:
                await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        done.set()
        await watching


async def _look(scene: Scene, report: Report, done: asyncio.Event) -> None:
    books = await asyncpg.connect(scene.database.dsn, timeout=5)
    try:
        while not done.is_set():
            report.wrong += _told(await differences(books))
            report.over += _told(await beyond(books))
            report.snapshots += 1
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await books.close(timeout=5)


def _told(found: Sequence[object]) -> int:
    for one in found:
        print("VIOLATED:", one, file=sys.stderr)
    return len(found)


# Afterwards


async def _settle_up(scene: Scene, report: Report) -> None:
    _advance(scene.folder, 60 * LONG_HOURS)
    books = await asyncpg.connect(scene.database.dsn)
    try:
        async with running(settings_of(scene.folder), configure(), scene.database.dsn) as system:
            while await books.fetchval(UPLOADS):
                await tidy(system.foundation)
            await tidy(system.foundation)
            report.left_over = await books.fetchval(LEFT_OVER)
            report.wrong += _told(await differences(books))
            report.over += _told(await beyond(books))
            await _read(system, books, report)
    finally:
        await books.close()


async def _read(system: System, books: Connection, report: Report) -> None:
    """Holds what was acknowledged against what is there."""
    notes = defaultdict[str, list[list[str]]](list)
    for kind, *words in read_notes(system.foundation.settings.data):
        notes[kind].append(words)
    report.refused, report.done = len(notes["refused"]), len(notes["done"])
    gone = _deletions(notes["going"], notes["gone"])
    kept = [
        (repository, Digest(digest), int(size))
        for repository, digest, size, asked in notes["kept"]
        if all(end < int(asked) for end in gone[repository])
    ]
    report.acknowledged, report.kept = len(notes["kept"]), len(kept)
    there = {(row["name"], row["digest"]): row for row in await books.fetch(THERE)}
    for repository, digest, size in kept:
        row: Any = there.get((repository, digest))
        right = row is not None and row["size"] == row["charged"] == size
        if not right or not (row["manifest"] or await system.foundation.blobs.size(digest) == size):
            report.lost += _told([(repository, digest, size, row)])


def _deletions(going: list[list[str]], gone: list[list[str]]) -> dict[str, list[float]]:
    """Of each repository, until when it was being deleted; for ever, where nobody learned that it was."""
    ends = {deed: int(answered) for deed, answered in gone}
    found = defaultdict[str, list[float]](list)
    for repository, deed in going:
        found[repository].append(ends.get(deed, math.inf))
    return found


async def _whole() -> None:
    with tempfile.TemporaryDirectory(prefix="tidewaiter-crash-") as name:
        report = await crash_run(Path(name), seconds=SECONDS, workers=WORKERS, seed=random.randrange(2**32))
    told(report)
    sys.exit(0 if report.sound else 1)


if __name__ == "__main__":
    asyncio.run(_whole())
