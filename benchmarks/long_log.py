"""A long log: what a page, a proof and a verification cost when millions of entries stand there.

    python -m benchmarks.long_log [--entries N] [--keep FOLDER]

The entries go through inbox and sequencer like all others, spread over two years, most of them pulls by many users of
many organizations. Then a real server answers for them. With a folder to keep, a log made before is used again.

Wanted: a page at any depth within 3 times the first, a proof at a million entries within 5 ms, 200,000 entries verified
in a second of CPU.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
from pydantic import SecretStr

from api.schema.paging import cursor_of
from registry import migrating
from registry.actors import Actor, ActorKind, Origin
from registry.audit import bodies, proving, sealing
from registry.audit.sequencing import OLDEST
from registry.audit.subjects import Keys, make_keys, subject_of, subject_of_user
from registry.events import Event, Outcome
from registry.identifiers import new_id
from registry.settings import Settings
from registry.storage import embedded
from registry.system import running
from registry.telemetry import configure
from tests.support.processes import COMMAND
from tests.support.server import PASSWORD, Server

MONTHS, DISTINCT = 24, 20_000
MONTH_SECONDS = 30 * 86_400
ORGANIZATIONS, USERS = 40, 400
DEPTHS, FIRST_PAGES, PROOFS = 60, 30, 200
PAGE = """
    query($filter: AuditFilter, $after: String, $before: String, $first: Int, $last: Int) {
        auditLog(filter: $filter, after: $after, before: $before, first: $first, last: $last) {
            nodes { index time action outcome actor { name } target reason }
        }
    }
