"""What is left of pushes that were broken off goes by itself; what somebody needs, or is about to need, stays."""

import json
from datetime import timedelta

import asyncpg
import pytest

from policies.quotas import Key
from registry.actors import Origin
from registry.oci.digest import digest_of
from registry.quotas import usage
from registry.repositories import pulling, pushing, uploading
from registry.repositories.pushing import Sent
from registry.repositories.sweeping import sweep
from registry.system import System
from tests.support.inside import Household, settle
from tests.support.log import events
from tests.support.recount import differences

IMAGE = "application/vnd.oci.image.manifest.v1+json"
LAYER, CONFIG = b"a layer of a push", b"{}"


@pytest.fixture
async def ours(system: System) -> Household:
    ours = await settle(system, "swept")
    await ours.ensure("web", "app")
    await sweep(system.foundation)  # its clock may have been ahead in the test before
    return ours


def advance(system: System, **duration: float) -> None:
    """From the present of the test."""
    clock = system.foundation.settings.clock_file
    assert clock is not None
    fresh = clock.with_suffix(".new")
    fresh.write_text(str(timedelta(**duration).total_seconds()))
    fresh.rename(clock)


async def used(ours: Household) -> int:
    async with ours.begin() as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        return {one.key: one.used for one in await usage.standings(work, place)}[Key.STORAGE_BYTES]


async def push_image(ours: Household, repository: str) -> None:
    parts = [
        {"mediaType": kind, "digest": digest_of(content), "size": len(content)}
        for kind, content in (("application/vnd.oci.image.config.v1+json", CONFIG), ("application/octet-stream", LAYER))
    ]
    whole = {"schemaVersion": 2, "mediaType": IMAGE, "config": parts[0], "layers": parts[1:]}
    async with ours.begin() as work:
        await pushing.push(work, ours.name, repository, Sent("1.0", json.dumps(whole).encode(), IMAGE))


async def test_what_no_manifest_came_for_is_given_back_and_told(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    for repository in ("web", "app"):
        await ours.store(repository, LAYER)
    await ours.store("web", b"another")
    assert await used(ours) == len(LAYER) + len(b"another")
    advance(system, hours=23)
    await sweep(system.foundation)
    assert await used(ours) == len(LAYER) + len(b"another")
    advance(system, hours=25)
    await sweep(system.foundation)
    assert await used(ours) == 0
    assert await differences(books) == []
    await system.foundation.ledger.catch_up()
    told = await events(books, action="blob.expire", target={"name": f"{ours.name}/web"})
    assert [entry["change"]["count"] for entry in told] == [[2, 0]]
    assert set(told[0]["change"]["digests"][0]) == {digest_of(LAYER), digest_of(b"another")}


async def test_what_a_manifest_needs_stays(ours: Household, system: System, books: asyncpg.Connection) -> None:
    for content in (LAYER, CONFIG):
        await ours.store("web", content)
    await push_image(ours, "web")
    before = await used(ours)
    advance(system, hours=49)
    await sweep(system.foundation)
    assert await used(ours) == before
    assert await differences(books) == []


@pytest.mark.parametrize("way", ["asking", "pushing", "mounting"])
async def test_what_somebody_is_about_to_need_stays_for_as_long_again(
    ours: Household, system: System, way: str
) -> None:
    await ours.store("web", LAYER)
    await ours.store("app", LAYER)
    advance(system, hours=20)
    if way == "asking":
        spot = ours.name, "web"
        await pulling.blob(system.foundation, ours.owner, Origin(), spot, digest_of(LAYER), look=True)
    if way == "pushing":
        await ours.store("web", LAYER)
    if way == "mounting":
        async with ours.begin() as work:
            places = [await ours.place(work, name) for name in ("app", "web")]
            assert await uploading.mount(work, *places, digest_of(LAYER))
    advance(system, hours=25)
    await sweep(system.foundation)
    await ours.store("web", CONFIG)
    await push_image(ours, "web")
    advance(system, hours=80)
    await sweep(system.foundation)
    assert await used(ours) > 0


async def test_more_than_are_looked_at_at_once(ours: Household, system: System, books: asyncpg.Connection) -> None:
    async with ours.begin() as work:
        place = await ours.place(work, "web")
    await books.execute(
        """
        WITH made AS (
            INSERT INTO blob SELECT 'sha256:' || lpad(to_hex(n), 64, '0'), 10, now() FROM generate_series(1, 2500) n
            RETURNING digest, size),
        linked AS (INSERT INTO repository_blob SELECT $1::uuid, digest, now() FROM made),
        held AS (INSERT INTO organization_blob SELECT $2::uuid, digest, size, 1, now() FROM made)
        INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit)
        SELECT kind, id, 'STORAGE_BYTES', 25000, false
        FROM (VALUES ('repository', $1), ('organization', $2), ('account', $3::uuid)) AS scope (kind, id)
        """,
        place.repository_id,
        place.organization_id,
        place.account_id,
    )
    assert await used(ours) == 25000
    advance(system, hours=25)
    await sweep(system.foundation)
    assert await used(ours) == 0
    assert await differences(books) == []
