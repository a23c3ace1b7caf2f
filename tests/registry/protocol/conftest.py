"""One account for all tests of the protocol; each test has a repository of its own."""

import secrets
from collections.abc import AsyncIterator

import pytest

from tests.support import world
from tests.support.handmade import Door, knocking
from tests.support.server import Server
from tests.support.world import Person, Tenant


@pytest.fixture(scope="session")
async def acme(tidewaiter: Server) -> Tenant:
    return await world.tenant(tidewaiter, "acme")


@pytest.fixture(scope="session")
async def other(tidewaiter: Server) -> Tenant:
    """Another account, which sees nothing of the first."""
    return await world.tenant(tidewaiter, "other")


@pytest.fixture(scope="session")
async def reader(acme: Tenant) -> Person:
    return await world.user(acme, "reader", level="READ")


@pytest.fixture
def web(acme: Tenant) -> str:
    """The name of a repository that nobody has pushed to yet."""
    return f"{acme.organization}/web-{secrets.token_hex(4)}"


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    """The owner of the account, with name and password."""
    async with knocking(tidewaiter, acme.owner) as opened:
        yield opened
