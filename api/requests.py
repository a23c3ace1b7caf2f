"""The outermost layer of the public door: each request gets an id, is measured once, and leaves one log line.

What the inner layers find in `scope["state"]`:

    request_id            ours, 32 hexadecimal digits; the answer carries it as X-Request-Id
    client_request_id     what the client sent as X-Request-Id, if anything; never used as ours
    peer                  the address at the other end of the socket
    source                the client's address: the peer, or what trusted proxies say stood before it
    forwarded             the addresses in X-Forwarded-For, empty unless the peer is a trusted proxy

and what they leave there: `route`, the template that matched. Without it the request is measured as "other".
"""

import re
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.forwarding import believed_source, forwarded_addresses, is_trusted
from registry.addresses import Network
from registry.identifiers import new_id
from registry.telemetry import Telemetry

MAX_PATH, MAX_WORD = 300, 200
CLIENT_GONE = 499
"""How a request is measured whose client left before any answer; no such status is ever sent."""

APOLOGY = "The server failed, not your request. Its operator finds the reason by the request's id."
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

log = structlog.get_logger("requests")


class RequestRecords:
    """An ASGI application around another. Nothing but a cancellation leaves it as an exception."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, trusted_proxies: Sequence[Network] = ()) -> None:
        self.app = app
        self.telemetry = telemetry
        self.trusted_proxies = tuple(trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = Record(scope, send)
        scope["state"] = {**scope.get("state", {}), **record.origin(self.trusted_proxies)}
        spans = self.telemetry.request_span(record.method, record.headers.get(b"traceparent"))
        with bound_contextvars(**record.bound()), spans as finish:
            try:
                await self._answer(scope, receive, record)
            finally:
                finish(record.route, record.status)
                self.telemetry.request(record.route, record.method, record.status, record.seconds)
                log.info("request", **record.line())

    async def _answer(self, scope: Scope, receive: Receive, record: "Record") -> None:
        try:
            await self.app(scope, receive, record.send)
        except ClientDisconnect:
            return
        except Exception:
            log.exception("request failed", route=record.route)
            await _apologize(scope, receive, record)


class Record:
    """What becomes known of one request while it runs."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._began = perf_counter()
        self.headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self.request_id = new_id().hex
        self.client_request_id = shown(self.headers.get(b"x-request-id", ""), MAX_WORD) or None
        self.method: str = scope["method"]
        self.status = CLIENT_GONE
        self.started = False
        self.sent_bytes = 0

    @property
    def route(self) -> str:
        return str(self._scope["state"].get("route") or "other")

    @property
    def seconds(self) -> float:
        return perf_counter() - self._began

    async def send(self, message: Message) -> None:
        """Passes the message on, with the request's id in the head of the answer."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            identified = (b"x-request-id", self.request_id.encode())
            message = {**message, "headers": [*message.get("headers", ()), identified]}
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)

    def origin(self, trusted: Sequence[Network]) -> dict[str, Any]:
        """What the inner layers are told about where the request came from."""
        peer = self._scope["client"][0] if self._scope.get("client") else None
        forwarded = self._forwarded() if peer and is_trusted(peer, trusted) else ()
        return {
            "request_id": self.request_id,
            "client_request_id": self.client_request_id,
            "peer": peer,
            "source": believed_source(peer, forwarded, trusted) if peer else None,
            "forwarded": forwarded,
        }

    def _forwarded(self) -> tuple[str, ...]:
        """A header that comes several times means one list, in this order (RFC 9110, 5.3)."""
        values = [value for name, value in self._scope["headers"] if name == b"x-forwarded-for"]
        return forwarded_addresses(b",".join(values).decode("latin-1"))

    def bound(self) -> dict[str, str]:
        """What every log line of this request carries, and the client's trace if it has one."""
        bound = {"request_id": self.request_id}
        if self.client_request_id:
            bound["client_request_id"] = self.client_request_id
        if trace := TRACEPARENT.fullmatch(self.headers.get(b"traceparent", "")):
            bound["trace_id"] = trace[1]
        return bound

    def line(self) -> dict[str, Any]:
        """Of the URL only the path: queries may hold what is nobody's business."""
        raw = self._scope.get("raw_path") or self._scope["path"].encode()
        return {
            "method": shown(self.method, MAX_WORD),
            "route": self.route,
            "path": shown(raw.decode("latin-1"), MAX_PATH),
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "bytes": self.sent_bytes,
            "source": self._scope["state"].get("source"),
            "user_agent": shown(self.headers.get(b"user-agent", ""), MAX_WORD),
        }


def shown(text: str, limit: int) -> str:
    """At most so many characters of what a client wrote, none of which can end a line or steer a terminal."""
    kept = text[:limit]
    return kept if kept.isascii() and kept.isprintable() else kept.encode("unicode_escape").decode("ascii")


async def _apologize(scope: Scope, receive: Receive, record: Record) -> None:
    """Answers in the form both doors use. Where an answer has begun, only closing the connection is left."""
    if record.started:
        return
    error = {"code": "INTERNAL", "message": APOLOGY, "detail": {"requestId": record.request_id}}
    await JSONResponse({"errors": [error]}, 500)(scope, receive, record.send)
