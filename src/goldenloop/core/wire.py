"""What control and inference workers say to each other over a Unix stream socket: JSON, one message a line.

worker → control   Hello once; Serving after each table it took; Held when a request begins to wait for control;
                   Settled in answer to Settle; Wanted when a client asks to load or to unload a service
control → worker   Nudge when the table file changed; Settle to learn that everything that had arrived before is answered and logged
"""

from __future__ import annotations

import msgspec


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    worker: str
    pid: int


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """The generation a worker answers by; `failed` maps `namespace/service/version` to why it could not be loaded."""

    generation: int
    failed: dict[str, str] = {}


class Held(msgspec.Struct, frozen=True, tag="held"):
    namespace: str
    service: str
    event_us: int


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """A client of the model repository asks that this service be loaded, or not."""

    namespace: str
    service: str
    loaded: bool


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    number: int


class Nudge(msgspec.Struct, frozen=True, tag="nudge"):
    generation: int


class Settle(msgspec.Struct, frozen=True, tag="settle"):
    number: int


FromWorker = Hello | Serving | Held | Settled | Wanted
ToWorker = Nudge | Settle
