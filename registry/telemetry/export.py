"""Where measures and spans go: to a registry that Prometheus reads, and to a collector if one is named.

The exporters are loaded and made only then: one whose collector does not answer holds up the shutdown for half a
minute. For the same reason each export, and the whole shutdown, has a short limit.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from time import monotonic

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, ProcessCollector

EXPORT_SECONDS = 2
SHUTDOWN_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Exports:
    """`tracer` is None where nobody would receive spans. `endings` shut down what was opened."""

    meter: Meter
    tracer: Tracer | None
    registry: CollectorRegistry
    endings: tuple[Callable[[], None], ...]

    def close(self) -> None:
        """Runs all endings at once and waits for a few seconds: a dead collector may not cost more."""
        threads = [threading.Thread(target=ending, daemon=True) for ending in self.endings]
        for thread in threads:
            thread.start()
        deadline = monotonic() + SHUTDOWN_SECONDS
        for thread in threads:
            thread.join(max(0, deadline - monotonic()))


def open_exports() -> Exports:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    meters = MeterProvider(
        _readers(registry), _resource(), exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
    )
    spans = _spans() if _is_sent("TRACES") else None
    tracer = spans.get_tracer("tidewaiter") if spans else None
    endings = (meters.shutdown, spans.shutdown) if spans else (meters.shutdown,)
    return Exports(meters.get_meter("tidewaiter"), tracer, registry, endings)


def _readers(registry: CollectorRegistry) -> list[MetricReader]:
    readers: list[MetricReader] = [PrometheusMetricReader(registry=registry, scope_info_enabled=False)]
    if _is_sent("METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        exporter = OTLPMetricExporter(timeout=EXPORT_SECONDS)
        readers.append(PeriodicExportingMetricReader(exporter, export_timeout_millis=EXPORT_SECONDS * 1000))
    return readers


def _spans() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_SECONDS)))
    return provider


def _resource() -> Resource:
    """Who sends. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    ours = {"service.name": "tidewaiter", "service.version": version("tidewaiter")}
    return Resource.create(ours).merge(OTELResourceDetector().detect())


def _is_sent(signal: str) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(os.environ.get(name) for name in names)
