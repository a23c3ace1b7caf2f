"""Blobs: read whole and in parts, asked for, deleted."""

import pytest

from tests.support.handmade import Door, bearing, digest_of, knocking, refusal
from tests.support.server import Server
from tests.support.world import Person

CONTENT = bytes(range(256)) * 8
NOWHERE = f"sha256:{'0' * 64}"


async def pushed(door: Door, web: str, content: bytes = CONTENT) -> str:
    answer = await door.push_blob(web, content)
    assert answer.status_code == 201, answer.text
    return f"/v2/{web}/blobs/{digest_of(content)}"


async def test_a_blob_is_read_as_it_was_pushed(door: Door, web: str) -> None:
    answer = await door.get(await pushed(door, web))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["docker-content-digest"] == digest_of(CONTENT)
    assert answer.headers["etag"] == f'"{digest_of(CONTENT)}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert "immutable" in answer.headers["cache-control"]


async def test_head_says_what_get_would(door: Door, web: str) -> None:
    address = await pushed(door, web)
    head, get = await door.head(address), await door.get(address)
    assert (head.status_code, head.content) == (200, b"")
    names = ("content-length", "content-type", "docker-content-digest", "etag", "accept-ranges")
    assert [head.headers[name] for name in names] == [get.headers[name] for name in names]


async def test_content_is_never_encoded(door: Door, web: str) -> None:
    answer = await door.get(await pushed(door, web), headers={"Accept-Encoding": "gzip, zstd, br"})
    assert answer.content == CONTENT
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, 2047),
        ("bytes=-1", 2047, 2047),
        ("bytes=-5000", 0, 2047),
        ("bytes=2000-99999999999999999999", 2000, 2047),
    ],
)
async def test_a_part_is_206(door: Door, web: str, asked: str, start: int, end: int) -> None:
    answer = await door.get(await pushed(door, web), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CONTENT[start : end + 1])
    assert answer.headers["content-range"] == f"bytes {start}-{end}/2048"
    assert answer.headers["content-length"] == str(end - start + 1)


@pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=9-3", "bytes=-0", f"bytes={'9' * 20}-", "bytes=5000-6000"])
async def test_a_part_that_is_not_there_is_416(door: Door, web: str, asked: str) -> None:
    """And no cache may keep that for the blob."""
    answer = await door.get(await pushed(door, web), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == "bytes */2048"
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=" + ",".join(f"{n}-{n}" for n in range(500)), "lines=1-2", "bytes=-", "x"])
async def test_a_range_that_makes_no_sense_is_ignored(door: Door, web: str, asked: str) -> None:
    answer = await door.get(await pushed(door, web), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_head_ignores_ranges(door: Door, web: str) -> None:
    answer = await door.head(await pushed(door, web), headers={"Range": "bytes=9-3"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, "2048")


async def test_a_download_goes_on_where_it_broke_off(door: Door, web: str) -> None:
    content = CONTENT * 2048  # larger than what is read at once
    address = await pushed(door, web, content)
    half = len(content) // 2 + 7
    first = await door.get(address, headers={"Range": f"bytes=0-{half - 1}"})
    rest = await door.get(address, headers={"Range": f"bytes={half}-"})
    assert first.content + rest.content == content


async def test_a_blob_of_no_bytes(door: Door, web: str) -> None:
    address = await pushed(door, web, b"")
    get, head = await door.get(address), await door.head(address)
    assert (get.status_code, get.content, head.status_code) == (200, b"", 200)
    assert get.headers["content-length"] == head.headers["content-length"] == "0"
    assert (await door.get(address, headers={"Range": "bytes=0-"})).status_code == 416


async def test_the_same_bytes_under_two_algorithms_are_two_blobs(door: Door, web: str) -> None:
    await pushed(door, web)
    other = digest_of(CONTENT, "sha512")
    assert (await door.head(f"/v2/{web}/blobs/{other}")).status_code == 404
    answer = await door.post(f"/v2/{web}/blobs/uploads/?digest={other}", content=CONTENT)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == other
    read = await door.get(f"/v2/{web}/blobs/{other}")
    assert (read.content, read.headers["docker-content-digest"]) == (CONTENT, other)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_blob_that_is_not_here_is_404(door: Door, web: str, method: str) -> None:
    await pushed(door, web)
    answer = await door.request(method, f"/v2/{web}/blobs/{NOWHERE}")
    assert answer.status_code == 404
    if method != "HEAD":
        assert refusal(answer)["code"] == "BLOB_UNKNOWN"
        assert NOWHERE in refusal(answer)["message"]


NO_DIGESTS = (
    *("sha256:abc", f"sha256:{'A' * 64}", f"sha256:{'0' * 65}", f"md5:{'0' * 32}"),
    *("latest", "%00", "sha256:%E4%BD%A0", f"sha256:{'%D9%A3' * 64}"),
)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_digest_that_is_none_is_400(door: Door, web: str, method: str) -> None:
    for digest in NO_DIGESTS:
        answer = await door.request(method, f"/v2/{web}/blobs/{digest}")
        assert answer.status_code == 400, digest
        if method != "HEAD":
            assert refusal(answer)["code"] == "DIGEST_INVALID", digest


async def test_a_colon_may_come_percent_encoded(door: Door, web: str) -> None:
    address = await pushed(door, web)
    assert (await door.get(address.replace("sha256:", "sha256%3A"))).content == CONTENT


async def test_a_deleted_blob_is_gone_and_may_come_back(door: Door, web: str) -> None:
    address = await pushed(door, web)
    assert (await door.delete(address)).status_code == 202
    assert (await door.head(address)).status_code == 404
    assert (await door.delete(address)).status_code == 404
    assert (await door.get(await pushed(door, web))).content == CONTENT


async def test_a_blob_in_use_stays(door: Door, web: str) -> None:
    manifest = await door.push_image(web, "1.0", CONTENT)
    address = f"/v2/{web}/blobs/{digest_of(CONTENT)}"
    answer = await door.delete(address)
    assert answer.status_code == 405
    assert refusal(answer)["detail"]["code"] == "BLOB_IN_USE"
    assert digest_of(manifest) in refusal(answer)["message"]
    assert (await door.head(address)).status_code == 200


async def test_deleting_takes_more_than_reading(door: Door, tidewaiter: Server, reader: Person, web: str) -> None:
    address = await pushed(door, web)
    async with knocking(tidewaiter, reader) as lesser:
        assert (await lesser.get(address)).status_code == 200
        answer = await lesser.delete(address)
    assert (answer.status_code, refusal(answer)["code"]) == (403, "DENIED")
    assert (await door.head(address)).status_code == 200


async def test_a_token_must_be_for_deleting(door: Door, tidewaiter: Server, web: str) -> None:
    address = await pushed(door, web)
    token = (await door.get("/token", params={"scope": f"repository:{web}:pull,push"})).json()["token"]
    async with bearing(tidewaiter, token) as owner:
        assert (await owner.delete(address)).status_code == 401
    token = (await door.get("/token", params={"scope": f"repository:{web}:delete"})).json()["token"]
    async with bearing(tidewaiter, token) as owner:
        assert (await owner.delete(address)).status_code == 202
