"""The books behind the doors: the database of the running server, and new ones beside it in the same PostgreSQL."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from registry import migrating
from registry.settings import Settings
from registry.storage import embedded
from registry.storage.database import SEQUENCER_ROLE, prepare
from registry.system import System, running
from registry.telemetry import configure
from tests.support.server import PASSWORD, Server


def address_of(server: Server) -> str:
    """The address of the server's database, as its owner."""
    found = embedded.running(server.folder / "data" / "postgres")
    assert found is not None
    return found.dsn


@asynccontextmanager
async def opened(dsn: str, *, as_app: bool = False, as_sequencer: bool = False) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the owner of everything, or as one of the roles the server works under."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        if as_app:
            await prepare(connection)
            assert await connection.fetchval("SELECT current_user") == "tidewaiter_app"
        if as_sequencer:
            await prepare(connection, SEQUENCER_ROLE)
            assert await connection.fetchval("SELECT current_user") == "tidewaiter_sequencer"
        yield connection
    finally:
        await connection.close(timeout=10)


@asynccontextmanager
async def new_database(server: Server) -> AsyncIterator[str]:
    """The address of a database of its own, of this version and empty: a copy of one that was migrated."""
    name = f"test_{secrets.token_hex(6)}"
    async with opened(address_of(server)) as owner:
        await _make_blank(server, owner)
        await owner.execute(f"CREATE DATABASE {name} TEMPLATE blank")
        try:
            yield _address(server, name)
        finally:
            await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _make_blank(server: Server, owner: asyncpg.Connection) -> None:
    """At the first need. It has its name when it is complete."""
    if await owner.fetchval("SELECT true FROM pg_database WHERE datname = 'blank'"):
        return
    await owner.execute("CREATE DATABASE migrating")
    await migrating.migrate(_address(server, "migrating"))
    await owner.execute("ALTER DATABASE migrating RENAME TO blank")


def _address(server: Server, name: str) -> str:
    return address_of(server).replace("/tidewaiter?", f"/{name}?")


@asynccontextmanager
async def in_process(dsn: str, folder: Path, **settings: object) -> AsyncIterator[System]:
    """A registry in this process, without doors. Its clock reads the file `clock` in the folder."""
    ours = {"data": folder, "admin_password": PASSWORD, "embedded_fsync": False, "clock_file": folder / "clock"}
    async with running(Settings(**(ours | settings)), configure(), dsn) as system:
        yield system
