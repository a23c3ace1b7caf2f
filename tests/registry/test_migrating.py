"""Models and migrations say the same, and it is noticed when they do not."""

from collections.abc import AsyncIterator

import pytest
from alembic.script import ScriptDirectory

from registry import migrating
from registry.migrating import DatabaseTooNew
from registry.storage import revisions
from registry.storage.database import connect
from tests.support.books import new_database, opened
from tests.support.server import Server


@pytest.fixture
async def database(tidewaiter: Server) -> AsyncIterator[str]:
    async with new_database(tidewaiter) as dsn:
        yield dsn


async def pending(dsn: str) -> str | None:
    connection = await connect(dsn)
    try:
        return await revisions.pending(connection)
    finally:
        await connection.close()


async def test_models_and_migrations_agree(database: str) -> None:
    assert await migrating.differences(database) == []
    assert await pending(database) is None


def test_the_revisions_are_those_that_run() -> None:
    """They are read as text, which must find what alembic finds."""
    scripts = ScriptDirectory.from_config(migrating._config())
    assert revisions.newest() == scripts.get_current_head()
    assert all(revisions.is_known(each.revision) for each in scripts.walk_revisions())
    assert not revisions.is_known("2099_later")


PLANTED = {
    "a column more": "ALTER TABLE tag ADD COLUMN planted text",
    "a column less": "ALTER TABLE upload DROP COLUMN algorithm",
    "a column of another type": "ALTER TABLE blob ALTER COLUMN size TYPE integer",
    "a column that may be empty": "ALTER TABLE account ALTER COLUMN name DROP NOT NULL",
    "an index less": "DROP INDEX manifest_part_digest",
    "an index more": "CREATE INDEX planted_index ON blob (stored_at)",
    "a unique name less": "ALTER TABLE account DROP CONSTRAINT account_name_key",
    "a foreign key less": "ALTER TABLE repository DROP CONSTRAINT repository_organization_id_fkey",
    "a table more": "CREATE TABLE planted (id integer PRIMARY KEY)",
    "a table less": "DROP TABLE pull_count",
}


async def test_every_kind_of_disagreement_is_noticed(database: str) -> None:
    """One is planted upon the other."""
    known = 0
    async with opened(database) as owner:
        for kind, statement in PLANTED.items():
            await owner.execute(statement)
            found = len(await migrating.differences(database))
            assert found > known, kind
            known = found


async def test_the_audit_logs_months_are_no_disagreement(database: str) -> None:
    async with opened(database) as owner:
        made = await owner.fetchval("SELECT audit_prepare(now() + interval '400 days')")
        assert made is None or str(made).startswith("audit_log_")
        assert await owner.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_log'::regclass") >= 2
    assert await migrating.differences(database) == []


async def test_migrating_again_changes_nothing(database: str) -> None:
    async with opened(database) as owner:
        before = await owner.fetch("SELECT oid, relname FROM pg_class ORDER BY oid")
        await migrating.migrate(database)
        assert await owner.fetch("SELECT oid, relname FROM pg_class ORDER BY oid") == before


async def test_an_empty_database_is_told_to_be_migrated(database: str) -> None:
    async with opened(database) as owner:
        await owner.execute("DROP TABLE alembic_version")
    said = f"The database is at revision none, this version needs {revisions.newest()}: run 'tidewaiter migrate'."
    assert await pending(database) == said


async def test_a_database_of_a_later_version_is_left_alone(database: str) -> None:
    """Migrating would not help: that it is not told to."""
    async with opened(database) as owner:
        await owner.execute("UPDATE alembic_version SET version_num = '2099_later'")
    said = await pending(database)
    assert said is not None
    assert "2099_later, which this version does not know" in said
    with pytest.raises(DatabaseTooNew, match="or a later one"):
        await migrating.migrate(database)
    async with opened(database) as owner:
        assert await owner.fetchval("SELECT version_num FROM alembic_version") == "2099_later"
