"""Blobs on their way: all at once, in pieces, as a stream, cut short and taken up again."""

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.support import world
from tests.support.handmade import Door, digest_of, hanging_up, knocking, refusal
from tests.support.server import Server
from tests.support.world import Tenant

CONTENT = bytes(range(256)) * 8
OTHER = digest_of(b"other bytes")


async def streamed(*parts: bytes) -> AsyncIterator[bytes]:
    """A body without an announced length, hence sent in chunked encoding."""
    for part in parts:
        yield part


def ranged(start: int, end: int) -> dict[str, str]:
    return {"Content-Range": f"{start}-{end}"}


async def is_here(door: Door, web: str, content: bytes = CONTENT) -> bool:
    answer = await door.get(f"/v2/{web}/blobs/{digest_of(content)}")
    return answer.status_code == 200 and answer.content == content


async def finish(door: Door, location: str, content: bytes = b"", digest: str = digest_of(CONTENT)) -> None:
    answer = await door.put(location, params={"digest": digest}, content=content)
    assert answer.status_code == 201, answer.text
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["location"].endswith(f"/blobs/{digest}")


async def test_a_whole_blob_in_one_request(door: Door, web: str) -> None:
    answer = await door.push_blob(web, CONTENT)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest_of(CONTENT)
    assert (await door.get(answer.headers["location"])).content == CONTENT


async def test_a_whole_blob_as_a_stream(door: Door, web: str) -> None:
    address = f"/v2/{web}/blobs/uploads/?digest={digest_of(CONTENT)}"
    assert (await door.post(address, content=streamed(CONTENT[:100], CONTENT[100:]))).status_code == 201
    assert await is_here(door, web)


async def test_an_upload_is_begun(door: Door, web: str) -> None:
    answer = await door.post(f"/v2/{web}/blobs/uploads/")
    assert answer.status_code == 202
    upload = answer.headers["docker-upload-uuid"]
    assert answer.headers["location"] == f"/v2/{web}/blobs/uploads/{upload}"
    assert answer.headers["range"] == "0-0"
    assert answer.headers["content-length"] == "0"


async def test_the_slash_at_the_end_may_be_left_out(door: Door, web: str) -> None:
    assert (await door.post(f"/v2/{web}/blobs/uploads")).status_code == 202


async def test_begun_and_closed_with_all_bytes(door: Door, web: str) -> None:
    await finish(door, await door.begin_upload(web), CONTENT)
    assert await is_here(door, web)


async def test_as_docker_pushes(door: Door, web: str) -> None:
    """One PATCH in chunked encoding, then an empty PUT."""
    location = await door.begin_upload(web)
    answer = await door.patch(location, content=streamed(CONTENT[:7], CONTENT[7:]))
    assert (answer.status_code, answer.headers["range"]) == (202, "0-2047")
    assert answer.headers["docker-upload-uuid"] in answer.headers["location"]
    await finish(door, answer.headers["location"])
    assert await is_here(door, web)


