"""Pushes and pulls by hand, request by request, for tests that look at single answers.

async with knocking(tidewaiter, acme.owner) as door:
    await door.push_image("acme/web", "1.0", b"a layer")
    pulled = await door.get("/v2/acme/web/manifests/1.0")
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
from anyio.abc import ByteStream

from tests.support.images import CONFIG, LAYER, MANIFEST
from tests.support.server import Server
from tests.support.world import Person

LIMITS = httpx2.Limits(max_connections=200)
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def described(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    """A descriptor."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def manifest_of(config: bytes, /, *layers: bytes, **more: Any) -> bytes:
    """`more` replaces fields, or adds them."""
    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(LAYER, layer) for layer in layers],
    }
    return json.dumps(whole | more).encode()


def index_of(*children: bytes, **more: Any) -> bytes:
    """An index of manifests."""
    described_children = [described(MANIFEST, child) for child in children]
    whole = {"schemaVersion": 2, "mediaType": INDEX, "manifests": described_children}
    return json.dumps(whole | more).encode()


def refusal(answer: httpx2.Response) -> dict[str, Any]:
    """The one error of an answer, in the form that the distribution spec gives it ("Error Codes")."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    body = answer.json()
    assert set(body) == {"errors"}
    (error,) = body["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert error["detail"]["requestId"] == answer.headers["x-request-id"]
    return dict(error)


class Door(httpx2.AsyncClient):
    """Answers are given as they come; nothing is raised for a refusal."""

    async def push_blob(self, repository: str, content: bytes) -> httpx2.Response:
        """In one request, announced."""
        address = f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}"
        return await self.post(address, content=content)

    async def push_manifest(
        self, repository: str, reference: str, manifest: bytes, media_type: str = MANIFEST
    ) -> httpx2.Response:
        address = f"/v2/{repository}/manifests/{reference}"
        return await self.put(address, content=manifest, headers={"Content-Type": media_type})

    async def push_image(self, repository: str, tag: str, *layers: bytes) -> bytes:
        """All of an image, whose config is `{}`; returns its manifest."""
        for blob in (b"{}", *layers):
            answer = await self.push_blob(repository, blob)
            assert answer.status_code == 201, answer.text
        manifest = manifest_of(b"{}", *layers)
        answer = await self.push_manifest(repository, tag, manifest)
        assert answer.status_code == 201, answer.text
        return manifest

    async def begin_upload(self, repository: str) -> str:
        """The address of a new upload."""
        answer = await self.post(f"/v2/{repository}/blobs/uploads/")
        assert answer.status_code == 202, answer.text
        location: str = answer.headers["location"]
        return location

    async def mount(self, repository: str, digest: str, source: str) -> httpx2.Response:
        return await self.post(f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}")


@asynccontextmanager
async def knocking(tidewaiter: Server, person: Person | None = None) -> AsyncIterator[Door]:
    """Without a person, nobody has signed in."""
    signed_in = (person.name, person.password) if person else None
    async with Door(base_url=tidewaiter.url, auth=signed_in, timeout=30, limits=LIMITS, verify=False) as door:
        yield door


@asynccontextmanager
async def bearing(
    tidewaiter: Server, token: str | None = None, *, person: Person | None = None, scope: str = ""
) -> AsyncIterator[Door]:
    """With a registry token: this one, or one that the person (or nobody) fetches for the scope."""
    if token is None:
        async with knocking(tidewaiter, person) as door:
            token = (await door.get("/token", params={"scope": scope})).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with Door(base_url=tidewaiter.url, headers=headers, timeout=30, limits=LIMITS, verify=False) as door:
        yield door


async def spoken(tidewaiter: Server, request: bytes) -> bytes:
    """What is answered to these very bytes, until the server hangs up; for what no client library would send."""
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", tidewaiter.port) as connection:
        with anyio.fail_after(10):
            await connection.send(request)
            async for part in connection:
                answer += part
    return answer


@asynccontextmanager
async def hanging_up(tidewaiter: Server, request: bytes) -> AsyncIterator[ByteStream]:
    """Sends the bytes, and cuts the connection when the block is left."""
    async with await anyio.connect_tcp("127.0.0.1", tidewaiter.port) as connection:
        await connection.send(request)
        yield connection
