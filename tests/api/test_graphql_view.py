"""The GraphQL door as clients meet it: media types, statuses, bounds of size and time, and errors."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NewType

import anyio
import httpx2
import orjson
import pytest
import strawberry
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from strawberry.extensions import SchemaExtension
from structlog.testing import capture_logs

from api.graphql import GRAPHQL_JSON, MAX_BODY_BYTES, PLAIN_JSON, GraphQLDoor
from api.schema.building import make_schema
from registry.accounts.throttling import TooManySignIns
from registry.errors import Conflict, Denied, NotFound, QuotaExceeded, Refusal, Unauthenticated, Unavailable

Even = NewType("Even", int)


def to_even(value: object) -> Even:
    if not isinstance(value, int) or value % 2:
        raise ValueError("not an even number")
    return Even(value)


@strawberry.type
class Box:
    name: str

    @strawberry.field
    def lid(self) -> str:
        raise RuntimeError("secret of the database")


@strawberry.type
class Query:
    @strawberry.field
    def greeting(self, name: str = "you") -> str:
        return f"Hello, {name}"

    @strawberry.field
    def caller(self, info: strawberry.Info) -> str:
        return str(info.context.caller)

    @strawberry.field
    def boxes(self) -> list[Box]:
        return [Box(name="a"), Box(name="b")]

    @strawberry.field
    def refused(self) -> str | None:
        raise QuotaExceeded("No room is left.", key="storage", limit=10, used=10, requested=1)

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("secret of the database")

    @strawberry.field
    def nothing(self) -> str:
        return None  # type: ignore[return-value]

    @strawberry.field
    def too_large(self) -> int | None:
        return 2**40

    @strawberry.field
    def even(self, number: Even) -> int:
        return number

    @strawberry.field
    async def never(self) -> str | None:
        await asyncio.Event().wait()
        return None


@strawberry.type
class Mutation:
    @strawberry.mutation
    def rename(self, name: str) -> Box:
        return Box(name=name)


@dataclass
class Caller:
    caller: str
    signed_in: bool = True


@dataclass
class Sessions:
    """Stands in for the unit of work: notes how each session was left."""

    refusal: Exception | None = None
    at_the_end: Exception | None = None
    left: list[type[BaseException] | None] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[Caller]:
        if self.refusal:
            raise self.refusal
        try:
            yield Caller(request.headers.get("x-caller", "nobody"))
        except BaseException as error:
            self.left.append(type(error))
            raise
        self.left.append(None)
        if self.at_the_end:
            raise self.at_the_end


EVEN = {Even: strawberry.scalar(name="Even", parse_value=to_even, serialize=int)}
schema = make_schema(Query, Mutation, scalars=EVEN)


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
async def client(sessions: Sessions) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=GraphQLDoor(schema, sessions))
    async with httpx2.AsyncClient(transport=transport, base_url="http://tidewaiter") as client:
        yield client


async def post(client: httpx2.AsyncClient, body: object, accept: str | None = GRAPHQL_JSON) -> httpx2.Response:
    headers = {"content-type": PLAIN_JSON} | ({"accept": accept} if accept else {})
    if not accept:
        client.headers.pop("accept", None)
    return await client.post("/graphql", content=orjson.dumps(body), headers=headers)


async def ask(client: httpx2.AsyncClient, query: str, **variables: Any) -> dict[str, Any]:
    response = await post(client, {"query": query, "variables": variables})
    answer: dict[str, Any] = response.json()
    return answer


def only_error(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the request's id, which each has and the whole answer too."""
    (error,) = answer["errors"]
    assert isinstance(error, dict)
    extensions = dict(error["extensions"])
    assert extensions.pop("requestId") == answer["extensions"]["requestId"]
    return {**error, "extensions": extensions}


# Media types and statuses


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}; charset=utf-8", GRAPHQL_JSON),
        (f"{PLAIN_JSON}, {GRAPHQL_JSON};q=0.5", GRAPHQL_JSON),
        (GRAPHQL_JSON.upper(), GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};q=0, {PLAIN_JSON}", PLAIN_JSON),
        (PLAIN_JSON, PLAIN_JSON),
        ("*/*", PLAIN_JSON),
        ("text/html", PLAIN_JSON),
        (None, PLAIN_JSON),
    ],
)
async def test_media_type(client: httpx2.AsyncClient, accept: str | None, answered: str) -> None:
    response = await post(client, {"query": "{ __typename }"}, accept)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == answered
    assert response.json() == {"data": {"__typename": "Query"}}


