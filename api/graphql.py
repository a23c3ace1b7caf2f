"""The GraphQL door: what is taken in over HTTP, and with which status and media type the answer leaves.

GraphQL over HTTP (draft of the GraphQL working group): POST only, JSON only, one operation a request. An
answer without data is a request error: 400 in `application/graphql-response+json`, but 200 in plain
`application/json`, as clients from before the draft expect. Queries by GET, batches and uploads are not served;
subscriptions are, as a stream of events (`api.streaming`).

Each operation runs in a `session` of its own, which gives the context its resolvers see. The session is left
normally once the operation is answered, with errors in fields or without, and by an exception when time ran
out.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from cross_web import AsyncHTTPRequestAdapter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.base import BaseRequestProtocol
from strawberry.http.parse_content_type import parse_content_type
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from api.answering import TurnedAway, answer_of, broken, id_of, refused
from api.streaming import EventStream, is_subscription, wants_events
from registry.errors import Refusal

MAX_BODY_BYTES = 64 * 1024
PATIENCE_SECONDS = 30
PLAIN_JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
SERVED = (OperationType.QUERY, OperationType.MUTATION)

Session = Callable[[Request], AbstractAsyncContextManager[Any]]


class GraphQLDoor(GraphQL[Any, None]):
    """An ASGI application. A refusal raised on the way into its session has a status: nobody recognised is
    401.

    The wait for the body and the run of the operation may each take `patience_seconds`.
    """

    def __init__(self, schema: BaseSchema, session: Session, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__(schema, graphql_ide=None, allow_queries_via_get=False, subscription_protocols=())
        self.session = session
        self.patience_seconds = patience_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.reject_websocket(WebSocket(scope, receive, send))
            return
        request = Request(scope, _bounded(receive))
        response: Response | EventStream
        try:
            if wants_events(request.headers.get("accept", "")) and request.method == "POST":
                response = await self._events(request)
            else:
                response = await self.run(request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = await self._turn_away(request, error)
        await response(scope, receive, send)

    async def _events(self, request: Request) -> "Response | EventStream":
        """A subscription as a stream of events. Clients that would take one send the same header with all else."""
        operation = await self.parse_http_body(self.request_adapter_class(request))
        if not is_subscription(operation.query or "", operation.operation_name):
            return await self.run(request)
        session = self.session(request)
        context = await session.__aenter__()
        results = await self.schema.stream(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            operation_name=operation.operation_name,
            operation_extensions=operation.extensions,
            allowed_operation_types=(OperationType.SUBSCRIPTION,),
        )
        return EventStream(request, results, lambda: context.seen, session)

    async def _turn_away(self, request: Request, error: Exception) -> Response:
        match error:
            case TurnedAway():
                away = error
            case Refusal():
                away = refused(error)
            case _:
                away = broken(error, id_of(request))
        sub_response = await self.get_sub_response(request)
        sub_response.status_code = away.status
        sub_response.headers.update(away.headers)
        return self.create_response(away.answer(id_of(request)), sub_response)

    def is_request_allowed(self, request: BaseRequestProtocol) -> bool:
        if request.method != "POST":
            raise TurnedAway(405, "METHOD_NOT_ALLOWED", "Send operations by POST.", {"Allow": "POST"})
        return True

    async def get_context(self, *_: Any, **__: Any) -> None:
        return None  # the session gives it, once the request is known to hold an operation

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        sub_response = await super().get_sub_response(request)
        sub_response.media_type = _media_type(request.headers.get("accept", ""))
        sub_response.headers["Cache-Control"] = "no-store"
        return sub_response

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData:
        _require_json(request.content_type or "")
        if (request.headers.get("content-length") or "0").isdecimal():
            _require_room(int(request.headers.get("content-length") or "0"))
        try:
            async with asyncio.timeout(self.patience_seconds):
                body = await request.get_body()
        except TimeoutError:
            raise TurnedAway(408, "TIMEOUT", "The request did not arrive in time. Send it again.") from None
        return _operation(body)

    async def execute_operation(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,  # noqa: ARG002
        request_data: GraphQLRequestData | list[GraphQLRequestData],
        context: Any,  # noqa: ARG002
        root_value: Any,  # noqa: ARG002
        sub_response: Response,  # noqa: ARG002
    ) -> ExecutionResult:
        assert isinstance(request_data, GraphQLRequestData)  # noqa: S101
        time = asyncio.timeout(self.patience_seconds)
        try:
            async with time, self.session(request) as session:
                return await self._execute(request_data, session)
        except TimeoutError:
            if not time.expired():
                raise
            raise TurnedAway(
                503,
                "TIMEOUT",
                f"This operation took longer than {self.patience_seconds:g} seconds and was stopped. "
                "Ask for less at once, or try again later.",
            ) from None

    async def _execute(self, operation: GraphQLRequestData, context: Any) -> ExecutionResult:
        try:
            return await self.schema.execute(
                operation.query,
                variable_values=operation.variables,
                context_value=context,
                operation_name=operation.operation_name,
                operation_extensions=operation.extensions,
                allowed_operation_types=SERVED,
            )
        except MissingQueryError:
            raise _invalid("The request holds no query.") from None
        except CannotGetOperationTypeError:
            if operation.operation_name is None:
                raise _invalid("The document holds no operation, only fragments.") from None
            raise _invalid("The document holds no operation of the name that 'operationName' gives.") from None
        except InvalidOperationTypeError:
            raise _invalid("A subscription is served as events: send it with 'Accept: text/event-stream'.") from None

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        return answer_of(result, id_of(request))

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        return Response(
            orjson.dumps(response_data, default=str),
            status_code=sub_response.status_code or _status(response_data, sub_response.media_type),
            headers=sub_response.headers,
            media_type=sub_response.media_type,
        )


def _status(answer: Any, media_type: str | None) -> int:
    if "data" in answer:
        return 200
    if any(error["extensions"]["code"] == "INTERNAL" for error in answer["errors"]):
        return 500
    return 400 if media_type == GRAPHQL_JSON else 200


def _media_type(accept: str) -> str:
    """The newer media type only for those who name it: `*/*` may come from a client of before."""
    for offer in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in offer.split(";"))
        if kind == GRAPHQL_JSON and not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", one) for one in parameters):
            return GRAPHQL_JSON
    return PLAIN_JSON


def _require_json(content_type: str) -> None:
    """A browser sends JSON to another site only after asking it, so this also keeps forged forms out."""
    kind, parameters = parse_content_type(content_type or "none")
    if kind.lower() != PLAIN_JSON or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise TurnedAway(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "Send the operation as JSON in UTF-8: 'Content-Type: application/json'.",
        )


def _require_room(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise TurnedAway(
            413,
            "REQUEST_TOO_LARGE",
            f"A request may hold {MAX_BODY_BYTES:,} bytes, and this one holds more. Split the operation.",
            limit=MAX_BODY_BYTES,
        )


def _bounded(receive: Receive) -> Receive:
    """Counts the bytes as they come: a length may be missing from the head of the request, or wrong."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        _require_room(received)
        return message

    return bounded


