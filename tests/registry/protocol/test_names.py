"""Names and headers from strangers: refused in so many words or taken, and never a server error."""

import re

import pytest

from tests.support.handmade import Door, digest_of, knocking, refusal, spoken
from tests.support.server import Server
from tests.support.world import Tenant

BAD = {
    "upper case": "{org}/Web",
    "one part": "{org}",
    "a part of dots": "{org}/%2e%2e/web",
    "an encoded slash": "{org}%2fweb",
    "an encoded letter": "{org}/%77eb",
    "a backslash": "{org}/a%5Cb",
    "a NUL": "{org}/a%00b",
    "a line end": "{org}/a%0d%0ab",
    "two slashes": "{org}//web",
    "a slash in front": "/{org}/web",
    "a slash behind": "{org}/web/",
    "look-alike letters": "{org}/w%D0%B5b",
    "other letters": "{org}/%E4%BD%A0%E5%A5%BD",
    "no UTF-8": "{org}/%ff%fe",
    "three underscores": "{org}/a___b",
    "two dots": "{org}/a..b",
    "a separator in front": "{org}/-web",
    "a separator behind": "{org}/web_",
    "300 letters": "{org}/" + "a" * 300,
    "150 parts": "{org}" + "/a" * 150,
    "a space": "{org}/a%20b",
    "a quote": "{org}/a%22b",
    "a percent sign": "{org}/a%25b",
    "a semicolon": "{org}/a;b",
    "a statement": "{org}/a'%3b%20DROP%20TABLE%20tag%3b--",
}
REQUESTS = [
    ("GET", "tags/list"),
    ("GET", "manifests/1.0"),
    ("POST", "blobs/uploads/"),
    ("GET", f"blobs/{digest_of(b'')}"),
]


@pytest.mark.parametrize(("method", "address"), REQUESTS)
async def test_what_is_no_name_is_400(door: Door, acme: Tenant, method: str, address: str) -> None:
    for case, name in BAD.items():
        answer = await door.request(method, f"/v2/{name.format(org=acme.organization)}/{address}")
        assert (answer.status_code, refusal(answer)["code"]) == (400, "NAME_INVALID"), case
        assert answer.text.isascii(), case


async def test_dots_in_a_path_lead_nowhere(tidewaiter: Server, door: Door, acme: Tenant, web: str) -> None:
    """As sent, not as a client library would tidy it up first."""
    token = (await door.get("/token", params={"scope": f"repository:{web}:pull"})).json()["token"]
    for path in ("/v2/../../etc/passwd", f"/v2/{web}/../../{web}/tags/list", "/v2/./_catalog", f"/v2/{web}/blobs/../x"):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        answer = await spoken(tidewaiter, head.encode())
        assert re.match(rb"HTTP/1.1 40[04] ", answer), answer


@pytest.mark.parametrize(
    "name",
    ["blobs", "manifests", "uploads", "tags/list", "blobs/uploads", "_catalog", "index.json", "manifests/manifests"],
)
async def test_words_of_the_protocol_are_names_too(door: Door, web: str, name: str) -> None:
    full = f"{web}/{name}"
    if name.startswith("_"):
        assert refusal(await door.get(f"/v2/{full}/tags/list"))["code"] == "NAME_INVALID"
        return
    image = await door.push_image(full, "list", b"a layer")
    assert (await door.get(f"/v2/{full}/manifests/list")).content == image
    assert (await door.get(f"/v2/{full}/tags/list")).json() == {"name": full, "tags": ["list"]}
    assert (await door.get(f"/v2/{full}/blobs/{digest_of(b'a layer')}")).content == b"a layer"
    location = await door.begin_upload(full)
    assert (await door.get(location)).status_code == 204


@pytest.mark.parametrize("name", ["a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c/d/e", "a" * 119])
async def test_what_is_a_name_works(door: Door, web: str, name: str) -> None:
    full = f"{web}/{name}"[: web.index("/") + 129]
    assert (await door.push_blob(full, b"x")).status_code == 201


async def test_a_name_too_long_to_be_made_is_400(door: Door, acme: Tenant) -> None:
    answer = await door.post(f"/v2/{acme.organization}/{'a' * 129}/blobs/uploads/")
    assert (answer.status_code, refusal(answer)["code"]) == (400, "NAME_INVALID")
    assert "at most 128" in refusal(answer)["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": b"\xff\xfe<script>\x01"},
        {"User-Agent": b"x" * 20_000},
        {"Accept": b"," * 5000},
        {"Accept": b"\xff/\xff"},
        {"If-None-Match": b'"' * 5000},
        {"Range": b"bytes=" + b"9" * 20_000 + b"-"},
        {"Authorization": b"Bearer " + b"a." * 20_000},
        {"Authorization": b"Bearer \xff.\xff.\xff"},
        {"Authorization": b"Basic " + b"QQ==" * 10_000},
        {"Authorization": b"Basic \xe9"},
        {"X-Request-Id": b"\xff" * 300},
        {"X-Forwarded-For": b"1.2.3.4," * 1000},
        {"Content-Range": b"\xb2-\xb3"},
        {"Content-Type": b"\xff"},
    ],
)
async def test_headers_from_strangers_are_no_server_error(
    door: Door, tidewaiter: Server, web: str, headers: dict[str, bytes]
) -> None:
    image = await door.push_image(web, "1.0", b"a layer")
    async with knocking(tidewaiter) as nobody:
        caller = nobody if "Authorization" in headers else door
        for method, address in (
            ("GET", "manifests/1.0"),
            ("PUT", "manifests/1.0"),
            ("GET", f"blobs/{digest_of(b'a layer')}"),
            ("POST", "blobs/uploads/"),
        ):
            body = image if method == "PUT" else b""
            answer = await caller.request(method, f"/v2/{web}/{address}", headers=headers, content=body)
            assert answer.status_code < 500, answer.text
        assert (await caller.get("/token", headers=headers)).status_code < 500


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: \xb2",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, x",
        b"Content-Length: +5",
    ],
)
async def test_a_length_that_is_none_is_no_server_error(
    door: Door, tidewaiter: Server, web: str, lengths: bytes
) -> None:
    location = await door.begin_upload(web)
    token = (await door.get("/token", params={"scope": f"repository:{web}:pull,push"})).json()["token"]
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n".encode()
    answer = await spoken(tidewaiter, head + lengths + b"\r\n\r\nzz\r\n\r\n")
    assert re.match(rb"HTTP/1.1 4[0-9][0-9] ", answer), answer
    assert (await door.get(location)).headers["range"] == "0-0"
