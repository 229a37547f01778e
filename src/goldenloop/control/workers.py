"""Control's side of the conversation with the inference workers (messages: `goldenloop.core.wire`).

A thread serves a Unix socket. It keeps, for whoever asks, which generation each worker answers by and which services wait; it decides
nothing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from goldenloop.core.wire import FromWorker, Held, Hello, Nudge, Serving, Settle, Settled, ToWorker, Wanted

_LARGEST_MESSAGE = 1 << 20
_decoder = msgspec.json.Decoder(FromWorker)
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class _Peer:
    connection: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    name: str = ""
    pid: int = 0
    generation: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    settled: int = 0


class Workers:
    """The inference workers that are connected."""

    def __init__(self, path: Path, *, on_news: Callable[[], None]) -> None:
        self._on_news = on_news
        self._changed = threading.Condition()
        self._peers: dict[int, _Peer] = {}
        self._held: dict[tuple[str, str], tuple[int, int]] = {}  # the first and the last event time that waits
        self._wanted: dict[tuple[str, str], bool] = {}  # services that clients want loaded, or not
        self._awaited: int | None = None  # a generation that somebody asked for before all workers had it
        self._settle_number = 0
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        os.chmod(path, 0o600)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stop_reading, self._stop_writing = os.pipe()
        self._selector.register(self._stop_reading, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="workers", daemon=True)
        self._thread.start()

    def nudge(self, generation: int) -> None:
        """Tell all workers that there is a new table."""
        self._send(Nudge(generation))

    def held(self) -> dict[tuple[str, str], tuple[int, int]]:
        """The first and the last event time that waits at each service, by (namespace, name)."""
        with self._changed:
            return dict(self._held)

    def forget_held(self, namespace: str, service: str, before_us: int) -> None:
        """What waited before this moment has been let go; what still waits is reported again."""
        with self._changed:
            _, last = self._held.get((namespace, service), (before_us, before_us))
            if last < before_us:
                del self._held[namespace, service]

    def settle(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until every worker has answered and logged what had reached it; whether all said so in time, and there is one."""
        with self._changed:
            self._settle_number += 1
            number = self._settle_number
        self._send(Settle(number))
        return self._wait(lambda peers: bool(peers) and all(peer.settled >= number for peer in peers), timeout_seconds)

    def serving(self, generation: int, timeout_seconds: float = 30.0) -> bool:
        """Wait until every worker answers by this generation or a later one; whether all do."""
        return self._wait(lambda peers: all(peer.generation >= generation for peer in peers), timeout_seconds)

    def count(self) -> int:
        """How many workers are connected."""
        with self._changed:
            return sum(1 for peer in self._peers.values() if peer.name)

    def failures(self) -> dict[str, str]:
        """What workers could not load: `namespace/service/version` to why."""
        with self._changed:
            return {name: why for peer in self._peers.values() for name, why in peer.failed.items()}

    def is_serving(self, generation: int) -> bool:
        """Whether there are workers and all answer by this generation or a later one; where not, the news is told when they do."""
        with self._changed:
            peers = [peer for peer in self._peers.values() if peer.name]
            holds = bool(peers) and all(peer.generation >= generation for peer in peers)
            self._awaited = None if holds else generation
        return holds

    def wanted(self) -> dict[tuple[str, str], bool]:
        """What clients asked for and nobody wrote down yet, by namespace and service: to load it, or to unload it."""
        with self._changed:
            return dict(self._wanted)

    def written_down(self, wanted: dict[tuple[str, str], bool]) -> None:
        """This need not be told again, unless a client has asked for the contrary since."""
        with self._changed:
            for key, loaded in wanted.items():
                if self._wanted.get(key) is loaded:
                    del self._wanted[key]

    def close(self) -> None:
        """Stop listening and let the workers go."""
        os.write(self._stop_writing, b"x")
        self._thread.join(timeout=5)

    def _wait(self, holds: Callable[[list[_Peer]], bool], timeout_seconds: float) -> bool:
        end = time.monotonic() + timeout_seconds
        with self._changed:
            while not holds([peer for peer in self._peers.values() if peer.name]):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _send(self, message: ToWorker) -> None:
        line = _encoder.encode(message) + b"\n"
        with self._changed:
            peers = list(self._peers.values())
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.connection.sendall(line)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._stop_reading:
                    self._shut()
                    return
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    connection.settimeout(5.0)
                    with self._changed:
                        self._peers[connection.fileno()] = _Peer(connection)
                    self._selector.register(connection, selectors.EVENT_READ)
                else:
                    self._read(key.fd)

    def _read(self, descriptor: int) -> None:
        peer = self._peers[descriptor]
        try:
            piece = peer.connection.recv(65_536)
        except OSError:
            piece = b""
        if not piece or len(peer.buffer) > _LARGEST_MESSAGE:
            self._drop(descriptor)
            return
        peer.buffer += piece
        *lines, rest = peer.buffer.split(b"\n")
        peer.buffer = bytearray(rest)
        for line in lines:
            try:
                self._take(peer, _decoder.decode(line))
            except msgspec.DecodeError:
                self._drop(descriptor)
                return

    def _take(self, peer: _Peer, message: FromWorker) -> None:
        with self._changed:
            if isinstance(message, Hello):
                peer.name, peer.pid = message.worker, message.pid
            elif isinstance(message, Serving):
                peer.generation, peer.failed = message.generation, dict(message.failed)
                if self._awaited is not None and peer.generation >= self._awaited:
                    self._on_news()
            elif isinstance(message, Settled):
                peer.settled = message.number
            elif isinstance(message, Held):
                key = (message.namespace, message.service)
                first, last = self._held.get(key, (message.event_us, message.event_us))
                self._held[key] = (min(first, message.event_us), max(last, message.event_us))
                self._on_news()
            elif isinstance(message, Wanted):
                self._wanted[message.namespace, message.service] = message.loaded
                self._on_news()
            self._changed.notify_all()

    def _drop(self, descriptor: int) -> None:
        with self._changed:
            peer = self._peers.pop(descriptor)
            self._changed.notify_all()
        self._selector.unregister(peer.connection)
        peer.connection.close()

    def _shut(self) -> None:
        for descriptor in list(self._peers):
            self._drop(descriptor)
        self._listener.close()
        self._selector.close()
        os.close(self._stop_reading)
        os.close(self._stop_writing)
