"""The recount finds what is wrong, says so once, and repairs it, also in the midst of pushes."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from policies.quotas import Key
from registry.actors import SYSTEM, Origin
from registry.oci.digest import digest_of
from registry.quotas import recounting, usage
from registry.quotas.usage import Limits
from registry.repositories import uploading
from registry.system import System
from tests.support import world
from tests.support.books import address_of, new_database, opened
from tests.support.handmade import knocking
from tests.support.images import payload
from tests.support.inside import Household, meets, settle
from tests.support.log import events
from tests.support.meters import scope_of
from tests.support.recount import differences
from tests.support.server import Server
from tests.support.world import Tenant

VERIFIED = "query($scope: QuotaScope!) { quotas(scope: $scope) { key used difference lastVerifiedAt } }"
SPOIL = {
    "a counter too high": "UPDATE quota_counter SET charged = charged + 7 WHERE scope_id = $1",
    "a counter that is gone": "DELETE FROM quota_counter WHERE scope_id = $1",
    "links too many": "UPDATE organization_blob SET links = links + 1 WHERE organization_id = $1",
    "links that are gone": "DELETE FROM organization_blob WHERE organization_id = $1",
    "a refund that nobody is owed": (
        "INSERT INTO quota_refund (scope_kind, scope_id, key, amount) VALUES ('organization', $1, 'STORAGE_BYTES', 5)"
    ),
}

CHARGED = "SELECT charged FROM quota_counter WHERE scope_id = $1 AND key = 'STORAGE_BYTES'"


@pytest.fixture
async def ours(system: System, books: asyncpg.Connection) -> AsyncIterator[Household]:
    ours = await settle(system, "recounted")
    await ours.ensure("web")
    await ours.store("web", b"a layer")
    await ours.push("web", "1.0")
    yield ours


async def organization_of(ours: Household) -> object:
    async with ours.begin() as work:
        return (await ours.place(work, "web")).organization_id


async def verify(system: System, *, hours: float) -> None:
    clock = system.foundation.settings.clock_file
    assert clock is not None
    clock.write_text(str(timedelta(hours=hours).total_seconds()))
    await system.recount.tend(system.foundation)
    await system.foundation.ledger.catch_up()


async def recounting_of(books: asyncpg.Connection) -> list[asyncpg.Record]:
    return await books.fetch(recounting.DIFFERENCES)


async def repair(system: System) -> list[recounting.Difference]:
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        return await recounting.repair(work)


@pytest.mark.parametrize("kind", SPOIL)
async def test_every_kind_of_difference_is_found_repaired_and_recorded(
    ours: Household, system: System, books: asyncpg.Connection, kind: str
) -> None:
    await books.execute(SPOIL[kind], await organization_of(ours))
    wrong = await differences(books)
    assert wrong != []
    found = await repair(system)
    assert len(found) == len(wrong)
    assert {one.name for one in found} == {ours.name}
    assert await differences(books) == []
    assert await repair(system) == []
    await system.foundation.ledger.catch_up()
    for one in found:
        (entry, *_) = await events(books, action="quota.repair", target={"name": one.target})
        assert entry["change"]["charged"][0] == one.charged


async def test_a_repair_waits_for_pushes_on_their_way_and_loses_none(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    """One has charged and not committed yet, another has not charged yet."""
    await books.execute(SPOIL["a counter too high"], await organization_of(ours))
    async with ours.begin() as early:
        await ours.push_with(early, "web", "2.0", marked="early")
        repairing = asyncio.ensure_future(repair(system))
        async with ours.begin() as late:
            await ours.push_with(late, "web", "3.0", marked="late")
    await repairing
    await asyncio.gather(*(ours.push("web", f"t{number}", marked=str(number)) for number in range(5)), repair(system))
    assert await differences(books) == []


async def test_a_repair_counts_what_is_charged_and_not_committed_yet(
    ours: Household, system: System, books: asyncpg.Connection, dsn: str
) -> None:
    """The account's counter is held, so that a push stops in the midst of its charges."""
    organization = await organization_of(ours)
    await books.execute(SPOIL["a counter too high"], organization)
    async with opened(dsn) as holding, holding.transaction():
        await holding.execute(
            "SELECT FROM quota_counter q JOIN organization o ON q.scope_id = o.account_id WHERE o.id = $1 FOR UPDATE",
            organization,
        )
        pushing = await meets(books, ours.store("web", b"a layer that is on its way"))
        repairing = await meets(books, repair(system))
        assert not pushing.done()
        assert not repairing.done()
    await pushing
    assert {(one.name, one.charged - one.owed) for one in await repairing} == {(ours.name, 7)}
    assert await differences(books) == []


