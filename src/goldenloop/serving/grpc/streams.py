"""Streams of HTTP/2: a request and its answer, and what takes them."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from goldenloop.serving.grpc.frames import DEFAULT_WINDOW
from goldenloop.serving.grpc.heads import Head

STREAM_WINDOW: Final = DEFAULT_WINDOW  # bytes that a client may send on a new stream


class Outgoing:
    """What waits to be sent on one stream."""

    __slots__ = ("chunks", "size", "trailers")

    def __init__(self) -> None:
        self.chunks: deque[memoryview] = deque()
        self.size = 0
        self.trailers: bytes | None = None


class Stream:
    """One request and its answer. `call` is what the handler keeps of it."""

    __slots__ = ("call", "head", "is_ended", "number", "outgoing", "received", "send_window", "window")

    def __init__(self, number: int, head: Head, send_window: int) -> None:
        self.number = number
        self.head = head
        self.call: object | None = None
        self.is_ended = False  # the client has sent all
        self.received = 0  # bytes of data
        self.window = STREAM_WINDOW  # bytes that the client may still send
        self.send_window = send_window
        self.outgoing: Outgoing | None = None


class Handler(Protocol):
    """What takes the streams of a connection."""

    def opened(self, stream: Stream) -> None:
        """A stream's head has come."""

    def received(self, stream: Stream, data: bytes | memoryview) -> None:
        """Data of a stream, which must be copied to be kept; with `stream.is_ended` it is the last, and may be empty."""

    def moved(self, stream: Stream) -> None:
        """Data of a stream went out."""

    def lost(self, stream: Stream) -> None:
        """The client has ended the stream, or is gone: nothing can be sent on it any more."""

    def closing(self) -> None:
        """The connection is over: close it when what was written is out."""
