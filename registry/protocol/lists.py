"""GET of what is there: the base, tags, referrers, the catalog."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.responses import Response

from registry.access import finding
from registry.deciding import PlaceNotFound
from registry.errors import SignInNeeded
from registry.events import Event
from registry.oci.digest import parse_digest
from registry.oci.media_types import OCI_INDEX
from registry.protocol.calls import Call
from registry.protocol.errors import PageInvalid
from registry.repositories import listing
from registry.repositories.listing import Page

MOST_TAGS = 1000
MOST_REFERRERS = 200


async def base(call: Call) -> Response:
    """The door itself. Who sent nothing is asked to sign in: that is how a client learns where tokens come from."""
    _ask_who(call)
    async with call.glance() as work:
        await finding.platform(work)
    return _json({})


async def tags(call: Call) -> Response:
    limit = _limit(call, MOST_TAGS)
    async with call.glance() as work:
        place = await finding.repository(work, *call.spot)
        work.require("pull", place)
        page = await listing.tags(work, place, call.query("last") or "", limit) if limit else Page([], False)
        looked = work.look("tag.list", place)
    await _record(call, looked)
    return _json({"name": call.name, "tags": page.items}, _next(call, page, limit, page.items))


async def catalog(call: Call) -> Response:
    """All that the caller may see; asked first who that is, since without a challenge no client would say."""
    _ask_who(call)
    limit = _limit(call, MOST_TAGS)
    async with call.glance() as work:
        everywhere = await finding.platform(work)
        page = await listing.catalog(work, call.query("last") or "", limit) if limit else Page([], False)
        looked = work.look("repository.list", everywhere)
    await _record(call, looked)
    return _json({"repositories": page.items}, _next(call, page, limit, page.items))


async def referrers(call: Call) -> Response:
    """An image index of what refers to a digest; empty for a digest nobody knows, and never 404 (spec, "Listing
    Referrers")."""
    subject, kind = parse_digest(call.reference), call.query("artifactType") or None
    looked = None
    async with call.glance() as work:
        place = await finding.repository(work, *call.spot)
        try:
            work.require("pull", place)
        except PlaceNotFound as refusal:
            if call.actor.anonymous:
                raise
            await work.refused(refusal)
            page = Page([], False)
        else:
            page = await listing.referrers(work, place, subject, kind, call.query("last") or "", MOST_REFERRERS)
            looked = work.look("referrer.list", place, f"{place.name}@{subject}", subject)
    if looked is not None:
        await _record(call, looked)
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_descriptor(row) for row in page.items],
    }
    headers = _next(call, page, None, [row["digest"] for row in page.items])
    if kind:
        headers["OCI-Filters-Applied"] = "artifactType"
    return _json(index, headers, OCI_INDEX)


async def _record(call: Call, looked: Event) -> None:
    """Before the answer leaves. Raises `LogUnavailable`."""
    if call.foundation.settings.audit_reads == "all":
        await call.foundation.ledger.append(looked)


def _ask_who(call: Call) -> None:
    if call.actor.anonymous and call.actor.scopes is None:
        raise SignInNeeded("Sign in, or fetch an anonymous token for what is public.")


def _descriptor(row: Mapping[str, Any]) -> dict[str, Any]:
    descriptor = {"mediaType": row["media_type"], "digest": row["digest"], "size": row["size"]}
    if row["artifact_type"]:
        descriptor["artifactType"] = row["artifact_type"]
    if row["annotations"]:
        descriptor["annotations"] = row["annotations"]
    return descriptor


def _limit(call: Call, most: int) -> int:
    """How many items a page may hold. Raises `PageInvalid`."""
    value = call.query("n")
    if value is None:
        return most
    if not (value.isascii() and value.isdigit()):
        raise PageInvalid(f"n must be a whole number from 0; this is '{value[:20]}'.")
    return min(int(value[:9]), most)


def _next(call: Call, page: Page, limit: int | None, names: list[str]) -> dict[str, str]:
    """The Link to the next page (RFC 8288), relative to this registry."""
    if not page.more:
        return {}
    query = {name: value for name, value in call.request.query_params.items() if name not in {"last", "n"}}
    query |= {"last": names[-1]} | ({"n": str(limit)} if limit is not None else {})
    return {"Link": f'<{call.request.url.path}?{urlencode(query)}>; rel="next"'}


def _json(content: Any, headers: Mapping[str, str] | None = None, media_type: str = "application/json") -> Response:
    return Response(orjson.dumps(content), headers=headers, media_type=media_type)
