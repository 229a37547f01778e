"""KServe's logger: requests and answers as CloudEvents to a URL, beside the payload log.

Rules. Nothing here holds up a prediction: notices are offered to a queue, and a thread for each receiver sends them. While a receiver is
away they are spilled to files, and sent in their order when it is back, also by the next worker of this name; a notice may then come twice,
with the same id and type. Both queue and files have bounds; what is dropped beyond them is counted, as is everything else
(`goldenloop_notices_total`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from goldenloop.core.errors import UnavailableError
from goldenloop.payloads import frames
from goldenloop.serving.outgoing import Poster
from goldenloop.standards.cloudevents import Notice

QUEUE_NOTICES = 10_000
QUEUE_BYTES = 64 * 1024 * 1024
SPILL_BYTES = 1024 * 1024 * 1024  # for each receiver of a worker
FILE_BYTES = 1024 * 1024  # after a crash, at most so much is sent twice
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries to reach a receiver
_SEND_SECONDS = 5.0

Count = Callable[[str, int], None]  # outcome (sent, spilled, dropped), how many


class Notices:
    """What one worker sends. `count` may be called from any thread."""

    def __init__(self, folder: Path, worker: str, *, count: Count) -> None:
        self._folder = folder / worker
        self._count = count
        self._receivers: dict[str, _Receiver] = {}
        for url_file in self._folder.glob("*/url"):
            self._receiver(url_file.read_text())  # what the worker before this one left

    def offer(self, notice: Notice) -> None:
        """Take a notice, or drop it where the queue is full."""
        self._receiver(notice.url).offer(notice)

    def close(self, *, seconds: float = 2.0) -> None:
        """Send what is there for so long, and spill the rest."""
        for receiver in self._receivers.values():
            receiver.stop()
        for receiver in self._receivers.values():
            receiver.join(seconds)

    def _receiver(self, url: str) -> _Receiver:
        receiver = self._receivers.get(url)
        if receiver is None:
            folder = self._folder / hashlib.sha256(url.encode()).hexdigest()[:16]
            receiver = self._receivers[url] = _Receiver(url, folder, self._count)
        return receiver


class _Receiver:
    """One URL: its queue, its thread and its files."""

    def __init__(self, url: str, folder: Path, count: Count) -> None:
        self._url = url
        self._count = count
        self._queue: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        self._stopping = threading.Event()
        self._spill = _Spill(folder, url)
        self._poster = Poster(connections=1)
        self._pause = 0.0  # until the next try; 0 while the receiver answers
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def offer(self, notice: Notice) -> None:
        size = len(notice.body)
        with self._lock:
            has_room = self._waiting < QUEUE_NOTICES and self._waiting_bytes + size <= QUEUE_BYTES
            if has_room:
                self._waiting += 1
                self._waiting_bytes += size
        if has_room:
            self._queue.put(notice)
        else:
            self._count("dropped", 1)

    def stop(self) -> None:
        self._stopping.set()
        self._queue.put(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds + _SEND_SECONDS)

    def _run(self) -> None:
        while True:
            if self._spill.has_any and not self._stopping.is_set():
                self._send_spilled()
            notice = self._next()
            if notice is not None:
                self._deliver(notice)
            elif self._stopping.is_set() and self._queue.empty():
                self._poster.close()
                return

    def _next(self) -> Notice | None:
        """The next notice of the queue, or None when it is time to look again."""
        try:
            notice = self._queue.get(timeout=self._pause or None if self._spill.has_any else None)
        except queue.Empty:
            return None
        if notice is not None:
            with self._lock:
                self._waiting -= 1
                self._waiting_bytes -= len(notice.body)
        return notice

    def _deliver(self, notice: Notice) -> None:
        # What was spilled before goes out before.
        if not self._spill.has_any and not self._stopping.is_set() and self._send(notice):
            return
        self._count(*(("spilled", 1) if self._spill.add(notice) else ("dropped", 1)))

    def _send_spilled(self) -> None:
        for path, notices in self._spill.files():
            for notice in notices:
                if not self._send(notice):
                    return
            self._spill.remove(path)

    def _send(self, notice: Notice) -> bool:
        """Post a notice; False where the receiver is away. What it refuses (4xx) will not be better the next time, and is dropped."""
        try:
            status, _ = self._poster.post(self._url, notice.body, notice.headers, seconds=_SEND_SECONDS)
        except UnavailableError:
            status = 503
        if status >= 500 or status in (408, 429):
            self._pause = min(LONGEST_PAUSE, self._pause * 2 or SHORTEST_PAUSE)
            return False
        self._pause = 0.0
        self._count("sent" if status < 400 else "dropped", 1)
        return True


class _Spill:
    """Notices in files, oldest first: `N.notices`, frames as in the payload log, each file at most `FILE_BYTES` large."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._encoder = msgspec.msgpack.Encoder()
        found = self._paths()
        self._sequence = int(found[-1].stem) + 1 if found else 0
        self._bytes = sum(path.stat().st_size for path in found)
        self._open: Path | None = None  # the file that is appended to
        self.has_any = bool(found)

    def add(self, notice: Notice) -> bool:
        """Append a notice; False where there is no room for it."""
        content = frames.frame(self._encoder.encode(notice), seed=0)
        if self._bytes + len(content) > SPILL_BYTES:
            return False
        try:
            if self._open is None or self._open.stat().st_size >= FILE_BYTES:
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / "url").write_text(self._url)
                self._open = self._folder / f"{self._sequence:012d}.notices"
                self._sequence += 1
            before = self._open.stat().st_size if self._open.exists() else 0
            with open(self._open, "ab") as file:
                try:
                    file.write(content)
                    file.flush()
                except OSError:
                    os.truncate(self._open, before)  # a part of a notice would hide what follows it
                    raise
        except OSError:
            return False
        self._bytes += len(content)
        self.has_any = True
        return True

    def files(self) -> list[tuple[Path, list[Notice]]]:
        """Every file with its notices, oldest first; nothing more is appended to them. What is damaged is left out."""
        self._open = None
        decoder = msgspec.msgpack.Decoder(Notice)
        read = []
        for path in self._paths():
            notices = []
            for piece in frames.pieces(memoryview(path.read_bytes()), 0, seed=0, whole=True):
                if piece.body is not None:
                    with contextlib.suppress(msgspec.DecodeError):
                        notices.append(decoder.decode(piece.body))
            read.append((path, notices))
        return read

    def remove(self, path: Path) -> None:
        """Forget a file: all that was in it has been sent."""
        self._bytes -= path.stat().st_size
        path.unlink()
        self.has_any = bool(self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.notices"))
