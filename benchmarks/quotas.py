"""How fast one hot organization holds and settles, beside the classic pair of used and reserved columns.

    python -m benchmarks.quotas [--turns N]

Blobs of many tasks are held and settled at three levels: repository, organization, account; in PostgreSQL as the
registry starts it, durable. Ours and the pair take turns, over the same connections and with the same rows of content
beside them: they differ in how they count alone. Some hold more than they need, and some bring what is there already.
Wanted is at least 1.5 times the rate of the pair, and both must end exact.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Protocol
from uuid import UUID

import uvloop
from pydantic import ByteSize

from policies.quotas import Key
from registry import migrating
from registry.identifiers import new_id
from registry.oci.digest import digest_of
from registry.quotas.charging import default_limit, quietly
from registry.quotas.reserving import apply_refunds
from registry.repositories.uploading import END, STORE, STORED
from registry.settings import Settings
from registry.storage import embedded
from registry.storage.database import Connection, Pool, connect, open_pool
from registry.system import System, running
from registry.telemetry import configure
from registry.work import AT_ONCE, CHANGE, COMMIT, PROMISE, Foundation
from tests.support.inside import settle
from tests.support.recount import differences

ROUNDS, TASKS, CONNECTIONS, REPOSITORIES = 5, 50, 20, 10
WANTED = 1.5
SIZE, LIMIT = 1000, ByteSize(10**15)
# An upload as it stands once a request has claimed it.
UPLOAD = """
    INSERT INTO upload (id, repository_id, received, algorithm, held, started_at, expires_at, lease, leased_until,
        held_until)
    VALUES ($1, $2, 0, 'sha256', $4, now(), now() + interval '1 day', $3, now() + interval '1 minute',
        now() + interval '15 minutes')
