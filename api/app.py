"""The ASGI whole: every door of one server over one System. The only place that sees both GraphQL and the registry.

/v2/…, /token        registry.protocol      docker and its kin
/graphql             api.graphql            POST: operations; GET from a browser: GraphiQL, for who signs in
/console/…           api.console            what GraphiQL loads
/audit/…             api.transparency       checkpoints and tiles of the audit log
/healthz, /readyz    api.operations         alive; ready
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.answering import id_of
from api.console import console_routes, graphiql_page
from api.graphql import GraphQLDoor
from api.operations import health_routes
from api.requests import RequestRecords
from api.schema.context import Context
from api.schema.whole import schema
from api.transparency import transparency_routes
from registry.accounts import signing_in
from registry.actors import ANONYMOUS, Actor
from registry.audit import subjects
from registry.audit.subjects import WrongKey
from registry.errors import Unauthenticated, Unavailable
from registry.protocol.app import Registry
from registry.protocol.calls import Door, origin_of
from registry.system import System

LONG_INBOX, OLD_INBOX_SECONDS = 500_000, 60
CHALLENGE = {"WWW-Authenticate": 'Basic realm="Tidewaiter", charset="UTF-8"'}


def application(system: System) -> ASGIApp:
    """What uvicorn serves."""
    foundation = system.foundation
    registry = Registry(Door(foundation, system.gate, system.tokens))
    doors = Doors(registry, _pages(system))
    return RequestRecords(doors, foundation.telemetry, foundation.settings.trusted_proxies)


class Doors:
    """The registry's door is asked first, and without a router: it is the hot path."""

    def __init__(self, registry: ASGIApp, pages: ASGIApp) -> None:
        self._registry, self._pages = registry, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith("/v2/") or path in {"/v2", "/token"}:
            await self._registry(scope, receive, send)
        elif path.endswith("\n"):  # Starlette's routes end with $, which lets it pass
            await _page_error(Request(scope), 404, "Not Found.", {})(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


async def problems(system: System) -> Mapping[str, str]:
    """What stands in the way of serving."""
    found = {}
    try:
        with anyio.fail_after(2):
            await subjects.check(system.foundation.pool.fetch, system.foundation.sealing)
    except WrongKey as error:
        found["auditSealing"] = str(error)
    except Exception:
        found["database"] = "The database does not answer."
    try:
        await system.foundation.blobs.check()
    except (OSError, Unavailable) as error:
        found["blobs"] = f"The blob store cannot be written: {error}"
    return found


def warnings(system: System) -> Mapping[str, str]:
    """What the audit log suffers from; the details are for the server's own log, since anybody may ask."""
    sequencer = system.sequencer
    standing, backlog = sequencer.publisher.standing, sequencer.backlog
    found = {}
    if standing.fork:
        found["audit"] = "The audit log is not the one that was signed: entries are taken, no checkpoint is published."
    elif standing.tampered:
        found["audit"] = "The audit log in the database was tampered with; see the server's log."
    elif standing.failure:
        found["audit"] = "No checkpoint of the audit log can be published: an anchor does not take it."
    if backlog.length > LONG_INBOX or backlog.seconds > OLD_INBOX_SECONDS:
        found["auditInbox"] = f"About {backlog.length} audit entries wait for a number, for {backlog.seconds:.0f} s."
    return found


def _pages(system: System) -> ASGIApp:
    async def is_ready() -> Mapping[str, str]:
        return await problems(system)

    return Starlette(
        routes=[
            Route("/graphql", GraphQLOrPage(system)),
            Route("/graphql/schema.graphql", _schema, methods=["GET"]),
            Route("/", _home, methods=["GET"]),
            *console_routes(),
            *transparency_routes(system),
            *health_routes(is_ready, partial(warnings, system)),
        ],
        exception_handlers={HTTPException: _turned_away},
    )


class GraphQLOrPage:
    """POST is an operation; a browser that asks for a page gets GraphiQL, once it has signed in."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._door = GraphQLDoor(schema, self._session)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["route"] = "/graphql"
        request = Request(scope)
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if wants_page:
            response = await self._page(request)
            await response(scope, receive, send)
        else:
            await self._door(scope, receive, send)

    async def _page(self, request: Request) -> Response:
        try:
            actor = await self._actor(request)
        except (Unauthenticated, Unavailable) as refusal:
            return _page_error(request, 401, refusal.message, CHALLENGE)
        if actor.anonymous:
            return _page_error(request, 401, "Sign in to use GraphiQL.", CHALLENGE)
        return graphiql_page()

    @asynccontextmanager
    async def _session(self, request: Request) -> AsyncIterator[Context]:
        context = Context(self._system, await self._actor(request), origin_of(request), seen=_last_seen(request))
        try:
            yield context
        finally:
            await context.close()
        await context.record_looks()

    async def _actor(self, request: Request) -> Actor:
        header = request.headers.get("authorization", "")
        async with self._system.foundation.glance(ANONYMOUS, origin_of(request)) as work:
            return await signing_in.by_header(work, self._system.gate, header)


async def _turned_away(request: Request, error: Exception) -> Response:
    """What the router refuses: an address that is none, or a method that is not served there."""
    assert isinstance(error, HTTPException)  # noqa: S101
    return _page_error(request, error.status_code, f"{error.detail}.", error.headers or {})


def _page_error(request: Request, status: int, message: str, headers: Mapping[str, str]) -> Response:
    return PlainTextResponse(f"{message} [request {id_of(request)}]", status, headers)


def _last_seen(request: Request) -> int | None:
    """Where a client of events was cut off (HTML, 9.2.4)."""
    last = request.headers.get("last-event-id", "")
    return int(last) if last.isascii() and last.isdigit() and len(last) < 20 else None


async def _schema(_: Request) -> Response:
    return PlainTextResponse(schema.as_str(), media_type="text/plain")


async def _home(_: Request) -> Response:
    return RedirectResponse("/graphql")
