"""What a routing table needs of predictor processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.serving.predictors.limits import default_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is needed of a version: how many replicas, and what each may use."""

    digest: str
    name: str  # of the service, `namespace/name/version`
    path: Path
    min_replicas: int
    max_replicas: int
    idle_seconds: float
    memory_bytes: int
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)  # the user's; what the platform sets comes before it


def needs_of(table: RoutingTable) -> dict[str, Need]:
    """What a table needs of each version that is scored in a process, by its digest; one of several services gets the most of each."""
    needs: dict[str, Need] = {}
    for service in table.services:
        if not service.loaded:
            continue
        answering = {service.champion, *(route.version for route in service.routes), *service.shadows}
        for served in service.every_version:
            if served.runtime == "process":
                is_answering = served.version in answering or served in (service.transformer, service.explainer)
                need = _need(service, served, is_answering=is_answering)
                known = needs.get(served.digest)
                needs[served.digest] = need if known is None else _both(known, need)
    return needs


def _need(service: Service, served: Served, *, is_answering: bool) -> Need:
    # A version that only stands by is there so that going back takes no time: one replica does.
    at_least = service.min_replicas if is_answering else min(1, service.min_replicas)
    at_most = max(1, service.min_replicas, service.max_replicas)
    return Need(
        digest=served.digest,
        name=f"{service.namespace}/{service.name}/{served.version}",
        path=Path(served.path),
        min_replicas=at_least,
        max_replicas=at_most,
        idle_seconds=service.idle_seconds,
        memory_bytes=service.memory_bytes or default_memory(),
        threads=max(1, int(service.cpu or 1)),
        environment=served.environment,
    )


def _both(one: Need, other: Need) -> Need:
    return Need(
        digest=one.digest,
        name=one.name,
        path=one.path,
        min_replicas=max(one.min_replicas, other.min_replicas),
        max_replicas=max(one.max_replicas, other.max_replicas),
        idle_seconds=max(one.idle_seconds, other.idle_seconds),
        memory_bytes=max(one.memory_bytes, other.memory_bytes),
        threads=max(one.threads, other.threads),
        environment=one.environment,
    )