"""
PAIR = """
CREATE TABLE pair (
    scope_id uuid PRIMARY KEY, used bigint NOT NULL, reserved bigint NOT NULL, hard bigint NOT NULL,
    CHECK (used >= 0 AND reserved >= 0)
) WITH (fillfactor = 50);
CREATE FUNCTION pair_reserve(scopes uuid[], amount bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    scope uuid;
BEGIN
    FOREACH scope IN ARRAY scopes LOOP
        UPDATE pair SET reserved = reserved + amount WHERE scope_id = scope AND used + reserved + amount <= hard;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no room at %', scope;
        END IF;
    END LOOP;
END $$;
CREATE FUNCTION pair_settle(scopes uuid[], held bigint, fresh boolean, of_digest text, of_size bigint, at timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    novel boolean := false;
BEGIN
    IF fresh THEN
        INSERT INTO organization_blob AS b (organization_id, digest, size, links, first_at)
        VALUES (scopes[2], of_digest, of_size, 1, at)
        ON CONFLICT (organization_id, digest) DO UPDATE SET links = b.links + 1 RETURNING b.links = 1 INTO novel;
    END IF;
    UPDATE pair SET reserved = reserved - held, used = used + CASE WHEN fresh THEN of_size ELSE 0 END
        WHERE scope_id = scopes[1];
    UPDATE pair SET reserved = reserved - held, used = used + CASE WHEN novel THEN of_size ELSE 0 END
        WHERE scope_id = scopes[2];
    UPDATE pair SET reserved = reserved - held, used = used + CASE WHEN novel THEN of_size ELSE 0 END
        WHERE scope_id = scopes[3];
END $$;
GRANT SELECT, INSERT, UPDATE ON pair TO tidewaiter_app;
"""
OPEN_PAIR = "INSERT INTO pair SELECT unnest($1::uuid[]), 0, 0, $2 ON CONFLICT DO NOTHING"
PAIR_WRONG = """
    SELECT count(*) FROM pair p WHERE reserved <> 0 OR used <> (
        SELECT coalesce(sum(size), 0) FROM repository_blob rb JOIN blob USING (digest)
        WHERE rb.repository_id = p.scope_id
    ) + (SELECT coalesce(sum(b.size), 0) FROM organization_blob b JOIN organization o ON o.id = b.organization_id
        WHERE p.scope_id IN (o.id, o.account_id))
"""


@dataclass(frozen=True, slots=True)
class Scopes:
    """A repository, its organization and account, in the order in which their counters are locked."""

    repository: UUID
    organization: UUID
    account: UUID

    @property
    def all(self) -> list[UUID]:
        return [self.repository, self.organization, self.account]


@dataclass(frozen=True, slots=True)
class Blob:
    digest: str
    size: int
    held: int


class Way(Protocol):
    """A way to count, in two transactions for each blob. Both leave the same rows of content."""

    begin_holding: ClassVar[str]
    store: ClassVar[str]

    async def hold(self, connection: Connection, at: Scopes, amount: int) -> None:
        """Ends the transaction, too."""

    async def tidy(self) -> None:
        """What a server does from time to time."""


@dataclass(frozen=True, slots=True)
class Engine:
    """As the registry does it: a hold may be lost in a crash as a whole and is committed as it is charged, and settling
    moves no counter."""

    foundation: Foundation
    begin_holding: ClassVar[str] = PROMISE
    store: ClassVar[str] = STORE

    async def hold(self, connection: Connection, at: Scopes, amount: int) -> None:
        kinds, keys = ["repository", "organization", "account"], [Key.STORAGE_BYTES.value] * 3
        defaults = [default_limit(self.foundation.settings, Key.STORAGE_BYTES, kind) for kind in kinds]
        charge = quietly([kinds, at.all, keys, [""] * 3, [amount] * 3, defaults], holding=True)
        await connection.execute(AT_ONCE.format(charge))

    async def tidy(self) -> None:
        await apply_refunds(self.foundation)


@dataclass(frozen=True, slots=True)
class Pair:
    """Reserved, then used: both durable, so the counters are locked while the disk is waited for, and twice."""

    foundation: Foundation
    begin_holding: ClassVar[str] = CHANGE
    store: ClassVar[str] = f"""
        {STORED} SELECT pair_settle(ARRAY[$1, $5, $6]::uuid[], $7, fresh, $2, $4, $3) FROM linked
        WHERE $8::bigint[] IS NOT NULL
    """

    async def hold(self, connection: Connection, at: Scopes, amount: int) -> None:
        await connection.execute("SELECT pair_reserve($1, $2)", at.all, amount)
        await connection.execute(COMMIT)

    async def tidy(self) -> None:
        pass


async def _push(connection: Connection, way: Way, at: Scopes, blob: Blob) -> None:
    upload, lease = new_id(), new_id()
    await connection.execute(way.begin_holding)
    await connection.execute(UPLOAD, upload, at.repository, lease, blob.held)
    await way.hold(connection, at, blob.held)
    await connection.execute(CHANGE)
    assert await connection.fetchval(END, upload, lease, at.repository) == blob.held
    linked = at.repository, blob.digest, datetime.now(UTC), blob.size
    await connection.execute(way.store, *linked, at.organization, at.account, blob.held, [None] * 3)
    await connection.execute(COMMIT)


async def _round(pool: Pool, way: Way, places: list[Scopes], turns: int, number: int) -> float:
    """Blobs that were held and settled, a second."""

    async def push(task: int) -> None:
        for turn in range(turns):
            name = "known" if turn % 8 == 7 else f"{number} {task} {turn}"
            digest = digest_of(f"{places[0].organization} {name}".encode())
            async with pool.acquire() as connection:
                blob = Blob(digest, SIZE, 2 * SIZE if turn % 4 == 3 else SIZE)
                await _push(connection, way, places[task % len(places)], blob)  # type: ignore[arg-type]
            if task == turn % TASKS:
                await way.tidy()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for task in range(TASKS):
            tasks.create_task(push(task))
    await way.tidy()
    return turns * TASKS / (time.perf_counter() - began)


async def measure(system: System, pool: Pool, books: Connection, turns: int) -> bool:
    """Whether both ended exact."""
    foundation = system.foundation
    ours, theirs = await _scopes(system, "ours"), await _scopes(system, "pair")
    await books.execute(PAIR)
    for at in theirs:
        await books.execute(OPEN_PAIR, at.all, LIMIT)
    ratios = []
    for number in range(ROUNDS + 1):
        rates = [
            await _round(pool, Engine(foundation), ours, turns, number),
            await _round(pool, Pair(foundation), theirs, turns, number),
        ]
        if number:  # the first round warms up
            ratios.append(rates[0] / rates[1])
            print(f"ours {rates[0]:,.0f}/s, used and reserved {rates[1]:,.0f}/s: {ratios[-1]:.2f} times", flush=True)
    print(f"hold and settle, {TASKS} tasks: {statistics.median(ratios):.2f} times the pair; wanted is {WANTED}")
    return await _are_exact(books, ours)


async def _scopes(system: System, name: str) -> list[Scopes]:
    household = await settle(system, name)
    names = [f"web{number}" for number in range(REPOSITORIES)]
    await household.ensure(*names)
    async with household.begin() as work:
        places = [await household.place(work, name) for name in names]
    return [Scopes(*map(_known, (place.repository_id, place.organization_id, place.account_id))) for place in places]


def _known(scope: UUID | None) -> UUID:
    assert scope is not None
    return scope


async def _are_exact(books: Connection, places: list[Scopes]) -> bool:
    """Every counter is what is there, and nothing is held or waits to be taken off."""
    scopes = {str(scope) for at in places for scope in at.all}
    wrong = [one for one in await differences(books) if one[0].split()[1] in scopes]
    left = await books.fetchval("SELECT (SELECT count(*) FROM upload) + (SELECT count(*) FROM quota_refund)")
    pair = await books.fetchval(PAIR_WRONG)
    print(f"counters that are wrong: {len(wrong)} of ours, {pair} of the pair; left over: {left}")
    return not (wrong or left or pair)


async def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=40, help="blobs of each task in a round")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as name:
        server = await embedded.start(Path(name) / "postgres")
        try:
            await migrating.migrate(server.dsn)
            settings = Settings(data=Path(name) / "data", log_level="error", quota_storage_bytes=LIMIT)
            async with running(settings, configure(), server.dsn) as system:
                pool, books = await open_pool(server.dsn, CONNECTIONS), await connect(server.dsn)
                exact = await measure(system, pool, books, chosen.turns)
                await pool.close()
                await books.close()
        finally:
            await embedded.stop(server)
    return exact


if __name__ == "__main__":
    sys.exit(0 if uvloop.run(main()) else 1)
