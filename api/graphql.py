"""The GraphQL door over HTTP: what is taken in, and with which status and media type the answer leaves.

GraphQL over HTTP (draft of the GraphQL working group): POST only, JSON only, one operation a request. An answer
without data is a request error: 400 in `application/graphql-response+json`, but 200 in plain `application/json`,
as clients from before the draft expect. Queries by GET, batches, uploads and subscriptions are not served.

Each operation runs in a `session` of its own, which gives the context its resolvers see; it is left normally when
the operation has been answered, with field errors or without, and by an exception when time ran out.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from cross_web import AsyncHTTPRequestAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.parse_content_type import parse_content_type
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from api.answering import TurnedAway, answer_of, broken, id_of, refused
from registry.errors import Refusal

MAX_BODY_BYTES = 64 * 1024
PATIENCE_SECONDS = 30
PLAIN_JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
SERVED = (OperationType.QUERY, OperationType.MUTATION)

Session = Callable[[Request], AbstractAsyncContextManager[Any]]


class GraphQLDoor(GraphQL[Any, None]):
    """An ASGI application: `GraphQLDoor(schema, session)`.

    A refusal raised on the way into the session is answered with its own status: nobody recognised is 401.
    """

    def __init__(
        self, schema: BaseSchema, session: Session, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        super().__init__(schema, graphql_ide=None, allow_queries_via_get=False, subscription_protocols=())
        self.session = session
        self.patience_seconds = patience_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.reject_websocket(WebSocket(scope, receive, send))
            return
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        try:
            return await self.run(request)
        except TurnedAway as error:
            away = error
        except Refusal as error:
            away = refused(error)
        except Exception as error:
            away = broken(error, id_of(request))
        sub_response = await self.get_sub_response(request)
        sub_response.status_code = away.status
        sub_response.headers.update(away.headers)
        return self.create_response(away.answer(id_of(request)), sub_response)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> None:
        return None  # the session gives it, once the request is known to hold an operation

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        sub_response = await super().get_sub_response(request)
        sub_response.media_type = _media_type(request.headers.get("accept", ""))
        sub_response.headers["Cache-Control"] = "no-store"
        sub_response.headers["X-Request-Id"] = id_of(request)
        return sub_response

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData:
        raise NotImplementedError("the body is read from the request itself, where its size can be bounded")

    async def run(self, request: Any, context: Any = None, root_value: Any = None) -> Any:
        _require_json_post(request)
        body = _decoded(await self._body(request))
        sub_response = await self.get_sub_response(request)
        result = await self._execute(request, body)
        return self.create_response(answer_of(result, id_of(request)), sub_response)
