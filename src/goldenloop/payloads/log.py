"""The payload log: every request, answer and label, in segment files that one process writes and any process may read.

Rules. A segment is `<writer>-<start millisecond, 13 digits>-<sequence, 6 digits>.log`; a writer makes its own and never appends to one
that was there before it. A record is in the file when `append` returns, so the death of the process loses none. How soon it is on the
disk, so that a power cut loses none either, is the mode's:

    durable    when `append` returns
    interval   at most 100 ms later (the default)
    async      when the operating system sees fit

A write that fails leaves nothing behind it, and raises UnavailableError: what could not be logged must not be answered.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.routing import PayloadMode
from goldenloop.payloads import frames
from goldenloop.payloads.records import Record
from goldenloop.payloads.sealed import Manifest, Sealed, read_file
from goldenloop.store.disk import sync_folder

SEGMENT_BYTES = 64 * 1024 * 1024
SYNC_SECONDS = 0.1  # the most that `interval` mode lets a record wait for the disk

_READ_BYTES = 1024 * 1024
SEGMENT = re.compile(r"^(?P<writer>[A-Za-z0-9_.-]+)-(?P<start>\d{13,})-(?P<sequence>\d{6,})\.log$")
_FULL_MEND = "Free some room or mend the disk; requests are answered again as soon as the log can be written."


class PayloadWriter:
    """Appends records to segments of its own. One thread appends; another may sync at the same time.

    `append` keeps the promise of the mode before it returns. Who serves many requests on one event loop calls `write` and then awaits
    `synced`, so that requests which wait at the same time share one sync of the disk.
    """

    def __init__(
        self, folder: Path, writer_name: str, *, mode: PayloadMode = "interval", segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", writer_name):
            raise InvalidSpecError(
                f"{writer_name!r} cannot name a writer",
                where="--name",
                mend="Use letters, digits, dots, dashes and underscores.",
            )
        self.mode = mode
        self.sync_failures = 0  # syncs in the background that failed since the start
        self._folder = folder
        self._name = writer_name
        self._segment_bytes = segment_bytes
        self._encoder = msgspec.msgpack.Encoder()
        self._descriptor = -1
        self._seed = 0
        self._size = 0
        self._sequence = 0
        self._written = 0  # records, over all segments
        self._on_disk = 0
        self._lost = range(
            0
        )  # the records (counted from 1) of which a failed sync left unknown whether they are on the disk
        self._is_broken = False  # nothing more may be appended to the present segment
        self._closing = False
        self._lock = threading.Lock()  # held while the descriptor is synced or changed
        self._dirty = threading.Event()
        self._group: asyncio.Task[None] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"the payload log cannot be written: {error.strerror}",
                where=str(folder),
                mend="Check the path and its permissions.",
            ) from error

    def append(self, record: Record) -> None:
        """Write one record. In `durable` mode it is on the disk when this returns.

        Raises UnavailableError where it cannot be written, InvalidSpecError for a record larger than any frame.
        """
        self.write(record)
        if self.mode == "durable":
            self.sync()

    def write(self, *records: Record) -> None:
        """Write records in one piece, all or none, and leave it to `synced`, `sync` or the background to bring them to the disk.

        Raises as `append`.
        """
        bodies = [self._encoder.encode(record) for record in records]
        for body in bodies:
            if len(body) > frames.LARGEST_BODY:
                raise InvalidSpecError(
                    f"the record has {len(body)} bytes, more than {frames.LARGEST_BODY}",
                    mend="Send fewer rows in one request.",
                )
        if self._descriptor < 0 or self._is_broken or self._size >= self._segment_bytes:
            self._rotate()
        seed = self._seed
        content = b"".join([frames.frame(body, seed=seed) for body in bodies])
        try:
            done = os.write(self._descriptor, content)
            while done < len(content):
                done += os.write(self._descriptor, content[done:])
        except OSError as error:
            self._take_back()
            raise UnavailableError(
                f"the payload log cannot be written: {error.strerror}", where=str(self._folder), mend=_FULL_MEND
            ) from error
        self._size += len(content)
        self._written += len(bodies)
        if self.mode == "interval" and not self._dirty.is_set():
            self._dirty.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._sync_for_ever, name="payload-sync", daemon=True)
                self._thread.start()

    def sync(self) -> None:
        """Bring everything that was written to the disk. Raises UnavailableError."""
        with self._lock:
            upto = self._written
            if self._on_disk < upto:
                self._sync_descriptor()
                self._on_disk = upto

    async def synced(self) -> None:
        """Wait until everything written so far is on the disk, whatever the mode. Raises UnavailableError."""
        target = self._written
        while self._on_disk < target:
            if self._group is None or self._group.done():
                self._group = asyncio.create_task(self._sync_group())
            await asyncio.shield(self._group)
        if target in self._lost:
            raise UnavailableError(
                "the payload log could not be brought to the disk", where=str(self._folder), mend=_FULL_MEND
            )

    def close(self) -> None:
        """Sync, and let go of the segment."""
        self._closing = True
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.sync()
        finally:
            with self._lock:
                self._drop_descriptor()
            if self._pool is not None:
                self._pool.shutdown()

    async def _sync_group(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="payload-sync")
        await asyncio.get_running_loop().run_in_executor(self._pool, self.sync)

    def _sync_for_ever(self) -> None:
        while True:
            self._dirty.wait()
            time.sleep(0 if self._closing else SYNC_SECONDS / 2)  # half to gather, half for the disk to take
            self._dirty.clear()
            # Asked after the clearing, which may have undone what `close` set.
            if self._closing:
                return
            try:
                self.sync()
            except UnavailableError:
                # What was answered stays in the file and in the system's memory; the next record goes to a new segment.
                self.sync_failures += 1

    def _sync_descriptor(self) -> None:
        """Sync the present segment; the lock is held."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # After a failed sync nothing is known of what the system still holds, and a second one would claim success.
            self._is_broken = True
            self._lost = range(self._on_disk + 1, self._written + 1)
            self._on_disk = self._written
            raise UnavailableError(
                f"the payload log cannot be brought to the disk: {error.strerror}",
                where=str(self._folder),
                mend=_FULL_MEND,
            ) from error

    def _take_back(self) -> None:
        """Remove a frame that was written in part, so that it hides nothing that follows."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._is_broken = True

    def _rotate(self) -> None:
        """Begin a new segment. What the old one holds is synced first, except in `async` mode."""
        with self._lock:
            if self.mode != "async" and self._on_disk < self._written:
                self._sync_descriptor()
            self._on_disk = self._written
            self._drop_descriptor()
            stamp = time.time_ns() // 1_000_000
            try:
                while True:
                    name = f"{self._name}-{stamp:013d}-{self._sequence:06d}.log"
                    try:
                        descriptor = os.open(
                            self._folder / name,
                            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC,
                            0o644,
                        )
                        break
                    except FileExistsError:
                        stamp += 1
                self._open_segment(descriptor, name)
            except OSError as error:
                raise UnavailableError(
                    f"no segment of the payload log can be begun: {error.strerror}",
                    where=str(self._folder),
                    mend=_FULL_MEND,
                ) from error

    def _open_segment(self, descriptor: int, name: str) -> None:
        try:
            # Readers see by this lock, which dies with the process, whether more may come.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.write(descriptor, frames.MAGIC) != frames.HEADER_BYTES:
                raise OSError(28, os.strerror(28))
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            (self._folder / name).unlink(missing_ok=True)
            raise
        self._descriptor = descriptor
        self._seed = frames.seed_of(name)
        self._size = frames.HEADER_BYTES
        self._sequence += 1
        self._is_broken = False

    def _drop_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a segment that holds no readable record."""

    file: str
    offset: int
    reason: str


