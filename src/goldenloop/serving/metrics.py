"""What a worker counts, in Prometheus' format, summed over all workers of the installation.

`PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported. Values lie in files that every worker maps; writing them costs more
than a dictionary does, so requests are counted here and carried over by `flush`, every 100 ms and before an exposition.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FLUSH_SECONDS = 0.1
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OWN = CollectorRegistry()  # expositions are made of the files of all workers, never of this registry
_REQUESTS = Counter(
    "goldenloop_requests",
    "Inference requests by the version that answered and the status code.",
    ["namespace", "service", "model_version", "code"],
    registry=_OWN,
)
_SECONDS = Histogram(
    "goldenloop_request_seconds",
    "Seconds to lay out, score and record a request, without the time it waited for control.",
    ["namespace", "service", "model_version"],
    buckets=BUCKETS,
    registry=_OWN,
)
_SHADOW_FAILURES = Counter(
    "goldenloop_shadow_failures",
    "Requests that a version beside the answering one failed to score.",
    ["namespace", "service", "model_version"],
    registry=_OWN,
)
_RECORDS = Counter("goldenloop_payload_records", "Records of the payload log, by outcome.", ["outcome"], registry=_OWN)
_FEEDBACK = Counter("goldenloop_feedback", "Labels that were accepted.", registry=_OWN)
_HELD = Gauge(
    "goldenloop_held_requests", "Requests that wait for control to decide what lies before them.",
    multiprocess_mode="livesum", registry=_OWN,
)  # fmt: skip


class _Tally:
    """The latencies of one version since the last flush."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Metrics:
    """One worker's counts."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._requests: dict[tuple[str, str, str, int], int] = {}
        self._tallies: dict[tuple[str, str, str], _Tally] = {}
        self._records: dict[str, int] = {}

    def request(self, *, namespace: str, service: str, version: str, code: int, latency_us: int | None = None) -> None:
        """Count an inference request. Names must be those of services and versions that exist, or empty."""
        key = (namespace, service, version, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if latency_us is not None:
            seconds = latency_us / 1_000_000
            tally = self._tallies.get(key[:3])
            if tally is None:
                tally = self._tallies[key[:3]] = _Tally()
            tally.counts[bisect_left(BUCKETS, seconds)] += 1
            tally.total += seconds

    def shadow_failed(self, namespace: str, service: str, version: str) -> None:
        """Count a failure that the caller did not see."""
        _SHADOW_FAILURES.labels(namespace, service, version).inc()

    def logged(self, outcome: str) -> None:
        """Count a payload record: `written` or `failed`."""
        self._records[outcome] = self._records.get(outcome, 0) + 1

    def feedback(self, count: int) -> None:
        """Count labels."""
        _FEEDBACK.inc(count)

    def held(self, change: int) -> None:
        """Count requests that begin (+1) or end (-1) to wait."""
        _HELD.inc(change)

    def flush(self) -> None:
        """Carry what was counted over to the files."""
        requests, self._requests = self._requests, {}
        for (namespace, service, version, code), count in requests.items():
            _REQUESTS.labels(namespace, service, version, str(code)).inc(count)
        tallies, self._tallies = self._tallies, {}
        for labels, tally in tallies.items():
            child = _SECONDS.labels(*labels)
            # The library has no way to add many observations at once: this is what `observe` does, for each bucket instead of each value.
            child._sum.inc(tally.total)
            for bucket, count in zip(child._buckets, tally.counts, strict=True):
                if count:
                    bucket.inc(count)
        records, self._records = self._records, {}
        for outcome, count in records.items():
            _RECORDS.labels(outcome).inc(count)

    def exposition(self) -> bytes:
        """Return the sums over all workers."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
