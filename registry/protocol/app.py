"""All routes of the registry on one screen, and what every request goes through.

    request → route → who calls → handler → answer;   a refusal → `errors.answer`, with a challenge where it is 401

Repository names hold slashes, so a route goes by its last words; names are taken from the path as it was sent, so that
a percent sign never smuggles in what the grammar forbids.
"""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry.actors import ANONYMOUS, Actor
from registry.deciding import PlaceNotFound
from registry.errors import Denied, Refusal, Unauthenticated
from registry.protocol import authenticating, blobs, lists, manifests, tokens, uploads
from registry.protocol.calls import Call, Door, origin_of
from registry.protocol.errors import VERSION, AddressUnknown, MethodUnknown, answer
from registry.repositories.receiving import SenderGone

Handler = Callable[[Call], Awaitable[Response]]

ROUTES: tuple[tuple[str, str, dict[str, Handler]], ...] = (
    ("/v2/", r"/v2/?", {"GET": lists.base, "HEAD": lists.base}),
    ("/v2/_catalog", r"/v2/_catalog", {"GET": lists.catalog}),
    ("/v2/{name}/tags/list", r"/v2/(?P<name>.+)/tags/list", {"GET": lists.tags}),
    (
        "/v2/{name}/referrers/{digest}",
        r"/v2/(?P<name>.+)/referrers/(?P<reference>[^/]+)",
        {"GET": lists.referrers},
    ),
    (
        "/v2/{name}/manifests/{reference}",
        r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)",
        {"GET": manifests.get, "HEAD": manifests.get, "PUT": manifests.put, "DELETE": manifests.delete},
    ),
    ("/v2/{name}/blobs/uploads/", r"/v2/(?P<name>.+)/blobs/uploads/?", {"POST": uploads.post}),
    (
        "/v2/{name}/blobs/uploads/{id}",
        r"/v2/(?P<name>.+)/blobs/uploads/(?P<reference>[^/]+)",
        {"GET": uploads.get, "PATCH": uploads.patch, "PUT": uploads.put, "DELETE": uploads.delete},
    ),
    (
        "/v2/{name}/blobs/{digest}",
        r"/v2/(?P<name>.+)/blobs/(?P<reference>[^/]+)",
        {"GET": blobs.get, "HEAD": blobs.get, "DELETE": blobs.delete},
    ),
    ("/token", r"/token", {"GET": tokens.get, "POST": tokens.post}),
)
COMPILED = [(template, re.compile(pattern), handlers) for template, pattern, handlers in ROUTES]
LINGER_SECONDS, LINGER_BYTES = 2, 32 * 1024 * 1024


class Registry:
    """The ASGI application of the registry's door."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(self.door, Request(scope, receive), ANONYMOUS, origin_of(Request(scope)))
        try:
            response = await self._handle(call)
        except SenderGone:
            return
        except Refusal as refusal:
            await self._refuse(call, refusal, receive, send)
            return
        response.headers.update(VERSION)
        await response(scope, receive, send)

    async def _handle(self, call: Call) -> Response:
        scope = call.request.scope
        template, handlers, found = _route(scope)
        scope.setdefault("state", {})["route"] = template
        if handlers is None:
            raise AddressUnknown("This registry has nothing at this address.")
        handler = handlers.get(scope["method"])
        if handler is None:
            raise MethodUnknown(f"{scope['method']} is not understood here.", allow=list(handlers))
        call.reference = unquote(found.get("reference", ""))
        if "name" in found:
            call.about(found["name"])
        # After the name is known: a challenge must name the repository also to whose token has ended.
        call.actor = await self._caller(call)
        return await handler(call)

    async def _caller(self, call: Call) -> Actor:
        if call.request.url.path == "/token":
            return ANONYMOUS  # the token protocol reads its credentials itself
        return await authenticating.authenticate(self.door, call.request, call.origin)

    async def _refuse(self, call: Call, refusal: Refusal, receive: Receive, send: Send) -> None:
        headers = {}
        if call.actor.anonymous and _hides(refusal):
            refusal = Unauthenticated(
                "Sign in to reach this repository, or check its name: without signing in only public repositories can "
                "be pulled."
            )
        if isinstance(refusal, Denied | Unauthenticated) and call.request.url.path != "/token":
            name = call.name if call.organization else ""
            headers = authenticating.challenge(self.door.foundation.settings, refusal, call.request, name)
        headers |= _state_of_upload(call, refusal)
        response = answer(refusal, call.origin.request_id, headers)
        await _send_and_linger(call.request, response, receive, send)


def _route(scope: Scope) -> tuple[str, dict[str, Handler] | None, dict[str, str]]:
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    for template, pattern, handlers in COMPILED:
        if match := pattern.fullmatch(path):
            return template, handlers, match.groupdict()
    return "/v2/…", None, {}


def _hides(refusal: Refusal) -> bool:
    """What an anonymous caller is told no more about than that signing in may help."""
    return isinstance(refusal, Denied | PlaceNotFound)


def _state_of_upload(call: Call, refusal: Refusal) -> dict[str, str]:
    """Where an upload stands, for a client whose chunk did not follow."""
    received = refusal.detail.get("received")
    if received is None:
        return {}
    return uploads.state(call, received)


async def _send_and_linger(request: Request, response: Response, receive: Receive, send: Send) -> None:
    """Answers, then reads on for a moment: a client that is still sending sees the answer only if the connection is
    not reset under it."""
    unread = request.method in {"PATCH", "PUT", "POST"}
    if unread:
        response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    body = b"" if request.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body, "more_body": unread})
    if not unread:
        return
    with anyio.move_on_after(LINGER_SECONDS):
        await _discard(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    read = 0
    while read < LINGER_BYTES:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return
