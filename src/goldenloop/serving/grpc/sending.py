"""The sending side of one HTTP/2 connection: frames within the windows that the client gives, streams taking turns.

What does not fit into a window, or what the socket does not take, waits here, with its stream. A head goes out at once; trailers after
all data.
"""

from __future__ import annotations

from collections.abc import Callable

from goldenloop.serving.grpc.frames import (
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST_WINDOW,
    Code,
    ConnectionFault,
    StreamFault,
    frame,
    frame_head,
)
from goldenloop.serving.grpc.streams import Outgoing, Stream


class Sender:
    """Sends on all streams of a connection. `on_sent` is told of a stream's last frame, `on_moved` of data that went out."""

    def __init__(
        self,
        write: Callable[[bytes | memoryview], None],
        *,
        on_sent: Callable[[Stream], None],
        on_moved: Callable[[Stream], None],
    ) -> None:
        self.is_paused = False  # the socket takes no more
        self.first_window = DEFAULT_WINDOW  # of a new stream
        self.largest_frame = DEFAULT_FRAME
        self.window = DEFAULT_WINDOW  # of the connection
        self._write = write
        self._on_sent = on_sent
        self._on_moved = on_moved
        self._waiting: dict[int, Stream] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._waiting)

    def answer(self, stream: Stream, head: bytes, content: bytes, trailers: bytes) -> None:
        """Send a whole answer: in one write, where the windows have room for it."""
        size = len(content)
        if size <= self.largest_frame and size <= self.window and size <= stream.send_window and not self.is_paused:
            self.window -= size
            stream.send_window -= size
            number = stream.number
            self._write(
                b"".join(
                    (
                        frame_head(HEADERS, END_HEADERS, number, len(head)),
                        head,
                        frame_head(DATA, 0, number, size),
                        content,
                        frame_head(HEADERS, END_HEADERS | END_STREAM, number, len(trailers)),
                        trailers,
                    )
                )
            )
            self._on_sent(stream)
            return
        self.head(stream, head)
        self.data(stream, content)
        self.finish(stream, trailers)

    def head(self, stream: Stream, block: bytes) -> None:
        """Send the header block of an answer."""
        self._write(frame(HEADERS, END_HEADERS, stream.number, block))

    def data(self, stream: Stream, content: bytes) -> None:
        """Send data; what there is no room for waits."""
        if stream.outgoing is None:
            stream.outgoing = Outgoing()
        if content:
            stream.outgoing.chunks.append(memoryview(content))
            stream.outgoing.size += len(content)
            self._waiting[stream.number] = stream
            self.pump()

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """End the stream with this header block, after its data."""
        if stream.outgoing is not None and stream.outgoing.size:
            stream.outgoing.trailers = trailers
        else:
            self._end(stream, trailers)

    def forget(self, stream: Stream) -> None:
        """Send nothing more of a stream."""
        stream.outgoing = None
        self._waiting.pop(stream.number, None)

    def pump(self) -> None:
        """Send what the windows and the socket take: one frame of each stream that waits, and round again."""
        has_moved = True
        while has_moved and self._waiting:
            has_moved = False
            for stream in list(self._waiting.values()):
                if self.is_paused:
                    return
                if stream.number in self._waiting and self._send_one(stream):
                    has_moved = True

    def widen(self, stream: Stream | None, increment: int) -> None:
        """Take a WINDOW_UPDATE, of the connection where there is no stream. Raises ConnectionFault, StreamFault."""
        if stream is None:
            self.window += increment
            if self.window > LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window grows too large")
        else:
            stream.send_window += increment
            if stream.send_window > LARGEST_WINDOW:
                raise StreamFault(stream.number, Code.FLOW_CONTROL_ERROR)
        if self._waiting:
            self.pump()

    def set_first_window(self, size: int, streams: list[Stream]) -> None:
        """Take the setting of a stream's first window, which changes all streams' windows by the difference. Raises ConnectionFault."""
        change = size - self.first_window
        self.first_window = size
        for stream in streams:
            stream.send_window += change
            if stream.send_window > LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a stream's window grows too large")

    def _send_one(self, stream: Stream) -> bool:
        outgoing = stream.outgoing
        room = min(self.window, stream.send_window, self.largest_frame)
        if outgoing is None or room <= 0:
            return False
        chunk = outgoing.chunks[0]
        if len(chunk) <= room:
            outgoing.chunks.popleft()
        else:
            outgoing.chunks[0] = chunk[room:]
            chunk = chunk[:room]
        size = len(chunk)
        outgoing.size -= size
        self.window -= size
        stream.send_window -= size
        self._write(frame_head(DATA, 0, stream.number, size))
        self._write(chunk)
        if not outgoing.size:
            self._waiting.pop(stream.number, None)
            if outgoing.trailers is not None:
                self._end(stream, outgoing.trailers)
                return True
        self._on_moved(stream)
        return True

    def _end(self, stream: Stream, trailers: bytes) -> None:
        stream.outgoing = None
        self._write(frame(HEADERS, END_HEADERS | END_STREAM, stream.number, trailers))
        self._on_sent(stream)
