"""What must hold of quotas, Q1 to Q13, and where it is tested; here what takes several at once.

| Law | What it says | Tests |
|---|---|---|
| Q1 | 0 ≤ charged ≤ limit in every snapshot, unless the limit was lowered. | test_model.test_the_engine_does_what_the_model_says, test_concurrency.test_announced_pushes_leave_no_room_that_would_have_done, test_known_bugs.test_no_counter_falls_below_nothing |
| Q2 | Charged is content, holds and refunds in every snapshot. | test_model.test_the_engine_does_what_the_model_says, test_recount.test_many_at_once, test_crash.test_nothing_leaks_and_nothing_passes_a_limit_when_everything_is_killed |
| Q3 | At rest nothing is held or refunded, and a recount agrees. | test_known_bugs.test_when_all_is_gone_nothing_is_charged, test_recounting.test_every_kind_of_difference_is_found_repaired_and_recorded, test_all_that_is_held_ends |
| Q4 | Of many into room for a few, exactly the few succeed. | test_exactly_as_many_as_there_is_room_for, test_concurrency.test_exactly_as_many_tags_as_there_is_room_for |
| Q5 | What was acknowledged is charged once in its organization. | test_model.test_the_engine_does_what_the_model_says, test_concurrency.test_the_same_layer_from_many_at_once_is_charged_once |
| Q6 | Settling happens once, and not after the hold has expired. | test_an_upload_is_settled_once, test_an_upload_that_has_lost_what_it_held_is_not_settled |
| Q7 | Each hold ends. | test_all_that_is_held_ends, test_model.test_the_engine_does_what_the_model_says |
| Q8 | Nothing is kept from being deleted. | test_model.test_the_engine_does_what_the_model_says, test_telling.test_the_counter_does_what_the_rules_say, test_reserving.test_deleting_is_never_refused_and_lowering_a_limit_deletes_nothing |
| Q9 | An account is charged the sum of its organizations. | test_model.test_the_engine_does_what_the_model_says, test_recount.test_step_by_step |
| Q10 | One alert for each crossing. | test_telling.test_the_counter_does_what_the_rules_say, test_alerts.test_many_who_cross_it_together_tell_it_once |
| Q11 | The history adds up to what moved. | test_rolling.test_the_sum_of_what_every_hour_added_is_what_is_there, test_rolling.test_traffic_is_the_same_before_and_after |
| Q12 | No circle of waiting, and one connection is enough. | test_changes_of_any_scopes_in_any_order_do_not_wait_in_a_circle, test_known_races.test_one_connection_is_enough_for_many |
| Q13 | Who reads first and writes then is found out. | test_who_reads_first_and_writes_then_is_found_out |
"""  # noqa: E501

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from policies.quotas import Key
from registry.actors import Origin
from registry.errors import QuotaExceeded
from registry.oci.digest import digest_of
from registry.organizations import founding
from registry.quotas import usage
from registry.quotas.usage import Limits
from registry.repositories import tagging, uploading
from registry.repositories.uploading import UploadUnknown
from registry.system import System
from registry.tending import tidy
from tests.support.books import in_process, new_database, opened
from tests.support.inside import PATIENCE_SECONDS, WAITING, Household, settle
from tests.support.recount import beyond, differences
from tests.support.server import Server

