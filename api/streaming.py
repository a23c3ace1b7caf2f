"""Subscriptions as server-sent events, one a request ("distinct connections mode" of the protocol graphql-sse).

Each result is an event `next`, whose id is where to go on after a cut; `complete` says that no more will come. A
comment every few seconds keeps the line open where proxies cut what is silent, and tells the id of what was gone
through in vain, so that also who has seen nothing yet can go on without loss. The client sets the pace: nothing is read
from the log before what was read last is sent.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from graphql import GraphQLError, OperationType, get_operation_ast, parse
from starlette.requests import Request
from starlette.types import Receive, Send
from strawberry.types import ExecutionResult

from api.answering import answer_of, id_of
from api.schema.limits import MAX_TOKENS

FIRST_HEARTBEAT_SECONDS, HEARTBEAT_SECONDS = 1, 15
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
COMPLETE = b"event: complete\ndata:\n\n"


def wants_events(accept: str) -> bool:
    return any(offer.partition(";")[0].strip().lower() == "text/event-stream" for offer in accept.split(","))


def is_subscription(query: str, name: str | None) -> bool:
    """Whether this is what would be run. What cannot be parsed is told by whoever parses it in earnest."""
    try:
        operation = get_operation_ast(parse(query, no_location=True, max_tokens=MAX_TOKENS), name)
    except GraphQLError:
        return False
    return operation is not None and operation.operation is OperationType.SUBSCRIPTION


class EventStream:
    """The answer to one subscription. `seen` tells the id of the result that came last."""

    def __init__(
        self,
        request: Request,
        results: AsyncGenerator[Any, None],
        seen: Callable[[], int | None],
        session: AbstractAsyncContextManager[Any],
    ) -> None:
        self._request = request
        self._results = results
        self._seen = seen
        self._session = session
        self._rest = FIRST_HEARTBEAT_SECONDS

    async def __call__(self, _: Any, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._send_all(send, gone)
        finally:
            gone.cancel()
            await self._results.aclose()
            await self._session.__aexit__(None, None, None)

    async def _send_all(self, send: Send, gone: "asyncio.Future[None]") -> None:
        while not gone.done():
            following = asyncio.ensure_future(anext(self._results, None))
            try:
                await self._wait(following, gone, send)
                result = following.result() if following.done() else None
            except Exception as error:
                result = ExecutionResult(data=None, errors=[GraphQLError(str(error), original_error=error)])
                await send(_body(self._event(result)))
                result = None
            finally:
                await _stopped(following)
            if result is None:
                await send(_body(COMPLETE, more=False))
                return
            await send(_body(self._event(result)))

    async def _wait(self, following: "asyncio.Future[Any]", gone: "asyncio.Future[None]", send: Send) -> None:
        while True:
            await asyncio.wait({following, gone}, timeout=self._rest, return_when=asyncio.FIRST_COMPLETED)
            if following.done() or gone.done():
                return
            self._rest = HEARTBEAT_SECONDS
            await send(_body(self._place() + b":\n\n"))

    def _event(self, result: ExecutionResult) -> bytes:
        answer = orjson.dumps(answer_of(result, id_of(self._request)), default=str)
        return b"event: next\n%bdata: %b\n\n" % (b"" if result.errors else self._place(), answer)

    def _place(self) -> bytes:
        seen = self._seen()
        return b"" if seen is None else b"id: %d\n" % seen


def _body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stopped(task: "asyncio.Future[Any]") -> None:
    """Ended, whatever it was at."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