"""
PROOF = "query($index: BigInt!) { auditProof(index: $index) { proof checkpoint leafHash } }"
# What is asked for: a common thing, a rare one, and one that is not there.
FILTERS: dict[str, dict[str, str]] = {
    "actor: the administrator": {"actor": "admin"},
    "action: image.delete (rare)": {"action": "image.delete"},
    "action: organization.* (nearly none)": {"action": "organization.*"},
    "outcome: DENIED": {"outcome": "DENIED"},
    "outcome: FAILED (rare)": {"outcome": "FAILED"},
    "actor: the system": {"actor": "system"},
    "actor: nobody": {"actor": "anonymous"},
    "target: one image": {"target": "acme-7/web-3:1.7"},
    "target: acme-7/*": {"target": "acme-7/*"},
    "target: none such": {"target": "nobody/nothing:1"},
    "source: one address": {"source": "192.0.2.7"},
    "request id: none such": {"requestId": "0" * 32},
    "reason: incident-*": {"reason": "incident-*"},
    "reason: *dent-7*": {"reason": "*dent-7*"},
    "reason: none such": {"reason": "*nothing of the kind*"},
    "account: one tenant": {"account": "tenant"},
    "account and target: none such": {"account": "tenant", "target": "nobody/nothing:1"},
}


# Making the log


class Author:
    """Bodies as a registry of that size writes them: pulls, a few pushes and refusals, the odd deletion."""

    def __init__(self, account: UUID, administrator: UUID) -> None:
        self.users = [administrator, *(new_id() for _ in range(USERS))]
        self.keys: Keys = {}
        self._chance = random.Random(7)
        self._account = account
        self._places = [UUID(int=number) for number in range(1, ORGANIZATIONS + 1)]

    def bodies(self, count: int) -> list[bytes]:
        return [self._body(number) for number in range(count)]

    def _body(self, number: int) -> bytes:
        event = self._event(number, self._chance)
        salt, subject = os.urandom(16), subject_of(event)
        key = self.keys[subject]
        assert key is not None
        sealed = sealing.seal(sealing.event_key(key, salt), bodies.private_of(event))
        tag = sealing.tag(key, "source", event.origin.source or "")
        return bodies.encode(event, salt, subject, sealed, {"source": tag})

    def _event(self, number: int, chance: random.Random) -> Event:
        turn = chance.random()
        action = "image.delete" if turn < 0.0005 else "image.push" if turn < 0.05 else "image.pull"
        who = self.users[0] if chance.random() < 0.001 else chance.choice(self.users[1:])
        place = chance.randrange(ORGANIZATIONS)
        source = f"192.0.2.{self.users.index(who) % 250}"
        return Event(
            datetime.now(UTC),
            action,
            Outcome.DENIED if chance.random() < 0.01 else Outcome.ALLOWED,
            Actor(ActorKind.USER, "bench", who, new_id(), 0, new_id()),
            Origin(f"{number:032x}", source, "docker/27.3.1 go/go1.22.7 kernel/6.1 os/linux arch/amd64"),
            f"acme-{place}/web-{chance.randrange(20)}:1.{chance.randrange(50)}",
            self._account if place == 0 else self._places[place],
            self._places[place],
            self._places[place],
            f"sha256:{chance.getrandbits(256):064x}",
            stated="incident-7" if chance.random() < 0.0005 else None,
        )


async def fill(server: Server, entries: int) -> None:
    """Through inbox and sequencer, a month of the clock after the other."""
    folder = server.folder / "data"
    database = await embedded.start(folder / "postgres")
    try:
        await migrating.migrate(database.dsn)
        settings = Settings(
            data=folder, log_level="error", admin_password=SecretStr(PASSWORD), clock_file=server.folder / "clock"
        )
        async with running(settings, configure(), database.dsn) as system:
            connection = await asyncpg.connect(database.dsn)
            author = Author(await _tenant(connection), await connection.fetchval("SELECT id FROM users"))
            subjects = [subject_of_user(user) for user in author.users]
            author.keys = await make_keys(connection, system.keys.audit_sealing, subjects)
            made, began = author.bodies(min(DISTINCT, entries)), time.perf_counter()
            for month in range(MONTHS):
                server.advance(MONTH_SECONDS if month else 0)
                await connection.fetchval("SELECT audit_prepare($1)", system.foundation.clock.now())
                await _month(connection, made, entries // MONTHS)
                while await connection.fetchval(OLDEST) is not None:
                    await system.foundation.ledger.catch_up()
                print(
                    f"  {(month + 1) * (entries // MONTHS):,} entries, {time.perf_counter() - began:.0f} s", flush=True
                )
            await system.sequencer.publish_now()
            await connection.execute("UPDATE audit_scrub SET begun_at = $1", system.foundation.clock.now())
            await connection.execute("VACUUM ANALYZE audit_log")
            await connection.close()
    finally:
        await embedded.stop(database)


async def _tenant(connection: Any) -> UUID:
    found = new_id()
    statement = "INSERT INTO account (id, name, created_at) VALUES ($1, 'tenant', now())"
    await connection.execute(statement, found)
    return found


async def _month(connection: Any, made: list[bytes], entries: int) -> None:
    done = 0
    while done < entries:
        some = made[: entries - done]
        await connection.execute("INSERT INTO audit_inbox (body) SELECT unnest($1::bytea[])", some)
        done += len(some)


# Asking


class Reader:
    """One who asks the real server, and how long each answer took."""

    def __init__(self, server: Server) -> None:
        self._url = f"{server.url}/graphql"
        self._client = httpx2.Client(auth=("admin", PASSWORD), timeout=120)

    def milliseconds(self, query: str, **variables: Any) -> float:
        began = time.perf_counter()
        answer = self._client.post(self._url, json={"query": query, "variables": variables}).json()
        took = (time.perf_counter() - began) * 1000
        if answer.get("errors"):
            print(f"  {answer['errors'][0]['message']}")
        return took


async def ask(server: Server) -> None:
    found = embedded.running(server.folder / "data" / "postgres")
    assert found is not None
    connection = await asyncpg.connect(found.dsn)
    size = await connection.fetchval("SELECT size FROM audit_tree")
    reader, chance = Reader(server), random.Random(1)
    for _ in range(5):
        reader.milliseconds(PAGE, first=50)
    first = [reader.milliseconds(PAGE, first=50) for _ in range(FIRST_PAGES)]
    base = statistics.median(first)
    print(f"auditLog, 50 of {size:,} entries: first page {_spread(first)}")
    deep: dict[str, list[float]] = {"after": [], "before": []}
    for _ in range(DEPTHS):
        cursor = await _cursor(connection, chance.randrange(100, size - 100))
        deep["after"].append(reader.milliseconds(PAGE, after=cursor, first=50))
        deep["before"].append(reader.milliseconds(PAGE, before=cursor, last=50))
    for way, times in deep.items():
        print(f"  at any depth, {way:6} {_spread(times)}, {statistics.median(times) / base:.2f} times")
    for name, wanted in FILTERS.items():
        times = [reader.milliseconds(PAGE, filter=wanted, first=50) for _ in range(5)]
        print(f"  {name:38} {_spread(times)}, {statistics.median(times) / base:.2f} times")
    proofs = [reader.milliseconds(PROOF, index=chance.randrange(size - 1000)) for _ in range(PROOFS)]
    print(f"auditProof over GraphQL, in {size:,}: {_spread(proofs)}")
    await _prove(connection, size, chance)
    await connection.close()


async def _cursor(connection: Any, index: int) -> str:
    row = await connection.fetchrow(
        "SELECT logged_at FROM audit_log WHERE seq = $1 AND logged_at BETWEEN "
        "coalesce((SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1 / 256 - 1), '-infinity') AND "
        "coalesce((SELECT last_at FROM audit_tile WHERE level = 0 AND idx = $1 / 256), 'infinity')",
        index,
    )
    return cursor_of("NEWEST", (row["logged_at"], index))


async def _prove(connection: Any, size: int, chance: random.Random) -> None:
    """The proof alone: tiles read and hashes put together."""
    times, size = [], min(size, 1_000_000)
    for _ in range(PROOFS):
        began = time.perf_counter()
        await proving.inclusion(connection.fetch, chance.randrange(size), size)
        times.append((time.perf_counter() - began) * 1000)
    print(f"inclusion proof in {size:,}: {_spread(times)}")


def _spread(times: list[float]) -> str:
    ordered = sorted(times)
    most = ordered[len(ordered) * 95 // 100]
    return f"{statistics.median(ordered):.1f} ms (least {ordered[0]:.1f}, 95 of 100 below {most:.1f})"


# Checking


def verify(server: Server) -> None:
    """As an auditor does it: an export, checked by the command with the public key alone."""
    export, key = server.folder / "export.jsonl", server.folder / "key"
    key.write_text(_said(server, "audit", "key"))
    began = time.perf_counter()
    _said(server, "audit", "export", "--output", str(export))
    exported = time.perf_counter() - began
    with export.open("rb") as file:
        lines = sum(1 for _ in file)
    began, cpu = time.perf_counter(), os.times()
    _said(server, "audit", "verify", str(export), "--key", str(key))
    took, spent = time.perf_counter() - began, os.times()
    used = spent.children_user + spent.children_system - cpu.children_user - cpu.children_system
    size = export.stat().st_size // lines
    print(f"export: {lines / exported:,.0f} entries/s ({lines:,} lines of {size} bytes)")
    print(f"verify: {lines / took:,.0f} entries/s, {lines / used:,.0f} a second of CPU")
    export.unlink()


def _said(server: Server, *words: str) -> str:
    return subprocess.run([COMMAND, *words], env=server.variables, check=True, capture_output=True, text=True).stdout


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as name:
        yield Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=5_000_000)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with _folder(chosen.keep) as folder:
        server = Server(folder, {"TIDEWAITER_EMBEDDED_FSYNC": "on", "TIDEWAITER_LOG_LEVEL": "warning"})
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "filled").exists():
            asyncio.run(fill(server, chosen.entries))
            (folder / "filled").write_text(str(server.ahead))
        server.advance(float((folder / "filled").read_text()) - server.ahead)
        server.start()
        try:
            asyncio.run(ask(server))
            verify(server)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
