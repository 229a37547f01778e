"""The routing table: everything an inference worker knows about what to serve.

Control writes it whole and replaces it atomically; workers only read it. The generation grows by one with every change, so that each
worker can say which table it answers by.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PayloadMode = Literal["interval", "durable", "async"]


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is loaded: where its folder lies (`model.onnx`, `signature.json`) and what digest the model has."""

    version: str
    path: str
    digest: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the requests, 0..100, that a version answers."""

    version: str
    percent: float


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One inference service.

    `champion` answers what no route claims. Versions in `versions` that no route names score every request in the shadow if they
    stand in `shadows`. `hold_from_us` is the lockstep of a replay: a request whose event time is at or past it waits until control
    has decided everything that lay before (null: nothing waits).
    """

    namespace: str
    name: str
    loop: str | None = None
    champion: str
    versions: tuple[Served, ...]
    routes: tuple[Route, ...] = ()
    shadows: tuple[str, ...] = ()
    replay: bool = False
    hold_from_us: int | None = None
    payload_mode: PayloadMode = "interval"


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True):
    """All services, and the generation of this state of them."""

    generation: int
    services: tuple[Service, ...] = ()
