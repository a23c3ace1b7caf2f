"""Checkpoints in an object store, which here is a small one of our own that speaks what such stores speak."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from registry.audit.anchors import AnchorFailed
from registry.audit.object_anchor import Bucket, ObjectAnchor, signed

ADDRESS = "s3://proofs/tide?endpoint=http://127.0.0.1:{port}&region=eu-1"


class Store(BaseHTTPRequestHandler):
    objects: dict[str, bytes]
    broken = False

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.broken or "Credential=key/" not in self.headers["Authorization"]:
            self.answer(403)
        elif self.path in self.objects and self.headers["If-None-Match"] == "*":
            self.answer(412)
        else:
            self.objects[self.path] = body
            self.answer(200)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "list-type" in query:
            start = query.get("continuation-token", [""])[0]
            names = [name.removeprefix("/proofs/") for name in sorted(self.objects)]
            found = [name for name in names if name.startswith(query["prefix"][0]) and name > start]
            page = found[: min(2, int(query["max-keys"][0]))]
            more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(page) < len(found) else ""
            self.answer(200, ("".join(f"<Key>{name}</Key>" for name in page) + more).encode())
        else:
            self.answer(200, self.objects[parts.path]) if parts.path in self.objects else self.answer(404)


@pytest.fixture
def store() -> Iterator[tuple[type[Store], str]]:
    handler = type("OneStore", (Store,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, ADDRESS.format(port=server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def note(size: int, signature: str = "one") -> str:
    return f"log.example/audit/1\n{size}\nroot{size}\n\n{signature}\n"


async def test_the_newest_is_the_largest_and_all_can_be_read(store: tuple[type[Store], str]) -> None:
    anchor = ObjectAnchor(Bucket.parse(store[1], "key", "secret"))
    assert await anchor.newest() is None
    for size in (1, 9, 10, 12_345):
        await anchor.put(note(size))
        assert await anchor.newest() == note(size)
    assert [one async for one in anchor.all()] == [note(size) for size in (12_345, 10, 9, 1)]


async def test_nothing_is_overwritten(store: tuple[type[Store], str]) -> None:
    anchor = ObjectAnchor(Bucket.parse(store[1], "key", "secret"))
    await anchor.put(note(5))
    await anchor.put(note(5))
    await anchor.put(note(5, "another key"))
    assert await anchor.newest() == note(5)
    with pytest.raises(AnchorFailed, match="another checkpoint of the same size"):
        await anchor.put(note(5).replace("root5", "root6"))


async def test_a_store_that_refuses_or_is_gone_says_so(store: tuple[type[Store], str]) -> None:
    anchor = ObjectAnchor(Bucket.parse(store[1], "stranger", "secret"))
    with pytest.raises(AnchorFailed, match="answers 403 to PUT"):
        await anchor.put(note(1))
    gone = ObjectAnchor(Bucket.parse("s3://b?endpoint=http://127.0.0.1:1", "key", "secret"))
    with pytest.raises(AnchorFailed, match="cannot be reached"):
        await gone.newest()


def test_requests_are_signed_as_the_documentation_of_s3_shows() -> None:
    """Its example "GET Bucket (List Objects)" of Signature Version 4."""
    bucket = Bucket("", "", "", "us-east-1", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    moment = datetime(2013, 5, 24, tzinfo=UTC)
    url = "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"
    told = signed(bucket, "GET", url, b"", moment)["authorization"]
    assert told.endswith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
