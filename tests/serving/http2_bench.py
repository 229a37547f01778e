"""A client's side of HTTP/2 for tests: frames written and read by hand, and a handler that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

from goldenloop.serving.grpc import frames
from goldenloop.serving.grpc.connection import Connection
from goldenloop.serving.grpc.hpack import Decoder, Field, encode
from goldenloop.serving.grpc.streams import Stream

REQUEST: list[Field] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
BLOCK = encode(REQUEST)
BEGIN = frames.PREFACE + frames.settings({})


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == frames.RST_STREAM else self.payload[4:8])


def frames_of(data: bytes) -> list[Frame]:
    found = []
    at = 0
    while at < len(data):
        high, low, kind, flags, stream = frames.unpack_head(data, at)
        at += 9
        length = high << 8 | low
        assert at + length <= len(data), "a frame is cut"
        found.append(Frame(kind, flags, stream, data[at : at + length]))
        at += length
    return found


def headers(stream: int, block: bytes = BLOCK, flags: int = frames.END_HEADERS) -> bytes:
    return frames.frame(frames.HEADERS, flags, stream, block)


def data(stream: int, payload: bytes, flags: int = frames.END_STREAM) -> bytes:
    return frames.frame(frames.DATA, flags, stream, payload)


def fields_of(block: bytes) -> dict[bytes, bytes]:
    fields = Decoder(largest_list=100_000).decode(block)
    assert fields is not None
    return dict(fields)


@dataclass
class Recorder:
    """Keeps what a connection says. With `echo`, whatever a stream sends is sent back when it has ended."""

    echo: bool = False
    events: list[tuple[object, ...]] = field(default_factory=list)
    bodies: dict[int, bytearray] = field(default_factory=dict)
    out: bytearray = field(default_factory=bytearray)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.connection = Connection(self.write, self)

    def write(self, written: bytes | memoryview) -> None:
        self.out += written

    def opened(self, stream: Stream) -> None:
        self.events.append(("opened", stream.number, stream.head.path, dict(stream.head.headers)))
        self.bodies[stream.number] = bytearray()

    def received(self, stream: Stream, chunk: bytes | memoryview) -> None:
        body = self.bodies[stream.number]
        body += chunk
        if stream.is_ended:
            self.events.append(("ended", stream.number, bytes(body)))
            if self.echo:
                self.connection.sender.answer(
                    stream, encode([(b":status", b"200")]), bytes(body), encode([(b"x", b"y")])
                )

    def moved(self, stream: Stream) -> None:
        pass

    def lost(self, stream: Stream) -> None:
        self.events.append(("lost", stream.number))

    def closing(self) -> None:
        self.is_closed = True

    def take(self, sent: bytes) -> list[Frame]:
        """Give the connection bytes; return the frames that it answers with."""
        before = len(self.out)
        self.connection.receive(sent)
        return frames_of(bytes(self.out[before:]))


def begun(*, echo: bool = False) -> Recorder:
    recorder = Recorder(echo)
    recorder.take(BEGIN)
    return recorder
