"""What crash runs share: workers and their PostgreSQL, killed at random.

    async with staged("benchmarks.crashing", folder) as scene:
        await scene.start(workers=3)
        await scene.torment(60, random.Random(1), begun=lambda: bool(read_notes(folder)))

A worker is a process of the run's own module, which gets the address of the database, the folder and a name. It comes
up again when the database is gone, and notes in a file of its own what was asked and acknowledged, by a clock that all
processes share: what is noted survives a kill.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from registry import migrating
from registry.errors import Refusal
from registry.storage import embedded

SHARE = 0.15
"""How often it is the database."""
MISHAPS = (OSError, Refusal, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
"""What a worker meets when something else was killed, and tries again after."""


@dataclass(slots=True)
class Killed:
    """`failed` are workers that ended by themselves, which none should."""

    workers: int = 0
    databases: int = 0
    failed: int = 0


@dataclass(slots=True)
class Scene:
    """The processes of one run."""

    module: str
    folder: Path
    database: embedded.Server
    killed: Killed = field(default_factory=Killed)
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    started: int = 0

    async def start(self, workers: int) -> None:
        for _ in range(workers):
            await self.start_worker()

    async def start_worker(self) -> None:
        self.started += 1
        words = (sys.executable, "-m", self.module, self.database.dsn, self.folder, str(self.started))
        self.workers.append(await asyncio.create_subprocess_exec(*words))

    async def kill_worker(self, place: int) -> None:
        worker = self.workers.pop(place)
        self.killed.failed += worker.returncode is not None
        with suppress(ProcessLookupError):
            worker.send_signal(signal.SIGKILL)
        await worker.wait()

    async def kill_all(self) -> None:
        while self.workers:
            await self.kill_worker(0)

    async def crash_database(self) -> None:
        """As a crash leaves it: nothing is written out, the next start recovers."""
        os.kill(self.database.pid, signal.SIGQUIT)
        await until(lambda: not _is_alive(self.database.pid))
        self.database = await embedded.start(self.folder / "postgres")

    async def torment(
        self,
        seconds: float,
        chance: random.Random,
        *,
        begun: Callable[[], bool],
        pauses: tuple[float, float] = (0.3, 1.2),
        besides: Callable[[], None] | None = None,
    ) -> None:
        """Begins once `begun`, so that a slow machine is tormented as much as a fast one. `besides` is done, too, from
        time to time."""
        await until(begun)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(*pauses))
            if besides and chance.random() < SHARE:
                besides()
            if chance.random() < SHARE:
                await self.crash_database()
                self.killed.databases += 1
            else:
                await self.kill_worker(chance.randrange(len(self.workers)))
                await self.start_worker()
                self.killed.workers += 1


@asynccontextmanager
async def staged(module: str, folder: Path) -> AsyncIterator[Scene]:
    """A database of this version, without workers yet."""
    found = Scene(module, folder, await embedded.start(folder / "postgres"))
    try:
        await migrating.migrate(found.database.dsn)
        yield found
    finally:
        await found.kill_all()
        await embedded.stop(found.database)


# What was acknowledged


class Notes:
    """What one worker writes down."""

    def __init__(self, folder: Path, name: str) -> None:
        self._descriptor = os.open(folder / f"notes.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, *words: object) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + " .\n").encode())


def read_notes(folder: Path) -> list[list[str]]:
    """The words of each. A line that a kill has cut short was not acknowledged to anybody."""
    lines = [line.split() for path in sorted(folder.glob("notes.*")) for line in path.read_text().splitlines()]
    return [words[:-1] for words in lines if words[-1:] == ["."]]


# The life of a worker


async def again_and_again(come_up: Callable[[], Awaitable[None]]) -> None:
    """Until it is killed."""
    while True:
        try:
            await come_up()
        except* MISHAPS:
            pass
        await asyncio.sleep(0.05)


async def until(holds: Callable[[], bool]) -> None:
    """What other processes do can only be looked at."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def told(report: Any) -> None:
    """Prints the counts of a report."""
    for title, count in asdict(report).items():
        print(f"{title.replace('_', ' '):18} {count:9}")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    if state == "Z":
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return state != "Z"
