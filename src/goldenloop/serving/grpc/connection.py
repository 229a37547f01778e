"""One client's HTTP/2 connection, the server's side (RFC 9113): bytes in, calls of a handler and bytes out. No I/O, and no clock.

Rules. At most `MAX_STREAMS` streams are open at once; what comes beyond is refused, and the client may send it again. The connection's
window is given back as data comes, a stream's window only by `allow`, so whoever takes the data bounds it. Frames that move nothing are
counted, and too many of them end the connection, as do all faults that leave the two sides of different minds. A fault of one stream ends
that stream. After `drain` streams that came before are finished, and then the connection is closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from goldenloop.serving.grpc import frames
from goldenloop.serving.grpc.frames import Code, ConnectionFault, StreamFault
from goldenloop.serving.grpc.heads import LARGEST_LIST, HeadReader, check_block_size
from goldenloop.serving.grpc.sending import Sender
from goldenloop.serving.grpc.streams import Handler, Stream

MAX_STREAMS: Final = 256
LARGEST_FRAME: Final = 256 * 1024
CONNECTION_WINDOW: Final = 8 * 1024 * 1024
MOST_IDLE_FRAMES: Final = (
    10_000  # frames that move nothing, between two calls of `calm_down` and less what was answered
)
_MOST_PIECES: Final = 128  # CONTINUATION frames of one header block
_MOST_ABANDONED: Final = 1024  # streams that we ended early and of which data may still be on the way
_CALM_PER_ANSWER: Final = 4  # frames that move nothing and are forgiven for an answer
_SMALL: Final = 16 * 1024  # bytes that are copied rather than looked at
_SIZES = {frames.PRIORITY: 5, frames.RST_STREAM: 4, frames.PING: 8, frames.WINDOW_UPDATE: 4}
_OF_CONNECTIONS = frozenset((frames.SETTINGS, frames.PING, frames.GOAWAY))
_OF_STREAMS = frozenset((frames.PRIORITY, frames.RST_STREAM, frames.PUSH_PROMISE))
_HTTP1 = re.compile(rb"(?!PRI )[A-Z]{3,7} /")
_NOT_HTTP1 = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"This port speaks gRPC. REST is on the port that `inference` has in `goldenloop up --output json`.\n"
)
# Said when the client has said its part, so that what speaks HTTP/1.1 can be answered in its own words.
_BEGINNING = frames.settings(
    {
        frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        frames.MAX_FRAME_SIZE: LARGEST_FRAME,
        frames.MAX_HEADER_LIST_SIZE: LARGEST_LIST,
    }
) + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
_DRAINING = b"draining"  # the ping whose answer says that the client has seen our GOAWAY


class Connection:
    """The state of one connection. Nothing is raised for what a client does wrong: it is told, and the handler hears of it."""

    def __init__(self, write: Callable[[bytes | memoryview], None], handler: Handler) -> None:
        self.is_over = False
        self.streams: dict[int, Stream] = {}
        self.sender = Sender(write, on_sent=self._sent, on_moved=self._moved)
        self._write = write
        self._handler = handler
        self._heads = HeadReader()
        self._rest = b""  # the beginning of a frame whose end has not come
        self._has_preface = False
        self._has_settings = False
        self._window = CONNECTION_WINDOW
        self._newest = 0  # the highest number of a stream
        self._abandoned: dict[int, None] = {}
        self._block: tuple[int, bool, list[bytes]] | None = None  # a header block in pieces: stream, its end, pieces
        self._block_size = 0
        # A DATA frame whose end has not come: its stream, the bytes of data that are left, then those of padding.
        self._data_stream: Stream | None = None
        self._data_left = 0
        self._padding_left = 0
        self._data_ends = False
        self._is_draining = False
        self._refuses_new = False
        self._idle_frames = 0

    @property
    def is_waiting(self) -> bool:
        """Whether a part of something has come and its rest has not: a preface, a frame or a header block."""
        return not self._has_settings or bool(self._rest) or self._block is not None

    def receive(self, data: bytes) -> None:
        """Take bytes as they came from the socket."""
        if self.is_over:
            return
        try:
            self._receive(self._rest + data if self._rest else data)
        except ConnectionFault as fault:
            self.fail(fault.code, fault.what)

    def allow(self, stream: Stream, size: int) -> None:
        """Let the client send at least so many bytes more on a stream."""
        if stream.window < size and not stream.is_ended:
            self._write(frames.window_update(stream.number, size - stream.window))
            stream.window = size

    def reset(self, stream: Stream, code: Code) -> None:
        """End a stream at once. The handler is not told."""
        if self.streams.pop(stream.number, None) is not None:
            self.sender.forget(stream)
            stream.call = None
            self._abandon(stream.number, code)
            self._look_for_end()

    def fail(self, code: Code, what: str = "") -> None:
        """End the connection, saying why."""
        if not self.is_over:
            self._write(frames.goaway(self._newest, code, what))
            self.lose()
            self._handler.closing()

    def lose(self) -> None:
        """Nothing comes and nothing goes any more."""
        self.is_over = True
        self._rest = b""
        self._data_stream = None
        for stream in list(self.streams.values()):
            self._lose(stream)

    def half_close(self) -> None:
        """Nothing more comes: what is asked already is answered, the rest is lost."""
        for stream in [each for each in self.streams.values() if not each.is_ended]:
            self._lose(stream)
        self._refuses_new = True
        self._look_for_end()

    def drain(self) -> None:
        """Ask the client to open no more streams; those that it has opened by then are finished."""
        if not self._is_draining and not self.is_over:
            self._is_draining = True
            self._write(
                frames.goaway(frames.LARGEST_WINDOW, Code.NO_ERROR, "the server is stopping")
                + frames.frame(frames.PING, 0, 0, _DRAINING)
            )

    def stop_taking(self) -> None:
        """Refuse streams from now on; the end of draining's first part."""
        if not self._refuses_new and not self.is_over:
            self._refuses_new = True
            self._write(frames.goaway(self._newest, Code.NO_ERROR, "the server is stopping"))
            self._look_for_end()

    def calm_down(self) -> None:
        """Forget the frames that moved nothing; called every few seconds."""
        self._idle_frames = 0

    def _receive(self, data: bytes) -> None:
        at, size = 0, len(data)
        self._rest = b""
        if not self._has_preface:
            at = self._preface(data)
        while not self.is_over:
            if self._data_left or self._padding_left:
                at = self._more_data(data, at)
            if size - at < frames.HEAD_SIZE:
                break
            high, low, kind, flags, number = frames.unpack_head(data, at)
            length = high << 8 | low
            number &= 0x7FFFFFFF
            begin = at + frames.HEAD_SIZE
            end = begin + length
            self._check_frame(kind, length, number)
            if kind == frames.DATA:
                if flags & frames.PADDED and length and begin >= size:
                    break
                at = self._data(data, begin, length, flags, number)
                continue
            if end > size:
                break
            at = end
            try:
                if kind == frames.HEADERS:
                    self._headers(data[begin:end], flags, number)
                else:
                    self._other(kind, data[begin:end], flags, number)
            except StreamFault as fault:
                self._stream_fault(fault)
        if at < size and not self.is_over:
            self._rest = data[at:]

    def _preface(self, data: bytes) -> int:
        """Read the first bytes of the connection; return the place after them, or the end where more must come."""
        if len(data) < len(frames.PREFACE) and frames.PREFACE.startswith(data):
            self._rest = data
            return len(data)
        if not data.startswith(frames.PREFACE):
            if _HTTP1.match(data):
                self._write(_NOT_HTTP1)
                self.lose()
                self._handler.closing()
                return len(data)
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the connection does not begin as HTTP/2 does")
        self._has_preface = True
        self._write(_BEGINNING)
        return len(frames.PREFACE)

    def _check_frame(self, kind: int, length: int, number: int) -> None:
        if length > LARGEST_FRAME:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame has {length} bytes, {LARGEST_FRAME} are allowed")
        if kind != frames.DATA:
            check_block_size(length)  # nothing else needs more
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "another frame comes within a header block")
        if not self._has_settings and kind != frames.SETTINGS:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _data(self, data: bytes, at: int, length: int, flags: int, number: int) -> int:
        """Take the head of a DATA frame; return where its data begins."""
        left, padding = length, 0
        if flags & frames.PADDED:
            if not length or data[at] >= length:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame has more padding than it has room for")
            padding = data[at]
            at += 1
            left -= padding + 1
        self._window -= length
        if self._window < CONNECTION_WINDOW // 2:  # long before it runs out: a frame is much smaller than half
            self._write(frames.window_update(0, CONNECTION_WINDOW - self._window))
            self._window = CONNECTION_WINDOW
        stream = self.streams.get(number)
        if stream is None or stream.is_ended:
            self._unwanted_data(number, stream)
            stream = None
        else:
            stream.window -= length
            if stream.window < 0:
                self._stream_fault(StreamFault(number, Code.FLOW_CONTROL_ERROR))
                stream = None
        self._data_stream = stream
        self._data_left = left
        self._padding_left = padding
        self._data_ends = bool(flags & frames.END_STREAM)
        if not left and stream is not None:
            if self._data_ends:
                self._ended(stream)
            else:
                self._idle()
        return at

    def _more_data(self, data: bytes, at: int) -> int:
        """Take what is there of a DATA frame; return the place after it."""
        left = self._data_left
        if left:
            end = min(at + left, len(data))
            self._data_left = left = left - (end - at)
            stream = self._data_stream
            if stream is not None and stream.number in self.streams:
                stream.received += end - at
                chunk = data[at:end] if end - at <= _SMALL else memoryview(data)[at:end]
                if left == 0 and self._data_ends:
                    self._ended(stream, chunk)
                else:
                    self._handler.received(stream, chunk)
            at = end
        if not left and self._padding_left:
            skipped = min(self._padding_left, len(data) - at)
            self._padding_left -= skipped
            at += skipped
        return at

    def _unwanted_data(self, number: int, stream: Stream | None) -> None:
        """Data of a stream that does not expect any: what was ended early is let pass."""
        if number % 2 == 0 or number > self._newest:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"data comes on stream {number}, which was not opened")
        self._idle()
        if stream is not None or number not in self._abandoned:
            self._stream_fault(StreamFault(number, Code.STREAM_CLOSED))

    def _ended(self, stream: Stream, chunk: bytes | memoryview = b"") -> None:
        """The client has sent all of a stream, this chunk last."""
        stream.is_ended = True
        expected = stream.head.content_length
        if expected is not None and expected != stream.received:
            self._stream_fault(StreamFault(stream.number, Code.PROTOCOL_ERROR))
        else:
            self._handler.received(stream, chunk)

    def _headers(self, payload: bytes, flags: int, number: int) -> None:
        at, end = 0, len(payload)
        if flags & frames.PADDED:
            if not payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a padded frame does not say how long its padding is")
            end -= payload[0]
            at = 1
        if flags & frames.HAS_PRIORITY:
            at += 5
        if at > end:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame has more padding than it has room for")
        block = payload[at:end] if at or end < len(payload) else payload
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._head(number, block, ends=ends)
        else:
            self._block = (number, ends, [block])
            self._block_size = len(block)

    def _continuation(self, payload: bytes, flags: int) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block goes on that was not begun")
        number, ends, pieces = self._block
        self._block_size += len(payload)
        check_block_size(self._block_size)
        pieces.append(payload)
        if len(pieces) > _MOST_PIECES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block comes in too many pieces")
        if flags & frames.END_HEADERS:
            self._block = None
            self._head(number, b"".join(pieces), ends=ends)

    def _head(self, number: int, block: bytes, *, ends: bool) -> None:
        """A whole header block: the head of a new stream, or the trailers of one."""
        head = self._heads.read(block)  # always: later blocks build on it
        if number % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a client opens stream {number}")
        stream = self.streams.get(number)
        if stream is not None:
            if stream.is_ended:
                raise StreamFault(number, Code.STREAM_CLOSED)
            if not ends or head.method or head.path:
                raise StreamFault(number, Code.PROTOCOL_ERROR)
            self._ended(stream)
            return
        if number <= self._newest:
            if number not in self._abandoned:
                raise ConnectionFault(Code.STREAM_CLOSED, f"headers come on stream {number}, which has ended")
            self._idle()
            return
        self._newest = number
        if self._refuses_new or len(self.streams) >= MAX_STREAMS:
            raise StreamFault(number, Code.REFUSED_STREAM)
        if head.malformed is not None:
            raise StreamFault(number, Code.PROTOCOL_ERROR)
        stream = self.streams[number] = Stream(number, head, self.sender.first_window)
        self._handler.opened(stream)
        if ends and number in self.streams:
            self._ended(stream)

    def _other(self, kind: int, payload: bytes, flags: int, number: int) -> None:
        """Frames other than DATA and HEADERS. Kinds that are not known mean nothing."""
        if kind == frames.CONTINUATION:
            self._continuation(payload, flags)
            return
        self._idle()
        if kind in _SIZES and len(payload) != _SIZES[kind]:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of kind {kind} has {len(payload)} bytes")
        if kind in _OF_CONNECTIONS and number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a frame of kind {kind} names stream {number}")
        if kind in _OF_STREAMS and not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a frame of kind {kind} names no stream")
        if kind == frames.WINDOW_UPDATE:
            self._window_update(number, frames.unpack_number(payload)[0] & 0x7FFFFFFF)
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._write(frames.frame(frames.PING, frames.ACK, 0, payload))
            elif payload == _DRAINING and self._is_draining:
                self.stop_taking()
        elif kind == frames.SETTINGS:
            self._settings(payload, is_answer=bool(flags & frames.ACK))
        elif kind == frames.RST_STREAM:
            self._check_opened(kind, number)
            stream = self.streams.get(number)
            if stream is not None:
                self._lose(stream)
                self._look_for_end()
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client promises a stream")

    def _window_update(self, number: int, increment: int) -> None:
        if number == 0:
            if not increment:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window grows by nothing")
            self.sender.widen(None, increment)
            return
        self._check_opened(frames.WINDOW_UPDATE, number)
        stream = self.streams.get(number)
        if stream is not None:
            if not increment:
                raise StreamFault(number, Code.PROTOCOL_ERROR)
            self.sender.widen(stream, increment)

    def _settings(self, payload: bytes, *, is_answer: bool) -> None:
        if is_answer:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an answer to SETTINGS says something")
            return
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the first window is too large")
                self.sender.set_first_window(value, list(self.streams.values()))
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "the largest frame has a size that none may have")
                self.sender.largest_frame = min(value, LARGEST_FRAME)
            elif name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        self._has_settings = True
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.sender.pump()

    def _check_opened(self, kind: int, number: int) -> None:
        if number % 2 == 0 or number > self._newest:
            raise ConnectionFault(
                Code.PROTOCOL_ERROR, f"a frame of kind {kind} names stream {number}, which was not opened"
            )

    def _stream_fault(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream)
        if stream is not None:
            self._lose(stream)
        else:
            self._idle()
        self._abandon(fault.stream, fault.code)
        self._look_for_end()

    def _lose(self, stream: Stream) -> None:
        """Forget a stream on which nothing comes and nothing goes any more."""
        del self.streams[stream.number]
        self.sender.forget(stream)
        self._handler.lost(stream)
        stream.call = None  # the two hold each other

    def _abandon(self, number: int, code: Code) -> None:
        """Tell the client that a stream is over; what it has sent by then is let pass."""
        self._write(frames.reset(number, code))
        self._abandoned[number] = None
        if len(self._abandoned) > _MOST_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def _sent(self, stream: Stream) -> None:
        """All of an answer went out."""
        self._idle_frames = max(0, self._idle_frames - _CALM_PER_ANSWER)
        del self.streams[stream.number]
        stream.call = None  # the two hold each other
        if not stream.is_ended:  # the client may stop sending
            self._abandon(stream.number, Code.NO_ERROR)
        self._look_for_end()

    def _moved(self, stream: Stream) -> None:
        self._idle_frames = max(0, self._idle_frames - 1)
        self._handler.moved(stream)

    def _idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MOST_IDLE_FRAMES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames move nothing")

    def _look_for_end(self) -> None:
        if self._refuses_new and not self.streams and not self.is_over:
            self.is_over = True
            self._handler.closing()