ROOM, SIZE, PUSHES = 4, 100, 9
GATE = 42
# As it must not be: what was read may be old by the time it is written. All wait between the two for each other.
CARELESS = """
    CREATE OR REPLACE FUNCTION quota_charge(
        kinds text[], ids uuid[], keys text[], periods text[], amounts bigint[], defaults bigint[],
        holding boolean DEFAULT false
    ) RETURNS TABLE (line int, refused boolean, step int, top bigint, charged bigint) LANGUAGE plpgsql AS $$
    DECLARE
        before quota_counter[] := '{}';
    BEGIN
        FOR i IN 1 .. coalesce(array_length(keys, 1), 0) LOOP
            INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit)
                VALUES (kinds[i], ids[i], keys[i], 0, false) ON CONFLICT DO NOTHING;
            before := before || (SELECT q FROM quota_counter q WHERE q.scope_id = ids[i] AND q.key = keys[i]);
        END LOOP;
        PERFORM pg_advisory_xact_lock_shared(42);
        FOR i IN 1 .. coalesce(array_length(keys, 1), 0) LOOP
            IF before[i].explicit AND before[i].charged + amounts[i] > before[i].hard THEN
                RETURN QUERY SELECT i, true, 0, before[i].hard, before[i].charged;
                RETURN;
            END IF;
            UPDATE quota_counter AS q SET charged = before[i].charged + amounts[i]
                WHERE q.scope_id = ids[i] AND q.key = keys[i];
        END LOOP;
    END $$
"""


async def limit(ours: Household, most: int) -> None:
    async with ours.system.foundation.begin(ours.admin, Origin()) as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        await usage.set_limit(work, place, Key.STORAGE_BYTES, Limits(frozenset({"limit"}), limit=most))


async def held(books: asyncpg.Connection, ours: Household) -> tuple[int, int]:
    """What is charged to the organization, and what is on its way to it."""
    row = await books.fetchrow(
        "SELECT q.charged, coalesce((SELECT sum(u.held) FROM upload u JOIN repository r ON r.id = u.repository_id"
        " WHERE r.organization_id = o.id), 0)::bigint FROM quota_counter q JOIN organization o ON o.id = q.scope_id"
        " WHERE o.name = $1 AND q.key = 'STORAGE_BYTES'",
        ours.name,
    )
    return tuple(row or (0, 0))


async def done(change: Coroutine[Any, Any, Any]) -> bool:
    """Or refused."""
    try:
        await change
    except QuotaExceeded:
        return False
    return True


async def crowded(system: System, books: asyncpg.Connection) -> tuple[int, list[str]]:
    """Many hold into room for a few, all at once: how many did, and what is wrong afterwards."""
    ours = await settle(system, "crowded")
    await ours.store("web", b"x")  # from here on every counter is there
    await limit(ours, 1 + ROOM * SIZE)
    await books.execute("SELECT pg_advisory_lock($1)", GATE)
    holding = [asyncio.ensure_future(done(ours.hold("web", SIZE))) for _ in range(PUSHES)]
    with anyio.fail_after(PATIENCE_SECONDS):
        while sum(one.done() for one in holding) + await books.fetchval(WAITING) < PUSHES:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    await books.execute("SELECT pg_advisory_unlock($1)", GATE)
    kept = sum(await asyncio.gather(*holding))
    found = [*await beyond(books), *map(str, await differences(books))]
    return kept, found if kept == ROOM else [f"{kept} of {PUSHES}", *found]


async def test_exactly_as_many_as_there_is_room_for(system: System, books: asyncpg.Connection) -> None:
    assert await crowded(system, books) == (ROOM, [])


async def test_who_reads_first_and_writes_then_is_found_out(tidewaiter: Server, tmp_path: Path) -> None:
    """Else the test before would prove nothing."""
    async with new_database(tidewaiter) as dsn, opened(dsn) as owner, in_process(dsn, tmp_path) as system:
        await owner.execute(CARELESS)
        kept, wrong = await crowded(system, owner)
    assert kept == PUSHES
    assert len(wrong) > 1


async def test_an_upload_is_settled_once(system: System, books: asyncpg.Connection) -> None:
    ours = await settle(system, "once")
    claim = await ours.hold("web", SIZE)
    content = b"x" * SIZE
    async with ours.begin() as work:
        await uploading.finish(work, claim, digest_of(content), SIZE)
    for _ in range(2):
        with pytest.raises(UploadUnknown):
            async with ours.begin() as work:
                await uploading.finish(work, claim, digest_of(content), SIZE)
        assert await held(books, ours) == (SIZE, 0)
        assert await differences(books) == []


