"""The process's end of its connections, without waiting: what cannot be sent at once is kept and sent when there is room."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator

import msgspec

from goldenloop.serving.predictors.messages import ToProcess
from goldenloop.serving.predictors.wire import Codec, FrameError, Incoming

_LARGEST_BACKLOG = 64 << 20  # bytes of answers; a worker that takes no more is not read from
_MOST_PIECES = 512  # of one system call


class Peer:
    """A connected worker."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        connection.setblocking(False)
        self.number = number
        self.is_open = True
        self._socket = connection
        self._incoming = Incoming()
        self._codec: Codec[ToProcess] = Codec(ToProcess)
        self._outgoing: deque[bytes | memoryview] = deque()
        self._backlog = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_outgoing(self) -> bool:
        """Whether something waits for room."""
        return bool(self._outgoing)

    @property
    def is_choked(self) -> bool:
        """Whether so much waits for room that nothing more shall be read."""
        return self._backlog > _LARGEST_BACKLOG

    def receive(self) -> Iterator[ToProcess]:
        """Read once and return the calls that are complete; closes at the end of the connection."""
        try:
            received = self._socket.recv_into(self._incoming.space())
        except BlockingIOError:
            return
        except OSError:
            received = 0
        if received == 0:
            self.close()
            return
        try:
            for frame in self._incoming.take(received):
                yield self._codec.decode(frame)
        except FrameError:
            self.close()

    def send(self, message: msgspec.Struct) -> None:
        """Send, or keep for later. Raises TypeError, ValueError or OverflowError for what cannot be put into a frame."""
        pieces = self._codec.encode(message)
        if not self.is_open:
            return
        if not self._outgoing:
            try:
                sent = self._socket.sendmsg(pieces)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            pieces = _rest(pieces, sent)
        self._outgoing.extend(pieces)
        self._backlog += sum(map(len, pieces))

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        try:
            while self._outgoing:
                pieces = [self._outgoing[place] for place in range(min(len(self._outgoing), _MOST_PIECES))]
                sent = self._socket.sendmsg(pieces)
                for _ in pieces:
                    self._outgoing.popleft()
                self._outgoing.extendleft(reversed(_rest(pieces, sent)))
                self._backlog -= sent
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        self._outgoing.clear()
        self._backlog = 0
        self._socket.close()

    def drop(self) -> None:
        """Close the descriptor in a forked child, where the connection itself stays the parent's."""
        os.close(self._socket.detach())


def _rest(pieces: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What of the pieces is left when so many bytes have gone."""
    for place, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[place + 1 :]]
        sent -= len(piece)
    return []
