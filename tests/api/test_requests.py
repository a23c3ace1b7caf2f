import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import get_contextvars, merge_contextvars

from api.forwarding import believed_source, forwarded_addresses
from api.requests import RequestRecords, shown
from registry.telemetry import Telemetry, configure

PROXY = "10.0.0.7"
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1"))


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Telemetry:
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    return configure()


class Door:
    """An inner application that remembers what it was told."""

    def __init__(self, route: str | None = "/v2/{name}", failure: Exception | None = None) -> None:
        self.route, self.failure = route, failure
        self.state: Mapping[str, Any] = {}
        self.context: Mapping[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.state, self.context = dict(scope["state"]), get_contextvars()
        if self.route:
            scope["state"]["route"] = self.route
        if self.failure:
            raise self.failure
        await PlainTextResponse("hello", 201)(scope, receive, send)


async def ask(
    app: ASGIApp,
    path: str = "/",
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    peer: str | None = "192.0.2.1",
) -> list[Message]:
    """Calls the application as a server would, and returns what it sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"account=hunter2",
        "headers": raw,
        "client": None if peer is None else (peer, 40000),
    }
    await app(scope, receive, send)
    return sent


def header(sent: Sequence[Message], name: str) -> str:
    found = [value.decode() for key, value in sent[0]["headers"] if key.decode() == name]
    assert len(found) == 1
    return str(found[0])


async def line_of(app: ASGIApp, **request: Any) -> Mapping[str, Any]:
    with structlog.testing.capture_logs(processors=[merge_contextvars]) as lines:
        await ask(app, **request)
    written = [line for line in lines if line["event"] == "request"]
    assert len(written) == 1
    return written[0]


async def test_each_request_has_an_id_of_ours(telemetry: Telemetry) -> None:
    door = Door()
    app = RequestRecords(door, telemetry)
    first, second = header(await ask(app), "x-request-id"), header(await ask(app), "x-request-id")
    assert UUID(hex=first) != UUID(hex=second)
    assert door.state["request_id"] == second
    assert door.context["request_id"] == second
    assert "request_id" not in get_contextvars()


async def test_the_clients_id_is_kept_apart(telemetry: Telemetry) -> None:
    door = Door()
    sent = await ask(RequestRecords(door, telemetry), headers=[("X-Request-Id", "mine\x1b" * 100)])
    assert header(sent, "x-request-id") == door.state["request_id"]
    assert door.state["request_id"] != door.state["client_request_id"]
    assert door.state["client_request_id"].startswith("mine\\x1bmine")
    assert len(door.state["client_request_id"]) < 500


async def test_an_id_that_was_not_sent_is_none(telemetry: Telemetry) -> None:
    door = Door()
    await ask(RequestRecords(door, telemetry))
    assert door.state["client_request_id"] is None


async def test_forwarded_addresses_of_strangers_are_not_believed(telemetry: Telemetry) -> None:
    door = Door()
    app = RequestRecords(door, telemetry, TRUSTED)
    await ask(app, peer="192.0.2.1", headers=[("X-Forwarded-For", "198.51.100.9")])
    assert (door.state["peer"], door.state["source"]) == ("192.0.2.1", "192.0.2.1")
    assert door.state["forwarded"] == ()


async def test_forwarded_addresses_of_trusted_proxies_are_believed(telemetry: Telemetry) -> None:
    door = Door()
    app = RequestRecords(door, telemetry, TRUSTED)
    await ask(
        app,
        peer=PROXY,
        headers=[("X-Forwarded-For", "203.0.113.5, 198.51.100.9"), ("X-Forwarded-For", "::1")],
    )
    assert (door.state["peer"], door.state["source"]) == (PROXY, "198.51.100.9")
    assert door.state["forwarded"] == ("203.0.113.5", "198.51.100.9", "::1")


async def test_a_socket_without_an_address_has_no_source(telemetry: Telemetry) -> None:
    door = Door()
    await ask(RequestRecords(door, telemetry, TRUSTED), peer=None, headers=[("X-Forwarded-For", "203.0.113.5")])
    assert (door.state["peer"], door.state["source"], door.state["forwarded"]) == (None, None, ())


async def test_a_request_is_measured_once_under_its_template(telemetry: Telemetry) -> None:
    await ask(RequestRecords(Door("/v2/{name}/blobs"), telemetry), path="/v2/secret-name/blobs")
    shown = telemetry.exposition().decode()
    assert 'http_response_status_code="201",http_route="/v2/{name}/blobs"} 1.0' in shown
    assert "secret-name" not in shown


async def test_a_request_without_a_template_is_other(telemetry: Telemetry) -> None:
    line = await line_of(RequestRecords(Door(None), telemetry), path="/guessed/path")
    assert line["route"] == "other"
    assert 'http_route="other"' in telemetry.exposition().decode()


async def test_one_line_tells_of_a_request(telemetry: Telemetry) -> None:
    app = RequestRecords(Door(), telemetry)
    line = await line_of(app, path="/v2/a/b", method="PUT", headers=[("User-Agent", "docker/29")])
    told = {name: line[name] for name in ("method", "route", "path", "status", "bytes", "source", "user_agent")}
    assert told == {
        "method": "PUT",
        "route": "/v2/{name}",
        "path": "/v2/a/b",
        "status": 201,
        "bytes": 5,
        "source": "192.0.2.1",
        "user_agent": "docker/29",
    }
    assert line["log_level"] == "info"
    assert UUID(hex=line["request_id"])
    assert line["ms"] >= 0
    assert "hunter2" not in str(line)


async def test_a_line_joins_the_clients_trace(telemetry: Telemetry) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    app = RequestRecords(Door(), telemetry)
    assert (await line_of(app, headers=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")]))["trace_id"] == trace
    assert "trace_id" not in await line_of(app, headers=[("traceparent", "nonsense")])


async def test_a_line_is_bounded_and_cannot_steer_a_terminal(telemetry: Telemetry) -> None:
    app = RequestRecords(Door(), telemetry)
    line = await line_of(app, path="/\x1b[2J\n" + "x" * 5000, headers=[("User-Agent", "\x9b31m" + "y" * 5000)])
    assert line["path"].startswith("/\\x1b[2J\\nxxx")
    assert line["user_agent"].startswith("\\x9b31m")
    assert max(len(line["path"]), len(line["user_agent"])) < 400


@given(st.text())
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    assert shown(text, 200).isascii()
    assert shown(text, 200).isprintable()


async def test_an_unexpected_failure_is_logged_once_and_answered_with_the_id(telemetry: Telemetry) -> None:
    door = Door(failure=ZeroDivisionError("a divisor of hunter2"))
    with structlog.testing.capture_logs() as lines:
        sent = await ask(RequestRecords(door, telemetry))
    body = sent[1]["body"]
    assert sent[0]["status"] == 500
    assert json.loads(body)["errors"][0]["detail"]["requestId"] == header(sent, "x-request-id")
    assert b"hunter2" not in body
    traced = [line for line in lines if line.get("exc_info")]
    assert [line["event"] for line in traced] == ["request failed"]
    assert 'http_response_status_code="500"' in telemetry.exposition().decode()


async def test_a_failure_amid_an_answer_adds_nothing_to_it(telemetry: Telemetry) -> None:
    """The server sees an answer without an end and cuts the connection: the client sees it is not whole."""

    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise OSError("disk gone")

    sent = await ask(RequestRecords(breaking, telemetry))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]


async def test_a_client_that_left_is_no_failure_of_ours(telemetry: Telemetry) -> None:
    door = Door(failure=ClientDisconnect())
    with structlog.testing.capture_logs() as lines:
        assert await ask(RequestRecords(door, telemetry)) == []
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]


async def test_other_kinds_of_connection_pass_untouched(telemetry: Telemetry) -> None:
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is sent or received")

    lifespan: Scope = {"type": "lifespan", "state": {}}
    await RequestRecords(inner, telemetry)(lifespan, nothing, nothing)
    assert seen == [{"type": "lifespan", "state": {}}]


async def test_what_the_lifespan_left_is_still_there_and_not_shared(telemetry: Telemetry) -> None:
    shared = {"system": "built"}
    door = Door()
    records = RequestRecords(door, telemetry)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await records({**scope, "state": shared}, receive, send)

    await ask(server)
    assert door.state["system"] == "built"
    assert shared == {"system": "built"}


@pytest.mark.parametrize(
    ("header", "forwarded"),
    [
        ("", ()),
        ("203.0.113.5", ("203.0.113.5",)),
        ("unknown, 203.0.113.5", ("203.0.113.5",)),
        ("203.0.113.5, unknown", ()),
        ("203.0.113.5:80", ()),
        ("2001:DB8::1, ::ffff:203.0.113.5", ("2001:db8::1", "203.0.113.5")),
        (",".join(["203.0.113.5"] * 500), ("203.0.113.5",) * 16),
    ],
)
def test_forwarded_addresses_are_read_from_the_right(header: str, forwarded: tuple[str, ...]) -> None:
    assert forwarded_addresses(header) == forwarded


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("192.0.2.1", ("203.0.113.5",), "192.0.2.1"),
        (PROXY, (), PROXY),
        (PROXY, ("203.0.113.5",), "203.0.113.5"),
        (PROXY, ("198.51.100.9", "203.0.113.5"), "203.0.113.5"),
        (PROXY, ("203.0.113.5", "10.0.0.8"), "203.0.113.5"),
        (PROXY, ("10.0.0.9", "10.0.0.8"), "10.0.0.9"),
        ("::ffff:10.0.0.7", ("203.0.113.5",), "203.0.113.5"),
        ("a socket's path", ("203.0.113.5",), "a socket's path"),
    ],
)
def test_the_source_is_the_first_that_no_trusted_proxy_has(peer: str, forwarded: tuple[str, ...], source: str) -> None:
    assert believed_source(peer, forwarded, TRUSTED) == source


@given(
    st.lists(st.ip_addresses().map(str)),
    st.ip_addresses(v=4).filter(lambda each: each not in TRUSTED[0]).map(str),
)
def test_what_a_client_writes_never_changes_who_it_is(lies: list[str], client: str) -> None:
    """Whatever stands in the header before the trusted proxy adds the client's own address."""
    assert believed_source(PROXY, forwarded_addresses(",".join([*lies, client])), TRUSTED) == client