GOOD = {
    "a string as query": {"query": "{ __typename }"},
    "no variables": {"query": "{ __typename }", "variables": None},
    "no operation name": {"query": "{ __typename }", "operationName": None},
    "no extensions": {"query": "{ __typename }", "extensions": None},
    "an operation name": {"query": "query a { __typename } query b { greeting }", "operationName": "a"},
    "extensions": {"query": "{ __typename }", "extensions": {"some": "value"}},
    "fields it does not know": {"query": "{ __typename }", "id": 5},
}


@pytest.mark.parametrize("accept", [GRAPHQL_JSON, PLAIN_JSON])
@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
async def test_good_requests(client: httpx2.AsyncClient, body: object, accept: str) -> None:
    response = await post(client, body, accept)
    assert response.status_code == 200
    assert response.json() == {"data": {"__typename": "Query"}}


BAD = {
    "no query": {"notquery": "{ __typename }"},
    "a misspelt query": {"qeury": "{ __typename }"},
    "an empty query": {"query": ""},
    **{f"query {value!r}": {"query": value} for value in ({"obj": "ect"}, 0, False, ["array"], None)},
    **{
        f"operationName {value!r}": {"query": "{ __typename }", "operationName": value}
        for value in ({"obj": "ect"}, 0, False, ["array"])
    },
    **{
        f"{name} {value!r}": {"query": "{ __typename }", name: value}
        for name in ("variables", "extensions")
        for value in ("string", 0, False, ["array"])
    },
    "an unknown operation": {"query": "query a { __typename }", "operationName": "b"},
    "a subscription": {"query": "subscription { __typename }"},
    "a batch": [{"query": "{ __typename }"}] * 10,
    "an empty batch": [],
    "a string": "{ __typename }",
    "null": None,
    "a number": 5,
}


