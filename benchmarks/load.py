"""A client that costs little itself: one connection, requests one after the other, nothing parsed but the length."""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from benchmarks.servers import Target

PIECE = 1024 * 1024
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Connection:
    def __init__(self, target: Target) -> None:
        self._target = target

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._target.port, limit=4 * PIECE)
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._writer.close()

    async def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream"
    ) -> dict[str, str]:
        """The headers of the answer, whose body is read and dropped. Raises `RuntimeError` for a refusal."""
        lines = (
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self._target.port}",
            f"Authorization: {self._target.authorization}",
            f"Accept: {MANIFEST}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
        )
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        await self._drop(0 if method == "HEAD" else int(headers.get("content-length", 0)))
        if int(status.split()[1]) >= 400:
            raise RuntimeError(f"{self._target.name}: {method} {path}: {status}")
        return headers

    async def push_blob(self, repository: str, content: bytes) -> str:
        """Asked for a place, then sent in one piece, as clients do; returns the digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = (await self.ask("POST", f"/v2/{repository}/blobs/uploads/"))["location"]
        path = place.partition(f":{self._target.port}")[2] or place
        await self.ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", content)
        return digest

    async def _drop(self, length: int) -> None:
        while length:
            length -= len(await self._reader.read(min(length, PIECE)))


async def together(target: Target, connections: int, act: Callable[[Connection], Awaitable[object]]) -> None:
    """The same on so many connections at once."""

    async def one() -> None:
        async with Connection(target) as connection:
            await act(connection)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(one())


def fresh(size: int) -> bytes:
    """Bytes that no server has seen yet."""
    return os.urandom(32) + bytes(size - 32)


async def push_image(connection: Connection, repository: str, layer: bytes, tag: str) -> str:
    """The digest of the layer."""
    parts = {"config": b"{}", "layer": layer}
    digests = {name: await connection.push_blob(repository, content) for name, content in parts.items()}
    described = {name: {"digest": digests[name], "size": len(parts[name])} for name in parts}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **described["config"]},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **described["layer"]}],
    }
    await connection.ask("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)
    return digests["layer"]
