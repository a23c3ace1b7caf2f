"""What a running server tells its operators: measures always, traces once a collector is named.

Only this package knows OpenTelemetry, and nothing here touches its global providers. Labels are words of our
own (route templates, kinds, actions), never a user, repository, tag or raw path: those have no bound.

    telemetry = configure()
    with telemetry.statement():
        ...
    telemetry.request("/v2/{name}/manifests/{reference}", "GET", 200, 0.004)
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from opentelemetry.trace import Tracer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from registry.telemetry import tracing
from registry.telemetry.export import Exports, open_exports
from registry.telemetry.measures import Measures, Stopwatch
from registry.telemetry.tracing import Finish

__all__ = ["EXPOSITION_TYPE", "Finish", "Telemetry", "configure"]

EXPOSITION_TYPE = CONTENT_TYPE_LATEST
"""The media type of `Telemetry.exposition`."""


class Telemetry:
    """May be called from any task of the loop; costs microseconds. Idle where OTEL_SDK_DISABLED is true."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports
        self._measures = Measures(exports.meter)
        self._tracer: Tracer | None = exports.tracer

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is a template, such as /v2/{name}/blobs/{digest}; never the path itself."""
        self._measures.request(route, method, status, seconds)

    def decision(self, kind: str, action: str, allowed: bool) -> None:
        self._measures.decision(kind, action, allowed)

    def statement(self, operation: str = "query") -> Stopwatch:
        """Times the block as one statement. `operation` is a word of ours, never the statement's text."""
        return self._measures.statement(operation)

    def audit_batch(self, rows: int) -> Stopwatch:
        """Times the block as one commit of so many audit entries."""
        return self._measures.audit_batch(rows)

    def audit_step(self, entries: int) -> Stopwatch:
        """Times the block as numbering so many audit entries."""
        return self._measures.audit_step(entries)

    def watch(self, name: str, unit: str, says: str, value: Callable[[], float]) -> None:
        """Asks for this value at each look at the measures."""
        self._measures.watch(name, unit, says, value)

    def watch_pool(self, used: Callable[[], int], idle: Callable[[], int]) -> None:
        """Asks for the database connections of each state at each look at the measures."""
        self._measures.watch_pool(used, idle)

    def span(self, name: str, **attributes: str | int | bool) -> AbstractContextManager[None]:
        """Traces the block as one step of the request it belongs to."""
        return nullcontext() if self._tracer is None else tracing.step(self._tracer, name, attributes)

    def request_span(self, method: str, traceparent: str | None) -> AbstractContextManager[Finish]:
        """Traces the block as a request in the client's trace; call the value with route and status."""
        if self._tracer is None:
            return nullcontext(tracing.finish_nothing)
        return tracing.serving(self._tracer, method, traceparent)

    def exposition(self) -> bytes:
        """All measures in the text format of Prometheus."""
        return generate_latest(self._exports.registry)

    def shutdown(self) -> None:
        """Sends what is left to the collector, for a few seconds at most, whether or not it answers."""
        self._exports.close()


def configure() -> Telemetry:
    """Telemetry as the environment wants it: OpenTelemetry's own OTEL_… variables rule it, none of ours."""
    return Telemetry(open_exports())
