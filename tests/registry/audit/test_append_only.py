"""The database itself keeps the log append-only, for the owner of the table and for the role the server works under."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from registry.audit import recording
from tests.support.books import new_database, opened
from tests.support.server import Server

NOW = datetime.now(UTC)
FAR = NOW + timedelta(days=4000)
INSERT = """
    INSERT INTO audit_log (recorded_at, event_id, action, outcome, actor_kind, actor_name, target, changes)
    VALUES ($1, gen_random_uuid(), $2, 'ALLOWED', 'SYSTEM', 'system', 'somewhere', '{}')
"""
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"


@pytest.fixture(scope="module")
async def dsn(tidewaiter: Server) -> AsyncIterator[str]:
    """A log with two prepared months, and one entry in each partition."""
    async with new_database(tidewaiter) as dsn:
        async with opened(dsn, as_app=True) as app:
            for moment in (NOW, NOW + timedelta(days=31)):
                await app.fetchval("SELECT audit_prepare($1)", moment)
                await app.execute(INSERT, moment, "entry.first")
            await app.execute(INSERT, FAR, "entry.first")
        yield dsn


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn) as connection:
        yield connection


@pytest.fixture
async def app(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn, as_app=True) as connection:
        yield connection


async def whole(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await connection.fetch("SELECT * FROM audit_log ORDER BY id"))


async def tables(owner: asyncpg.Connection) -> list[str]:
    partitions = [row[0] for row in await owner.fetch(PARTITIONS)]
    assert len(partitions) >= 3
    return ["audit_log", *partitions]


REWRITES = (
    "UPDATE {} SET action = 'nothing.happened'",
    "UPDATE {} SET recorded_at = recorded_at + interval '1 month'",
    "DELETE FROM {}",
    "DELETE FROM ONLY {}",
    "TRUNCATE {}",
    "TRUNCATE {} RESTART IDENTITY CASCADE",
    "WITH gone AS (DELETE FROM {} RETURNING *) SELECT * FROM gone",
)


@pytest.mark.parametrize("statement", REWRITES)
async def test_the_owner_cannot_rewrite_any_table(
    owner: asyncpg.Connection, app: asyncpg.Connection, statement: str
) -> None:
    before = await whole(owner)
    assert len(before) >= 3
    for table in await tables(owner):
        if "ONLY" in statement and table == "audit_log":
            continue  # the parent itself holds no row that could be deleted
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(table))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await app.execute(statement.format(table))
    assert await whole(owner) == before


@pytest.mark.parametrize("statement", REWRITES)
async def test_a_session_that_says_it_is_a_replica_cannot_either(owner: asyncpg.Connection, statement: str) -> None:
    """The embedded owner is a superuser, and may say so; ordinary triggers would not fire then."""
    await owner.execute("SET session_replication_role = replica")
    for table in (await tables(owner))[1:]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(table))


CONFLICTS = (
    """INSERT INTO {0} (recorded_at, id, event_id, action, outcome, actor_kind, actor_name, target, changes)
       OVERRIDING SYSTEM VALUE SELECT recorded_at, id, event_id, 'nothing.happened', outcome, actor_kind, actor_name,
       target, changes FROM {0} ON CONFLICT (recorded_at, id) DO UPDATE SET action = excluded.action""",
    """MERGE INTO {0} AS t USING (SELECT recorded_at, id FROM {0}) AS s ON t.id = s.id AND t.recorded_at = s.recorded_at
       WHEN MATCHED THEN UPDATE SET action = 'nothing.happened'""",
    """MERGE INTO {0} AS t USING (SELECT recorded_at, id FROM {0}) AS s ON t.id = s.id AND t.recorded_at = s.recorded_at
       WHEN MATCHED THEN DELETE""",
)


@pytest.mark.parametrize("statement", CONFLICTS, ids=["insert", "merge and update", "merge and delete"])
async def test_a_conflict_is_no_way_round(owner: asyncpg.Connection, app: asyncpg.Connection, statement: str) -> None:
    before = await whole(owner)
    for table in await tables(owner):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(table))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await app.execute(statement.format(table))
    assert await whole(owner) == before


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE {} DISABLE TRIGGER ALL",
        "ALTER TABLE {} DISABLE TRIGGER audit_log_is_not_emptied",
        "DROP TRIGGER audit_log_is_not_emptied ON {}",
        "DROP TABLE {} CASCADE",
        "ALTER TABLE {} ADD COLUMN more text",
        "ALTER TABLE {} OWNER TO tidewaiter_app",
        "CREATE TRIGGER mine BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
        "CREATE RULE mine AS ON INSERT TO {} DO INSTEAD NOTHING",
    ],
)
async def test_the_app_role_cannot_change_the_tables(
    owner: asyncpg.Connection, app: asyncpg.Connection, statement: str
) -> None:
    for table in await tables(owner):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement.format(table))


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "CREATE TABLE audit_log_2999_01 (LIKE audit_log)",
        "DROP FUNCTION audit_prepare(timestamptz)",
        "UPDATE alembic_version SET version_num = 'none'",
    ],
)
async def test_the_app_role_cannot_go_round_the_guards(app: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement)


async def test_the_app_role_writes_through_the_parent_alone(owner: asyncpg.Connection, app: asyncpg.Connection) -> None:
    for table in (await tables(owner))[1:]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(INSERT.replace("audit_log", table), NOW, "entry.forged")


async def test_temporary_tables_do_not_lend_the_owners_rights(app: asyncpg.Connection) -> None:
    """A function with its owner's rights must not run what its caller put in its way."""
    await app.execute(
        "CREATE FUNCTION pg_temp.whoever() RETURNS timestamptz LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$"
    )
    await app.execute("CREATE TEMPORARY VIEW audit_log_rest AS SELECT pg_temp.whoever() AS recorded_at")
    moment = NOW + timedelta(days=400)
    assert await app.fetchval("SELECT audit_prepare($1)", moment) == f"audit_log_{moment:%Y_%m}"


