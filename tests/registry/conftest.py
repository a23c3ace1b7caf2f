"""A database of its own in the server's PostgreSQL, and a registry over it in this process, without doors."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.system import System
from tests.support.books import in_process, new_database
from tests.support.server import Server


@pytest.fixture
async def dsn(tidewaiter: Server) -> AsyncIterator[str]:
    async with new_database(tidewaiter) as dsn:
        yield dsn


@pytest.fixture
async def system(dsn: str, tmp_path: Path) -> AsyncIterator[System]:
    async with in_process(dsn, tmp_path) as system:
        yield system
