"""What counts and is no content: together with it, it is what is charged."""

import asyncpg
import pytest

from policies.quotas import Key
from registry.quotas import explaining, pending, reserving, usage
from registry.repositories import uploading
from registry.system import System
from tests.support.inside import Household, settle

CHARGED = "SELECT charged FROM quota_counter WHERE scope_id = $1 AND key = 'STORAGE_BYTES'"
SCOPES = {
    "account": {"account": True},
    "organization": {"organization": True},
    "repository": {"organization": True, "repository": "web"},
}


@pytest.mark.parametrize("kind", SCOPES)
async def test_content_holds_and_refunds_are_all_that_is_charged(
    system: System, books: asyncpg.Connection, kind: str
) -> None:
    ours = await settle(system, "pending")
    await ours.store("web", b"a layer")
    await ours.hold("web", 100)
    given_up = await ours.hold("web", 2000)
    async with ours.begin() as work:
        await uploading.drop(work, given_up)
    content, held, refunds, charged = await counted(ours, books, kind)
    assert (content, held, refunds) == (7, 100, {Key.STORAGE_BYTES: 2000})
    assert charged == 2107
    await reserving.apply_refunds(system.foundation)
    assert await counted(ours, books, kind) == (7, 100, {}, 107)


async def counted(ours: Household, books: asyncpg.Connection, kind: str) -> tuple[int, int, dict[Key, int], int]:
    named = {name: ours.name if value is True else value for name, value in SCOPES[kind].items()}
    async with ours.begin() as work:
        place = await usage.scope_of(work, **({"account": None, "organization": None, "repository": None} | named))
        uses = await explaining.uses(work, place)
        held = sum(upload.held for upload in await pending.uploads(work, place, 100))
        return uses.used, held, await pending.refunds(work, place), await books.fetchval(CHARGED, place.id)


async def test_uploads_that_hold_most_come_first_and_no_more_than_asked_for(system: System) -> None:
    ours = await settle(system, "pending")
    for size in (5, 500, 50):
        await ours.hold("web", size)
    async with ours.begin() as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        found = await pending.uploads(work, place, 2)
    assert [(upload.held, upload.user_name, upload.client) for upload in found] == [
        (500, ours.owner.name, "a test"),
        (50, ours.owner.name, "a test"),
    ]
