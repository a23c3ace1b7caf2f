"""`make bench`: each workload at each server in turn, several rounds, and the median of what an operation costs."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Connection, fresh, push_image, together
from benchmarks.servers import Target, ours, peer

ROUNDS = 5
REPOSITORY = "bench/web"
LARGE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """What one connection does, how often, on how many connections at once."""

    name: str
    connections: int
    times: int
    act: Callable[[Connection, str], Awaitable[object]]

    async def run(self, target: Target, blob: str) -> tuple[float, float]:
        """CPU seconds of the server, and seconds, for one operation."""

        async def all_of_one(connection: Connection) -> None:
            for _ in range(self.times):
                await self.act(connection, blob)

        cpu, clock = target.cpu_seconds(), time.perf_counter()
        await together(target, self.connections, all_of_one)
        operations = self.connections * self.times
        return (target.cpu_seconds() - cpu) / operations, (time.perf_counter() - clock) / operations


async def pull_manifest(connection: Connection, _: str) -> None:
    await connection.ask("GET", f"/v2/{REPOSITORY}/manifests/1.0")


async def ask_for_blob(connection: Connection, blob: str) -> None:
    await connection.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{blob}")


async def pull_blob(connection: Connection, blob: str) -> None:
    await connection.ask("GET", f"/v2/{REPOSITORY}/blobs/{blob}")


async def push_large(connection: Connection, _: str) -> None:
    await connection.push_blob(REPOSITORY, fresh(LARGE))


async def push_small_image(connection: Connection, _: str) -> None:
    await push_image(connection, REPOSITORY, fresh(4096), "small")


WORKLOADS = (
    Workload("manifest GET, 1 connection", 1, 400, pull_manifest),
    Workload("manifest GET, 16 connections", 16, 100, pull_manifest),
    Workload("manifest GET, 64 connections", 64, 40, pull_manifest),
    Workload("blob HEAD, 16 connections", 16, 100, ask_for_blob),
    Workload("blob GET 64 MiB, 4 connections", 4, 2, pull_blob),
    Workload("blob push 64 MiB, 1 connection", 1, 3, push_large),
    Workload("small image push, 4 connections", 4, 10, push_small_image),
)


async def measure(targets: list[Target]) -> None:
    blobs = {}
    for target in targets:
        async with Connection(target) as connection:
            blobs[target.name] = await push_image(connection, REPOSITORY, fresh(LARGE), "1.0")
    names = " ".join(f"{target.name + ' CPU':>18}{'elapsed':>10}" for target in targets)
    print(f"{'milliseconds for one operation':34} {names}   CPU and elapsed, ratio to the peer")
    for workload in WORKLOADS:
        found = [[await workload.run(target, blobs[target.name]) for target in targets] for _ in range(ROUNDS + 1)]
        print(_line(workload.name, found[1:]))  # the first round warms up


def _line(name: str, rounds: list[list[tuple[float, float]]]) -> str:
    medians = [[statistics.median(each) for each in zip(*one, strict=True)] for one in zip(*rounds, strict=True)]
    figures = " ".join(f"{cpu * 1000:18.3f}{elapsed * 1000:10.3f}" for cpu, elapsed in medians)
    ratios = [statistics.median(our[n] / their[n] for our, their in rounds) for n in (0, 1)] if len(medians) > 1 else []
    return f"{name:34} {figures}   {' '.join(f'{ratio:6.2f} x' for ratio in ratios)}"


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as name,
        ours(Path(name) / "ours") as our,
        peer(Path(name) / "peer") as their,
    ):
        if their is None:
            print("No CNCF Distribution is installed here, so there is nothing to compare with.")
        asyncio.run(measure([target for target in (our, their) if target]))


main()
