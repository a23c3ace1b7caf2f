"""GET, HEAD, PUT and DELETE of a manifest, by tag or digest.

A GET is a pull and is on the books before its first byte leaves; a PUT is a push, and its answer follows the commit.
"""

from functools import partial

from starlette.responses import Response

from registry.access import finding
from registry.oci import manifest as oci_manifest
from registry.oci.digest import looks_like_digest, parse_digest
from registry.oci.reference import check_tag
from registry.protocol.calls import Call
from registry.protocol.errors import ManifestTooLarge
from registry.repositories import deleting, pulling, pushing, tagging
from registry.repositories.pulling import Pulled
from registry.repositories.pushing import Sent
from registry.repositories.waiting import when_there_is_room


async def get(call: Call) -> Response:
    reference = _checked(call.reference)
    accept = call.request.headers.getlist("accept")
    matches = call.request.headers.get("if-none-match", "")
    head = call.request.method == "HEAD"
    known = partial(_matches, matches)
    found = await pulling.manifest(
        call.foundation, call.actor, call.origin, call.spot, reference, accept, known, look=head
    )
    if known(found.digest):
        return Response(status_code=304, headers=_headers(found))
    headers = _headers(found) | {"Content-Length": str(len(found.body))}
    return Response(b"" if head else found.body, headers=headers)


async def put(call: Call) -> Response:
    tags = call.request.query_params.getlist("tag")
    async with call.begin() as work:
        pushing.announce(work, *call.spot, call.reference)
        sent = Sent(call.reference, await _body(call), call.request.headers.get("content-type"), tags)
    pushed = await when_there_is_room(call.begin, lambda work: pushing.push(work, *call.spot, sent))
    location = f"/v2/{call.name}/manifests/{pushed.digest}"
    headers = {"Location": location, "Docker-Content-Digest": pushed.digest}
    if pushed.subject:
        headers["OCI-Subject"] = pushed.subject
    response = Response(status_code=201, headers=headers)
    if looks_like_digest(call.reference):
        for tag in pushed.tags:
            response.headers.append("OCI-Tag", tag)
    return response


async def delete(call: Call) -> Response:
    reference = _checked(call.reference)
    async with call.begin() as work:
        work.attempt("image.delete", f"{call.name}:{reference}")
        place = await finding.repository(work, *call.spot)
        if looks_like_digest(reference):
            await deleting.delete_manifest(work, place, parse_digest(reference))
        else:
            await tagging.untag(work, place, reference)
    return Response(status_code=202)


async def _body(call: Call) -> bytes:
    """The whole body, refused as soon as it is known to be too large."""
    limit = oci_manifest.MAX_BYTES
    parts: list[bytes] = []
    size = call.length or 0
    if size <= limit:
        size = 0
        async for chunk in call.chunks():
            size += len(chunk)
            if size > limit:
                break
            parts.append(chunk)
    if size > limit:
        raise ManifestTooLarge(f"A manifest may have at most {limit} bytes.", limit=limit, requested=size)
    return b"".join(parts)


def _checked(reference: str) -> str:
    return parse_digest(reference) if looks_like_digest(reference) else check_tag(reference)


def _headers(found: Pulled) -> dict[str, str]:
    return {
        "Content-Type": found.media_type,
        "Docker-Content-Digest": found.digest,
        "ETag": f'"{found.digest}"',
    }


def _matches(header: str, digest: str) -> bool:
    """RFC 9110, 13.1.2: weak comparison, a list, or any."""
    tags = {part.strip().removeprefix("W/").strip('"') for part in header.split(",")}
    return digest in tags or "*" in tags