@pytest.mark.parametrize("accept", [GRAPHQL_JSON, PLAIN_JSON])
@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_bad_requests(client: httpx2.AsyncClient, sessions: Sessions, body: object, accept: str) -> None:
    response = await post(client, body, accept)
    assert response.status_code == 400
    assert response.headers["content-type"].startswith(accept)
    assert "data" not in response.json()
    assert only_error(response.json())["extensions"]["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("body", [b"", b'{ "not a JSON', b"\xff\xfe", b"[" * 5_000, b'{"query":"\\ud800"}'])
async def test_bodies_that_are_no_json(client: httpx2.AsyncClient, body: bytes) -> None:
    response = await client.post("/graphql", content=body, headers={"content-type": PLAIN_JSON})
    assert response.status_code == 400
    assert only_error(response.json())["extensions"]["code"] == "INVALID_REQUEST"


REQUEST_ERRORS = {
    "a syntax error": ("SYNTAX_ERROR", {"query": "{"}),
    "too many tokens": ("SYNTAX_ERROR", {"query": "{ " + "greeting " * 3_000 + "}"}),
    "an unknown field": ("INVALID_QUERY", {"query": "{ nope }"}),
    "a variable of the wrong type": (
        "INVALID_QUERY",
        {"query": "query($n: String!) { greeting(name: $n) }", "variables": {"n": None}},
    ),
    "a literal that a scalar refuses": ("INVALID_QUERY", {"query": "{ even(number: 3) }"}),
    "a variable that a scalar refuses": (
        "INVALID_QUERY",
        {"query": "query($n: Even!) { even(number: $n) }", "variables": {"n": 3}},
    ),
    "too many aliases": (
        "QUERY_TOO_WIDE",
        {"query": "{ boxes { " + " ".join(f"a{n}: name" for n in range(101)) + " } }"},
    ),
}


@pytest.mark.parametrize(("code", "body"), REQUEST_ERRORS.values(), ids=REQUEST_ERRORS)
async def test_request_errors(client: httpx2.AsyncClient, code: str, body: object) -> None:
    """No data, 400 or, for older clients, 200; and nothing in the log, since the fault is not ours."""
    with capture_logs() as logs:
        newer, older = await post(client, body, GRAPHQL_JSON), await post(client, body, PLAIN_JSON)
    assert (newer.status_code, older.status_code) == (400, 200)
    for answer in (newer.json(), older.json()):
        assert "data" not in answer
        assert only_error(answer)["extensions"]["code"] == code
    assert logs == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON;charset=UTF-8", 200),
        ("application/json; charset=latin-1", 415),
        ("application/graphql", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("", 415),
        (None, 415),
    ],
)
async def test_content_type(client: httpx2.AsyncClient, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = await client.post("/graphql", content=b'{"query":"{ __typename }"}', headers=headers)
    assert response.status_code == status
    if status == 415:
        assert only_error(response.json())["extensions"]["code"] == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_post(client: httpx2.AsyncClient, method: str) -> None:
    response = await client.request(
        method, "/graphql", params={"query": "{ __typename }"}, headers={"accept": "text/html"}
    )
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("protocol", ["graphql-ws", "graphql-transport-ws"])
def test_no_websockets(sessions: Sessions, protocol: str) -> None:
    """Refused before the handshake is accepted."""
    with (
        pytest.raises(WebSocketDisconnect) as refusal,
        TestClient(GraphQLDoor(schema, sessions)).websocket_connect("/graphql", [protocol]),
    ):
        pass
    assert refusal.value.code == 1008


# How large, and how long


def sized(size: int) -> bytes:
    empty = b'{"query":"{ __typename }","extensions":{"padding":""}}'
    return empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"')


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
async def test_size_of_the_body(client: httpx2.AsyncClient, size: int, status: int) -> None:
    response = await client.post("/graphql", content=sized(size), headers={"content-type": PLAIN_JSON})
    assert len(sized(size)) == size
    assert response.status_code == status


@pytest.mark.parametrize("declared", [{}, {"content-length": "20"}, {"content-length": "many"}])
async def test_size_of_the_body_is_counted(client: httpx2.AsyncClient, declared: dict[str, str]) -> None:
    """A length that is missing or wrong lets no more in, and what is over the limit is not read."""
    given = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 1_000:
            given += 1
            yield b"[" * 1024

    response = await client.post("/graphql", content=chunks(), headers={"content-type": PLAIN_JSON, **declared})
    assert response.status_code == 413
    assert only_error(response.json())["extensions"] == {"code": "REQUEST_TOO_LARGE", "limit": MAX_BODY_BYTES}


async def answered_to(door: GraphQLDoor, receive: Any, **headers: str) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/graphql",
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    with anyio.fail_after(10):
        await door(scope, receive, send)
    return sent


async def test_a_declared_length_is_enough_to_refuse(sessions: Sessions) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was read")

    sent = await answered_to(GraphQLDoor(schema, sessions), receive, content_type=PLAIN_JSON, content_length=str(10**9))
    assert sent[0]["status"] == 413


async def test_a_body_that_never_comes(sessions: Sessions) -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    door = GraphQLDoor(schema, sessions, patience_seconds=0.01)
    sent = await answered_to(door, receive, content_type=PLAIN_JSON)
    assert sent[0]["status"] == 408
    assert sessions.left == []


async def test_a_client_that_goes_away(sessions: Sessions) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with capture_logs() as logs:
        assert await answered_to(GraphQLDoor(schema, sessions), receive, content_type=PLAIN_JSON) == []
    assert logs == []


async def test_an_operation_that_never_ends(sessions: Sessions) -> None:
    """It is stopped, and its session is left by an exception, so that nothing half done is kept."""
    door = GraphQLDoor(schema, sessions, patience_seconds=0.01)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=door), base_url="http://t") as client:
        response = await post(client, {"query": "{ never }"})
    assert response.status_code == 503
    assert only_error(response.json())["extensions"]["code"] == "TIMEOUT"
    assert sessions.left == [asyncio.CancelledError]


# Sessions and ids


async def test_resolvers_see_the_session(client: httpx2.AsyncClient, sessions: Sessions) -> None:
    response = await client.post("/graphql", json={"query": "{ caller }"}, headers={"x-caller": "ada"})
    assert response.json() == {"data": {"caller": "ada"}}
    assert sessions.left == [None]


async def test_a_request_that_is_turned_away_opens_no_session(client: httpx2.AsyncClient, sessions: Sessions) -> None:
    await post(client, {"query": 5})
    assert sessions.left == []


