"""Sealed segments: what the payload log becomes once nobody writes a segment any more. Parquet that other programs read as it is.

    sealed/manifests/000000001.json   what was sealed, one file a segment, each with the digest of the one before
    sealed/predictions/namespace=default/loop=loan/date=2026-01-31/*.parquet   a row for each predicted row, by id
    sealed/labels/date=2026-01-31/*.parquet   a row for each label, by the prediction that it names
    sealed/others/date=2026-01-31/*.parquet   requests without rows of a table, as they were logged
    sealed/keys/*.u64   which aliases and labels a segment holds, to find them by

Rules. Only what a manifest names counts; a file that none names is half of a sealing that was cut off, and the next one replaces it. Days
are those on which requests arrived, in UTC. Nothing here is ever written over: what comes to be known later is a record of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goldenloop.core.errors import UnavailableError
from goldenloop.core.ids import digest_file
from goldenloop.payloads.columns import labels_of, predictions_of
from goldenloop.payloads.records import Record

FOLDER = "sealed"
MANIFESTS = "manifests"
BEGINNING = "0" * 64  # what the first manifest names as the digest before it

Kind = Literal["predictions", "labels", "others"]


class SealedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file. `lowest` and `highest` bound the ids of its predictions, or those that its labels name."""

    path: str  # from the folder `sealed`
    kind: Kind
    digest: str  # SHA-256
    size: int  # bytes
    rows: int
    date: str
    namespace: str = ""
    service: str = ""
    columns: str = ""
    lowest: str = ""
    highest: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the chain: a segment that was sealed."""

    number: int
    previous: str  # SHA-256 of the manifest before
    sealed_us: int
    segment: str
    size: int  # bytes of the segment
    records: int
    damage: tuple[tuple[int, str], ...] = ()  # offset and reason
    files: tuple[SealedFile, ...] = ()
    keys: str = ""  # path of the file of keys
    keys_digest: str = ""


class Sealed:
    """The sealed part of a payload folder as its manifests tell it. `refresh` looks for new ones; cheap where there are none."""

    def __init__(self, payloads: Path) -> None:
        self.folder = payloads / FOLDER
        self.manifests: list[Manifest] = []
        self.segments: dict[str, Manifest] = {}

    def refresh(self) -> None:
        """Take in the manifests that came since. Raises UnavailableError for one that cannot be read."""
        while True:
            path = manifest_path(self.folder, len(self.manifests) + 1)
            try:
                manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            except FileNotFoundError:
                return
            except msgspec.DecodeError as error:
                raise UnavailableError(
                    f"the manifest cannot be read: {error}", where=str(path), mend="Put a copy of it back."
                ) from error
            self.manifests.append(manifest)
            self.segments[manifest.segment] = manifest

    def files(self, kind: Kind | None = None) -> Iterator[SealedFile]:
        """The files that are there, oldest first."""
        for manifest in self.manifests:
            yield from (file for file in manifest.files if kind in (None, file.kind))


def read_file(
    folder: Path, file: SealedFile, *, filters: list[tuple[str, str, object]] | None = None
) -> Iterable[tuple[int, Record]]:
    """Records of one file, those that the filters let through. Raises UnavailableError where it is damaged or gone."""
    try:
        table = pq.read_table(folder / file.path, filters=filters, partitioning=None, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise UnavailableError(
            f"sealed records cannot be read: {error}",
            where=str(folder / file.path),
            mend="Put a copy of the file back; `goldenloop audit verify` names all that are damaged.",
        ) from error
    if file.kind == "predictions":
        return predictions_of(table, namespace=file.namespace, service=file.service, columns=file.columns)
    if file.kind == "labels":
        return labels_of(table)
    decoder = msgspec.msgpack.Decoder(Record)
    bodies = zip(table["position"].to_pylist(), table["record"].to_pylist(), strict=True)
    return ((position, decoder.decode(body)) for position, body in bodies)


def key_hash(key: str) -> int:
    """What stands for a key in a file of keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def holds_key(folder: Path, manifest: Manifest, key: str) -> bool:
    """Whether an alias or a label with this key may be among what was sealed then; a false yes is possible, a false no is not."""
    if not manifest.keys:
        return False
    keys = np.memmap(folder / manifest.keys, dtype="<u8", mode="r")
    wanted = np.uint64(key_hash(key))
    place = int(np.searchsorted(keys, wanted))
    return place < len(keys) and keys[place] == wanted


def manifest_path(folder: Path, number: int) -> Path:
    """Where a manifest lies."""
    return folder / MANIFESTS / f"{number:09d}.json"


def verify(payloads: Path) -> tuple[int, list[str]]:
    """How many links the chain has, and what is wrong with it, in words: a broken link, a file that is not what was sealed."""
    folder = payloads / FOLDER
    wrong: list[str] = []
    previous = BEGINNING
    named: list[tuple[str, str]] = []
    number = 0
    while (path := manifest_path(folder, number + 1)).exists():
        number += 1
        content = path.read_bytes()
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except msgspec.DecodeError as error:
            return number, [*wrong, f"{path.name}: not a manifest: {error}"]
        if (manifest.number, manifest.previous) != (number, previous):
            wrong.append(f"{path.name}: it does not follow the manifest before it, which was changed or replaced")
        previous = hashlib.sha256(content).hexdigest()
        named += [(file.path, file.digest) for file in manifest.files]
        if manifest.keys:
            named.append((manifest.keys, manifest.keys_digest))
    later = [name for name in _listing(folder / MANIFESTS) if name.endswith(".json") and int(name[:-5]) > number]
    if later:
        wrong.append(f"{number + 1:09d}.json: it is missing, and {later[0]} is there")
    for name, digest in named:
        try:
            if digest_file(folder / name) != digest:
                wrong.append(f"{name}: its content is not what was sealed")
        except OSError as error:
            wrong.append(f"{name}: cannot be read: {error.strerror}")
    return number, wrong


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
