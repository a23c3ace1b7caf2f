"""Owners are told before it is full: once for each step that is reached, again only after it had been well below."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support import world
from tests.support.books import address_of, opened
from tests.support.handmade import Door, digest_of, knocking, manifest_of
from tests.support.images import payload
from tests.support.log import events
from tests.support.meters import limit, refusals, scope_of
from tests.support.server import Server
from tests.support.world import Tenant


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "told")
    await world.repository(acme, "web")
    return acme


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


async def alerts(acme: Tenant, kind: str = "organization", key: str = "STORAGE_BYTES") -> list[str]:
    """The steps that were told, in their order."""
    names = {"organization": acme.organization, "repository": f"{acme.organization}/web", "account": acme.account}
    await world.entries(acme)  # a reader is made to wait for what was written before
    async with opened(address_of(acme.tidewaiter)) as books:
        target = {"name": f"{kind} {names[kind]} {key}"}
        found: list[dict[str, Any]] = await events(books, action="quota.alert", target=target)
    return [entry["change"]["step"][1] for entry in found]


async def push(door: Door, acme: Tenant, size: int, name: str = "") -> bytes:
    content = payload(f"{acme.account} {size} {name}", size)
    assert (await door.push_blob(f"{acme.organization}/web", content)).status_code == 201
    return content


async def test_each_step_is_told_once(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 100_000) == []
    await push(door, acme, 79_000)
    assert await alerts(acme) == []
    await push(door, acme, 1_000)
    await push(door, acme, 5_000)
    assert await alerts(acme) == ["80 %"]
    await push(door, acme, 15_000)
    assert await alerts(acme) == ["80 %", "90 %", "100 %"]
    owner = await world.entries(acme)
    assert [entry.actor for entry in owner if entry.action == "quota.alert"] == [acme.owner.name] * 3


async def test_a_step_is_told_again_only_after_it_was_well_below(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 100_000) == []
    await push(door, acme, 78_000)
    small, large = await push(door, acme, 3_000), await push(door, acme, 10_000, "large")
    assert await alerts(acme) == ["80 %", "90 %"]
    repository = f"/v2/{acme.organization}/web/blobs"
    # 88 per cent: below 90, and not five below.
    assert (await door.delete(f"{repository}/{digest_of(small)}")).status_code == 202
    await push(door, acme, 3_000, "again")
    assert await alerts(acme) == ["80 %", "90 %"]
    # 81 per cent: nine below 90, and still above 80.
    assert (await door.delete(f"{repository}/{digest_of(large)}")).status_code == 202
    await push(door, acme, 10_000, "again")
    assert await alerts(acme) == ["80 %", "90 %", "90 %"]


async def test_many_who_cross_it_together_tell_it_once(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 100_000) == []
    await asyncio.gather(*(push(door, acme, 2_000, str(number)) for number in range(50)))
    assert sorted(await alerts(acme), key=len) == ["80 %", "90 %", "100 %"]


async def test_a_push_that_is_rolled_back_tells_nothing(acme: Tenant, door: Door) -> None:
    """Its tag has no room; that its manifest would have come near the limit of bytes is not so."""
    name, manifest = f"{acme.organization}/web", manifest_of(b"{}")
    await door.push_blob(name, b"{}")
    assert await limit(acme, "STORAGE_BYTES", "organization", len(manifest) + 2) == []
    assert await limit(acme, "TAGS", "repository", 0) == []
    assert (await door.push_manifest(name, "1.0", manifest)).status_code == 403
    assert await alerts(acme) == []
    assert await limit(acme, "TAGS", "repository", None) == []
    assert (await door.push_manifest(name, "1.0", manifest)).status_code == 201
    assert await alerts(acme) == ["80 %", "90 %", "100 %"]


async def test_a_soft_limit_is_told_and_refuses_nothing(acme: Tenant, door: Door) -> None:
    given = {"scope": scope_of(acme, "organization"), "key": "STORAGE_BYTES", "softLimit": 5_000}
    assert await refusals(acme, "setQuota", None, **given) == []
    await push(door, acme, 4_999)
    assert await alerts(acme) == []
    await push(door, acme, 100)
    await push(door, acme, 10_000)
    assert await alerts(acme) == ["soft limit"]


async def test_a_limit_that_is_lowered_below_what_is_used_tells_so(acme: Tenant, door: Door) -> None:
    await push(door, acme, 9_000)
    assert await limit(acme, "STORAGE_BYTES", "organization", 10_000) == []
    assert await alerts(acme) == ["80 %", "90 %"]
    assert await limit(acme, "STORAGE_BYTES", "organization", 5_000) == []
    assert await alerts(acme) == ["80 %", "90 %", "100 %"]
    assert await limit(acme, "STORAGE_BYTES", "organization", 100_000) == []
    assert await limit(acme, "STORAGE_BYTES", "organization", 10_000) == []
    assert await alerts(acme) == ["80 %", "90 %", "100 %", "80 %", "90 %"]


async def test_bytes_that_do_not_stay_tell_nothing(acme: Tenant, door: Door) -> None:
    """Pushed again, refused, cancelled: what is only held may never be used."""
    given = {"scope": scope_of(acme, "organization"), "key": "STORAGE_BYTES", "limit": 100_000, "softLimit": 70_000}
    assert await refusals(acme, "setQuota", None, **given) == []
    name, content = f"{acme.organization}/web", await push(door, acme, 45_000)
    for _ in range(3):
        assert (await door.push_blob(name, content)).status_code == 201
        assert (await door.push_blob(name, payload(f"{acme.account} too large", 60_000))).status_code == 403
        upload = await door.begin_upload(name)
        assert (await door.patch(upload, content=b"x" * 50_000)).status_code == 202
        assert (await door.delete(upload)).status_code == 204
    assert await alerts(acme) == []
    await push(door, acme, 45_000, "another")
    assert await alerts(acme) == ["80 %", "90 %", "soft limit"]


@pytest.mark.parametrize(("kind", "key"), [("repository", "TAGS"), ("account", "REPOSITORIES")])
async def test_counts_are_told_too(acme: Tenant, door: Door, kind: str, key: str) -> None:
    assert await limit(acme, key, kind, 2) == []
    await door.push_image(f"{acme.organization}/web", "1.0", b"a layer")
    await door.push_image(f"{acme.organization}/{'web' if key == 'TAGS' else 'app'}", "2.0", b"a layer")
    assert await alerts(acme, kind, key) == ["80 %", "90 %", "100 %"]
