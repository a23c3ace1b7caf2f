"""Changes that meet: one has begun and is not committed when another comes. Neither may spoil the books, nor fail for
no other reason than that they met."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from policies.quotas import Key
from registry.actors import Origin
from registry.deciding import PlaceNotFound
from registry.errors import NotFound
from registry.oci.digest import digest_of
from registry.quotas import requesting, usage
from registry.quotas.telling import tell_late
from registry.quotas.usage import Limits
from registry.repositories import creating, deleting, tagging, uploading
from registry.repositories.expiring import end_abandoned
from registry.repositories.receiving import Incoming, Receiver
from registry.repositories.sweeping import sweep
from registry.repositories.uploading import UploadUnknown
from registry.system import System
from registry.work import Work
from tests.support.inside import Household, meets, settle
from tests.support.log import events


async def remove(ours: Household, repository: str) -> None:
    async with ours.begin() as work:
        await deleting.delete_repository(work, await ours.place(work, repository))


@pytest.fixture
async def ours(system: System) -> Household:
    ours = await settle(system, "meeting")
    await ours.ensure("web", "other")
    return ours


async def test_an_upload_that_grows_while_its_repository_is_deleted_gives_all_back(
    ours: Household, books: asyncpg.Connection
) -> None:
    claim = await ours.hold("web", 100)
    async with ours.begin() as work:
        await uploading.hold_window(work, claim, 1000)
        removing = await meets(books, remove(ours, "web"))
    await removing


async def test_a_blob_that_is_deleted_with_its_repository_at_once_is_unlinked_once(
    ours: Household, books: asyncpg.Connection
) -> None:
    digest = await ours.store("web", b"a layer of two repositories")
    await ours.store("other", b"a layer of two repositories")
    async with ours.begin() as work:
        await deleting.delete_blob(work, await ours.place(work, "web"), digest)
        removing = await meets(books, remove(ours, "web"))
    await removing


async def test_a_tag_that_is_deleted_with_its_repository_at_once_is_given_back_once(
    ours: Household, books: asyncpg.Connection
) -> None:
    await ours.push("web", "1.0")
    await ours.push("other", "1.0")
    async with ours.begin() as work:
        await tagging.untag(work, await ours.place(work, "web"), "1.0")
        removing = await meets(books, remove(ours, "web"))
    await removing


async def test_a_tag_that_is_made_while_its_repository_is_deleted_goes_with_it(
    ours: Household, books: asyncpg.Connection
) -> None:
    await ours.push("web", "1.0")
    async with ours.begin() as work:
        await tagging.retag(work, await ours.place(work, "web"), "1.0", "2.0", override=False)
        removing = await meets(books, remove(ours, "web"))
    await removing


async def test_an_upload_that_ends_while_its_repository_is_deleted_finds_it_gone(
    ours: Household, books: asyncpg.Connection
) -> None:
    claim = await ours.hold("web", 7)

    async def finish() -> None:
        async with ours.begin() as work:
            await uploading.finish(work, claim, await ours.store("other", b"a layer"), 7)

    async with ours.begin() as work:
        place = await ours.place(work, "web")
        await work.execute("SELECT FROM repository WHERE id = $1 FOR UPDATE", place.id)
        finishing = await meets(books, finish())
        await deleting.delete_repository(work, place)
    with pytest.raises(NotFound):
        await finishing


async def test_a_first_push_and_a_deletion_do_not_wait_in_a_circle(ours: Household, books: asyncpg.Connection) -> None:
    await ours.store("web", b"a layer")
    async with ours.begin() as work:
        work.attempt("image.push", ours.name)
        place = await creating.ensure(work, ours.name, "new")
        removing = await meets(books, remove(ours, "web"))
        await uploading.start(work, place, 100, "sha256")
    await removing


async def test_pushes_of_several_tags_do_not_wait_in_a_circle(ours: Household, books: asyncpg.Connection) -> None:
    """One names the same tags in another order, and one pushes the last of them alone."""
    digest = await ours.push("web")
    async with ours.begin() as work:
        place = await ours.place(work, "web")
        await tagging.point(work, place, ["middle"], digest)
        pushes = [
            await meets(books, ours.push("web", *tags, marked=tags[0]))
            for tags in (["first", "middle", "second"], ["second", "middle", "first"], ["second"])
        ]
    await asyncio.gather(*pushes)


async def test_a_sweep_and_a_deletion_do_not_wait_in_a_circle(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    """The sweep has been at one repository that holds a blob, and comes to the other where somebody is at work."""
    first, second = sorted((digest_of(content), content) for content in (b"one layer", b"another layer"))
    for repository, (_, content) in (("web", second), ("other", first), ("other", second)):
        await ours.store(repository, content)
    advance(system, seconds=25 * 3600)
    async with ours.begin() as work:
        place = await ours.place(work, "other")
        await deleting.delete_blob(work, place, first[0])
        sweeping = await meets(books, sweep(system.foundation))
        assert not sweeping.done()
        await deleting.delete_blob(work, place, second[0])
    await sweeping


async def test_a_sweep_and_a_deletion_of_the_repository_do_not_wait_in_a_circle(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    """Whichever order its blobs lie in: the sweep has one of them when the repository is deleted."""
    contents = sorted((b"layer %d" % number for number in range(40)), key=digest_of, reverse=True)
    for content in contents:
        await ours.store("web", content)
    advance(system, seconds=25 * 3600)
    async with ours.begin() as work:  # keeps the sweep at the second blob in its order
        await work.fetch("SELECT FROM repository_blob WHERE digest = $1 FOR UPDATE", digest_of(contents[-2]))
        sweeping = await meets(books, sweep(system.foundation))
        removing = await meets(books, remove(ours, "web"))
    await asyncio.gather(sweeping, removing)


async def test_a_deletion_and_a_push_of_several_tags_do_not_wait_in_a_circle(
    ours: Household, books: asyncpg.Connection
) -> None:
    """The push has moved one tag away from what is deleted, and comes to another, which was made before."""
    await ours.push("web", "second", marked="old")
    old = await ours.push("web", "first", marked="old")

    async def delete() -> None:
        async with ours.begin() as work:
            await deleting.delete_manifest(work, await ours.place(work, "web"), old)

    async with ours.begin() as work:
        place = await ours.place(work, "web")
        new = await ours.push_with(work, "web", marked="new")
        await tagging.point(work, place, ["first"], new)
        removing = await meets(books, delete())
        await tagging.point(work, place, ["second"], new)
    await removing


async def test_of_two_who_delete_a_repository_one_finds_it_gone(ours: Household, books: asyncpg.Connection) -> None:
    async with ours.begin() as work:
        await deleting.delete_repository(work, await ours.place(work, "web"))
        second = await meets(books, remove(ours, "web"))
    with pytest.raises(PlaceNotFound):
        await second


async def asked(ours: Household) -> UUID:
    """A request for more tags of the repository, which has a limit."""
    async with administrating(ours) as work:
        await usage.set_limit(work, await ours.place(work, "web"), Key.TAGS, Limits(frozenset({"limit"}), limit=5))
    async with ours.begin() as work:
        place = await ours.place(work, "web")
        return await requesting.ask(work, place, Key.TAGS, Limits(frozenset({"limit"}), limit=9))


def administrating(ours: Household) -> Work:
    return ours.system.foundation.begin(ours.admin, Origin())


async def test_a_repository_whose_request_is_being_decided_is_deleted_afterwards(
    ours: Household, books: asyncpg.Connection
) -> None:
    request = await asked(ours)
    async with administrating(ours) as work:
        await requesting.decide(work, request, approve=True, note=None)
        removing = await meets(books, remove(ours, "web"))
        assert not removing.done()
    await removing
    assert await books.fetchval("SELECT count(*) FROM quota_request WHERE id = $1", request) == 0


async def test_a_request_whose_repository_is_being_deleted_is_not_there(
    ours: Household, books: asyncpg.Connection
) -> None:
    request = await asked(ours)

    async def decide() -> None:
        async with administrating(ours) as work:
            await requesting.decide(work, request, approve=True, note=None)

    async with ours.begin() as work:
        await deleting.delete_repository(work, await ours.place(work, "web"))
        deciding = await meets(books, decide())
        assert not deciding.done()
    with pytest.raises(NotFound):
        await deciding


async def test_what_two_who_settle_at_once_reach_together_is_told_all_the_same(
    ours: Household, system: System, books: asyncpg.Connection
) -> None:
    """Each counts what the other only holds: 79 and 2 of 100."""
    async with administrating(ours) as work:
        place = await usage.scope_of(work, account=None, organization=ours.name, repository=None)
        await usage.set_limit(work, place, Key.STORAGE_BYTES, Limits(frozenset({"limit"}), limit=100))
    await ours.store("web", b"x" * 39)
    claim = await ours.hold("web", 40)
    async with ours.begin() as work:
        await uploading.finish(work, claim, digest_of(b"y" * 40), 40)
        await ours.store("other", b"z" * 2)
    target = {"name": f"organization {ours.name} STORAGE_BYTES"}
    for _ in range(2):
        await tell_late(system.foundation)
        await system.foundation.ledger.catch_up()
        told = await events(books, action="quota.alert", target=target)
        assert [(entry["change"]["step"][1], entry["change"]["used"][1]) for entry in told] == [("80 %", 81)]


async def test_who_lost_an_upload_holds_no_more_for_it(ours: Household, system: System) -> None:
    """Another request took it over, because this one had been silent for longer than its lease."""
    slow = await ours.hold("web", 100)
    advance(system, seconds=61)
    async with ours.begin() as work:
        quick = await uploading.claim(work, slow.place, slow.upload, 500)
    with pytest.raises(UploadUnknown):
        async with ours.begin() as work:
            await uploading.hold_window(work, slow, 200)
    async with ours.begin() as work:
        await uploading.advance(work, quick, 500)


async def test_a_push_whose_repository_is_deleted_finds_it_gone(ours: Household, system: System) -> None:
    whole = b"begun, and never ended"

    async def meanwhile_deleted() -> AsyncIterator[bytes]:
        yield whole[:5]
        await remove(ours, "web")
        yield whole[5:]

    async with ours.begin() as work:
        upload = await uploading.start(work, await ours.place(work, "web"), len(whole), "sha256")
    with pytest.raises(UploadUnknown):
        incoming = Incoming(ours.name, "web", upload, meanwhile_deleted(), length=len(whole))
        await Receiver(system.foundation, ours.owner, Origin()).store(incoming, digest_of(whole))
    assert not system.foundation.blobs.staged(upload).exists()


async def test_who_lost_an_upload_does_not_touch_its_bytes(ours: Household, system: System) -> None:
    """The bytes are by now another's, who has hashed them and makes a blob of them."""
    async with ours.begin() as work:
        upload = await uploading.start(work, await ours.place(work, "web"), None, "sha256")
    quick = Receiver(system.foundation, ours.owner, Origin())
    whole = b"the bytes of the other request"

    async def silent_for_long() -> AsyncIterator[bytes]:
        yield b"begun, and then nothing"
        advance(system, seconds=61)
        assert await quick.append(Incoming(ours.name, "web", upload, parts(whole), length=len(whole))) == len(whole)
        yield b" for a while"

    with pytest.raises(UploadUnknown):
        slow = Receiver(system.foundation, ours.owner, Origin())
        await slow.append(Incoming(ours.name, "web", upload, silent_for_long()))
    assert await quick.close(Incoming(ours.name, "web", upload, parts(), length=0), digest_of(whole)) == len(whole)
    stored = system.foundation.blobs.read(digest_of(whole), 0, len(whole) - 1)
    assert b"".join([part async for part in stored]) == whole


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_an_upload_that_expired_holds_no_more(ours: Household, system: System) -> None:
    slow = await ours.hold("web", 100)
    advance(system, seconds=25 * 3600)
    await end_abandoned(system.foundation)
    with pytest.raises(UploadUnknown):
        async with ours.begin() as work:
            await uploading.hold_window(work, slow, 200)


def advance(system: System, seconds: float) -> None:
    clock = system.foundation.settings.clock_file
    assert clock is not None
    fresh = clock.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.rename(clock)
