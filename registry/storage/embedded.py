"""The embedded PostgreSQL: started, met again and stopped, all inside one folder of its own.

    server = await embedded.start(Path("var/postgres"))
    connection = await asyncpg.connect(server.dsn)
    await embedded.stop(server)

What must hold: nobody but the folder's owner can connect (no TCP; `trust`, but behind a private folder); what
a commit promised is on the disk; after any kill, of the server or of PostgreSQL, the next `start` finds what
is there and goes on.
"""

import asyncio
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import anyio
import asyncpg

from registry.storage import postgres_binaries, postgres_folder, postmaster
from registry.storage.postgres_binaries import CannotStart
from registry.storage.postgres_folder import OWNER, PORT, Held
from registry.storage.postmaster import POLL_SECONDS, Postmaster

__all__ = ["CannotStart", "Limits", "Server", "running", "start", "stop"]

DATABASE = "tidewaiter"
ALWAYS = {"listen_addresses": "", "port": str(PORT), "unix_socket_permissions": "0700"}
DURABLE = {"fsync": "on", "full_page_writes": "on"}
CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How many seconds to wait: for recovery after a crash or for another command that starts, for an answer,
    for a shutdown, and for the children that a killed postmaster left behind."""

    starting: float = 300.0
    answering: float = 10.0
    stopping: float = 30.0
    leaving: float = 10.0


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `socket` is the folder of its socket; `adopted` says that it ran before."""

    dsn: str
    socket: Path
    pid: int
    folder: Path
    adopted: bool = False


def running(folder: Path) -> Server | None:
    """The server that lives in this folder and takes connections, whoever started it."""
    found = postmaster.find(folder.resolve() / "data")
    return _server(found, adopted=True) if found is not None and found.status == "ready" else None


async def start(folder: Path, *, durable: bool = True, limits: Limits = LIMITS) -> Server:
    """Returns when the server takes connections and its database exists; makes or adopts what that needs.

    `durable=False` may lose everything with the power: for tests only.
    Raises CannotStart with the reason and the ways out.
    """
    try:
        folder = await asyncio.to_thread(_open, folder)
        async with postgres_folder.locked(folder / "starting.lock", limits.starting):
            return await _started(folder, durable, limits)
    except (OSError, subprocess.SubprocessError, asyncpg.PostgresError) as refused:
        raise CannotStart(
            f"The embedded database cannot work in {folder}: {refused}. Set TIDEWAITER_DATA to a folder of "
            "your own on a local disk, or set TIDEWAITER_DATABASE_URL."
        ) from refused


async def stop(server: Server, *, limits: Limits = LIMITS) -> None:
    """Returns when the process is gone: clients are cut off, what they did not commit is rolled back."""
    await postmaster.end(server.pid, server.folder / "data", limits.stopping)
    postgres_folder.clear_socket(server.socket)


def _open(folder: Path) -> Path:
    folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


async def _started(folder: Path, durable: bool, limits: Limits) -> Server:
    if (adopted := await _adopt(folder / "data", limits)) is not None:
        await _furnish(adopted, durable, limits)
        return adopted
    try:
        pid = await _launch(folder, durable, limits)
    except Held:
        # Its launcher may have been killed before it wrote its record: by now it did, or it never will.
        if (late := await _adopt(folder / "data", limits)) is None:
            raise
        await _furnish(late, durable, limits)
        return late
    try:
        server = await _ready(pid, folder, limits)
        await _furnish(server, durable, limits)
    except BaseException:
        # Whoever asked has given up and knows no pid to stop.
        with anyio.CancelScope(shield=True):
            await postmaster.end(pid, folder / "data", limits.stopping)
        raise
    return server