class PayloadReader:
    """Gives the records of a folder as they come, each once: segments by name, in each segment in order.

    `positions` (file name → offset after the last record given) may be saved and handed to a later reader. `damage` names every stretch
    that could not be read since this reader was made; none of it is ever given as data, and what follows it is found. A segment that was
    sealed is read on from its sealed files at the same position.
    """

    def __init__(self, folder: Path, positions: Mapping[str, int] | None = None) -> None:
        self.positions: dict[str, int] = dict(positions or {})
        self.damage: list[Damage] = []
        self._folder = folder
        self._decoder = msgspec.msgpack.Decoder(Record)
        self._sealed = Sealed(folder)
        self._rest: dict[str, deque[tuple[int, Record]]] = {}  # of sealed segments that are being given

    def read(self, limit: int = 10_000) -> list[Record]:
        """Return at most `limit` records that were appended since the last call; an empty list says that there are no more now."""
        records: list[Record] = []
        # In this order: what is sealed after this is still among the segments, or seen the next time.
        self._sealed.refresh()
        present = sorted({*segments(self._folder), *self._sealed.segments})
        for name in self.positions.keys() - set(present):
            # Not known by any manifest yet, it may have been sealed since they were read.
            if not self._was_sealed(name):
                del self.positions[name]
        for name in present:
            if len(records) >= limit:
                break
            manifest = self._sealed.segments.get(name)
            if manifest is None:
                self._read_segment(name, limit - len(records), records)
            elif self.positions.get(name, 0) < manifest.size:
                self._read_sealed(manifest, limit - len(records), records)
        known = len(self._sealed.manifests)
        self._sealed.refresh()
        if not records and len(self._sealed.manifests) > known:
            return self.read(limit)  # a segment went between the listing and its reading: it is there, sealed
        return records

    def _was_sealed(self, name: str) -> bool:
        self._sealed.refresh()
        return name in self._sealed.segments

    def _read_sealed(self, manifest: Manifest, limit: int, records: list[Record]) -> None:
        name = manifest.segment
        if name not in self._rest:
            position = self.positions.get(name, 0)
            for offset, reason in manifest.damage:
                if offset >= position:
                    self._report(name, offset, reason)
            placed: list[tuple[int, Record]] = []
            for file in manifest.files:
                try:
                    placed += read_file(self._sealed.folder, file, filters=[("position", ">", position)])
                except UnavailableError as error:
                    self._report(file.path, 0, error.what)
            self._rest[name] = deque(sorted(placed, key=lambda each: each[0]))
        rest = self._rest[name]
        while rest and limit > 0:
            self.positions[name], record = rest.popleft()
            records.append(record)
            limit -= 1
        if not rest:
            del self._rest[name]
            self.positions[name] = manifest.size

    def _read_segment(self, name: str, limit: int, records: list[Record]) -> None:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            wanted = _READ_BYTES
            while limit > 0:
                position = self.positions.get(name, 0)
                dead = is_dead(descriptor)  # asked before the size: what is not there then will never come
                size = os.fstat(descriptor).st_size
                if size <= position:
                    return
                content = _read(descriptor, position, min(wanted, size - position))
                reaches_end = position + len(content) >= size
                taken, end = self._take(
                    name, content, position, limit=limit, whole=dead and reaches_end, records=records
                )
                limit -= taken
                if end > position:
                    self.positions[name] = end
                    wanted = _READ_BYTES
                elif reaches_end:
                    return
                else:
                    wanted *= 4  # a frame larger than what was read
        finally:
            os.close(descriptor)

    def _take(
        self, name: str, content: bytes, position: int, *, limit: int, whole: bool, records: list[Record]
    ) -> tuple[int, int]:
        """Take up to `limit` records out of a stretch; return how many and the offset in the file that was reached."""
        start = 0
        if position == 0:
            if len(content) < frames.HEADER_BYTES and not whole:
                return 0, 0
            start = min(frames.HEADER_BYTES, len(content))
            if content[:start] != frames.MAGIC:
                self._report(name, 0, "the header is not that of a segment of this version")
        taken = 0
        end = start
        for piece in frames.pieces(memoryview(content), start, seed=frames.seed_of(name), whole=whole):
            end = piece.end
            if piece.body is None:
                self._report(name, position + piece.offset, piece.reason)
                continue
            try:
                records.append(self._decoder.decode(piece.body))
            except msgspec.DecodeError as error:
                self._report(name, position + piece.offset, f"not a record: {error}")
                continue
            taken += 1
            if taken == limit:
                break
        return taken, position + end

    def _report(self, name: str, offset: int, reason: str) -> None:
        self.damage.append(Damage(name, offset, reason))


