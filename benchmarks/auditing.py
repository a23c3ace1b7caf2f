"""What the books cost, and how fast they are kept and checked: in minutes.

    python -m benchmarks.auditing [pull|sequence] [--entries N]

A pull is measured against the same server with a ledger that throws entries away, both in turn. The rest are rates of
one process, to be read with the machine in mind.
"""

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from benchmarks.load import Connection, fresh, push_image, together
from benchmarks.servers import Target, ours
from registry import migrating
from registry.actors import Actor, ActorKind, Origin
from registry.audit import bodies, sealing
from registry.audit.sequencing import LOCK, OLDEST
from registry.audit.subjects import subject_of
from registry.events import Event, Outcome
from registry.identifiers import new_id
from registry.settings import Settings
from registry.storage import embedded
from registry.system import System, running
from registry.telemetry import configure

ROUNDS = 7
PULLS = {16: 120, 64: 40}
REPOSITORY = "bench/web"
UNAUDITED = (sys.executable, "-m", "benchmarks.unaudited")
BATCHES = re.compile(r"^registry_audit_append_entries_(sum|count)\S* (\S+)$", re.MULTILINE)


# Pulls, with and without the books: wanted is at most 1.35 times


async def pull() -> None:
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as name:
        folder = Path(name)
        with ours(folder / "audited", "audited") as audited, ours(folder / "bare", "bare", UNAUDITED) as bare:
            for target in (audited, bare):
                async with Connection(target) as connection:
                    await _push(connection)
            for connections, times in PULLS.items():
                await _compare(audited, bare, connections, times)


async def _push(connection: Connection) -> None:
    await push_image(connection, REPOSITORY, fresh(4096), "1.0")


async def _compare(audited: Target, bare: Target, connections: int, times: int) -> None:
    ratios, costs = [], []
    rows = _rows(audited)
    for number in range(ROUNDS + 1):
        cost = [await _cost(target, connections, times) for target in (audited, bare)]
        if number:  # the first round warms up
            ratios.append(cost[0] / cost[1])
            costs.append(cost[0] * 1000)
    entries, commits = (after - before for after, before in zip(_rows(audited), rows, strict=True))
    print(
        f"manifest GET, {connections} connections: {statistics.median(costs):.3f} ms CPU, "
        f"{statistics.median(ratios):.2f} times that without the books; {entries / commits:.1f} entries a commit"
    )


async def _cost(target: Target, connections: int, times: int) -> float:
    """CPU seconds of all the server's processes for one pull."""

    async def pulls(connection: Connection) -> None:
        for _ in range(times):
            await connection.ask("GET", f"/v2/{REPOSITORY}/manifests/1.0")

    before = target.cpu_seconds()
    await together(target, connections, pulls)
    return (target.cpu_seconds() - before) / (connections * times)


def _rows(target: Target) -> tuple[float, float]:
    """Entries and commits so far, as the server's measures tell."""
    text = httpx2.get(f"http://127.0.0.1:{target.admin_port}/metrics").text
    found = {kind: float(value) for kind, value in BATCHES.findall(text)}
    return found.get("sum", 0.0), found.get("count", 0.0)


# The sequencer: wanted are 10,000 entries a second


async def sequence(entries: int) -> None:
    """What waits in the inbox is numbered and hashed by one server, beside its PostgreSQL."""
    async with _registry() as (system, dsn):
        connection = await asyncpg.connect(dsn)
        made = _bodies(entries)
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)  # nobody begins yet
            await connection.execute("INSERT INTO audit_inbox (body) SELECT unnest($1::bytea[])", made)
        began = time.perf_counter()
        while await connection.fetchval(OLDEST) is not None:
            await system.foundation.ledger.catch_up()
        seconds = time.perf_counter() - began
        await connection.close()
    size = sum(map(len, made)) // len(made)
    print(f"sequencer: {entries / seconds:,.0f} entries/s ({entries:,} of {size} bytes, {seconds:.1f} s)")


def _bodies(count: int) -> list[bytes]:
    actor = Actor(ActorKind.USER, "bench", new_id(), new_id(), 0, new_id())
    organizations = [UUID(int=number) for number in range(1, 21)]
    now, key, found = datetime.now(UTC), os.urandom(32), []
    for number in range(count):
        origin = Origin(f"{number:032x}", "192.0.2.7", "docker/27.3.1 go/go1.22.7 kernel/6.1 os/linux arch/amd64")
        place = organizations[number % len(organizations)]
        event = Event(
            now + timedelta(milliseconds=number),
            "image.pull",
            Outcome.ALLOWED,
            actor,
            origin,
            f"acme-{number % 20}/web:1.{number % 100}",
            actor.account_id,
            place,
            place,
            f"sha256:{number:064x}",
        )
        salt = os.urandom(16)
        sealed = sealing.seal(sealing.event_key(key, salt), bodies.private_of(event))
        found.append(bodies.encode(event, salt, subject_of(event), sealed, {"source": "0" * 16}))
    return found


@asynccontextmanager
async def _registry() -> AsyncIterator[tuple[System, str]]:
    """A registry of its own in this process, durable, without doors."""
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as name:
        server = await embedded.start(Path(name) / "postgres")
        try:
            await migrating.migrate(server.dsn)
            settings = Settings(data=Path(name) / "data", log_level="error")
            async with running(settings, configure(), server.dsn) as system:
                yield system, server.dsn
        finally:
            await embedded.stop(server)


MEASURES: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    "pull": lambda _: pull(),
    "sequence": sequence,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", nargs="*", choices=[[], *MEASURES], help="which; all if none is named")
    parser.add_argument("--entries", type=int, default=200_000)
    chosen = parser.parse_args()
    for name in chosen.measure or MEASURES:
        asyncio.run(MEASURES[name](chosen.entries))


if __name__ == "__main__":
    main()