async def test_a_push_waits_for_a_repair_and_charges_what_it_made(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await books.execute(SPOIL["a counter too high"], await organization_of(ours))
    async with system.foundation.begin(SYSTEM, Origin()) as work:
        assert len(await recounting.repair(work)) > 0
        pushing = await meets(books, ours.store("web", b"a layer that comes meanwhile"))
        assert not pushing.done()
    await pushing
    assert await differences(books) == []


@pytest.mark.parametrize("kind", ["links that are gone", "links too many"])
async def test_a_repair_of_links_finds_what_was_charged_by_them(
    ours: Household, system: System, books: asyncpg.Connection, kind: str
) -> None:
    """Another repository gets the same layer, and is told wrongly whether it is new, while the links are wrong."""
    claim = await ours.hold("app", len(b"a layer"))
    await books.execute(SPOIL[kind], await organization_of(ours))
    async with ours.begin() as work:
        await uploading.finish(work, claim, digest_of(b"a layer"), len(b"a layer"))
        repairing = await meets(books, repair(system))
        assert not repairing.done()
    await repairing
    assert await differences(books) == []


async def test_who_has_counted_before_the_lock_would_lose_a_push(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    """What the tests before would find, if a repair wrote what it had counted first."""
    organization = await organization_of(ours)
    await books.execute(SPOIL["a counter too high"], organization)
    found = [one for one in await recounting_of(books) if one["id"] == organization]
    await ours.store("web", b"a layer that comes in between")
    for one in found:
        await books.execute(
            "UPDATE quota_counter SET charged = $3 WHERE scope_id = $1 AND key = $2", one["id"], one["key"], one["owed"]
        )
    assert len(await differences(books)) == 1
    await repair(system)
    assert await differences(books) == []


async def test_a_limit_that_was_near_by_mistake_may_come_near_again(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    organization = await organization_of(ours)
    charged = await books.fetchval(CHARGED, organization)
    await books.execute("UPDATE quota_counter SET charged = charged + 900 WHERE scope_id = $1", organization)
    async with system.foundation.begin(ours.admin, Origin()) as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        await usage.set_limit(work, place, Key.STORAGE_BYTES, Limits(frozenset({"limit"}), limit=charged + 900))
    await repair(system)
    await ours.store("web", bytes(850))
    await system.foundation.ledger.catch_up()
    told = await events(books, action="quota.alert", target={"name": f"organization {ours.name} STORAGE_BYTES"})
    steps = [entry["change"]["step"][1] for entry in told]
    assert steps == ["80 %", "90 %", "100 %", "80 %", "90 %"]


async def test_a_difference_is_told_once_while_it_stands(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    target = {"name": f"organization {ours.name} TAGS"}
    spoil = "UPDATE quota_counter SET charged = charged + $2 WHERE scope_id = $1 AND key = 'TAGS'"
    organization = await organization_of(ours)
    await verify(system, hours=2)
    await books.execute(spoil, organization, 3)
    await verify(system, hours=2.5)
    assert await events(books, action="quota.difference", target=target) == []  # it is not due yet
    for hours in (4, 6):
        await verify(system, hours=hours)
        entries = await events(books, action="quota.difference", target=target)
        assert [entry["change"]["charged"] for entry in entries] == [[1, 4]]
        assert b"registry_quota_differences 1.0" in system.foundation.telemetry.exposition()
    assert await books.fetchval("SELECT charged - owed FROM quota_difference WHERE scope_id = $1", organization) == 3
    await books.execute(spoil, organization, 5)
    await verify(system, hours=7)
    entries = await events(books, action="quota.difference", target=target)
    assert sorted(entry["change"]["charged"] for entry in entries) == [[1, 4], [1, 9]]
    await books.execute(spoil, organization, -8)
    await verify(system, hours=8)
    assert b"registry_quota_differences 0.0" in system.foundation.telemetry.exposition()
    assert await books.fetchval("SELECT count(*) FROM quota_difference WHERE scope_id = $1", organization) == 0


async def test_a_counter_that_is_missing_is_shown_with_what_is_missing(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    await books.execute("DELETE FROM quota_counter WHERE scope_id = $1", await organization_of(ours))
    await verify(system, hours=40)
    async with ours.begin() as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        shown = {one.key: one.difference for one in await usage.standings(work, place)}
    assert (shown[Key.TAGS], shown[Key.REPOSITORIES]) == (-1, -1)
    assert await repair(system) != []


async def test_while_one_server_counts_the_others_do_not(
    ours: Household, system: System, books: asyncpg.Connection, dsn: str
) -> None:
    await verify(system, hours=10)
    done = await books.fetchval("SELECT verified_at FROM quota_recount")
    async with opened(dsn) as other, other.transaction():
        assert await other.fetchval(recounting.TURN)
        await verify(system, hours=20)
        assert await books.fetchval("SELECT verified_at FROM quota_recount") == done
    await verify(system, hours=20)
    assert await books.fetchval("SELECT verified_at FROM quota_recount") > done


async def test_a_clock_that_was_set_back_keeps_nobody_from_counting(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    for hours in (300, 30):
        await verify(system, hours=hours)
        ahead = await books.fetchval("SELECT verified_at - now() FROM quota_recount")
        assert ahead < timedelta(hours=hours + 1)


# Through the door and the command


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "checked")
    async with knocking(tidewaiter, acme.owner) as door:
        await door.push_image(f"{acme.organization}/web", "1.0", payload(acme.account, 3000))
    return acme


async def check(tidewaiter: Server, *words: str) -> tuple[int, str]:
    done = await asyncio.to_thread(tidewaiter.command, "quota", "check", *words)
    assert done.stderr == ""
    return done.returncode, done.stdout


async def test_the_command_finds_and_repairs(tidewaiter: Server, acme: Tenant) -> None:
    assert await check(tidewaiter) == (0, "Every counter says what is there.\n")
    async with opened(address_of(tidewaiter)) as books:
        await books.execute(
            "UPDATE quota_counter SET charged = charged + 41 WHERE key = 'STORAGE_BYTES'"
            " AND scope_id = (SELECT id FROM organization WHERE name = $1)",
            acme.organization,
        )
        code, text = await check(tidewaiter, "--json")
        told = json.loads(text)
        (line,) = told["differences"]
        assert (code, told["equal"], told["repaired"]) == (1, False, False)
        assert (line["kind"], line["name"], line["key"]) == ("organization", acme.organization, "STORAGE_BYTES")
        assert line["charged"] - line["owed"] == 41
        code, text = await check(tidewaiter)
        assert (code, f"organization {acme.organization} STORAGE_BYTES" in text) == (1, True)
        code, text = await check(tidewaiter, "--fix")
        assert (code, "quota.repair" in text) == (0, True)
        assert await differences(books) == []
    assert (await check(tidewaiter, "--json"))[0] == 0


async def test_what_cannot_be_counted_is_no_difference(tidewaiter: Server, tmp_path: Path) -> None:
    async with new_database(tidewaiter) as dsn:
        async with opened(dsn) as owner:
            await owner.execute("DROP FUNCTION quota_owed")
        for address in (dsn, "postgresql://127.0.0.1:1/nothing"):
            elsewhere = Server(tmp_path / "elsewhere", {"TIDEWAITER_DATABASE_URL": address})
            done = await asyncio.to_thread(elsewhere.command, "quota", "check")
            assert (done.returncode, done.stdout) == (2, "")
            assert "The database cannot be" in done.stderr.splitlines()[-1]


async def test_when_it_was_verified_is_told_to_who_may_see_the_quota(tidewaiter: Server, acme: Tenant) -> None:
    async with opened(address_of(tidewaiter)) as books:
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        before = await books.fetchval("SELECT verified_at FROM quota_recount")
        await books.execute("UPDATE quota_recount SET verified_at = $1", at)
        owner = acme.owner
        scope = {"scope": scope_of(acme, "organization")}
        answer = await tidewaiter.graphql(VERIFIED, scope, user=owner.name, password=owner.password)
        await books.execute("UPDATE quota_recount SET verified_at = $1", before)
    assert {quota["lastVerifiedAt"] for quota in answer["data"]["quotas"]} == {"2026-01-02T03:04:05Z"}
    assert {quota["difference"] for quota in answer["data"]["quotas"]} == {0}
