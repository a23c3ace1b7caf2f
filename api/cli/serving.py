"""serve, migrate, schema."""

import asyncio
import fcntl
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import anyio
import structlog
import typer
import uvicorn

from api.cli.running import run
from api.operations import operations
from registry import logging, migrating
from registry.settings import Settings
from registry.storage import revisions
from registry.system import System, database, keep_database, running
from registry.telemetry import configure
from registry.tending import tend

GRACE_SECONDS = 10
log = structlog.get_logger("serve")


def serve() -> None:
    """Serve the registry. Embedded PostgreSQL is started and migrated unless TIDEWAITER_DATABASE_URL is set."""
    run(_serve)


def migrate() -> None:
    """Bring the database to the shape this version needs. Safe to run from several places at once."""
    run(_migrate)


def schema(output: Path | None = None) -> None:
    """Print the GraphQL schema, or write it to a file."""
    from api.schema.whole import schema as whole

    text = whole.as_str() + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)


async def _migrate(settings: Settings) -> None:
    async with database(settings) as dsn:
        await migrating.migrate(dsn)
    typer.echo(f"The database is at revision {revisions.newest()}.")


async def _serve(settings: Settings) -> None:
    logging.set_up_logging(settings)
    telemetry = configure()
    # Taken before anything is started: a port in use should cost nothing.
    public, admin = _listen(settings.host, settings.port, "TIDEWAITER_LISTEN"), _admin(settings)
    async with AsyncExitStack() as stack:
        stack.callback(telemetry.shutdown)
        dsn = await stack.enter_async_context(database(settings))
        if not settings.database_url:
            await migrating.migrate(dsn)
        system = await stack.enter_async_context(running(settings, telemetry, dsn))
        alone = _is_alone(stack.enter_context((settings.data / "servers").open("a")))
        # Whoever comes as soon as they are welcome waits a moment, and is not turned away.
        for listener in filter(None, (public, admin)):
            listener.listen()
        _welcome(settings, system, alone, admin)
        await _run_servers(system, public, admin)
    log.info("stopped")


async def _run_servers(system: System, public: socket.socket, admin: socket.socket | None) -> None:
    # The doors take long to load, which commands that open none need not wait for.
    from api.app import application, problems, warnings

    servers = [(_server(application(system)), public)]
    if admin is not None:
        operators = operations(
            system.foundation.telemetry.exposition, partial(problems, system), partial(warnings, system)
        )
        servers.append((_server(operators), admin))
    async with anyio.create_task_group() as tending:
        tending.start_soon(tend, system)
        tending.start_soon(keep_database, system.foundation.settings)
        async with anyio.create_task_group() as tasks:
            for server, listener in servers:
                tasks.start_soon(server.serve, [listener])
            tasks.start_soon(_end_on_signal, system, [server for server, _ in servers])
        tending.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """Leaves signals to us: two servers of one process would fight over them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _end_on_signal(system: System, servers: list[uvicorn.Server]) -> None:
    """The servers finish what they have begun, within their grace; who follows the log would have no end of it."""
    await _stop_signal()
    log.info("stopping")
    system.followers.ended.set()
    for server in servers:
        server.should_exit = True


def _server(app: Any) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


async def _stop_signal() -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _listen(host: str, port: int, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}. Set {variable} to another.") from None
    return listener


def _admin(settings: Settings) -> socket.socket | None:
    """The operators' listener. If its port is taken (Prometheus has the same) and nobody chose it, another will do."""
    if settings.admin_address is None:
        return None
    host, port = settings.admin_address
    try:
        return _listen(host, port, "TIDEWAITER_ADMIN_LISTEN")
    except OSError:
        if "admin_listen" in settings.model_fields_set:
            raise
        return _listen(host, 0, "TIDEWAITER_ADMIN_LISTEN")


def _is_alone(servers: TextIO) -> bool:
    """Whether no other server works on the same data. Each holds a shared lock on the file for as long as it lives."""
    try:
        fcntl.flock(servers, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    fcntl.flock(servers, fcntl.LOCK_SH)
    return alone


def _welcome(settings: Settings, system: System, alone: bool, admin: socket.socket | None) -> None:
    """What a person needs to go on; the password only when it was made up here, and only this once."""
    lines = [
        "",
        f"  Tidewaiter is at    {settings.address}",
        f"  GraphQL is at       {settings.address}/graphql",
    ]
    if admin is not None:
        host, port = admin.getsockname()[:2]
        lines.append(f"  Metrics are at      http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
    lines.append("  Administrator       admin")
    if system.generated_password:
        lines.append(f"  Password            {system.generated_password}   (shown only now; keep it)")
    elif settings.admin_password:
        lines.append("  Password            as first set by TIDEWAITER_ADMIN_PASSWORD")
    else:
        lines.append("  Password            as at the first start; 'tidewaiter user password admin' sets a new one")
    lines.append(f"  Sign in with        docker login -u admin {settings.registry_host}")
    if not alone:
        lines.append(f"  Note                another server is at work on the same data, {settings.data}")
    typer.echo("\n".join([*lines, ""]))