@pytest.mark.parametrize("minutes", [16, 25 * 60])
async def test_an_upload_that_has_lost_what_it_held_is_not_settled(
    system: System, books: asyncpg.Connection, minutes: int
) -> None:
    """Silent for a quarter of an hour, or for a day: what it held may be another's by then."""
    ours = await settle(system, "late")
    claim = await ours.hold("web", SIZE)
    await later(system, minutes)
    assert await held(books, ours) == (0, 0)
    for change in (uploading.renew, uploading.hold_window):
        with pytest.raises(UploadUnknown):
            async with ours.begin() as work:
                await change(work, claim, *([2 * SIZE] if change is uploading.hold_window else []))
    with pytest.raises(UploadUnknown):
        async with ours.begin() as work:
            await uploading.finish(work, claim, digest_of(b"x" * SIZE), SIZE)
    assert await held(books, ours) == (0, 0)
    assert await differences(books) == []


async def test_an_upload_that_rested_goes_on_where_there_is_room_by_then(
    system: System, books: asyncpg.Connection
) -> None:
    ours = await settle(system, "rested")
    claim = await ours.hold("web", SIZE)
    async with ours.begin() as work:
        await uploading.advance(work, claim, SIZE)
    await later(system, 16)
    await limit(ours, 2 * SIZE - 1)
    other = await ours.hold("web", SIZE)
    assert not await done(again(ours, claim))
    async with ours.begin() as work:
        await uploading.drop(work, other)
    assert await done(again(ours, claim))
    assert (await held(books, ours))[1] == SIZE


async def again(ours: Household, claim: uploading.Claim) -> None:
    async with ours.begin() as work:
        mine = await uploading.claim(work, claim.place, claim.upload, 0)
        assert (mine.received, mine.held) == (SIZE, SIZE)


async def test_all_that_is_held_ends(system: System, books: asyncpg.Connection) -> None:
    """Whatever became of it: settled, cut, cancelled, or forgotten."""
    ours = await settle(system, "ending")
    claims = [await ours.hold("web", SIZE) for _ in range(5)]
    async with ours.begin() as work:
        await uploading.finish(work, claims[0], digest_of(b"x" * 60), 60)
    async with ours.begin() as work:
        await uploading.drop(work, claims[1])
    async with ours.begin() as work:
        await uploading.advance(work, claims[2], 30)
    async with ours.begin() as work:
        await uploading.hold_window(work, claims[3], 2 * SIZE)
    await later(system, 16)
    assert await held(books, ours) == (60, 0)
    assert await books.fetchval("SELECT count(*) FROM quota_refund") == 0


async def later(system: System, minutes: int) -> None:
    """The janitor comes after so many minutes from the present of the test."""
    clock = system.foundation.settings.clock_file
    assert clock is not None
    clock.write_text(str(minutes * 60))
    await tidy(system.foundation)


async def test_changes_of_any_scopes_in_any_order_do_not_wait_in_a_circle(
    system: System, books: asyncpg.Connection
) -> None:
    """Each tags images in several repositories of two organizations of one account, in an order of its own."""
    first = await settle(system, "first")
    second = Household(system, f"{first.name}-two", first.owner, first.admin)
    async with first.begin() as work:
        await founding.found(work, second.name)
    spots = [(home, name) for home in (first, second) for name in ("web", "app", "jobs")]
    for home, name in spots:
        await home.ensure(name)
        await home.push(name, "base")

    async def tag(number: int) -> None:
        async with first.begin() as work:
            for home, name in random.Random(number).sample(spots, 4):
                await tagging.retag(work, await home.place(work, name), "base", f"tag{number}", override=False)

    with anyio.fail_after(PATIENCE_SECONDS):
        await asyncio.gather(*(tag(number) for number in range(60)))
    assert await differences(books) == []
    assert await books.fetchval("SELECT count(*) FROM tag WHERE name LIKE 'tag%'") == 240