async def test_a_month_is_prepared_once_however_often_it_is_asked_for(dsn: str) -> None:
    moment = NOW + timedelta(days=800)

    async def prepare() -> str | None:
        async with opened(dsn, as_app=True) as app:
            name: str | None = await app.fetchval("SELECT audit_prepare($1)", moment)
            return name

    made = await asyncio.gather(*(prepare() for _ in range(8)))
    assert sorted(name for name in made if name) == [f"audit_log_{moment:%Y_%m}"]
    assert await prepare() is None


async def test_a_new_month_is_guarded_like_the_others(owner: asyncpg.Connection, app: asyncpg.Connection) -> None:
    async with owner.transaction():
        moment = NOW + timedelta(days=1200)
        name = await app.fetchval("SELECT audit_prepare($1)", moment)
    await app.execute(INSERT, moment, "entry.later")
    for statement in REWRITES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(name))
    assert await owner.fetchval(f"SELECT action FROM {name}") == "entry.later"


async def test_what_falls_outside_the_prepared_months_is_kept(
    owner: asyncpg.Connection, app: asyncpg.Connection
) -> None:
    moment = NOW + timedelta(days=2000)
    await app.execute(INSERT, moment, "entry.early")
    assert await owner.fetchval("SELECT action FROM audit_log_rest WHERE recorded_at = $1", moment) == "entry.early"
    # A month that has begun in the rest stays there: moving its rows would be deleting them.
    assert await app.fetchval("SELECT audit_prepare($1)", moment) is None
    await app.execute(INSERT, moment, "entry.next")
    kept = await owner.fetch("SELECT action FROM audit_log WHERE recorded_at = $1 ORDER BY id", moment)
    assert [row["action"] for row in kept] == ["entry.early", "entry.next"]


async def test_the_models_insert_and_the_batch_insert_name_the_same_columns(owner: asyncpg.Connection) -> None:
    columns = await owner.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS kind FROM pg_attribute"
        " WHERE attrelid = 'audit_log'::regclass AND attnum > 0 AND attidentity = '' ORDER BY attnum"
    )
    kinds = {"timestamp with time zone": "timestamptz"}
    found = [(row["attname"], kinds.get(row["kind"], row["kind"])) for row in columns]
    assert found == list(recording.COLUMNS)
