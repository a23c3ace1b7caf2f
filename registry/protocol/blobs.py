"""GET, HEAD and DELETE of a blob.

Content behind a digest never changes, so answers may be cached for ever; ranges let a client go on where it broke off.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from registry.access import finding
from registry.events import Traffic
from registry.oci.digest import parse_digest
from registry.oci.errors import RangeInvalid
from registry.oci.ranges import parse_range
from registry.protocol.calls import Call
from registry.repositories import deleting, pulling
from registry.repositories.deleting import BlobUnknown
from registry.storage.blobs import BlobMissing


class Sending(StreamingResponse):
    """Whatever it sends from is closed with it, also when the client has gone away: not some time later."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


async def get(call: Call) -> Response:
    digest = parse_digest(call.reference)
    look = call.request.method == "HEAD"
    found = await pulling.blob(call.foundation, call.actor, call.origin, call.spot, digest, look=look)
    size = found.size
    headers = {
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Type": "application/octet-stream",
    }
    if look:
        return Response(headers=headers | {"Content-Length": str(size)})
    try:
        asked = parse_range(call.request.headers.get("range", ""), size)
    except RangeInvalid:
        # None of the others: a cache must not keep this for the blob.
        return Response(status_code=416, headers={"Accept-Ranges": "bytes", "Content-Range": f"bytes */{size}"})
    start, end = asked or (0, size - 1)
    headers["Content-Length"] = str(end - start + 1)
    if asked:
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    chunks = call.foundation.blobs.read(digest, start, end)
    try:
        first = await anext(chunks, b"")
    except BlobMissing:
        raise BlobUnknown(f"The bytes of {digest} are gone from the store; push the image again.") from None
    traffic = await pulling.begin_blob(call.foundation, call.actor, call.origin, found, end - start + 1)
    return Sending(_sent(call, traffic, first, chunks), 206 if asked else 200, headers)


async def delete(call: Call) -> Response:
    digest = parse_digest(call.reference)
    async with call.begin() as work:
        work.attempt("blob.delete", f"{call.name}@{digest}", digest=digest)
        place = await finding.repository(work, *call.spot)
        await deleting.delete_blob(work, place, digest)
    return Response(status_code=202)


async def _sent(call: Call, traffic: Traffic, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk is read before the headers leave, so that a lost file is still an error and not a broken body.
    Bytes that a client did not wait for are taken back from the month's traffic."""
    sent = 0
    try:
        if first:
            yield first
            sent += len(first)
        async for chunk in rest:
            yield chunk
            sent += len(chunk)
    finally:
        if sent < traffic.bytes:
            pulling.end_blob(call.foundation, traffic, traffic.bytes - sent)
