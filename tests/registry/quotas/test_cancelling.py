"""An upload that rested holds nothing any more: ending it must cost nothing, whatever room there is by then. And when
it is that one rests."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from policies.quotas import Key
from registry.actors import Origin
from registry.errors import QuotaExceeded
from registry.repositories import uploading
from registry.repositories.receiving import Incoming, Receiver
from registry.repositories.uploading import UploadBusy, UploadUnknown
from registry.system import System
from tests.registry.quotas.test_invariants import held, later, limit
from tests.support.inside import Household, settle

SIZE = 100


@pytest.fixture
async def ours(system: System) -> Household:
    return await settle(system, "cancelling")


async def rested(ours: Household) -> uploading.Claim:
    """Bytes came, and then nobody moved it for longer than it holds."""
    claim = await ours.hold("web", SIZE)
    async with ours.begin() as work:
        await uploading.advance(work, claim, SIZE)
    await later(ours.system, 16)
    return claim


async def cancel(ours: Household, claim: uploading.Claim) -> None:
    async with ours.system.foundation.promise(ours.owner, Origin()) as work:
        await uploading.cancel(work, claim.place, claim.upload)


@pytest.mark.parametrize("used", [60, 200])
async def test_it_ends_where_there_is_no_room_for_it(ours: Household, books: asyncpg.Connection, used: int) -> None:
    """Others have taken the room meanwhile, or the limit was lowered below what is there."""
    claim = await rested(ours)
    await ours.store("web", b"x" * used)
    await limit(ours, 120)
    await cancel(ours, claim)
    assert await held(books, ours) == (used, 0)
    assert await books.fetchval("SELECT count(*) FROM quota_refund") == 0
    with pytest.raises(UploadUnknown):
        await cancel(ours, claim)


async def test_it_tells_nobody_that_a_limit_comes_near(ours: Household, books: asyncpg.Connection) -> None:
    claim = await rested(ours)
    await limit(ours, SIZE)
    await cancel(ours, claim)
    row = await books.fetchrow(
        "SELECT peak, warned FROM quota_counter WHERE scope_kind = 'organization'"
        " AND key = $1 ORDER BY scope_id DESC LIMIT 1",
        Key.STORAGE_BYTES.value,
    )
    assert row is not None and row["warned"] == 0


async def test_one_that_somebody_moves_is_left_to_them(ours: Household, books: asyncpg.Connection) -> None:
    claim = await ours.hold("web", SIZE)
    with pytest.raises(UploadBusy):
        await cancel(ours, claim)
    assert await held(books, ours) == (SIZE, SIZE)


async def test_who_goes_on_and_has_no_room_hears_of_the_quota_and_the_upload_ends(
    ours: Household, books: asyncpg.Connection
) -> None:
    claim = await rested(ours)
    await ours.store("web", b"x" * 60)
    await limit(ours, 120)
    receiver = Receiver(ours.system.foundation, ours.owner, Origin("request", "192.0.2.1", "a test"))
    with pytest.raises(QuotaExceeded, match="used 60 bytes"):
        await receiver.append(Incoming(ours.name, "web", claim.upload, nothing(), length=10))
    assert await held(books, ours) == (60, 0)
    assert await books.fetchval("SELECT count(*) FROM upload WHERE id = $1", claim.upload) == 0


async def test_one_that_moves_all_the_time_does_not_rest(ours: Household, books: asyncpg.Connection) -> None:
    """For longer than an upload may rest, and longer than one is kept at all; then it is silent for a moment."""
    claim = await ours.hold("web", SIZE)
    for minutes in (10, 20, 25 * 60):
        await moves(ours, claim, minutes)
    await later(ours.system, 25 * 60 + 5)
    assert (await held(books, ours))[1] >= 3 * SIZE
    async with ours.begin() as work:
        await uploading.advance(work, claim, SIZE)


async def moves(ours: Household, claim: uploading.Claim, minutes: int) -> None:
    """So many minutes from the present, and the janitor comes."""
    clock = ours.system.foundation.settings.clock_file
    assert clock is not None
    clock.write_text(str(minutes * 60))
    async with ours.begin() as work:
        await uploading.renew(work, claim)
        if minutes == 20:
            await uploading.hold_window(work, claim, 3 * SIZE)
    await later(ours.system, minutes)


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""
