"""The pool of PostgreSQL connections, and how a statement reaches one.

Every statement of the registry goes through an asyncpg connection, so that a change, its audit entry and its quota
share one transaction whoever wrote them. Statements are text with $1, $2 …, or a SQLAlchemy expression over the
SQLModel tables where a list is filtered and ordered as its caller likes.

The server works under the role `tidewaiter_app` where migrations could make it: it owns nothing, and of the audit log
it may fill the inbox and read. Only `tidewaiter_sequencer` may take from the inbox and add to the log; nobody may
change what stands there.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql import ClauseElement
from sqlmodel import SQLModel

from registry.errors import Unavailable

# asyncpg's classes take their parameter in its type stubs alone.
if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]
APP_ROLE = "tidewaiter_app"
SEQUENCER_ROLE = "tidewaiter_sequencer"
STATEMENT_SECONDS = 30
IDLE_TRANSACTION = "120s"
CONNECT_SECONDS = 10

Statement = str | Executable
Fetch = Callable[..., Awaitable[Sequence[Any]]]
"""`fetch(statement, *arguments)`, of a connection, a pool or a Work."""


class DatabaseUnavailable(Unavailable):
    code = "DATABASE_UNAVAILABLE"


async def connect(dsn: str) -> Connection:
    """A connection by itself, for what comes before a pool. Raises `DatabaseUnavailable` with PostgreSQL's reason."""
    try:
        return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or "it does not answer"
        raise DatabaseUnavailable(
            f"The database cannot be used: {reason}. If TIDEWAITER_DATABASE_URL is set, check that it is right."
        ) from error


async def open_pool(dsn: str, size: int) -> Pool:
    """A pool whose connections are not reset on release: every Work ends its own transaction, and a reset costs
    more than a pull's only statement."""
    return await asyncpg.create_pool(
        dsn, min_size=1, max_size=size, init=prepare, reset=_leave_as_it_is, command_timeout=STATEMENT_SECONDS
    )


def is_lost(error: Exception, connection: Connection) -> bool:
    """Whether the database failed, and not the statement: it is gone, going, or does not answer in time."""
    gone = OSError | TimeoutError | asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError
    return isinstance(error, gone) or (isinstance(error, asyncpg.InterfaceError) and not is_open(connection))


def is_open(connection: Connection) -> bool:
    """A connection of the pool that was lost has gone back to it by itself, and says nothing more."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False


class OwnConnection:
    """One connection beside the pool, for what works all the time; made anew after it was lost or dropped."""

    def __init__(self, dsn: str, role: str, seconds: float) -> None:
        """`seconds` is how long a statement may take."""
        self._dsn = dsn
        self._role = role
        self._seconds = seconds
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def get(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            # Locks are held by transactions: one whose server hangs in the midst of it must not hold them for ever.
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=5,
                command_timeout=self._seconds,
                server_settings={"idle_in_transaction_session_timeout": IDLE_TRANSACTION},
            )
            await prepare(self._connection, self._role)
        return self._connection

    def drop(self) -> None:
        """At once, whatever it is at."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def prepare(connection: Connection, role: str = APP_ROLE) -> None:
    """Sets up a new connection: JSON as plain values, and the lesser role."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", format="text", encoder=_to_json, decoder=orjson.loads)
    if await connection.fetchval(
        "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1", role
    ):
        await connection.execute(f"SET ROLE {role}")


def rendered(statement: Statement, arguments: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Text and arguments as asyncpg takes them."""
    if isinstance(statement, str):
        return statement, arguments
    assert isinstance(statement, ClauseElement)  # noqa: S101
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    names: Sequence[str] = getattr(compiled, "positiontup", None) or ()
    return str(compiled), [compiled.params[name] for name in names]


def insertion(row: SQLModel) -> tuple[str, list[Any]]:
    """The INSERT of one row, all columns given."""
    table = type(row).__table__  # type: ignore[attr-defined]
    names = [column.name for column in table.columns if column.identity is None]
    marks = ", ".join(f"${position}" for position in range(1, len(names) + 1))
    columns = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})', [getattr(row, name) for name in names]


def _to_json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


async def _leave_as_it_is(_: Connection) -> None:
    return None
