"""Brings a database to the shape this version needs. Safe to run from many places at once: an advisory lock makes
the second wait for the first and then find nothing to do."""

from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

import registry.access.tables
import registry.accounts.tables
import registry.audit.tables
import registry.organizations.tables
import registry.quotas.tables
import registry.repositories.tables  # noqa: F401
from registry.errors import Unable
from registry.storage import revisions
from registry.storage.database import connect

LOCK = 0x71DE  # any number, the same for all versions
OLDEST_POSTGRES = 150000


class DatabaseTooOld(Unable):
    """The server is older than what the registry is tested with."""


class DatabaseTooNew(Unable):
    """A later version of the registry has migrated the database; its text says what to do."""


async def migrate(dsn: str) -> None:
    """Raises `DatabaseTooOld`, `DatabaseTooNew`, `DatabaseUnavailable`, and whatever the database itself refuses."""
    await _on_connection(dsn, _upgrade)


async def differences(dsn: str) -> list[Any]:
    """What a new migration would have to change for database and models to agree; empty when they do."""
    found: list[Any] = []
    await _on_connection(dsn, lambda connection: found.extend(_compare(connection)))
    return found


async def _on_connection(dsn: str, act: Any) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: connect(dsn), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(act)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: SyncConnection) -> None:
    version = connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
    if version < OLDEST_POSTGRES:
        raise DatabaseTooOld("Tidewaiter needs PostgreSQL 15 or newer.")
    connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and not revisions.is_known(current):
        raise DatabaseTooNew(revisions.too_new(current))
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["metadata"] = SQLModel.metadata
    command.upgrade(config, "head")


def _compare(connection: SyncConnection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={"compare_type": True, "include_object": _is_ours, "target_metadata": SQLModel.metadata},
    )
    return list(compare_metadata(context, SQLModel.metadata))


def _is_ours(_: Any, name: str | None, kind: str, reflected: bool, __: Any) -> bool:
    """Partitions are made as months pass and stand in no model, nor does the log of before it was sealed."""
    partition = kind == "table" and reflected and str(name).startswith(("audit_log_", "audit_unsealed"))
    return not partition and name != "alembic_version"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "registry.storage:migrations")
    config.set_main_option("file_template", "%%(year)d_%%(month).2d_%%(day).2d_%%(slug)s")
    return config
