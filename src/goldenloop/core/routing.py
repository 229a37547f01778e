"""The routing table: everything an inference worker knows about what to serve.

Control writes it whole and replaces it atomically; workers only read it. The generation grows by one with every change, so that each
worker can say which table it answers by.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.served import Runtime

PayloadMode = Literal["interval", "durable", "async"]
LoggerMode = Literal["all", "request", "response"]


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A version that can answer: where its folder lies (`goldenloop.core.served`), what digest the model has, and who scores it.

    `environment` is what a user's code finds in its own; the digest tells versions apart that differ in nothing else.
    """

    version: str
    path: str
    digest: str
    runtime: Runtime = "onnx"
    environment: dict[str, str] = {}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the requests, 0..100, that a version answers."""

    version: str
    percent: float


class Batcher(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request may wait for others to be scored with it, and how many rows are scored at once."""

    max_batch_size: int
    max_latency_ms: int


class Logger(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests and answers are sent to as CloudEvents, in KServe's format; `metadata_headers` go with them."""

    url: str
    mode: LoggerMode = "all"
    metadata_headers: tuple[str, ...] = ()


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One inference service.

    `champion` answers what no route claims; `baseline` percent of the requests, from the other end than the routes, it answers as the
    fresh baseline that a canary is compared with. Versions in `versions` that no route names score every request in the shadow if they
    stand in `shadows`. `hold_from_us` is the lockstep of a replay: a request whose event time is at or past it waits until control
    has decided everything that lay before (null: nothing waits).
    """

    namespace: str
    name: str
    loop: str | None = None
    champion: str
    versions: tuple[Served, ...]
    routes: tuple[Route, ...] = ()
    baseline: float = 0.0
    shadows: tuple[str, ...] = ()
    replay: bool = False
    hold_from_us: int | None = None
    payload_mode: PayloadMode = "interval"
    log_payloads: bool = True
    hosts: tuple[str, ...] = ()  # a request with one of these in its Host header means this service
    timeout_seconds: float | None = None
    batcher: Batcher | None = None
    logger: Logger | None = None
    min_replicas: int = (
        1  # predictor processes; with 0 the model is let go when it is idle and loaded for the next request
    )
    max_replicas: int = 1
    idle_seconds: float = 90.0
    concurrency: int | None = None  # requests at the same time; more wait, and beyond the queue's bound are turned away
    memory_bytes: int | None = None
    cpu: float | None = None
    transformer: Served | None = None
    explainer: Served | None = None
    loaded: bool = True  # false: unloaded by a client of the repository

    @property
    def every_version(self) -> tuple[Served, ...]:
        """All that must be there to answer: the versions, and what stands before and beside them."""
        return (*self.versions, *(each for each in (self.transformer, self.explainer) if each is not None))


RouterType = Literal["Sequence", "Splitter", "Ensemble", "Switch"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a node: exactly one of `service`, `node` and `url` is what it asks."""

    name: str = ""
    service: str | None = None
    node: str | None = None
    url: str | None = None
    data: str = "$request"  # of a sequence: `$request`, or `$response` of the step before
    predictions_to_instances: bool = False  # what is sent has its `predictions` as `instances`
    condition: str | None = None
    weight: int | None = None
    dependency: Literal["Soft", "Hard"] = "Soft"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One router of a graph."""

    router_type: RouterType
    steps: tuple[Step, ...]


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """Several services behind one name; a request begins at the node `root`."""

    namespace: str
    name: str
    nodes: dict[str, Node]
    hosts: tuple[str, ...] = ()
    timeout_seconds: float | None = None


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True):
    """All services, and the generation of this state of them."""

    generation: int
    services: tuple[Service, ...] = ()
    graphs: tuple[Graph, ...] = ()
