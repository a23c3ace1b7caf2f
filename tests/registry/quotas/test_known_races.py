"""What went wrong in other registries when many came at once, or one did not come to its end. The table of all of it
stands in test_known_bugs.py."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from registry.actors import Origin
from registry.errors import QuotaExceeded
from registry.oci.digest import digest_of
from registry.repositories import deleting, uploading
from registry.repositories.receiving import Incoming, Receiver
from registry.system import System
from tests.api.schema.asking import statements
from tests.support import world
from tests.support.books import address_of, in_process, opened
from tests.support.handmade import Door, knocking
from tests.support.images import payload
from tests.support.inside import PATIENCE_SECONDS, Household, settle
from tests.support.meters import limit, used
from tests.support.recount import differences
from tests.support.server import Server, serving
from tests.support.world import Tenant


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "races")
    await world.repository(acme, "web")
    return acme


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


async def test_fifty_pushes_at_once_ask_as_often_as_one_by_one(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    """Nobody tries again, and nobody fails who has room: there is just as much as all need together."""
    web = f"{acme.organization}/web"
    layers = [payload(f"{acme.account} {number}", 2000) for number in range(100)]
    assert await limit(acme, "STORAGE_BYTES", "organization", 200_000) == []
    before = statements(tidewaiter)
    for layer in layers[:50]:
        assert (await door.push_blob(web, layer)).status_code == 201
    between = statements(tidewaiter)
    answers = await asyncio.gather(*(door.push_blob(web, layer) for layer in layers[50:]))
    after = statements(tidewaiter)
    assert [answer.status_code for answer in answers] == [201] * 50
    assert await used(acme) == (200_000, 0)
    janitor = 50  # which may come round meanwhile
    assert after - between <= between - before + janitor


NOWAIT = """
    SELECT q.scope_kind FROM quota_counter q JOIN organization o ON o.name = $1
    WHERE q.scope_id IN (SELECT o.id UNION SELECT o.account_id UNION
        SELECT r.id FROM repository r WHERE r.organization_id = o.id) FOR UPDATE OF q NOWAIT
