"""What is counted and timed, for Prometheus: GET /metrics of this process, and Ray's own metrics beside it.

Success and failure by reason; time in input, queue, compute and output; batch sizes. GET /metrics tells of the HTTP
process that answers it; with several of them scrape Ray's metrics port instead, where every process reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
VERBS = {"counter": "inc", "gauge": "set", "histogram": "observe"}
OK = "ok"


@dataclass(frozen=True)
class Metric:
    """One row of METRICS."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = {
    "gaugan_requests": Metric("counter", "Requests; outcome is ok or the problem's code.", ("endpoint", "outcome")),
    "gaugan_request_seconds": Metric("histogram", "Time of a whole request.", ("endpoint",), SECONDS),
    "gaugan_stage_seconds": Metric("histogram", "Time by stage: input, queue, compute, output.", ("stage",), SECONDS),
    "gaugan_batch_size": Metric("histogram", "Pictures taken from the queue together.", (), SIZES),
    "gaugan_pictures": Metric("counter", "Pictures painted, by model.", ("model", "version")),
    "gaugan_cache": Metric("counter", "Answers looked up in the cache.", ("result",)),
    "gaugan_requests_inside": Metric("gauge", "Requests that are being answered."),
    "gaugan_stopping": Metric("gauge", "1 while no new requests are let in."),
}  # fmt: skip

Sink = Callable[[str, float, Mapping[str, str]], None]


class Metrics:
    """The numbers of this process. `sink`, if given, is told every value too."""

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = sink
        self._registry = CollectorRegistry()
        self._known = {name: self._make(name, metric) for name, metric in METRICS.items()}

    def _make(self, name: str, metric: Metric) -> Any:
        if metric.kind == "histogram":
            return Histogram(name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets)
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(name, metric.help, metric.labels, registry=self._registry)

    def record(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Adds to a counter, sets a gauge, observes in a histogram."""
        found = self._known[name].labels(**labels) if labels else self._known[name]
        getattr(found, VERBS[METRICS[name].kind])(value)
        if self._sink is not None:
            self._sink(name, value, labels)

    def text(self) -> bytes:
        """All of them in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


def ray_sink() -> Sink:
    """Tells Ray's metrics, which every node exports for all its processes."""
    from ray.util import metrics

    made: dict[str, Any] = {}
    for name, metric in METRICS.items():
        if metric.kind == "histogram":
            made[name] = metrics.Histogram(
                name, description=metric.help, boundaries=list(metric.buckets), tag_keys=metric.labels
            )
        else:
            kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
            made[name] = kind(name, description=metric.help, tag_keys=metric.labels)

    def tell(name: str, value: float, labels: Mapping[str, str]) -> None:
        getattr(made[name], VERBS[METRICS[name].kind])(value, dict(labels))

    return tell
