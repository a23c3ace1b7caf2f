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

import httpx2

from tests.support.images import CONFIG, LAYER, MANIFEST
from tests.support.server import Server
from tests.support.world import Person


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(config: bytes, *layers: bytes) -> bytes:
    def described(media_type: str, content: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(LAYER, layer) for layer in layers],
    }
    return json.dumps(whole).encode()


class Door(httpx2.AsyncClient):
    """Answers are given as they come; nothing is raised for a refusal."""

    async def push_blob(self, repository: str, content: bytes) -> httpx2.Response:
        """In one request, announced."""
        address = f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}"
        return await self.post(address, content=content)

    async def push_manifest(self, repository: str, reference: str, manifest: bytes) -> httpx2.Response:
        address = f"/v2/{repository}/manifests/{reference}"
        return await self.put(address, content=manifest, headers={"Content-Type": MANIFEST})

    async def push_image(self, repository: str, tag: str, *layers: bytes) -> bytes:
        """All of an image, whose config is `{}`; returns its manifest."""
        for blob in (b"{}", *layers):
            answer = await self.push_blob(repository, blob)
            assert answer.status_code == 201, answer.text
        manifest = manifest_of(b"{}", *layers)
        answer = await self.push_manifest(repository, tag, manifest)
        assert answer.status_code == 201, answer.text
        return manifest

    async def mount(self, repository: str, digest: str, source: str) -> httpx2.Response:
        return await self.post(f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}")


@asynccontextmanager
async def knocking(tidewaiter: Server, person: Person | None = None) -> AsyncIterator[Door]:
    """Without a person, nobody has signed in."""
    signed_in = (person.name, person.password) if person else None
    limits = httpx2.Limits(max_connections=200)
    async with Door(base_url=tidewaiter.url, auth=signed_in, timeout=30, limits=limits) as door:
        yield door
