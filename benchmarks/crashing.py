"""Servers, the sequencer in each of them, and PostgreSQL killed at random under load; then the books are read.

    report = await crash_run(folder, seconds=60, workers=3, seed=1)
    assert report.sound, report

Each worker notes what was acknowledged, and when it was asked and answered. What must hold afterwards: everything
acknowledged stands in the log once, whatever was answered before another was asked has the smaller number, a change and
its entry are both there or both not, and every checkpoint ever signed is of the beginning of the one log.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from benchmarks.killing import MISHAPS, Notes, Scene, again_and_again, read_notes, staged, told
from registry.actors import SYSTEM, Origin
from registry.audit.entries import unwrap
from registry.events import Event, Outcome
from registry.identifiers import new_id
from registry.settings import Settings
from registry.system import System, running
from registry.telemetry import configure
from registry.transparency.merkle import CompactRange, leaf_hash

MODULE = "benchmarks.crashing"
SECONDS, WORKERS = 60, 3
TASKS = 12
PUBLISH_SECONDS = 1
ORGANIZATIONS = [UUID(int=number) for number in range(1, 6)]


@dataclass(slots=True)
class Report:
    """Counts; all of the second group must be 0."""

    entries: int = 0
    acknowledged: int = 0
    checkpoints: int = 0
    workers_killed: int = 0
    databases_killed: int = 0

    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    inconsistent: int = 0
    torn: int = 0
    gaps: int = 0
    failed: int = 0

    @property
    def sound(self) -> bool:
        wrong = self.lost, self.duplicated, self.out_of_order, self.inconsistent, self.torn, self.gaps, self.failed
        return not any(wrong)


async def crash_run(folder: Path, *, seconds: float, workers: int, seed: int) -> Report:
    report = Report()
    async with staged(MODULE, folder) as scene:
        await scene.start(workers)
        await scene.torment(seconds, random.Random(seed), begun=lambda: bool(read_notes(folder)))
        await scene.kill_all()
        killed = scene.killed
        report.workers_killed, report.databases_killed, report.failed = killed.workers, killed.databases, killed.failed
        await _read_books(scene, report)
    return report


# The books afterwards


async def _read_books(scene: Scene, report: Report) -> None:
    connection = await asyncpg.connect(scene.database.dsn)
    try:
        async with running(_settings(scene.folder), configure(), scene.database.dsn) as system:
            while await connection.fetchval("SELECT EXISTS (SELECT FROM audit_inbox)"):
                await system.foundation.ledger.catch_up()
        rows = await connection.fetch("SELECT seq, logged_at, entry, leaf, org_seq FROM audit_log ORDER BY seq")
        notes = [row["note"] for row in await connection.fetch("SELECT note FROM audit_checkpoint")]
        accounts = {row["name"] for row in await connection.fetch("SELECT name FROM account WHERE name LIKE 'c-%'")}
    finally:
        await connection.close()
    anchored = (scene.folder / "audit" / "checkpoints.jsonl").read_bytes().splitlines()
    notes += [orjson.loads(line)["note"] for line in anchored if line]
    events = [orjson.loads(unwrap(row["entry"]).body) for row in rows]
    report.entries, report.checkpoints = len(rows), len(notes)
    report.gaps = _gaps(rows, events)
    report.inconsistent = _inconsistent(rows, notes)
    places = Counter(event["target"]["name"] for event in events if event["action"].startswith("crash."))
    report.duplicated = sum(count - 1 for count in places.values())
    changed = {event["target"]["name"] for event in events if event["action"] == "crash.change"}
    report.torn = len(changed ^ accounts)
    _order(scene.folder, {event["target"]["name"]: place for place, event in enumerate(events)}, report)


def _gaps(rows: Sequence[Any], events: Sequence[dict[str, Any]]) -> int:
    """Numbers that are not the next one, times that go back, leaves that are not the hash of their entry."""
    found, heads, last = 0, Counter[str](), datetime.min
    for place, (row, event) in enumerate(zip(rows, events, strict=True)):
        at = row["logged_at"].replace(tzinfo=None)
        found += row["seq"] != place
        found += at < last
        found += row["leaf"] != leaf_hash(row["entry"])
        last = at
        if organization := event.get("scope", {}).get("organization"):
            heads[organization] += 1
            found += row["org_seq"] != heads[organization]
    return found


def _inconsistent(rows: Sequence[Any], notes: Sequence[str]) -> int:
    """Checkpoints that are not of the first so many entries."""
    lines = [note.split("\n") for note in notes]
    signed = sorted((int(line[1]), b64decode(line[2])) for line in lines)
    tree, found, done = CompactRange(), 0, 0
    for size, root in signed:
        if size > len(rows):
            found += 1
            continue
        tree.extend([row["leaf"] for row in rows[done:size]])
        done = max(done, size)
        found += tree.root() != root
    return found


def _order(folder: Path, places: dict[str, int], report: Report) -> None:
    """Every acknowledged entry is there, behind all that had been answered when it was asked for."""
    done = [(name, int(asked), int(answered)) for name, asked, answered in read_notes(folder)]
    report.acknowledged = len(done)
    report.lost = sum(name not in places for name, _, _ in done)
    kept = [(asked, answered, places[name]) for name, asked, answered in done if name in places]
    answers = sorted((answered, place) for _, answered, place in kept)
    furthest, position = -1, 0
    for asked, _, place in sorted(kept):
        while position < len(answers) and answers[position][0] < asked:
            furthest = max(furthest, answers[position][1])
            position += 1
        report.out_of_order += place < furthest


def _settings(folder: Path) -> Settings:
    return Settings(data=folder, audit_publish_seconds=PUBLISH_SECONDS)


# A worker


async def _work(dsn: str, folder: Path, name: str) -> None:
    notes = Notes(folder, name)

    async def come_up() -> None:
        async with running(_settings(folder), configure(), dsn) as system, asyncio.TaskGroup() as tasks:
            for number in range(TASKS):
                tasks.create_task(_load(system, notes, f"{name}-{number}"))

    await again_and_again(come_up)


async def _load(system: System, notes: Notes, name: str) -> None:
    for turn in range(1_000_000):
        target, asked = f"c-{name}-{os.getpid()}-{turn}", time.monotonic_ns()
        try:
            await (_change(system, target) if turn % 4 == 0 else _pull(system, target, turn))
        except MISHAPS:
            await asyncio.sleep(0.02)
            continue
        notes.write(target, asked, time.monotonic_ns())


async def _pull(system: System, target: str, turn: int) -> None:
    at, organization = system.foundation.clock.now(), ORGANIZATIONS[turn % len(ORGANIZATIONS)]
    origin = Origin(source="192.0.2.1", client="a crash run")
    event = Event(at, "crash.pull", Outcome.ALLOWED, SYSTEM, origin, target, organization_id=organization)
    await system.foundation.ledger.append(event)


async def _change(system: System, target: str) -> None:
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        work.attempt("crash.change", target)
        await work.execute("INSERT INTO account (id, name, created_at) VALUES ($1, $2, $3)", new_id(), target, work.now)
        work.record()


async def _whole() -> None:
    with tempfile.TemporaryDirectory(prefix="tidewaiter-crash-") as name:
        report = await crash_run(Path(name), seconds=SECONDS, workers=WORKERS, seed=random.randrange(2**32))
    told(report)
    sys.exit(0 if report.sound else 1)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 1 else _whole())
