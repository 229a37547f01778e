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
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
LOAD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
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
_BATCHES = Histogram(
    "goldenloop_batch_rows",
    "Rows that were scored in one call.",
    ["namespace", "service", "model_version"],
    buckets=BATCH_BUCKETS,
    registry=_OWN,
)
_QUEUE_SECONDS = Counter(
    "goldenloop_queue_seconds",
    "Seconds that requests waited until their scoring began.",
    ["namespace", "service", "model_version"],
    registry=_OWN,
)
_COMPUTE_SECONDS = Counter(
    "goldenloop_compute_seconds",
    "Seconds of scoring, each call counted once.",
    ["namespace", "service", "model_version"],
    registry=_OWN,
)
_LOAD_SECONDS = Histogram(
    "goldenloop_model_load_seconds",
    "Seconds to load a version.",
    ["namespace", "service", "model_version"],
    buckets=LOAD_BUCKETS,
    registry=_OWN,
)
_UNLOADS = Counter(
    "goldenloop_model_unloads",
    "Services whose versions were let go: idle, or for want of memory.",
    ["namespace", "service"],
    registry=_OWN,
)
_RECORDS = Counter("goldenloop_payload_records", "Records of the payload log, by outcome.", ["outcome"], registry=_OWN)
_NOTICES = Counter(
    "goldenloop_notices",
    "Notices of the logger: sent, spilled to disk while the receiver is away, dropped.",
    ["outcome"],
    registry=_OWN,
)
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


class _Calls:
    """The calls of one version since the last flush."""

    __slots__ = ("compute", "counts", "queue", "rows")

    def __init__(self) -> None:
        self.counts = [0] * (len(BATCH_BUCKETS) + 1)
        self.rows = 0
        self.queue = 0.0
        self.compute = 0.0


class Metrics:
    """One worker's counts."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._requests: dict[tuple[str, str, str, int], int] = {}
        self._tallies: dict[tuple[str, str, str], _Tally] = {}
        self._calls: dict[tuple[str, str, str], _Calls] = {}
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

    def called(
        self, namespace: str, service: str, version: str, *, rows: int, queue_seconds: float, compute_seconds: float
    ) -> None:
        """Count a scoring call: its rows, the time that its requests waited together, and the time it took."""
        key = (namespace, service, version)
        calls = self._calls.get(key)
        if calls is None:
            calls = self._calls[key] = _Calls()
        calls.counts[bisect_left(BATCH_BUCKETS, rows)] += 1
        calls.rows += rows
        calls.queue += queue_seconds
        calls.compute += compute_seconds

    def loaded(self, namespace: str, service: str, version: str, seconds: float) -> None:
        """Count a version that was loaded."""
        _LOAD_SECONDS.labels(namespace, service, version).observe(seconds)

    def unloaded(self, namespace: str, service: str) -> None:
        """Count a service whose versions were let go."""
        _UNLOADS.labels(namespace, service).inc()

    def logged(self, outcome: str, count: int = 1) -> None:
        """Count payload records: `written` or `failed`."""
        self._records[outcome] = self._records.get(outcome, 0) + count

    def noticed(self, outcome: str, count: int) -> None:
        """Count notices of the logger: `sent`, `spilled` or `dropped`. Any thread may call this."""
        _NOTICES.labels(outcome).inc(count)

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
            _add(_SECONDS.labels(*labels), tally.counts, tally.total)
        calls, self._calls = self._calls, {}
        for labels, called in calls.items():
            _add(_BATCHES.labels(*labels), called.counts, called.rows)
            _QUEUE_SECONDS.labels(*labels).inc(called.queue)
            _COMPUTE_SECONDS.labels(*labels).inc(called.compute)
        records, self._records = self._records, {}
        for outcome, count in records.items():
            _RECORDS.labels(outcome).inc(count)

    def exposition(self) -> bytes:
        """Return the sums over all workers."""
        return generate_latest(self._summed())

    def statistics(self, namespace: str, service: str, version: str) -> dict[str, object]:
        """The counts of one version, over all workers, in the form of the protocol's statistics extension. Times are nanoseconds."""
        self.flush()
        registry = self._summed()
        labels = {"namespace": namespace, "service": service, "model_version": version}

        def of(name: str, **more: str) -> float:
            return registry.get_sample_value(name, {**labels, **more}) or 0.0

        answered = int(of("goldenloop_request_seconds_count"))
        failed = int(of("goldenloop_shadow_failures_total"))
        calls = int(of("goldenloop_batch_rows_count"))
        compute = round(of("goldenloop_compute_seconds_total") * 1e9)
        nothing = {"count": 0, "ns": 0}
        return {
            "name": service,
            "version": version,
            "last_inference": 0,
            "inference_count": int(of("goldenloop_batch_rows_sum")),
            "execution_count": calls,
            "inference_stats": {
                "success": {"count": answered, "ns": round(of("goldenloop_request_seconds_sum") * 1e9)},
                "fail": {"count": failed, "ns": 0},
                "queue": {"count": answered, "ns": round(of("goldenloop_queue_seconds_total") * 1e9)},
                "compute_input": nothing,
                "compute_infer": {"count": calls, "ns": compute},
                "compute_output": nothing,
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [],
        }

    def _summed(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        return registry


def _add(histogram: Histogram, counts: list[int], total: float) -> None:
    """Add many observations at once, for which the library has no way: what `observe` does, for each bucket instead of each value."""
    histogram._sum.inc(total)
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
