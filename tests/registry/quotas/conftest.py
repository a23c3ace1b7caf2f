"""A registry in this process over a database of its own, whose books must agree with what is there after each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from registry.system import System
from tests.support.books import address_of, in_process, new_database, opened
from tests.support.recount import differences
from tests.support.server import Server


@pytest.fixture(scope="module")
async def dsn(tidewaiter: Server) -> AsyncIterator[str]:
    async with new_database(tidewaiter) as dsn:
        yield dsn


@pytest.fixture
async def books(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    async with opened(dsn) as connection:
        yield connection


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those that belong to the database."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def data(tmp_path: Path, keys: Path) -> Path:
    (tmp_path / "keys").symlink_to(keys)
    return tmp_path


@pytest.fixture
async def system(dsn: str, books: asyncpg.Connection, data: Path) -> AsyncIterator[System]:
    before = await differences(books)
    async with in_process(dsn, data) as system:
        yield system
    assert [one for one in await differences(books) if one not in before] == []


@pytest.fixture(scope="module", autouse=True)
async def recounted(tidewaiter: Server) -> AsyncIterator[None]:
    """Whatever a module did through the door: every counter of the server says what is there."""
    yield
    async with opened(address_of(tidewaiter)) as books:
        assert await differences(books) == []
