"""doctor: what an operator would check by hand, in one go."""

from contextlib import closing, suppress
from pathlib import Path

import anyio
import typer

from api.cli.running import run
from registry import keys
from registry.audit import subjects
from registry.audit.subjects import WrongKey
from registry.settings import Settings
from registry.storage import revisions
from registry.storage.blobs.filesystem import FilesystemStore
from registry.storage.database import APP_ROLE, Connection, DatabaseUnavailable, connect
from registry.storage.embedded import CannotStart
from registry.system import database
from registry.transparency.notes import KeyInvalid


def doctor() -> None:
    """Check settings, database and storage; exits with 1 if anything is wrong."""
    findings = run(_examine)
    for good, sentence in findings:
        typer.echo(f"{'ok ' if good else 'BAD'}  {sentence}")
    if not all(good for good, _ in findings):
        raise typer.Exit(1)


async def _examine(settings: Settings) -> list[tuple[bool, str]]:
    return [
        (True, f"settings are read; data lies in {settings.data}"),
        *await _examine_database(settings),
        await _examine_blobs(settings),
    ]


async def _examine_database(settings: Settings) -> list[tuple[bool, str]]:
    try:
        async with database(settings) as dsn:
            connection = await connect(dsn)
            try:
                return [*await _examined(connection), *await _examine_sealing(connection, settings.data / "keys")]
            finally:
                await connection.close()
    except (CannotStart, DatabaseUnavailable) as error:
        return [(False, str(error))]


async def _examined(connection: Connection) -> list[tuple[bool, str]]:
    version = connection.get_server_version()
    behind = await revisions.pending(connection)
    durable = await connection.fetchval("SHOW fsync") == "on"
    role = await connection.fetchval(
        "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1", APP_ROLE
    )
    return [
        (version.major >= 15, f"PostgreSQL {version.major}.{version.minor}"),
        (behind is None, behind or "the database is of this version"),
        (durable, "commits reach the disk" if durable else "fsync is off: commits may be lost"),
        (
            bool(role),
            "the server works as a role that cannot change the audit log"
            if role
            else f"the role {APP_ROLE} is missing: only triggers guard the audit log",
        ),
    ]


async def _examine_sealing(connection: Connection, folder: Path) -> list[tuple[bool, str]]:
    """Whether persons can be sealed in the log. Without a file no key opens anything, which is no harm before the first
    start."""
    if await revisions.pending(connection):
        return []
    try:
        key = b""
        with suppress(FileNotFoundError):
            key = keys.read_sealing(folder)
        await subjects.check(connection.fetch, key)
    except (WrongKey, KeyInvalid, OSError) as error:
        return [(False, str(error))]
    return [(True, "the key that seals persons in the audit log is the one of this database")]


async def _examine_blobs(settings: Settings) -> tuple[bool, str]:
    try:
        with closing(FilesystemStore(settings.blobs_folder)) as store, anyio.fail_after(10):
            await store.check()
    except Exception as error:
        return False, f"blobs cannot be stored in {settings.blobs_folder}: {error}"
    return True, f"blobs can be stored in {settings.blobs_folder}"
