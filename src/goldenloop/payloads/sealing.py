"""Turns segments that nobody writes any more into Parquet files.

    python -m goldenloop.payloads.sealing PAYLOADS

Rules. A segment goes only when everything it held is on the disk in files that a synced manifest names. Cut off at any instruction, what
was half done is done again: files have names that follow from the segment, and without a manifest they count for nothing. A segment
with damage is not deleted but moved to `damaged`, for somebody to look at; the manifest says where the damage is. One process seals at a
time; another one finds the lock taken and does nothing.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.ids import digest_file
from goldenloop.payloads import frames, sealed
from goldenloop.payloads.columns import label_table, prediction_table
from goldenloop.payloads.log import is_dead, read_segment, segments
from goldenloop.payloads.records import Label, Prediction, Record
from goldenloop.payloads.sealed import Kind, Manifest, Sealed, SealedFile, key_hash, manifest_path
from goldenloop.store.disk import sync_folder

SEGMENTS_AT_ONCE = 8  # that one process seals before it ends
DAMAGED = "damaged"
_EMPTY_SECONDS = 3_600.0  # a segment without a record that is older was left by a writer that died at its beginning
_ROW_GROUP = 16_384  # rows; one of them is read to find one prediction

Placed = tuple[int, Record]
_Record = TypeVar("_Record", bound=Record)


def seal(payloads: Path, *, most: int = SEGMENTS_AT_ONCE, now_us: int | None = None) -> list[Manifest]:
    """Seal segments, oldest first; return what was sealed. Raises UnavailableError where there is no room: then all stays as it was."""
    folder = payloads / sealed.FOLDER
    done: list[Manifest] = []
    try:
        (folder / sealed.MANIFESTS).mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return []
        try:
            known = Sealed(payloads)
            known.refresh()
            for name in segments(payloads):
                if len(done) >= most:
                    break
                if name in known.segments:
                    _let_go(payloads, known.segments[name])
                elif _is_finished(payloads / name):
                    done.append(_seal_one(payloads, name, known, now_us or time.time_ns() // 1_000))
        finally:
            os.close(lock)
    except OSError as error:
        raise UnavailableError(
            f"the payload log cannot be sealed: {error.strerror or error}",
            where=str(error.filename or folder),
            mend="Free some room; the segments are there until they are sealed.",
        ) from error
    return done


def is_due(payloads: Path) -> bool:
    """Whether there is something to seal."""
    return any(_is_finished(payloads / name) for name in segments(payloads))


def _is_finished(path: Path) -> bool:
    """Whether a segment holds something and nobody writes it; one that never held anything goes when it is old."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # it was sealed a moment ago
    try:
        if not is_dead(descriptor):
            return False
        state = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    # Between its making and its lock a segment is empty and looks dead: what holds something has had its lock.
    if state.st_size <= frames.HEADER_BYTES:
        if time.time() - state.st_mtime > _EMPTY_SECONDS:
            path.unlink()
        return False
    return True


def _seal_one(payloads: Path, name: str, known: Sealed, now_us: int) -> Manifest:
    placed, damage = read_segment(payloads / name)
    folder = known.folder
    stem = name.removesuffix(".log")
    files = list(_write_files(folder, stem, placed))
    keys = _keys(placed)
    keys_path = f"keys/{stem}.u64" if len(keys) else ""
    if keys_path:
        _write(folder, folder / keys_path, keys.tofile)
    number = len(known.manifests) + 1
    previous = sealed.BEGINNING if number == 1 else digest_file(manifest_path(folder, number - 1))
    manifest = Manifest(
        number=number,
        previous=previous,
        sealed_us=now_us,
        segment=name,
        size=(payloads / name).stat().st_size,
        records=len(placed),
        damage=tuple((each.offset, each.reason) for each in damage),
        files=tuple(files),
        keys=keys_path,
        keys_digest=digest_file(folder / keys_path) if keys_path else "",
    )
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    # From here on the sealed files count, and no longer the segment.
    _write(folder, manifest_path(folder, number), lambda path: path.write_bytes(content))
    known.refresh()
    _let_go(payloads, manifest)
    return manifest


def _let_go(payloads: Path, manifest: Manifest) -> None:
    path = payloads / manifest.segment
    if manifest.damage:
        (payloads / DAMAGED).mkdir(exist_ok=True)
        path.rename(payloads / DAMAGED / manifest.segment)
    else:
        path.unlink()
    sync_folder(payloads)