async def _adopt(data: Path, limits: Limits) -> Server | None:
    """The server found alive, once it is ready; one that is stopping or deaf is ended, and there is none."""
    with anyio.move_on_after(limits.starting):
        while (found := postmaster.find(data)) is not None:
            state = await _state(found, limits)
            if state == "ready":
                return _server(found, adopted=True)
            if state == "over":
                await postmaster.end(found.pid, data, limits.stopping)
            await anyio.sleep(POLL_SECONDS)
        return None
    raise CannotStart(f"The PostgreSQL in {data} was started by another command and does not become ready.")


async def _state(found: Postmaster, limits: Limits) -> Literal["ready", "coming", "over"]:
    if found.status == "stopping":
        return "over"
    if found.status != "ready":
        return "coming"
    try:
        connection = await _connect(_server(found, adopted=True), limits)
    except (asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
        return "coming"  # It recovers from a child's crash, or begins to stop: what it says next will tell.
    except asyncpg.PostgresError:
        return "ready"  # To be refused, for example for too many connections, is to be answered.
    except OSError:
        return "over"
    await connection.close(timeout=limits.answering)
    return "ready"


async def _launch(folder: Path, durable: bool, limits: Limits) -> int:
    """The pid of the postmaster that begins to work, on data made before if there was none."""
    async with postgres_folder.locked(folder / "running.lock", limits.leaving) as held:
        launching = asyncio.ensure_future(asyncio.to_thread(_launch_now, folder, durable, held))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            # The thread cannot be called back: wait for what it starts, or nobody would know of it.
            with anyio.CancelScope(shield=True), suppress(CannotStart, OSError):
                await postmaster.end(await launching, folder / "data", limits.stopping)
            raise


def _launch_now(folder: Path, durable: bool, held: int) -> int:
    data, log = folder / "data", folder / "postgres.log"
    version = postgres_folder.version_of(data)
    binaries = postgres_binaries.find(version)
    if version is None:
        postgres_folder.make(folder, binaries, durable=durable)
    identity = postgres_binaries.identity_for(data, binaries)
    before = postgres_folder.forget_dead(data)
    socket = postgres_folder.prepare_socket(folder, identity, before)
    settings = ALWAYS | (DURABLE if durable else CARELESS) | {"unix_socket_directories": str(socket)}
    postgres_folder.roll(log)
    return postmaster.launch(identity, binaries, data, settings, log, held)


async def _ready(pid: int, folder: Path, limits: Limits) -> Server:
    """Crash recovery may take its time; an end does not: it is told at once, with PostgreSQL's own words."""
    data = folder / "data"
    with anyio.move_on_after(limits.starting):
        while postmaster.is_alive(pid, data):
            found = postmaster.recorded(data)
            if found is not None and found.pid == pid and found.status == "ready":
                return _server(found, adopted=False)
            await anyio.sleep(POLL_SECONDS)
    said = postgres_folder.last_words(folder / "postgres.log")
    raise CannotStart(f"PostgreSQL did not start in {folder}. It said: {said}")


async def _furnish(server: Server, durable: bool, limits: Limits) -> None:
    """Our database exists, and it keeps what it promises.

    Raises CannotStart if durability is asked of a server that somebody started without it.
    """
    connection = await _connect(server, limits)
    try:
        if durable and await connection.fetchval("SHOW fsync") != "on":
            raise CannotStart(
                f"The PostgreSQL in {server.folder} (process {server.pid}) was started for tests and "
                "would lose data with the power: stop it, then start again."
            )
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close(timeout=limits.answering)


async def _connect(server: Server, limits: Limits) -> asyncpg.Connection:
    """A connection to the database that always exists."""
    return await asyncpg.connect(server.dsn, database="postgres", timeout=limits.answering)


def _server(found: Postmaster, *, adopted: bool) -> Server:
    if found.socket is None:
        raise CannotStart(f"The PostgreSQL in {found.data} (process {found.pid}) has no Unix socket: stop it first.")
    dsn = f"postgresql://{OWNER}@/{DATABASE}?host={quote(str(found.socket))}&port={found.port}"
    return Server(dsn, found.socket, found.pid, found.data.parent, adopted)
