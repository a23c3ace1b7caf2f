"""The file that wraps the keys of sealed persons is another's: nothing is done, and whoever looks is told why."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from registry.audit.subjects import WRONG_KEY
from tests.support import world
from tests.support.books import address_of, opened
from tests.support.server import Server, serving
from tests.support.world import Person

CREATE = 'mutation { createAccessKey(input: {name: "late"}) { errors { code message } } }'


class Answering(Server):
    """It counts as started as soon as it answers."""

    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", verify=False).status_code in (200, 503)
        except httpx2.TransportError:
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "server") as server:
        yield server


GOOD = "ok   the key that seals persons in the audit log is the one of this database"
BAD = f"BAD  {WRONG_KEY}"


def doctor(server: Server) -> list[str]:
    return server.command("doctor").stdout.splitlines()


async def sealed(server: Server) -> int:
    async with opened(address_of(server)) as owner:
        count: int = await owner.fetchval("SELECT count(*) FROM audit_subject")
    return count


async def created(server: Server, person: Person) -> str:
    return str(await server.graphql(CREATE, user=person.name, password=person.password))


async def test_a_replaced_key_is_found_and_seals_nothing(server: Server) -> None:
    """Neither under the keys that it cannot open nor under new ones, which the right one could not open."""
    tenant = await world.tenant(server, "sealed")
    new = await world.user(tenant, "new")
    file = server.folder / "data" / "keys" / "audit-sealing.key"
    right = file.read_text()
    assert GOOD in doctor(server)
    before = await sealed(server)
    assert server.stop() == 0

    file.write_text(os.urandom(32).hex())
    wrong = Answering(server.folder, port=server.port, admin_port=server.admin_port)
    wrong.start()
    try:
        answer = httpx2.get(f"{wrong.url}/readyz", verify=False)
        assert (answer.status_code, answer.json()["problems"]) == (503, {"auditSealing": WRONG_KEY})
        assert WRONG_KEY in wrong.output
        for person in (tenant.owner, new):
            assert "AUDIT_UNAVAILABLE" in await created(wrong, person)
        assert "AUDIT_UNAVAILABLE" in await created(wrong, Person(new.name, "guessed"))
        assert await sealed(wrong) == before
        assert BAD in doctor(wrong)
        file.unlink()
        assert BAD in doctor(wrong)
        file.write_text("no key")
        assert f"BAD  {file} holds no key: it is 64 hexadecimal digits." in doctor(wrong)
    finally:
        wrong.stop()

    file.write_text(right)
    server.start()
    for person in (tenant.owner, new):
        assert "AUDIT_UNAVAILABLE" not in await created(server, person)
    assert GOOD in doctor(server)
