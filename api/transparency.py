"""/audit/…: checkpoints, tiles and keys for those who check the log from outside.

Whatever is served has either no end (the newest checkpoint) or never changes (a tile), and says so to caches.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from api.answering import id_of, refused
from registry.access import finding
from registry.accounts import signing_in
from registry.actors import ANONYMOUS, Actor
from registry.audit import serving
from registry.errors import NotFound, Refusal, SignInNeeded
from registry.protocol.calls import origin_of
from registry.system import System
from registry.transparency.tiles import ENTRIES, WIDTH, Tile

FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
ANEW = {"Cache-Control": "no-cache"}
FOR_AUDITORS = {"Cache-Control": "private, no-store"}


def transparency_routes(system: System) -> list[Route]:
    pages = Transparency(system)
    return [
        Route("/audit/checkpoint", pages.checkpoint, methods=["GET"]),
        Route("/audit/key", pages.key, methods=["GET"]),
        Route("/audit/{path:path}", pages.tile, methods=["GET"]),
    ]


class Transparency:
    def __init__(self, system: System) -> None:
        self._system = system

    async def checkpoint(self, request: Request) -> Response:
        _route(request, "/audit/checkpoint")
        try:
            async with self._system.foundation.glance(ANONYMOUS, origin_of(request)) as work:
                return PlainTextResponse(await serving.checkpoint(work.fetch), headers=ANEW)
        except Refusal as refusal:
            return _refused(request, refusal)

    async def key(self, request: Request) -> Response:
        """The keys that sign at present, the newest first."""
        _route(request, "/audit/key")
        signers = self._system.sequencer.publisher.signers
        return PlainTextResponse("".join(f"{signer.verifier}\n" for signer in signers), headers=ANEW)

    async def tile(self, request: Request) -> Response:
        _route(request, "/audit/tile/…")
        try:
            wanted = serving.tile_of(request.path_params["path"])
            if wanted.level == ENTRIES:
                return _bytes(await self._bundle(request, wanted), FOR_AUDITORS)
            async with self._system.foundation.glance(ANONYMOUS, origin_of(request)) as work:
                return _bytes(await serving.tile(work.fetch, wanted), FOR_EVER if wanted.width == WIDTH else ANEW)
        except Refusal as refusal:
            return _refused(request, refusal)

    async def _bundle(self, request: Request, wanted: Tile) -> bytes:
        """Reading entries is recorded, like any reading of the log."""
        foundation = self._system.foundation
        actor = await self._actor(request)
        if actor.anonymous:
            raise SignInNeeded("Sign in as a platform administrator to read entries.")
        async with foundation.glance(actor, origin_of(request)) as work:
            work.attempt("audit.read", wanted.path)
            work.require("view_audit", await finding.platform(work))
            data = await serving.tile(work.fetch, wanted)
            event = work.record()
        await foundation.ledger.append(event)
        return data

    async def _actor(self, request: Request) -> Actor:
        header = request.headers.get("authorization", "")
        async with self._system.foundation.glance(ANONYMOUS, origin_of(request)) as work:
            return await signing_in.by_header(work, self._system.gate, header)


def _bytes(data: bytes, headers: dict[str, str]) -> Response:
    return Response(data, media_type="application/octet-stream", headers=headers)


def _refused(request: Request, refusal: Refusal) -> Response:
    away = refused(refusal)
    status = 404 if isinstance(refusal, NotFound) else away.status
    error = {"code": refusal.code, "message": refusal.message, "detail": {"requestId": id_of(request)}}
    return JSONResponse({"errors": [error]}, status, away.headers)


def _route(request: Request, route: str) -> None:
    """Tells the outer layer which route to measure."""
    request.scope.setdefault("state", {})["route"] = route