def segments(folder: Path) -> list[str]:
    """The names of the segments in a folder, sorted."""
    try:
        return sorted(name for name in os.listdir(folder) if SEGMENT.match(name))
    except FileNotFoundError:
        return []


def read_segment(path: Path) -> tuple[list[tuple[int, Record]], list[Damage]]:
    """Every record of a segment with the offset after it, and every stretch that holds none. Nothing of one that is gone."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], []
    decoder = msgspec.msgpack.Decoder(Record)
    records: list[tuple[int, Record]] = []
    damage: list[Damage] = []
    if content[: frames.HEADER_BYTES] != frames.MAGIC:
        damage.append(Damage(path.name, 0, "the header is not that of a segment of this version"))
    start = min(frames.HEADER_BYTES, len(content))
    for piece in frames.pieces(memoryview(content), start, seed=frames.seed_of(path.name), whole=True):
        if piece.body is None:
            damage.append(Damage(path.name, piece.offset, piece.reason))
            continue
        try:
            records.append((piece.end, decoder.decode(piece.body)))
        except msgspec.DecodeError as error:
            damage.append(Damage(path.name, piece.offset, f"not a record: {error}"))
    return records, damage


def is_dead(descriptor: int) -> bool:
    """Whether no writer holds the segment any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _read(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(descriptor, length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
