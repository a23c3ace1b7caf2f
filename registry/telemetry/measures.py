"""Which measures are kept, under which names and bounds. OpenTelemetry's own names where it has one."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from time import perf_counter
from types import TracebackType
from typing import Self

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

Attributes = Mapping[str, str | int | bool]

# Seconds. From a cached manifest to the upload of a large layer; statements are shorter by far.
REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
STATEMENT_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

# Clients may send any word as a method. RFC 9110 and RFC 5789 know these; the rest share one label.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})


class Stopwatch:
    """Records the seconds of one block, and the kind of exception that left it."""

    __slots__ = ("_attributes", "_began", "_histogram")

    def __init__(self, histogram: Histogram, attributes: Attributes) -> None:
        self._histogram, self._attributes = histogram, attributes
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self._began
        attributes = self._attributes if kind is None else {**self._attributes, "error.type": kind.__qualname__}
        self._histogram.record(seconds, attributes)


class Measures:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._requests = meter.create_histogram(
            "http.server.request.duration",
            "s",
            "Time from the head of a request to the end of its answer.",
            explicit_bucket_boundaries_advisory=REQUEST_BOUNDS,
        )
        self._decisions: Counter[tuple[str, str, bool]] = Counter()
        meter.create_observable_counter(
            "registry.authz.decision",
            [self._observe_decisions],
            "{decision}",
            "Decisions of the law, by kind of place, action and result.",
        )
        self._statements = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Time of a statement, from sending it to its last row.",
            explicit_bucket_boundaries_advisory=STATEMENT_BOUNDS,
        )
        self._batches = meter.create_histogram(
            "registry.audit.append.duration",
            "s",
            "Time of a commit of audit entries.",
            explicit_bucket_boundaries_advisory=STATEMENT_BOUNDS,
        )
        self._batch_rows = meter.create_histogram(
            "registry.audit.append.entries",
            "{entry}",
            "Audit entries in one commit.",
            explicit_bucket_boundaries_advisory=BATCH_BOUNDS,
        )

        self._steps = meter.create_histogram(
            "registry.audit.sequence.duration",
            "s",
            "Time of numbering and hashing one batch of audit entries.",
            explicit_bucket_boundaries_advisory=STATEMENT_BOUNDS,
        )
        self._numbered = meter.create_counter(
            "registry.audit.sequence.entries", "{entry}", "Audit entries that got their number from this server."
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.record(seconds, _request(route, known_method(method), status))

    def decision(self, kind: str, action: str, allowed: bool) -> None:
        """A request makes several, so they are only counted here, and told when somebody looks."""
        self._decisions[kind, action, allowed] += 1

    def statement(self, operation: str) -> Stopwatch:
        return Stopwatch(self._statements, _statement(operation))

    def audit_step(self, entries: int) -> Stopwatch:
        self._numbered.add(entries)
        return Stopwatch(self._steps, {})

    def audit_batch(self, rows: int) -> Stopwatch:
        self._batch_rows.record(rows)
        return Stopwatch(self._batches, {})

    def _observe_decisions(self, _: CallbackOptions) -> Iterable[Observation]:
        for (kind, action, allowed), count in list(self._decisions.items()):
            result = "allowed" if allowed else "denied"
            yield Observation(count, {"kind": kind, "action": action, "result": result})

    def watch(self, name: str, unit: str, says: str, value: Callable[[], float]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(value())

        self._meter.create_observable_gauge(name, [observe], unit, says)

    def watch_pool(self, used: Callable[[], int], idle: Callable[[], int]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(used(), {"db.client.connection.state": "used"})
            yield Observation(idle(), {"db.client.connection.state": "idle"})

        self._meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [observe],
            "{connection}",
            "Database connections of this server, by state.",
        )


def known_method(method: str) -> str:
    return method if method in METHODS else "_OTHER"


# The values of labels come from small sets, so each combination is built once.


@lru_cache(maxsize=1024)
def _request(route: str, method: str, status: int) -> Attributes:
    return {"http.route": route, "http.request.method": method, "http.response.status_code": status}


@lru_cache(maxsize=64)
def _statement(operation: str) -> Attributes:
    return {"db.system.name": "postgresql", "db.operation.name": operation}
