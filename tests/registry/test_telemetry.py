import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry.telemetry import Telemetry, configure

Labels = frozenset[tuple[str, str]]


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = configure()
    yield telemetry
    telemetry.shutdown()


def samples(telemetry: Telemetry, name: str) -> dict[Labels, float]:
    families = text_string_to_metric_families(telemetry.exposition().decode())
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {_set(sample.labels): sample.value for sample in found}


def _set(labels: dict[str, str]) -> Labels:
    """An empty label means the same as none."""
    return frozenset((name, value) for name, value in labels.items() if value)


def labels(**named: str) -> Labels:
    return frozenset(named.items())


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that takes what OTLP exporters post: its address, and the paths and bodies it got."""
    got: list[tuple[str, bytes]] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def test_a_request_is_measured_in_seconds_by_template_method_and_status(telemetry: Telemetry) -> None:
    telemetry.request("/v2/{name}/blobs/{digest}", "GET", 206, 0.3)
    wanted = {
        "http_route": "/v2/{name}/blobs/{digest}",
        "http_request_method": "GET",
        "http_response_status_code": "206",
    }
    assert samples(telemetry, "http_server_request_duration_seconds_sum") == {labels(**wanted): 0.3}
    buckets = samples(telemetry, "http_server_request_duration_seconds_bucket")
    assert buckets[labels(**wanted, le="0.25")] == 0
    assert buckets[labels(**wanted, le="0.5")] == 1


def test_methods_that_clients_invent_share_one_label(telemetry: Telemetry) -> None:
    for method in ("BREW", "WHEN", "GET"):
        telemetry.request("other", method, 405, 0.001)
    counts = samples(telemetry, "http_server_request_duration_seconds_count")
    methods = {dict(key)["http_request_method"]: count for key, count in counts.items()}
    assert methods == {"_OTHER": 2, "GET": 1}


def test_decisions_are_counted_by_kind_action_and_result(telemetry: Telemetry) -> None:
    for allowed in (True, True, False):
        telemetry.decision("repository", "pull", allowed)
    assert samples(telemetry, "registry_authz_decision_total") == {
        labels(kind="repository", action="pull", result="allowed"): 2,
        labels(kind="repository", action="pull", result="denied"): 1,
    }


def test_a_statement_is_measured_and_its_failure_named(telemetry: Telemetry) -> None:
    with telemetry.statement():
        pass
    with pytest.raises(TimeoutError), telemetry.statement("execute"):
        raise TimeoutError
    postgresql = {"db_system_name": "postgresql"}
    assert samples(telemetry, "db_client_operation_duration_seconds_count") == {
        labels(**postgresql, db_operation_name="query"): 1,
        labels(**postgresql, db_operation_name="execute", error_type="TimeoutError"): 1,
    }


def test_statements_of_concurrent_tasks_are_measured_apart(telemetry: Telemetry) -> None:
    with telemetry.statement(), telemetry.statement():
        pass
    assert list(samples(telemetry, "db_client_operation_duration_seconds_count").values()) == [2]


def test_a_batch_of_audit_entries_has_a_duration_and_a_size(telemetry: Telemetry) -> None:
    with telemetry.audit_batch(12):
        pass
    assert samples(telemetry, "registry_audit_append_duration_seconds_count") == {labels(): 1}
    assert samples(telemetry, "registry_audit_append_entries_sum") == {labels(): 12}


def test_queue_and_pool_are_asked_at_each_look(telemetry: Telemetry) -> None:
    queue = [1, 2, 3]
    telemetry.watch("registry.audit.queue.length", "{entry}", "Entries that wait.", lambda: len(queue))
    telemetry.watch_pool(used=lambda: 4, idle=lambda: 6)
    assert samples(telemetry, "registry_audit_queue_length") == {labels(): 3}
    queue.clear()
    assert samples(telemetry, "registry_audit_queue_length") == {labels(): 0}
    assert samples(telemetry, "db_client_connection_count") == {
        labels(db_client_connection_state="used"): 4,
        labels(db_client_connection_state="idle"): 6,
    }


def test_two_telemetries_share_nothing(telemetry: Telemetry) -> None:
    other = configure()
    other.decision("account", "read", True)
    assert samples(other, "registry_authz_decision_total")
    assert not samples(telemetry, "registry_authz_decision_total")
    other.shutdown()


def test_a_disabled_sdk_measures_nothing_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    telemetry = configure()
    telemetry.request("other", "GET", 200, 0.1)
    telemetry.decision("account", "read", True)
    with telemetry.audit_batch(1), telemetry.statement(), telemetry.span("step"):
        telemetry.watch_pool(lambda: 1, lambda: 1)
    shown = telemetry.exposition().decode()
    assert "http_server" not in shown
    assert "authz" not in shown
    assert "process_cpu_seconds_total" in shown
    telemetry.shutdown()


def test_steps_are_not_traced_without_a_collector(telemetry: Telemetry) -> None:
    with telemetry.request_span("GET", None) as finish, telemetry.span("step", rows=3):
        finish("/v2/", 200)


@pytest.mark.timeout(15)
def test_traces_and_measures_reach_the_collector_at_the_latest_at_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with collector() as (address, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "harbour-master")
        telemetry = configure()
        with telemetry.request_span("GET", f"00-{trace}-00f067aa0ba902b7-01") as finish:
            with telemetry.span("settle quota", rows=3):
                pass
            finish("/v2/{name}/tags/list", 503)
        telemetry.request("/v2/{name}/tags/list", "GET", 503, 0.1)
        telemetry.shutdown()
    spans = b"".join(body for path, body in got if path == "/v1/traces")
    measures = b"".join(body for path, body in got if path == "/v1/metrics")
    assert b"GET /v2/{name}/tags/list" in spans
    assert b"settle quota" in spans
    assert spans.count(bytes.fromhex(trace)) == 2
    assert b"http.server.request.duration" in measures
    assert b"harbour-master" in spans
    assert b"harbour-master" in measures


@pytest.mark.timeout(15)
def test_only_the_named_signal_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (address, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{address}/v1/traces")
        telemetry = configure()
        with telemetry.span("step"):
            telemetry.decision("account", "read", True)
        telemetry.shutdown()
    assert {path for path, _ in got} == {"/v1/traces"}


BUSY_SERVER = """
from registry.telemetry import configure

telemetry = configure()
for number in range(2000):
    with telemetry.span("step", number=number):
        telemetry.request("other", "GET", 200, 0.1)
telemetry.shutdown()
"""


@pytest.mark.parametrize("listens", [True, False], ids=["silent collector", "no collector"])
def test_a_server_ends_soon_without_its_collector(listens: bool) -> None:
    """Left to itself the SDK would try for the better part of a minute."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        if listens:
            place.listen()
        address = f"http://127.0.0.1:{place.getsockname()[1]}"
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-c", BUSY_SERVER]
        ended = subprocess.run(command, env=environment, timeout=15, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
