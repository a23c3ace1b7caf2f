"""A registry in this process over a database of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.books import in_process, new_database
from tests.support.inside import Household, settle
from tests.support.server import Server


@pytest.fixture
async def ours(tidewaiter: Server, tmp_path: Path) -> AsyncIterator[Household]:
    async with new_database(tidewaiter) as dsn, in_process(dsn, tmp_path) as system:
        yield await settle(system, "ships")