def _write_files(folder: Path, stem: str, placed: list[Placed]) -> Iterable[SealedFile]:
    numbers = count()
    tabular = [(at, record) for at, record in placed if isinstance(record, Prediction) and record.rows]
    for (namespace, service, date, columns), group in _groups(
        tabular, lambda record: (record.namespace, record.service, _date(record), record.columns)
    ).items():
        group.sort(key=lambda each: (each[1].id, each[0]))
        place = f"predictions/namespace={quote(namespace)}/loop={quote(service)}/date={date}"
        yield _write_table(
            folder,
            SealedFile(
                path=f"{place}/{stem}-{next(numbers)}.parquet",
                kind="predictions",
                digest="",
                size=0,
                rows=0,
                date=date,
                namespace=namespace,
                service=service,
                columns=columns,
                lowest=group[0][1].id,
                highest=group[-1][1].id,
            ),
            prediction_table(group),
        )
    labels = [(at, record) for at, record in placed if isinstance(record, Label)]
    for (date,), told in _groups(labels, lambda record: (_date(record),)).items():
        told.sort(key=lambda each: (each[1].prediction, each[0]))
        keys = [label.prediction for _, label in told]
        yield _write_table(
            folder,
            _named("labels", date, f"{stem}-{next(numbers)}", lowest=keys[0], highest=keys[-1]),
            label_table(told),
        )
    rest = [
        (at, record)
        for at, record in placed
        if not isinstance(record, Label) and not (isinstance(record, Prediction) and record.rows)
    ]
    for (date,), others in _groups(rest, lambda record: (_date(record),)).items():
        others.sort(key=lambda each: (each[1].id, each[0]))
        ids = [record.id for _, record in others]
        yield _write_table(
            folder,
            _named("others", date, f"{stem}-{next(numbers)}", lowest=ids[0], highest=ids[-1]),
            _other_table(others),
        )


def _named(kind: Kind, date: str, stem: str, *, lowest: str, highest: str) -> SealedFile:
    path = f"{kind}/date={date}/{stem}.parquet"
    return SealedFile(path=path, kind=kind, digest="", size=0, rows=0, date=date, lowest=lowest, highest=highest)


def _other_table(placed: list[tuple[int, _Record]]) -> pa.Table:
    """Requests that are no rows of a table: what they are found by, and the record as it was logged, in MessagePack."""
    encoder = msgspec.msgpack.Encoder()
    return pa.table(
        {
            "id": pa.array([record.id for _, record in placed], pa.string()),  # type: ignore[union-attr]  # no label is among them
            "alias": pa.array([record.alias for _, record in placed], pa.string()),  # type: ignore[union-attr]
            "namespace": pa.array([record.namespace for _, record in placed], pa.string()),  # type: ignore[union-attr]
            "loop": pa.array([record.service for _, record in placed], pa.string()),  # type: ignore[union-attr]
            "received_at": pa.array([record.arrival_us for _, record in placed], pa.timestamp("us", tz="UTC")),
            "record": pa.array([encoder.encode(record) for _, record in placed], pa.binary()),
            "position": pa.array([at for at, _ in placed], pa.int64()),
        }
    )


def _write_table(folder: Path, file: SealedFile, table: pa.Table) -> SealedFile:
    path = folder / file.path
    texts = [
        field.name
        for field in table.schema
        if pa.types.is_string(field.type) and field.name not in ("id", "prediction")
    ]

    def write(partial: Path) -> None:
        pq.write_table(
            table,
            partial,
            compression="zstd",
            row_group_size=_ROW_GROUP,
            write_page_checksum=True,
            use_dictionary=[*texts, *(field.name for field in table.schema if pa.types.is_float64(field.type))],
        )

    _write(folder, path, write)
    return msgspec.structs.replace(file, digest=digest_file(path), size=path.stat().st_size, rows=table.num_rows)


def _write(root: Path, path: Path, write: Callable[[Path], object]) -> None:
    """Make a file beside its place, sync it, and put it there; the folders up to the root are synced too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    folder = path.parent
    while True:
        sync_folder(folder)
        if folder == root:
            return
        folder = folder.parent


def _keys(placed: list[Placed]) -> np.ndarray:
    """What an alias or a label is found by, sorted."""
    keys = {record.prediction if isinstance(record, Label) else record.alias for _, record in placed}
    return np.array(sorted(key_hash(key) for key in keys if key is not None), dtype="<u8")


def _groups(
    placed: list[tuple[int, _Record]], key: Callable[[_Record], tuple[str, ...]]
) -> dict[tuple[str, ...], list[tuple[int, _Record]]]:
    groups: dict[tuple[str, ...], list[tuple[int, _Record]]] = {}
    for at, record in placed:
        groups.setdefault(key(record), []).append((at, record))
    return groups


def _date(record: Record) -> str:
    return to_text(record.arrival_us)[:10]


def main(payloads: str) -> int:
    """Seal what there is; a line for each segment."""
    os.nice(10)
    try:
        for manifest in seal(Path(payloads)):
            print(f"sealed {manifest.segment}: {manifest.records} records, {len(manifest.damage)} damaged stretches")
    except GoldenloopError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
