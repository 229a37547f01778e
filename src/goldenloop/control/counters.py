"""What the inference workers have counted, read from the files that they write (goldenloop.serving.metrics)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

_REQUESTS = "goldenloop_requests_total"
_BUCKET = "goldenloop_request_seconds_bucket"
_COUNT = "goldenloop_request_seconds_count"


@dataclass(slots=True)
class ServiceCounts:
    """Requests of one service since its workers began. `within`: the answered ones that took at most so many seconds."""

    requests: float = 0.0
    failed: float = 0.0  # answered with 5xx
    answered: float = 0.0
    within: dict[float, float] = field(default_factory=dict)


class Counters(Protocol):
    """Says what services have counted."""

    def read(self) -> Mapping[tuple[str, str], ServiceCounts]:
        """By namespace and service."""
        ...


class WorkerCounters:
    """Reads the files of all workers in a folder. A worker that ends leaves its counts there until the platform starts again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Mapping[tuple[str, str], ServiceCounts]:
        """The sums over all workers; nothing where none has begun."""
        if not self._folder.is_dir():
            return {}
        registry = CollectorRegistry()
        collector = MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        found: dict[tuple[str, str], ServiceCounts] = {}
        for family in collector.collect():  # type: ignore[no-untyped-call]
            if family.name not in ("goldenloop_requests", "goldenloop_request_seconds"):
                continue
            for sample in family.samples:
                service = (sample.labels.get("namespace", ""), sample.labels.get("service", ""))
                counts = found.setdefault(service, ServiceCounts())
                if sample.name == _REQUESTS:
                    counts.requests += sample.value
                    if sample.labels.get("code", "").startswith("5"):
                        counts.failed += sample.value
                elif sample.name == _COUNT:
                    counts.answered += sample.value
                elif sample.name == _BUCKET:
                    bound = float(sample.labels["le"])
                    counts.within[bound] = counts.within.get(bound, 0.0) + sample.value
        return found