"""


async def test_no_counter_is_locked_while_bytes_move(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    web = f"{acme.organization}/web"
    go = asyncio.Event()

    async def halting() -> AsyncIterator[bytes]:
        yield bytes(1000)
        await go.wait()
        yield bytes(1000)

    assert await limit(acme, "STORAGE_BYTES", "account", 100_000_000) == []
    slow = asyncio.ensure_future(door.patch(await door.begin_upload(web), content=halting()))
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await used(acme))[1] == 0:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        async with opened(address_of(tidewaiter)) as books, books.transaction():
            locked = await books.fetch(NOWAIT, acme.organization)
        assert (await door.push_blob(web, payload(acme.account, 3000))).status_code == 201
    assert {row["scope_kind"] for row in locked} == {"repository", "organization", "account"}
    go.set()
    assert (await slow).status_code == 202
    assert await used(acme) == (3000, 2000)


async def sent(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 500):
        yield content[start : start + 500]


async def receive(ours: Household, content: bytes, *, announced: bool) -> bool:
    """Whether there was room."""
    foundation = ours.system.foundation
    try:
        async with ours.begin() as work:
            work.attempt("image.push", f"{ours.name}/web")
            upload = await uploading.start(work, await ours.place(work, "web"), None, "sha256")
        incoming = Incoming(ours.name, "web", upload, sent(content), length=len(content) if announced else None)
        await Receiver(foundation, ours.owner, Origin()).close(incoming, digest_of(content))
    except QuotaExceeded:
        return False
    return True


async def test_one_connection_is_enough_for_many(dsn: str, data: Path, books: asyncpg.Connection) -> None:
    """Those that are refused, and put on the books, take no second one either."""
    async with in_process(dsn, data, database_pool=1, quota_storage_bytes=30_000) as system:
        ours = await settle(system, "one")
        await ours.ensure("web")
        contents = [payload(f"{ours.name} {number}", 2000) for number in range(30)]
        with anyio.fail_after(PATIENCE_SECONDS):
            pushes = [receive(ours, one, announced=number % 2 == 0) for number, one in enumerate(contents)]
            done = await asyncio.gather(*pushes)
        assert 0 < sum(done) <= 15
        assert not all(done)
        assert await differences(books) == []


async def test_what_a_killed_server_held_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path / "server") as server:
        acme = await world.tenant(server, "killed")
        assert await limit(acme, "STORAGE_BYTES", "organization", 10_000) == []
        stopped = asyncio.Event()

        async def halting() -> AsyncIterator[bytes]:
            yield bytes(6000)
            await stopped.wait()

        async with knocking(server, acme.owner) as door:
            upload = await door.begin_upload(f"{acme.organization}/web")
            cut = asyncio.ensure_future(door.patch(upload, content=halting(), headers={"Content-Length": "8000"}))
            with anyio.fail_after(PATIENCE_SECONDS):
                while (await used(acme))[1] != 8000:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            stopped.set()
            await asyncio.gather(cut, return_exceptions=True)
            await asyncio.to_thread(server.start)
            assert await used(acme) == (0, 8000)  # it may be taken up again
            assert (await door.push_blob(f"{acme.organization}/web", bytes(9000))).status_code == 403
            server.stop(signal.SIGKILL)
            server.advance(16 * 60)
            await asyncio.to_thread(server.start)
            assert await used(acme) == (0, 0)
            assert (await door.push_blob(f"{acme.organization}/web", bytes(10_000))).status_code == 201
        async with opened(address_of(server)) as books:
            assert await differences(books) == []


async def test_thousands_of_tags_go_with_as_few_statements_as_one(system: System, books: asyncpg.Connection) -> None:
    """Nothing is retained by rules yet; what goes, goes with its manifest or its repository."""
    taken = []
    for name, count in (("few", 1), ("many", 3000)):
        ours = await settle(system, name)
        await ours.ensure("web", "other")
        digests = {repository: await ours.push(repository, "first") for repository in ("web", "other")}
        await books.execute(TAGS, ours.name, count)
        assert await differences(books) == []
        before = counted(system)
        async with ours.begin() as work:
            await deleting.delete_manifest(work, await ours.place(work, "web"), digests["web"])
        async with ours.begin() as work:
            await deleting.delete_repository(work, await ours.place(work, "other"))
        taken.append(counted(system) - before)
        assert await books.fetchval(CHARGED, ours.name) == 0
    assert taken[1] == taken[0] > 10


TAGS = """
    WITH made AS (
        INSERT INTO tag (repository_id, name, digest, created_at, pushed_by, pushed_at)
        SELECT t.repository_id, 'more-' || n, t.digest, now(), t.pushed_by, now()
        FROM tag t JOIN repository r ON r.id = t.repository_id JOIN organization o ON o.id = r.organization_id,
            generate_series(1, $2::int) AS n
        WHERE o.name = $1 RETURNING repository_id
    ), more AS (
        SELECT repository_id AS id, count(*) AS amount FROM made GROUP BY repository_id
        UNION ALL SELECT o.id, 2 * $2 FROM organization o WHERE o.name = $1
    )
    UPDATE quota_counter q SET charged = charged + more.amount FROM more WHERE q.scope_id = more.id AND q.key = 'TAGS'
"""
CHARGED = """
    SELECT sum(q.charged) FROM quota_counter q JOIN organization o ON o.id = q.scope_id
    WHERE o.name = $1 AND q.key IN ('TAGS', 'STORAGE_BYTES')
"""


def counted(system: System) -> int:
    """Statements so far."""
    lines = system.foundation.telemetry.exposition().decode().splitlines()
    return sum(
        int(float(line.split()[-1]))
        for line in lines
        if line.startswith("db_client_operation_duration") and "_count" in line
    )


async def test_many_who_are_first_make_each_counter_once(acme: Tenant, door: Door, tidewaiter: Server) -> None:
    """Nothing was ever charged at these scopes."""
    names = [f"{acme.organization}/new{number % 4}" for number in range(40)]
    layer = payload(acme.account, 4000)
    pushes = [door.push_blob(name, layer if number % 2 else name.encode()) for number, name in enumerate(names)]
    answers = await asyncio.gather(*pushes)
    assert {answer.status_code for answer in answers} == {201}
    assert await used(acme) == (4000 + sum(len(name) for name in {n for i, n in enumerate(names) if not i % 2}), 0)
    assert await used(acme, "REPOSITORIES", "account") == (5, 0)
    async with opened(address_of(tidewaiter)) as books:
        assert await differences(books) == []
