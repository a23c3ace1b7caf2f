"""The audit log through GraphQL: who reads what of it, filtered, newest first."""

import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.schema.asking import ADMIN, DONE, NOBODY, Cast, ask, change, code_of, refusal
from tests.support import world
from tests.support.server import Server
from tests.support.world import Person, Tenant

LOG = """
    query($filter: AuditFilter, $first: Int) {
        auditLog(filter: $filter, first: $first) {
            nodes {
                id index time action outcome reasonCode reason actor { kind id name accessKey }
                client source target digest changes requestId
            }
        }
    }
"""


async def entries(tidewaiter: Server, by: Person, first: int = 50, **wanted: Any) -> list[dict[str, Any]]:
    """Without what the asking itself leaves."""
    found = await ask(tidewaiter, LOG, by, filter=wanted, first=first)
    return [node for node in found["auditLog"]["nodes"] if node["action"] != "audit.read"]


@pytest.fixture(scope="session")
async def busy(tidewaiter: Server) -> tuple[Tenant, Person]:
    """A tenant and a reader, where something was done, something denied, and something in vain."""
    tenant = await world.tenant(tidewaiter, "busy")
    reader = await world.user(tenant, "reader", "READ")
    place = {"organization": tenant.organization, "name": "web"}
    await change(tidewaiter, "createRepository", tenant.owner, **place)
    await refusal(tidewaiter, "createRepository", reader, **(place | {"name": "mine"}))
    await refusal(tidewaiter, "createRepository", tenant.owner, **place)
    return tenant, reader


async def test_what_was_done_denied_and_failed(tidewaiter: Server, busy: tuple[Tenant, Person]) -> None:
    tenant, reader = busy
    failed, denied, done = await entries(tidewaiter, tenant.owner, action="repository.create")
    assert [entry["outcome"] for entry in (failed, denied, done)] == ["FAILED", "DENIED", "ALLOWED"]
    assert [entry["reasonCode"] for entry in (failed, denied, done)] == ["NAME_TAKEN", "DENIED", None]
    assert (denied["actor"]["name"], denied["target"]) == (reader.name, f"{tenant.organization}/mine")
    assert (done["actor"]["name"], done["target"]) == (tenant.owner.name, f"{tenant.organization}/web")
    assert done["actor"]["kind"] == "USER"
    assert done["actor"]["id"].startswith("user_")
    assert done["changes"]["name"] == [None, "web"]
    assert done["requestId"] != denied["requestId"]


async def test_the_newest_comes_first(tidewaiter: Server, busy: tuple[Tenant, Person]) -> None:
    tenant, _ = busy
    found = await entries(tidewaiter, tenant.owner)
    assert [entry["index"] for entry in found] == sorted((entry["index"] for entry in found), reverse=True)
    times = [datetime.fromisoformat(entry["time"]) for entry in found]
    assert times == sorted(times, reverse=True)


async def test_the_log_is_filtered(tidewaiter: Server, busy: tuple[Tenant, Person]) -> None:
    tenant, reader = busy
    whole = await entries(tidewaiter, tenant.owner)

    async def indexes(**wanted: Any) -> list[int]:
        return [entry["index"] for entry in await entries(tidewaiter, tenant.owner, **wanted)]

    def those(**like: str) -> list[int]:
        return [one["index"] for one in whole if all(one[name] == value for name, value in like.items())]

    assert await indexes(outcome="DENIED") == those(outcome="DENIED") != []
    assert await indexes(action="repository.create") == those(action="repository.create") != []
    assert await indexes(action="repository.*") == those(action="repository.create")
    assert await indexes(action="repository_*") == []
    assert await indexes(target=f"{tenant.organization}/web") == those(target=f"{tenant.organization}/web") != []
    assert len(await indexes(target=f"{tenant.organization}/*")) == 3
    assert await indexes(actor=reader.name) == [one["index"] for one in whole if one["actor"]["name"] == reader.name]
    assert await indexes(requestId=whole[0]["requestId"]) == those(requestId=whole[0]["requestId"])
    assert await indexes(source="192.0.2.1") == []
    assert await indexes(account=tenant.account) == [one["index"] for one in whole]
    newest = whole[0]["time"]
    after = (datetime.fromisoformat(newest) + timedelta(seconds=1)).isoformat()
    assert await indexes(since=after) == []
    assert await indexes(since=newest) == those(time=newest)
    assert await indexes(until=newest) == [one["index"] for one in whole if one["time"] != newest]


async def test_who_reads_the_log(tidewaiter: Server, cast: Cast) -> None:
    for role, person in cast.everybody.items():
        reads = role in {"stranger", "owner", "admin"}
        code = await code_of(tidewaiter, LOG, person, first=1)
        assert (code == DONE) is reads, (role, code)
        of_acme = await code_of(tidewaiter, LOG, person, first=1, filter={"account": cast.acme.account})
        assert (of_acme == DONE) is (role in {"owner", "admin"}), (role, of_acme)


async def test_a_tenant_reads_nothing_of_another(tidewaiter: Server, cast: Cast, busy: tuple[Tenant, Person]) -> None:
    tenant, _ = busy
    target = f"{tenant.organization}*"
    assert await entries(tidewaiter, cast.other.owner, target=target) == []
    assert len(await entries(tidewaiter, ADMIN, target=target)) > 0
    for account in (tenant.account, "gone"):
        assert await code_of(tidewaiter, LOG, cast.other.owner, filter={"account": account}) == "NOT_FOUND"


async def test_an_access_key_is_named_beside_its_user(tidewaiter: Server, cast: Cast) -> None:
    tenant = cast.acme
    made = await change(tidewaiter, "createAccessKey", tenant.owner, "accessKey { id } secret", name="ci")
    name = f"by-key-{secrets.token_hex(4)}"
    key = Person(tenant.owner.name, made["secret"])
    await change(tidewaiter, "createRepository", key, organization=tenant.organization, name=name)
    (entry,) = await entries(tidewaiter, tenant.owner, target=f"{tenant.organization}/{name}")
    assert entry["actor"]["accessKey"] == made["accessKey"]["id"]
    assert made["secret"] not in str(await entries(tidewaiter, tenant.owner))


@pytest.mark.parametrize("name", ["setPassword", "createUser"])
async def test_no_password_is_kept(tidewaiter: Server, cast: Cast, name: str) -> None:
    tenant, reader = cast.acme, await world.user(cast.acme, secrets.token_hex(4))
    secret = "never to be written down"
    given = {"user": reader.name} if name == "setPassword" else {"account": tenant.account, "name": f"{reader.name}2"}
    await change(tidewaiter, name, tenant.owner, **given, password=secret)
    kept = await entries(tidewaiter, tenant.owner)
    assert kept[0]["action"] in {"user.set_password", "user.create"}
    assert secret not in str(kept)


async def test_a_failed_sign_in_names_whom_it_claimed(tidewaiter: Server, busy: tuple[Tenant, Person]) -> None:
    _, reader = busy
    assert await code_of(tidewaiter, LOG, Person(reader.name, "wrong")) == "SIGN_IN_FAILED"
    (entry,) = await entries(tidewaiter, ADMIN, action="user.sign_in", actor=reader.name)
    assert (entry["outcome"], entry["reasonCode"]) == ("DENIED", "SIGN_IN_FAILED")
    assert await code_of(tidewaiter, LOG, NOBODY) != DONE
