"""The database itself keeps the log append-only, for the owner of the tables and for the roles that the server has."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from registry.audit.tables import AuditRow
from tests.support.books import new_database, opened
from tests.support.inside import meets
from tests.support.server import Server

NOW = datetime.now(UTC)
FAR = NOW + timedelta(days=4000)
INSERT = """
    INSERT INTO audit_log (logged_at, seq, entry, leaf, event_id, actor_kind, action, outcome, target)
    VALUES ($1, nextval('test_seq'), 'entry', 'leaf', gen_random_uuid(), 'system', $2, 'allowed', 'somewhere')
"""
TILE = "INSERT INTO audit_tile VALUES (0, 0, decode(repeat('00', 8192), 'hex'), now())"
CHECKPOINT = "INSERT INTO audit_checkpoint VALUES ('log', 1, 'root', 'note', now())"
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"


@pytest.fixture(scope="module")
async def dsn(tidewaiter: Server) -> AsyncIterator[str]:
    """A log with two prepared months, and one entry in each partition."""
    async with new_database(tidewaiter) as dsn:
        async with opened(dsn) as owner:
            await owner.execute("CREATE SEQUENCE test_seq; GRANT USAGE ON test_seq TO PUBLIC")
        async with opened(dsn, as_sequencer=True) as sequencer:
            for moment in (NOW, NOW + timedelta(days=31)):
                await sequencer.fetchval("SELECT audit_prepare($1)", moment)
                await sequencer.execute(INSERT, moment, "entry.first")
            await sequencer.execute(INSERT, FAR, "entry.first")
            await sequencer.execute(TILE)
            await sequencer.execute(CHECKPOINT)
        yield dsn


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn) as connection:
        yield connection


@pytest.fixture
async def app(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn, as_app=True) as connection:
        yield connection


@pytest.fixture
async def sequencer(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn, as_sequencer=True) as connection:
        yield connection


async def whole(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await connection.fetch("SELECT * FROM audit_log ORDER BY seq"))


async def kept(connection: asyncpg.Connection) -> list[list[asyncpg.Record]]:
    """All that only grows."""
    others = [list(await connection.fetch(f"SELECT * FROM {name}")) for name in ("audit_tile", "audit_checkpoint")]
    return [await whole(connection), *others]


async def tables(owner: asyncpg.Connection) -> list[str]:
    partitions = [row[0] for row in await owner.fetch(PARTITIONS)]
    assert len(partitions) >= 3
    return ["audit_log", *partitions]


REWRITES = (
    "UPDATE {} SET action = 'nothing.happened'",
    "UPDATE {} SET logged_at = logged_at + interval '1 month'",
    "UPDATE {} SET leaf = 'another'",
    "DELETE FROM {}",
    "DELETE FROM ONLY {}",
    "TRUNCATE {}",
    "TRUNCATE {} RESTART IDENTITY CASCADE",
    "WITH gone AS (DELETE FROM {} RETURNING *) SELECT * FROM gone",
)


@pytest.mark.parametrize("statement", REWRITES)
async def test_nobody_can_rewrite_any_table(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection, statement: str
) -> None:
    before = await whole(owner)
    assert len(before) >= 3
    for table in await tables(owner):
        if "ONLY" in statement and table == "audit_log":
            continue  # the parent itself holds no row that could be deleted
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(table))
        for role in (app, sequencer):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await role.execute(statement.format(table))
    assert await whole(owner) == before


@pytest.mark.parametrize("table", ["audit_tile", "audit_checkpoint"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_nor_what_proves_it(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection, statement: str, table: str
) -> None:
    column = "data" if table == "audit_tile" else "root"
    before = await kept(owner)
    for role in (owner, app, sequencer):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement.format(table, column, column))
    await owner.execute("SET session_replication_role = replica")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
        await owner.execute(statement.format(table, column, column))
    assert await kept(owner) == before


async def test_the_servers_hand_only_puts_into_the_inbox(app: asyncpg.Connection) -> None:
    await app.execute("INSERT INTO audit_inbox (body) VALUES ('an event')")
    for statement in (
        "DELETE FROM audit_inbox",
        "UPDATE audit_inbox SET body = 'another'",
        "TRUNCATE audit_inbox",
        INSERT.replace("$1", "now()").replace("$2", "'entry.forged'"),
        TILE,
        CHECKPOINT,
        "UPDATE audit_tree SET size = 0",
        "DELETE FROM audit_tree",
        "UPDATE audit_org_head SET org_seq = 0",
        "DELETE FROM audit_subject",
        "UPDATE audit_segment SET legal_hold = false",
        "SELECT audit_drop('2026-01-01')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await app.execute(statement)


async def test_the_sequencers_hand_changes_no_event(sequencer: asyncpg.Connection) -> None:
    await sequencer.execute("INSERT INTO audit_inbox (body) VALUES ('an event')")
    for statement in ("UPDATE audit_inbox SET body = 'another'", "TRUNCATE audit_inbox", "DELETE FROM audit_tree"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await sequencer.execute(statement)


async def test_no_month_is_dropped_that_is_not_archived(sequencer: asyncpg.Connection) -> None:
    await sequencer.execute("INSERT INTO audit_segment (month) VALUES ('2026-01-01')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="not archived and verified"):
        await sequencer.execute("SELECT audit_drop('2026-01-01')")


@pytest.mark.parametrize("statement", REWRITES)
async def test_a_session_that_says_it_is_a_replica_cannot_either(owner: asyncpg.Connection, statement: str) -> None:
    """The embedded owner is a superuser, and may say so; ordinary triggers would not fire then."""
    await owner.execute("SET session_replication_role = replica")
    for table in (await tables(owner))[1:]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(table))


CONFLICTS = (
    """INSERT INTO {0} SELECT * FROM {0} ON CONFLICT (logged_at, seq) DO UPDATE SET action = excluded.action""",
    """MERGE INTO {0} AS t USING (SELECT logged_at, seq FROM {0}) AS s ON t.seq = s.seq AND t.logged_at = s.logged_at
       WHEN MATCHED THEN UPDATE SET action = 'nothing.happened'""",
    """MERGE INTO {0} AS t USING (SELECT logged_at, seq FROM {0}) AS s ON t.seq = s.seq AND t.logged_at = s.logged_at
       WHEN MATCHED THEN DELETE""",
)


@pytest.mark.parametrize("statement", CONFLICTS, ids=["insert", "merge and update", "merge and delete"])
async def test_a_conflict_is_no_way_round(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection, statement: str
) -> None:
    before = await whole(owner)
    for table in await tables(owner):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(table))
        for role in (app, sequencer):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await role.execute(statement.format(table))
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
async def test_no_role_can_change_the_tables(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection, statement: str
) -> None:
    others = [] if "audit_log_is_not_emptied" in statement else ["audit_inbox", "audit_tile", "audit_checkpoint"]
    for table in [*await tables(owner), *others]:
        for role in (app, sequencer):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await role.execute(statement.format(table))


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "CREATE TABLE audit_log_2999_01 (LIKE audit_log)",
        "DROP FUNCTION audit_prepare(timestamptz)",
        "DROP FUNCTION audit_drop(date)",
        "UPDATE alembic_version SET version_num = 'none'",
    ],
)
async def test_no_role_can_go_round_the_guards(
    app: asyncpg.Connection, sequencer: asyncpg.Connection, statement: str
) -> None:
    for role in (app, sequencer):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)


async def test_the_sequencer_writes_through_the_parent_alone(
    owner: asyncpg.Connection, sequencer: asyncpg.Connection
) -> None:
    for table in (await tables(owner))[1:]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sequencer.execute(INSERT.replace("audit_log", table), NOW, "entry.forged")


async def test_temporary_tables_do_not_lend_the_owners_rights(app: asyncpg.Connection) -> None:
    """A function with its owner's rights must not run what its caller put in its way."""
    await app.execute(
        "CREATE FUNCTION pg_temp.whoever() RETURNS timestamptz LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$"
    )
    await app.execute("CREATE TEMPORARY VIEW audit_log_rest AS SELECT pg_temp.whoever() AS logged_at")
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