@pytest.mark.parametrize(
    ("refusal", "status", "header"),
    [
        (Unauthenticated("Sign in."), 401, ("www-authenticate", 'Basic realm="Tidewaiter", charset="UTF-8"')),
        (Denied("Your account is suspended."), 403, None),
        (Unavailable("The database is away.", retry_after=7), 503, ("retry-after", "7")),
        (TooManySignIns("Wait.", retry_after=9), 429, ("retry-after", "9")),
        (NotFound("No such account."), 400, None),
    ],
)
@pytest.mark.parametrize("accept", [GRAPHQL_JSON, PLAIN_JSON])
async def test_refused_on_the_way_in(
    client: httpx2.AsyncClient,
    sessions: Sessions,
    refusal: Refusal,
    status: int,
    header: tuple[str, str] | None,
    accept: str,
) -> None:
    sessions.refusal = refusal
    response = await post(client, {"query": "{ caller }"}, accept)
    assert response.status_code == status
    assert only_error(response.json()) == {
        "message": refusal.message,
        "extensions": {"code": refusal.code, **refusal.told},
    }
    if header:
        assert response.headers[header[0]] == header[1]


async def test_refused_on_the_way_out(client: httpx2.AsyncClient, sessions: Sessions) -> None:
    """What could not be committed has not happened, so the answer holds no data."""
    sessions.at_the_end = Conflict("Somebody else was faster.")
    response = await post(client, {"query": 'mutation { rename(name: "x") { name } }'})
    assert response.status_code == 400
    assert "data" not in response.json()
    assert only_error(response.json())["extensions"]["code"] == "CONFLICT"


@pytest.mark.parametrize("accept", [GRAPHQL_JSON, PLAIN_JSON])
@pytest.mark.parametrize("error", [RuntimeError("secret of the database"), TimeoutError("secret of the pool")])
async def test_broken_on_the_way_in(
    client: httpx2.AsyncClient, sessions: Sessions, accept: str, error: Exception
) -> None:
    sessions.refusal = error
    with capture_logs() as logs:
        response = await post(client, {"query": "{ caller }"}, accept)
    assert response.status_code == 500
    assert only_error(response.json())["extensions"] == {"code": "INTERNAL"}
    assert "secret" not in response.text
    assert [entry["exc_info"] for entry in logs] == [error]


async def test_no_answer_is_kept_by_caches(client: httpx2.AsyncClient) -> None:
    for body in ({"query": "{ __typename }"}, {"query": "{"}, {}):
        assert (await post(client, body)).headers["cache-control"] == "no-store"


async def test_an_id_from_the_outer_layers_is_kept(sessions: Sessions) -> None:
    door = GraphQLDoor(schema, sessions)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await door({**scope, "state": {"request_id": "r-17"}}, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://t") as client:
        good, bad = await post(client, {"query": "{ greeting }"}), await post(client, {"query": "{ broken }"})
        turned_away = await post(client, [])
    assert "extensions" not in good.json()
    assert bad.json()["extensions"] == turned_away.json()["extensions"] == {"requestId": "r-17"}
    assert "r-17" in only_error(bad.json())["message"]


async def test_an_id_is_made_where_none_was_given(client: httpx2.AsyncClient) -> None:
    response = await post(client, {"query": "{"})
    assert re.fullmatch("[0-9a-f]{16}", response.json()["extensions"]["requestId"])


# Errors in fields


async def test_a_refusal_in_a_field(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs:
        response = await post(client, {"query": "{ greeting refused }"})
    assert response.status_code == 200
    assert response.json()["data"] == {"greeting": "Hello, you", "refused": None}
    assert only_error(response.json()) == {
        "message": "No room is left.",
        "path": ["refused"],
        "locations": [{"line": 1, "column": 12}],
        "extensions": {
            "code": "QUOTA_EXCEEDED",
            "key": "storage",
            "limit": 10,
            "used": 10,
            "requested": 1,
        },
    }
    assert logs == []


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("{ broken }", {"broken": None}),
        ("{ tooLarge }", {"tooLarge": None}),
        ("{ nothing }", None),
    ],
    ids=["an exception", "a result that does not fit its type", "null where none may be"],
)
async def test_a_fault_in_a_field(client: httpx2.AsyncClient, query: str, data: object) -> None:
    """The client gets a sentence with the request's id; the operator finds the trace under it."""
    with capture_logs() as logs:
        response = await post(client, {"query": query})
    request_id = response.json()["extensions"]["requestId"]
    assert response.status_code == 200
    assert response.json()["data"] == data
    error = only_error(response.json())
    assert error["message"] == (f"Something went wrong on our side. Tell your operator this request id: {request_id}")
    assert error["extensions"] == {"code": "INTERNAL"}
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert entry["request_id"] == request_id
    assert isinstance(entry["exc_info"], Exception)


