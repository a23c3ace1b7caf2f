"""What it costs that the log is followed.

    python -m benchmarks.tails [--tails N]

Owners of three accounts follow the pulls of their own, through one server, while an image of the first account is
pulled at a steady pace: a third of the followers is sent every pull, the others none. Told are how long a pull took,
the CPU of all the server's processes, and whether each follower got every entry.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2

from benchmarks.load import Connection, fresh, push_image
from benchmarks.servers import Target, ours
from registry.audit.following import MOST_OF_ONE
from tests.support import world
from tests.support.server import Server
from tests.support.world import Person, Tenant

ACCOUNTS, PULLS, PACE_SECONDS, PATIENCE = 3, 150, 0.04, 1200
TAIL = """
    subscription { auditTail(filter: {action: "image.pull"}) {
        index time action outcome actor { name } target reason client
    } }
"""


async def measure(server: Server, target: Target, most: int) -> None:
    tenants = [await world.tenant(server, f"tails{number}") for number in range(ACCOUNTS)]
    owners = {tenant.account: await _owners(tenant, most) for tenant in tenants}
    path = f"{tenants[0].organization}/web"
    pulling = replace(target, authorization=await _token(server, tenants[0].owner, path))
    async with Connection(pulling) as connection:
        await push_image(connection, path, fresh(4096), "1.0")
        for tails in dict.fromkeys((0, most // 5, most)):
            async with _followers(server, owners, tails) as got:
                await _pulls(pulling, connection, path, got, tails)


async def _owners(tenant: Tenant, most: int) -> list[Person]:
    found = [tenant.owner]
    for number in range(most // ACCOUNTS // MOST_OF_ONE):
        owner = Person(f"{tenant.account}-{number}", tenant.owner.password)
        given = {"account": tenant.account, "name": owner.name, "password": owner.password, "owner": True}
        await world.change(tenant.tidewaiter, "createUser", tenant.owner, **given)
        found.append(owner)
    return found


async def _token(server: Server, owner: Person, path: str) -> str:
    async with httpx2.AsyncClient(auth=(owner.name, owner.password)) as client:
        answer = await client.get(f"{server.url}/token", params={"scope": f"repository:{path}:pull,push"})
    return f"Bearer {answer.json()['token']}"


@asynccontextmanager
async def _followers(server: Server, owners: dict[str, list[Person]], tails: int) -> AsyncIterator[list[int]]:
    """How many entries each has got so far, those of the first account first."""
    got, tasks = [0] * tails, list[asyncio.Task[None]]()
    names = list(owners)
    async with httpx2.AsyncClient(
        base_url=server.url, timeout=60, limits=httpx2.Limits(max_connections=None)
    ) as client:
        for number in range(tails):
            own, which = divmod(number, ACCOUNTS)
            owner = owners[names[which]][own // MOST_OF_ONE]
            tasks.append(asyncio.create_task(_follow(client, owner, got, number)))
        await asyncio.sleep(3)
        try:
            yield got
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(client: httpx2.AsyncClient, owner: Person, got: list[int], number: int) -> None:
    headers, signed_in = {"Accept": "text/event-stream"}, (owner.name, owner.password)
    async with client.stream("POST", "/graphql", json={"query": TAIL}, headers=headers, auth=signed_in) as answer:
        async for line in answer.aiter_lines():
            got[number] += line == "event: next"


async def _pulls(target: Target, connection: Connection, path: str, got: list[int], tails: int) -> None:
    times, cpu, began = list[float](), target.cpu_seconds(), time.perf_counter()
    for number in range(PULLS):
        await asyncio.sleep(max(0.0, began + number * PACE_SECONDS - time.perf_counter()))
        asked = time.perf_counter()
        await connection.ask("GET", f"/v2/{path}/manifests/1.0")
        times.append((time.perf_counter() - asked) * 1000)
    for _ in range(PATIENCE):
        if min(got[::ACCOUNTS], default=PULLS) >= PULLS:
            break
        await asyncio.sleep(0.05)
    late, spent = time.perf_counter() - began - PULLS * PACE_SECONDS, target.cpu_seconds() - cpu
    whole = all(one == (0 if number % ACCOUNTS else PULLS) for number, one in enumerate(got))
    print(
        f"{tails:3} tails: a pull takes {statistics.median(times):.1f} ms (95 of 100 below "
        f"{sorted(times)[PULLS * 95 // 100]:.1f}); {spent / PULLS * 1000:.1f} ms CPU for each in all; "
        f"the last entry was out {late:.1f} s after; {'nothing lost' if whole else f'LOST OR DOUBLED: {got}'}",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tails", type=int, default=150)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as name:
        folder = Path(name) / "tails"
        with ours(folder) as target:
            await measure(Server(folder, port=target.port), target, chosen.tails)


if __name__ == "__main__":
    asyncio.run(main())