async def test_a_new_month_is_guarded_like_the_others(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection
) -> None:
    moment = NOW + timedelta(days=1200)
    name = await app.fetchval("SELECT audit_prepare($1)", moment)
    await sequencer.execute(INSERT, moment, "entry.later")
    for statement in REWRITES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the audit log only grows"):
            await owner.execute(statement.format(name))
    assert await owner.fetchval(f"SELECT action FROM {name}") == "entry.later"


async def test_what_falls_outside_the_prepared_months_is_kept(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection
) -> None:
    moment = NOW + timedelta(days=2000)
    await sequencer.execute(INSERT, moment, "entry.early")
    assert await owner.fetchval("SELECT action FROM audit_log_rest WHERE logged_at = $1", moment) == "entry.early"
    # A month that has begun in the rest stays there: moving its rows would be deleting them.
    assert await app.fetchval("SELECT audit_prepare($1)", moment) is None
    await sequencer.execute(INSERT, moment, "entry.next")
    rows = await owner.fetch("SELECT action FROM audit_log WHERE logged_at = $1 ORDER BY seq", moment)
    assert [row["action"] for row in rows] == ["entry.early", "entry.next"]


async def test_an_entry_that_comes_while_its_month_is_prepared_keeps_it_in_the_rest(
    owner: asyncpg.Connection, app: asyncpg.Connection, sequencer: asyncpg.Connection
) -> None:
    moment = NOW + timedelta(days=2400)
    async with sequencer.transaction():
        await sequencer.execute(INSERT, moment, "entry.meanwhile")
        preparing = await meets(owner, app.fetchval("SELECT audit_prepare($1)", moment))
        assert not preparing.done()
    assert await preparing is None
    assert await owner.fetchval("SELECT action FROM audit_log_rest WHERE logged_at = $1", moment) == "entry.meanwhile"


async def test_the_model_and_the_table_have_the_same_columns(owner: asyncpg.Connection) -> None:
    names = await owner.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'audit_log'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert [row["attname"] for row in names] == list(AuditRow.model_fields)
