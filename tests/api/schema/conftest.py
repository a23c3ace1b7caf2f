"""One cast for all tests of a module. Tests that change things make their own repositories, or tenants."""

from dataclasses import replace

import pytest

from tests.api.schema.asking import ADMIN, Cast, change
from tests.support import world
from tests.support.server import Server


@pytest.fixture(scope="module")
async def cast(tidewaiter: Server) -> Cast:
    acme = await world.tenant(tidewaiter, "cast")
    open = replace(acme, organization=f"{acme.organization}-open")
    await change(tidewaiter, "createOrganization", acme.owner, name=open.organization)
    receiver = f"{acme.account}-receiver"
    await change(tidewaiter, "createAccount", ADMIN, name=receiver, ownerName=receiver, ownerPassword="nobody signs in")
    cast = Cast(
        acme=acme,
        open=open,
        receiver=receiver,
        other=await world.tenant(tidewaiter, "cast-other"),
        manager=await world.user(acme, "manager", "MANAGE"),
        writer=await world.user(acme, "writer", "WRITE"),
        reader=await world.user(acme, "reader", "READ"),
        colleague=await world.user(acme, "colleague"),
    )
    for person, level in ((cast.manager, "MANAGE"), (cast.writer, "WRITE"), (cast.reader, "READ")):
        await world.permit(open, person, level)
    return cast