async def test_in_chunks_with_the_last_one_in_the_put(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    for start in (0, 512, 1024):
        answer = await door.patch(location, content=CONTENT[start : start + 512], headers=ranged(start, start + 511))
        assert (answer.status_code, answer.headers["range"]) == (202, f"0-{start + 511}")
        location = answer.headers["location"]
    query = {"digest": digest_of(CONTENT)}
    answer = await door.put(location, params=query, content=CONTENT[1536:], headers=ranged(1536, 2047))
    assert answer.status_code == 201
    assert await is_here(door, web)


async def test_the_form_of_rfc_9110_is_understood(door: Door, web: str) -> None:
    header = {"Content-Range": "bytes 0-2047/*"}
    answer = await door.patch(await door.begin_upload(web), content=CONTENT, headers=header)
    assert answer.status_code == 202


async def test_larger_than_what_is_kept_in_memory(door: Door, web: str) -> None:
    content = CONTENT * 2500
    location = await door.begin_upload(web)
    for half in (content[: len(content) // 2], content[len(content) // 2 :]):
        assert (await door.patch(location, content=streamed(half))).status_code == 202
    await finish(door, location, digest=digest_of(content))
    assert await is_here(door, web, content)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(("start", "end"), [(0, 9), (6, 9), (11, 20), (1024, 2047), (99999999999, 99999999999)])
async def test_a_chunk_out_of_order_is_416(door: Door, web: str, method: str, start: int, end: int) -> None:
    """The answer tells where the upload stands, no byte is taken, and it goes on from there."""
    location = await door.begin_upload(web)
    assert (await door.patch(location, content=CONTENT[:10], headers=ranged(0, 9))).status_code == 202
    chunk = b"x" * (end - start + 1)
    query = {"digest": OTHER} if method == "PUT" else {}
    answer = await door.request(method, location, params=query, content=chunk, headers=ranged(start, end))
    assert answer.status_code == 416
    assert (answer.headers["location"], answer.headers["range"]) == (location, "0-9")
    error = refusal(answer)
    assert error["code"] == "BLOB_UPLOAD_INVALID"
    assert "stands at 10" in error["message"]
    assert (await door.get(location)).headers["range"] == "0-9"
    await finish(door, location, CONTENT[10:])


async def test_the_first_chunk_starts_at_0(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    answer = await door.patch(location, content=b"xy", headers=ranged(1, 2))
    assert (answer.status_code, answer.headers["range"]) == (416, "0-0")
    assert refusal(answer)["detail"]["received"] == 0


@pytest.mark.parametrize(
    "header",
    ["5-2", "a-b", "0", "-5", "0-", "bytes 0-2/3", "0-99999999999999999999999999", "", "0-9,10-19", "٣-٤", "²-²"],
)
async def test_a_content_range_that_makes_no_sense(door: Door, web: str, header: str) -> None:
    location = await door.begin_upload(web)
    answer = await door.patch(location, content=b"x" * 10, headers={"Content-Range": header.encode()})
    assert answer.status_code in {400, 416}
    assert refusal(answer)["code"] in {"SIZE_INVALID", "BLOB_UPLOAD_INVALID"}
    assert (await door.get(location)).headers["range"] == "0-0"


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("end", [8, 10])
async def test_a_chunk_of_another_length_than_its_range_is_400(door: Door, web: str, announced: bool, end: int) -> None:
    body = b"x" * 10 if announced else streamed(b"x" * 4, b"x" * 6)
    location = await door.begin_upload(web)
    answer = await door.patch(location, content=body, headers=ranged(0, end))
    assert (answer.status_code, refusal(answer)["code"]) == (400, "SIZE_INVALID")
    assert (await door.get(location)).headers["range"] == "0-0"
    await finish(door, location, CONTENT)


async def test_a_connection_that_was_cut_is_taken_up_again(
    door: Door, tidewaiter: Server, acme: Tenant, web: str
) -> None:
    """What came before the cut is kept; the state tells the client from where to go on."""
    location = await door.begin_upload(web)
    scope = {"scope": f"repository:{web}:pull,push"}
    token = (await door.get("/token", params=scope)).json()["token"]
    content = CONTENT * 1500
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Length: {len(content)}\r\n\r\n"
    staged = tidewaiter.folder / "data" / "blobs" / "uploads" / location.rpartition("/")[2]
    with anyio.fail_after(10):
        async with hanging_up(tidewaiter, head.encode() + content[:-1]):
            while not (staged.exists() and staged.stat().st_size):
                await door.get(location)
        while (state := await door.get(location)).headers["range"] == "0-0":
            pass
    received = int(state.headers["range"].removeprefix("0-")) + 1
    assert 0 < received < len(content)
    rest = ranged(received, len(content) - 1)
    answer = await door.patch(location, content=content[received:], headers=rest)
    assert (answer.status_code, answer.headers["range"]) == (202, f"0-{len(content) - 1}")
    await finish(door, location, digest=digest_of(content))
    assert await is_here(door, web, content)


async def test_a_state_tells_how_far_it_came(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    assert (await door.get(location)).headers["range"] == "0-0"
    await door.patch(location, content=CONTENT)
    answer = await door.get(location)
    assert (answer.status_code, answer.headers["range"]) == (204, "0-2047")
    assert answer.headers["location"] == location
    assert "content-length" not in answer.headers  # RFC 9110, 8.6


async def test_a_cancelled_upload_is_gone(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    await door.patch(location, content=CONTENT)
    answer = await door.delete(location)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        query = {"digest": digest_of(CONTENT)} if method == "PUT" else {}
        again = await door.request(method, location, params=query)
        assert (again.status_code, refusal(again)["code"]) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert not await is_here(door, web)


async def test_bytes_that_are_not_the_digest_stay_unseen(door: Door, web: str) -> None:
    """What came before the closing request is kept, so that the right digest still closes it."""
    location = await door.begin_upload(web)
    await door.patch(location, content=CONTENT)
    answer = await door.put(location, params={"digest": OTHER})
    assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")
    assert digest_of(CONTENT) in refusal(answer)["message"]
    assert (await door.head(f"/v2/{web}/blobs/{OTHER}")).status_code == 404
    await finish(door, location)


async def test_a_whole_blob_that_is_not_its_digest_leaves_nothing(door: Door, web: str, tidewaiter: Server) -> None:
    """Nobody was told of its upload, so nobody could go on with it."""
    before = sorted((tidewaiter.folder / "data" / "blobs" / "uploads").iterdir())
    answer = await door.post(f"/v2/{web}/blobs/uploads/?digest={OTHER}", content=CONTENT)
    assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")
    assert sorted((tidewaiter.folder / "data" / "blobs" / "uploads").iterdir()) == before


async def test_failed_pushes_do_not_use_up_the_uploads_of_a_user(tidewaiter: Server) -> None:
    """They hold nothing of the quota either."""
    tenant = await world.tenant(tidewaiter, "clumsy")
    await world.limit_storage(tenant, 3000)
    name = f"{tenant.organization}/web"
    async with knocking(tidewaiter, tenant.owner) as door:
        for _ in range(3):
            answer = await door.post(f"/v2/{name}/blobs/uploads/?digest={OTHER}", content=CONTENT)
            assert answer.status_code == 400, answer.text
        assert (await door.push_blob(name, CONTENT)).status_code == 201


@pytest.mark.parametrize(
    "query",
    [
        "",
        "digest=",
        "digest=sha256:abc",
        f"digest={OTHER}&digest={OTHER}",
        f"digest=md5:{'0' * 32}",
        "digest=%00",
        "x=1",
    ],
)
async def test_a_closing_request_needs_one_digest(door: Door, web: str, query: str) -> None:
    location = await door.begin_upload(web)
    answer = await door.put(f"{location}?{query}", content=CONTENT)
    assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")
    await finish(door, location, CONTENT)


async def test_another_algorithm_at_the_end(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    await door.patch(location, content=CONTENT)
    await finish(door, location, digest=digest_of(CONTENT, "sha512"))


async def test_another_algorithm_from_the_start(door: Door, web: str) -> None:
    answer = await door.post(f"/v2/{web}/blobs/uploads/?digest-algorithm=sha512")
    assert answer.status_code == 202
    await finish(door, answer.headers["location"], CONTENT, digest_of(CONTENT, "sha512"))
    answer = await door.post(f"/v2/{web}/blobs/uploads/?digest-algorithm=crc32")
    assert (answer.status_code, refusal(answer)["code"]) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("way", ["post", "put", "patch", "patch of a stream"])
async def test_a_blob_of_no_bytes(door: Door, web: str, way: str) -> None:
    if way == "post":
        assert (await door.push_blob(web, b"")).status_code == 201
    else:
        location = await door.begin_upload(web)
        if way.startswith("patch"):
            answer = await door.patch(location, content=streamed() if "stream" in way else b"")
            assert (answer.status_code, answer.headers["range"]) == (202, "0-0")
        await finish(door, location, digest=digest_of(b""))
    assert await is_here(door, web, b"")


async def test_closing_again_is_a_success_again(door: Door, web: str) -> None:
    """A client whose answer was lost repeats the request."""
    location = await door.begin_upload(web)
    await finish(door, location, CONTENT)
    await finish(door, location, CONTENT)
    answer = await door.put(location, params={"digest": OTHER})
    assert (answer.status_code, refusal(answer)["code"]) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_of_many_who_move_one_upload_one_wins(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    statuses: list[int] = []

    async def send() -> None:
        answer = await door.patch(location, content=streamed(CONTENT), headers=ranged(0, 2047))
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(send)
    assert sorted(statuses) == [202] + [416] * 5
    await finish(door, location)
    assert await is_here(door, web)


async def test_many_close_one_upload(door: Door, web: str) -> None:
    location = await door.begin_upload(web)
    await door.patch(location, content=CONTENT)
    statuses: set[int] = set()

    async def close() -> None:
        statuses.add((await door.put(location, params={"digest": digest_of(CONTENT)})).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(close)
    assert statuses <= {201, 416}
    assert 201 in statuses
    assert await is_here(door, web)


async def test_an_upload_that_is_none_is_404(door: Door, web: str) -> None:
    await door.begin_upload(web)
    for upload in ("018f2f4e-0000-7000-8000-000000000000", "1", "%2e%2e", "%00", "%F0%9F%90%B3", "x" * 3000):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            query = {"digest": OTHER} if method == "PUT" else {}
            answer = await door.request(method, f"/v2/{web}/blobs/uploads/{upload}", params=query)
            assert (answer.status_code, refusal(answer)["code"]) == (404, "BLOB_UPLOAD_UNKNOWN"), (method, upload)


async def test_an_id_in_other_letters_is_answered_in_ours(door: Door, web: str) -> None:
    """Python reads digits of all scripts; a header holds only some."""
    location = await door.begin_upload(web)
    start, _, upload = location.rpartition("/")
    foreign = upload.translate({ord(digit): chr(ord("０") + int(digit)) for digit in "0123456789"})
    answer = await door.get(f"{start}/{foreign}")
    assert answer.status_code == 204
    assert answer.headers["location"] == location


async def test_an_upload_belongs_to_its_repository_and_user(
    door: Door, tidewaiter: Server, acme: Tenant, web: str
) -> None:
    location = await door.begin_upload(web)
    await door.begin_upload(f"{web}/else")
    writer = await world.user(acme, web.partition("/")[2], level="WRITE")
    elsewhere = location.replace(web, f"{web}/else")
    assert (await door.get(elsewhere)).status_code == 404
    async with knocking(tidewaiter, writer) as colleague:
        for method in ("GET", "PATCH", "DELETE"):
            assert (await colleague.request(method, location)).status_code == 404
    assert (await door.get(location)).status_code == 204


async def test_larger_than_any_blob_may_be(door: Door, tidewaiter: Server, web: str) -> None:
    """Refused before a byte has moved, and for good: 413 would make docker push again."""
    first, second = await door.begin_upload(web), await door.begin_upload(web)
    scope = {"scope": f"repository:{web}:pull,push"}
    token = (await door.get("/token", params=scope)).json()["token"]
    for line in (f"POST /v2/{web}/blobs/uploads/?digest={OTHER}", f"PATCH {first}", f"PUT {second}?digest={OTHER}"):
        head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Length: {2**62}\r\nExpect: 100-continue\r\n\r\n"
        async with hanging_up(tidewaiter, head.encode()) as connection:
            with anyio.fail_after(10):
                answer = await connection.receive()
                while b"}" not in answer:
                    answer += await connection.receive()
        assert answer.startswith(b"HTTP/1.1 403 "), answer
        assert b'"code":"BLOB_TOO_LARGE"' in answer