def _operation(body: bytes) -> GraphQLRequestData:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _invalid("The request is not JSON in UTF-8.") from None
    match request:
        case {"query": str(query)}:
            return GraphQLRequestData(
                query=query,
                variables=_without_nul(_optional(request, "variables", dict)),
                operation_name=_optional(request, "operationName", str),
                extensions=_optional(request, "extensions", dict),
            )
        case list():
            raise _invalid("One request holds one operation; batches are not served.")
    raise _invalid("The request must be a JSON object whose 'query' is a string.")


def _optional(request: dict[str, Any], name: str, kind: type) -> Any:
    value = request.get(name)
    if value is not None and not isinstance(value, kind):
        raise _invalid(f"'{name}' must be {'a string' if kind is str else 'an object'} or null.")
    return value


def _without_nul(variables: Any) -> Any:
    """The variables as they are. PostgreSQL keeps no NUL in a text, so one is refused here, for every field alike;
    those written into the document are refused by `api.schema.limits`."""
    waiting = [variables]
    while waiting:
        match waiting.pop():
            case str(text) if "\0" in text:
                raise _invalid("A string in 'variables' holds a NUL character, which no text here may hold.")
            case list(values):
                waiting += values
            case dict(fields):
                waiting += fields.values()
    return variables


def _invalid(message: str) -> TurnedAway:
    return TurnedAway(400, "INVALID_REQUEST", message)
