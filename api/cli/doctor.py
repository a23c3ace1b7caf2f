"""doctor: what an operator would check by hand, in one go."""

from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import typer

from api.cli.running import run
from registry import keys
from registry.audit import subjects
from registry.audit.kept import is_later
from registry.audit.publishing import Fork, Publisher
from registry.audit.subjects import WrongKey
from registry.clock import SystemClock
from registry.keys import AUDIT_SIGNING, KeyMissing
from registry.settings import Settings
from registry.storage import revisions
from registry.storage.blobs.filesystem import FilesystemStore
from registry.storage.database import APP_ROLE, Connection, DatabaseUnavailable, connect
from registry.storage.embedded import CannotStart
from registry.system import database, publisher_of
from registry.transparency.notes import KeyInvalid, NoteInvalid, open_note

SIGNED = "SELECT origin, note FROM audit_checkpoint ORDER BY at DESC, size DESC LIMIT 1"


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
                found = await _examined(connection)
                if await revisions.pending(connection) is None:
                    found.append(await _examine_sealing(connection, settings.data / "keys"))
                    found += await _examine_signing(connection, settings, dsn)
                return found
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


async def _examine_sealing(connection: Connection, folder: Path) -> tuple[bool, str]:
    """Whether persons can be sealed in the log. Without a file no key opens anything, which is no harm before the first
    start."""
    try:
        key = b""
        with suppress(FileNotFoundError):
            key = keys.read_sealing(folder)
        await subjects.check(connection.fetch, key)
    except (WrongKey, KeyInvalid, OSError) as error:
        return False, str(error)
    return True, "the key that seals persons in the audit log is the one of this database"


async def _examine_signing(connection: Connection, settings: Settings, dsn: str) -> list[tuple[bool, str]]:
    """Whether what the log has can be signed on. Nothing is signed meanwhile, nor written."""
    path = settings.data / "keys" / AUDIT_SIGNING
    signed = await connection.fetchrow(SIGNED)
    try:
        publisher = publisher_of(settings, SystemClock(), dsn)
    except FileNotFoundError:
        return [(False, str(KeyMissing(path))) if signed else (True, "the audit log is signed from the first start on")]
    except (KeyInvalid, OSError) as error:
        return [(False, f"{path} cannot be read: {error}")]
    if signed and not _is_ours(signed, publisher):
        wrong = f"{path} is not the key that signed the audit log in this database, which is named {signed['origin']}"
        return [
            (False, f"{wrong}. Put the right file back; if there is none, see 'Keys' in the guide to the audit log.")
        ]
    return [
        (True, "the key that signs the audit log is the one that signed it last, or has taken its place"),
        await _examine_fork(connection, publisher),
    ]


def _is_ours(signed: Any, publisher: Publisher) -> bool:
    """The checkpoint of an earlier log tells nothing of the key of one that was opened after it."""
    if is_later(publisher.origin, signed["origin"]):
        return True
    try:
        return bool(open_note(signed["note"], publisher.verifiers).keys)
    except NoteInvalid:
        return False


async def _examine_fork(connection: Connection, publisher: Publisher) -> tuple[bool, str]:
    try:
        with anyio.fail_after(30):
            await publisher.examine(connection)
    except Fork as fork:
        return False, f"{fork} What to do stands in the guide to the audit log, under 'A restored database'."
    except Exception as error:  # what an anchor or a changed tree may come to
        return False, f"the audit log cannot be held against what was signed: {error or repr(error)}"
    return True, "the audit log goes on from what was signed, in the database and at its anchors"


async def _examine_blobs(settings: Settings) -> tuple[bool, str]:
    try:
        with closing(FilesystemStore(settings.blobs_folder)) as store, anyio.fail_after(10):
            await store.check()
    except Exception as error:
        return False, f"blobs cannot be stored in {settings.blobs_folder}: {error}"
    return True, f"blobs can be stored in {settings.blobs_folder}"
