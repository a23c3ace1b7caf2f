"""A server like any other, but for its ledger: it takes entries and throws them away. Only for measuring what the books
cost; there is no setting that does this.
"""

import asyncio
from dataclasses import replace

import uvicorn

from api.app import application
from registry import migrating
from registry.events import Event, Traffic
from registry.logging import set_up_logging
from registry.settings import Settings, load_settings
from registry.storage.database import Connection
from registry.system import database, running
from registry.telemetry import configure


class ThrownAway:
    """The ledger's port, with nothing behind it."""

    async def write(self, connection: Connection, events: list[Event]) -> None:
        pass

    async def append(self, event: Event, pull: Traffic | None = None) -> None:
        pass

    def count(self, traffic: Traffic) -> None:
        pass

    async def catch_up(self) -> None:
        pass


async def serve(settings: Settings) -> None:
    set_up_logging(settings)
    async with database(settings) as dsn:
        await migrating.migrate(dsn)
        async with running(settings, configure(), dsn) as system:
            bare = replace(system, foundation=replace(system.foundation, ledger=ThrownAway()))
            options = uvicorn.Config(
                application(bare),
                settings.host,
                settings.port,
                http="httptools",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
            )
            await uvicorn.Server(options).serve()


if __name__ == "__main__":
    asyncio.run(serve(load_settings()))
