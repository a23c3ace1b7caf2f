"""Streams of unknown length that need the same room: the youngest gives way, and nobody fails who would have fitted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from registry.errors import QuotaExceeded
from registry.repositories import uploading
from registry.repositories.waiting import when_there_is_room
from registry.work import Work
from tests.support import world
from tests.support.books import in_process
from tests.support.handmade import Door, digest_of, knocking, refusal
from tests.support.images import payload
from tests.support.inside import settle
from tests.support.meters import limit, used
from tests.support.server import Server
from tests.support.world import Tenant

PATIENCE_SECONDS = 20
PART = 100_000


@pytest.fixture
async def acme(tidewaiter: Server) -> Tenant:
    acme = await world.tenant(tidewaiter, "waiting")
    await world.repository(acme, "web")
    return acme


@pytest.fixture
async def door(tidewaiter: Server, acme: Tenant) -> AsyncIterator[Door]:
    async with knocking(tidewaiter, acme.owner) as door:
        yield door


def part(acme: Tenant, name: str, number: int) -> bytes:
    return payload(f"{acme.account} {name} {number}", PART)


class Stream:
    """A PATCH whose parts the test lets go one by one."""

    def __init__(self, acme: Tenant, name: str) -> None:
        self.acme, self.name, self.sent = acme, name, b""
        self.parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def begin(self, door: Door) -> None:
        self.address = await door.begin_upload(f"{self.acme.organization}/web")
        self.answer = asyncio.ensure_future(door.patch(self.address, content=self._body()))

    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent += part(self.acme, self.name, len(self.sent) // PART)
            self.parts.put_nowait(self.sent[-PART:])

    async def _body(self) -> AsyncIterator[bytes]:
        while (each := await self.parts.get()) is not None:
            yield each

    async def end(self, door: Door) -> int:
        self.parts.put_nowait(None)
        answer = await self.answer
        if answer.status_code != 202:
            return answer.status_code
        return (await door.put(answer.headers["location"], params={"digest": digest_of(self.sent)})).status_code


async def held_reaches(acme: Tenant, amount: int) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await used(acme))[1] < amount:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def held_falls_to(acme: Tenant, amount: int) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await used(acme))[1] != amount:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_streams_that_fit_exactly_all_fit(acme: Tenant, door: Door) -> None:
    streams = [Stream(acme, str(number)) for number in range(6)]
    assert await limit(acme, "STORAGE_BYTES", "organization", 6 * 20 * PART) == []
    for stream in streams:
        await stream.begin(door)
        stream.send(20)
    assert await asyncio.gather(*(stream.end(door) for stream in streams)) == [201] * 6
    assert await used(acme) == (6 * 20 * PART, 0)


async def test_the_youngest_gives_way_to_the_older(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 10 * PART) == []
    older, younger = Stream(acme, "older"), Stream(acme, "younger")
    for stream, parts, held in ((older, 6, 6), (younger, 3, 9)):
        await stream.begin(door)
        stream.send(parts)
        await held_reaches(acme, held * PART)
    younger.send(2)
    await held_falls_to(acme, 6 * PART)
    older.send(3)  # for which there is room now
    ended = asyncio.ensure_future(older.end(door))
    assert await younger.end(door) == 403
    assert refusal(await younger.answer)["detail"]["code"] == "QUOTA_EXCEEDED"
    assert await ended == 201
    assert await used(acme) == (9 * PART, 0)


async def crowded(acme: Tenant, door: Door) -> tuple[Stream, Stream]:
    """The older holds 6 parts and may need more; the younger needs 5, and has given way."""
    assert await limit(acme, "STORAGE_BYTES", "organization", 10 * PART) == []
    older, younger = Stream(acme, "older"), Stream(acme, "younger")
    await older.begin(door)
    older.send(6)
    await held_reaches(acme, 6 * PART)
    await younger.begin(door)
    younger.send(4)
    await held_reaches(acme, 10 * PART)
    younger.send(1)
    await held_falls_to(acme, 6 * PART)
    return older, younger


async def denials(acme: Tenant) -> int:
    return len([entry for entry in await world.entries(acme) if entry.told[:2] == ("image.push", "DENIED")])


async def test_who_gave_way_is_refused_when_the_older_has_used_the_room(acme: Tenant, door: Door) -> None:
    older, younger = await crowded(acme, door)
    assert await older.end(door) == 201
    assert await younger.end(door) == 403
    detail = refusal(await younger.answer)["detail"]
    assert (detail["scope"], detail["limit"]) == (f"organization '{acme.organization}'", 10 * PART)
    assert (detail["used"] + detail["held"], detail["requested"]) == (6 * PART, 5 * PART)
    assert await denials(acme) == 1
    assert await used(acme) == (6 * PART, 0)


async def test_who_gave_way_goes_on_with_all_that_came_when_the_older_is_refused(acme: Tenant, door: Door) -> None:
    older, younger = await crowded(acme, door)
    older.send(5)
    assert await older.end(door) == 403
    assert await younger.end(door) == 201
    assert await denials(acme) == 1
    assert await used(acme) == (5 * PART, 0)


async def test_nobody_waits_for_ever(tidewaiter: Server, acme: Tenant, door: Door) -> None:
    """The older may take its time."""
    older, younger = await crowded(acme, door)
    tidewaiter.advance(11)
    assert await younger.end(door) == 403
    older.send(4)
    assert await older.end(door) == 201
    assert await used(acme) == (10 * PART, 0)


async def test_what_is_announced_waits_for_a_stream_that_is_refused(acme: Tenant, door: Door) -> None:
    assert await limit(acme, "STORAGE_BYTES", "organization", 10 * PART) == []
    stream = Stream(acme, "stream")
    await stream.begin(door)
    stream.send(6)
    await held_reaches(acme, 6 * PART)
    blob = payload(acme.account, 5 * PART)
    announced = asyncio.ensure_future(door.push_blob(f"{acme.organization}/web", blob))
    stream.send(5)
    assert await stream.end(door) == 403
    assert (await announced).status_code == 201
    assert await denials(acme) == 1
    assert await used(acme) == (5 * PART, 0)


async def test_who_only_moves_keeps_nobody_from_giving_way(acme: Tenant, door: Door) -> None:
    """The youngest of all holds a little and is silent."""
    assert await limit(acme, "STORAGE_BYTES", "organization", 10 * PART) == []
    first, second, silent = Stream(acme, "first"), Stream(acme, "second"), Stream(acme, "silent")
    for stream, parts, held in ((first, 5, 5), (second, 4, 9), (silent, 1, 10)):
        await stream.begin(door)
        stream.send(parts)
        await held_reaches(acme, held * PART)
    second.send(2)
    await held_falls_to(acme, 6 * PART)
    first.send(2)
    assert await first.end(door) == 201
    assert await silent.end(door) == 201
    assert await second.end(door) == 403
    assert await used(acme) == (8 * PART, 0)


async def test_what_one_holds_oneself_is_asked_for_and_nothing_to_wait_for(acme: Tenant, door: Door) -> None:
    """In a stream, and in parts that are announced: the sentence names all that came and what comes next."""
    assert await limit(acme, "STORAGE_BYTES", "organization", 10 * PART) == []
    stream = Stream(acme, "alone")
    await stream.begin(door)
    stream.send(11)
    assert await stream.end(door) == 403
    upload = await door.begin_upload(f"{acme.organization}/web")
    assert (await door.patch(upload, content=bytes(6 * PART))).status_code == 202
    announced = await door.patch(upload, content=bytes(5 * PART))
    for told in (refusal(await stream.answer), refusal(announced)):
        assert {name: told["detail"][name] for name in ("used", "held")} == {"used": 0, "held": 0}
        assert 10 * PART < told["detail"]["requested"] <= 11 * PART
        assert "on its way" not in told["message"]


async def test_where_nothing_was_ever_stored_the_default_limit_refuses_at_once(dsn: str, data: Path) -> None:
    async with in_process(dsn, data, quota_storage_bytes=1000) as system:
        ours = await settle(system, "first")
        await ours.ensure("web")

        async def start(work: Work) -> None:
            work.attempt("image.push", ours.name)
            await uploading.start(work, await ours.place(work, "web"), 1001, "sha256")

        with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(QuotaExceeded):
            await when_there_is_room(ours.begin, start)