class Stumbling(SchemaExtension):
    def on_validate(self) -> Iterator[None]:
        raise RuntimeError("secret of the machinery")
        yield


async def test_a_fault_before_any_field(sessions: Sessions) -> None:
    """A fault of ours, though the operation was never begun: not the client's 400."""
    door = GraphQLDoor(make_schema(Query, Mutation, scalars=EVEN, extensions=[Stumbling]), sessions)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=door), base_url="http://t") as client:
        with capture_logs() as logs:
            response = await post(client, {"query": "{ greeting }"})
    assert response.status_code == 500
    assert only_error(response.json())["extensions"] == {"code": "INTERNAL"}
    assert "secret" not in response.text
    assert [str(entry["exc_info"]) for entry in logs] == ["secret of the machinery"]


async def test_many_faults_are_logged_once(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs:
        answer = await ask(client, "{ boxes { name } broken a: broken b: broken }")
    assert [error["path"] for error in answer["errors"]] == [["broken"], ["a"], ["b"]]
    assert [(entry["failures"], entry["path"]) for entry in logs] == [(3, ["broken"])]


async def test_an_argument_that_turns_out_null(client: httpx2.AsyncClient) -> None:
    """Found while running, yet the client's mistake: it is told what was wrong, and the log stays empty."""
    with capture_logs() as logs:
        answer = await ask(client, 'query($n: String = "x") { greeting(name: $n) }', n=None)
    assert only_error(answer)["extensions"]["code"] == "INVALID_QUERY"
    assert "name" in only_error(answer)["message"]
    assert logs == []


# The probes of graphql-cop, each answered as a hardened server should


async def test_probe_duplicate_fields(client: httpx2.AsyncClient) -> None:
    response = await post(client, {"query": "{ " + "__typename " * 500 + "}"})
    assert response.status_code == 400
    assert only_error(response.json())["extensions"]["code"] == "QUERY_TOO_WIDE"


async def test_probe_unknown_directives(client: httpx2.AsyncClient) -> None:
    """A flood of mistakes is answered with a few of them."""
    answer = await ask(client, "{ __typename " + " ".join(f"@aa{n}" for n in range(10)) + " }")
    assert len(answer["errors"]) == 5


async def test_probe_field_suggestions(client: httpx2.AsyncClient) -> None:
    for query in ("{ greetin }", '{ greeting(nam: "x") }', "query($n: Strin) { greeting(name: $n) }"):
        assert "did you mean" not in str(await ask(client, query)).lower()


async def test_probe_array_batch(client: httpx2.AsyncClient) -> None:
    assert (await post(client, [{"query": "{ __typename }"}] * 10)).status_code == 400


async def test_probe_queries_and_mutations_by_get(client: httpx2.AsyncClient) -> None:
    for query in ("{ __typename }", 'mutation { rename(name: "x") { name } }'):
        response = await client.get("/graphql", params={"query": query}, headers={"accept": GRAPHQL_JSON})
        assert response.status_code == 405


async def test_probe_url_encoded_post(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/graphql", data={"query": "{ __typename }"})).status_code == 415


async def test_probe_ide(client: httpx2.AsyncClient) -> None:
    response = await client.get("/graphql", headers={"accept": "text/html"})
    assert "graphiql" not in response.text.lower()


async def test_probe_trace_mode(client: httpx2.AsyncClient) -> None:
    answer = await ask(client, "{ __typename broken }")
    assert "tracing" not in answer["extensions"]
    assert "Traceback" not in str(answer)


async def test_probe_unhandled_error(client: httpx2.AsyncClient) -> None:
    answer = await ask(client, "queryy { __typename }")
    assert "exception" not in str(answer).lower()
    assert only_error(answer)["extensions"]["code"] == "SYNTAX_ERROR"


async def test_probe_circular_introspection(client: httpx2.AsyncClient) -> None:
    circle = "fields { type { " * 4 + "name" + " } }" * 4
    response = await post(client, {"query": f"{{ __schema {{ types {{ {circle} }} }} }}"})
    assert response.status_code == 400
    assert "introspection depth" in only_error(response.json())["message"]
