"""How a request and its steps become spans. A step belongs to the request in whose task it runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from registry.telemetry.measures import known_method

Finish = Callable[[str, int], None]
"""Gives a request's span its name and outcome: route template and status."""

_propagator = TraceContextTextMapPropagator()


def finish_nothing(route: str, status: int) -> None:
    """For requests that are not traced."""


@contextmanager
def step(tracer: Tracer, name: str, attributes: Mapping[str, str | int | bool]) -> Iterator[None]:
    with tracer.start_as_current_span(name, attributes=attributes):
        yield


@contextmanager
def serving(tracer: Tracer, method: str, traceparent: str | None) -> Iterator[Finish]:
    """`traceparent` is the client's header (W3C Trace Context); one that is malformed starts a new trace."""
    parent = _propagator.extract({"traceparent": traceparent or ""})
    method = known_method(method)
    named = {"http.request.method": method}
    with tracer.start_as_current_span(method, parent, SpanKind.SERVER, named) as span:

        def finish(route: str, status: int) -> None:
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))

        yield finish
