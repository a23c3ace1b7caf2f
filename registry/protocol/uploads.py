"""POST, PATCH, PUT, GET and DELETE of an upload, and mounting what another repository holds.

Where an upload stands is known to the server alone; a Location carries nothing but its id.
"""

from functools import partial
from uuid import UUID

from starlette.responses import Response

from registry import deciding
from registry.access import finding
from registry.deciding import ScopeMissing
from registry.errors import Refusal
from registry.oci.digest import Digest, hasher, parse_digest
from registry.oci.errors import DigestInvalid, SizeInvalid
from registry.oci.ranges import parse_content_range
from registry.oci.reference import check_repository_path
from registry.protocol.calls import Call
from registry.repositories import creating, listing, uploading
from registry.repositories.receiving import Incoming, Receiver
from registry.repositories.waiting import when_there_is_room
from registry.work import Work


async def post(call: Call) -> Response:
    """A new upload, a mount, or the whole blob at once."""
    if (mounted := call.query("mount")) is not None:
        digest = parse_digest(mounted)
        if await _mount(call, digest):
            return _created(call, digest)
    digests = call.request.query_params.getlist("digest")
    algorithm = call.query("digest-algorithm") or "sha256"
    hasher(algorithm)
    whole = _one_digest(digests) if digests else None

    async def start(work: Work) -> UUID:
        work.attempt("image.push", call.name)
        place = await creating.ensure(work, *call.spot)
        return await uploading.start(work, place, call.length if whole else None, algorithm)

    upload = await when_there_is_room(call.promise, start)
    if whole is None:
        return _accepted(call, upload, 0)
    await _receiver(call).store(_incoming(call, upload), whole)
    return _created(call, whole)


async def patch(call: Call) -> Response:
    upload = _upload(call)
    received = await _receiver(call).append(_incoming(call, upload))
    return _accepted(call, upload, received)


async def put(call: Call) -> Response:
    upload = _upload(call)
    digest = _one_digest(call.request.query_params.getlist("digest"))
    await _receiver(call).close(_incoming(call, upload), digest)
    return _created(call, digest)


async def get(call: Call) -> Response:
    upload = _upload(call)
    async with call.glance() as work:
        place = await finding.repository(work, *call.spot)
        work.require("push", place)
        received = await uploading.progress(work, place, upload)
    return Response(status_code=204, headers=state(call, received))


async def delete(call: Call) -> Response:
    upload = _upload(call)
    async with call.promise() as work:
        place = await finding.repository(work, *call.spot)
        work.require("push", place)
        await uploading.cancel(work, place, upload)
    await call.foundation.blobs.discard_upload(upload)
    return Response(status_code=204)


def state(call: Call, received: int) -> dict[str, str]:
    """Where the upload stands. An empty one says 0-0, as docker expects."""
    return _headers(call, str(_upload(call)), received)


async def _mount(call: Call, digest: Digest) -> bool:
    """Links the blob if the caller may read it somewhere; whatever speaks against it looks like an absent blob.

    Raises `ScopeMissing` where nothing but the token speaks against it.
    """
    return await when_there_is_room(call.begin, partial(_mount_from_anywhere, call, digest))


async def _mount_from_anywhere(call: Call, digest: Digest, work: Work) -> bool:
    beyond: ScopeMissing | None = None
    work.attempt("image.push", call.name)
    target = await creating.ensure(work, *call.spot)
    for organization, repository in await _sources(call, work, digest):
        source = await finding.repository(work, organization, repository)
        try:
            deciding.decide(work.law, work.actor, "pull", source)
        except ScopeMissing as refusal:
            beyond = beyond or refusal
        except Refusal:
            continue
        else:
            if await uploading.mount(work, source, target, digest):
                return True
    if beyond:
        raise beyond
    return False


async def _sources(call: Call, work: Work, digest: Digest) -> list[tuple[str, str]]:
    said = call.query("from")
    if said is None:
        return await listing.holders(work, digest)
    try:
        return [check_repository_path(said)]
    except Refusal:
        return []


def _receiver(call: Call) -> Receiver:
    return Receiver(call.foundation, call.actor, call.origin)


def _incoming(call: Call, upload: UUID) -> Incoming:
    """A Content-Range says where a chunk begins, and how long it is where nothing else does. Raises `RangeInvalid`, and
    `SizeInvalid` when it contradicts the Content-Length."""
    header = call.request.headers.get("content-range")
    if header is None:
        return Incoming(*call.spot, upload, call.chunks(), None, call.length)
    start, end = parse_content_range(header)
    length = end - start + 1
    if call.length not in {None, length}:
        raise SizeInvalid(f"Content-Range speaks of {length} bytes, Content-Length of {call.length}; send them alike.")
    return Incoming(*call.spot, upload, call.chunks(), start, length)


def _upload(call: Call) -> UUID:
    try:
        return UUID(call.reference)
    except ValueError:
        raise uploading.unknown() from None


def _one_digest(values: list[str]) -> Digest:
    if len(values) != 1:
        raise DigestInvalid("The digest of the blob must be given exactly once, as ?digest=sha256:…")
    return parse_digest(values[0])


def _accepted(call: Call, upload: UUID, received: int) -> Response:
    return Response(status_code=202, headers=_headers(call, str(upload), received))


def _created(call: Call, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{call.name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)


def _headers(call: Call, upload: str, received: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{call.name}/blobs/uploads/{upload}",
        "Range": f"0-{max(received - 1, 0)}",
        "Docker-Upload-UUID": upload,
    }
