"""The payload log as Arrow data to be queried: sealed files as they lie, and the segments that are still written as tables in memory.

One item holds the predictions of one service with one list of columns; labels are one list of items. Nothing is given twice: what a
manifest names is read sealed, everything else from its segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds

from goldenloop.payloads.columns import label_table, prediction_table
from goldenloop.payloads.log import read_segment, segments
from goldenloop.payloads.records import Label, Prediction
from goldenloop.payloads.sealed import Sealed, SealedFile

UNSEALED_ROWS = 2_000_000  # what is read into memory at the most: the newest

Source: TypeAlias = pa.Table | ds.Dataset


@dataclass(frozen=True, slots=True)
class PayloadTables:
    """`predictions` by namespace and service. `is_cut`: there was more that is not sealed yet than fits into memory."""

    predictions: list[tuple[str, str, Source]] = field(default_factory=list)
    labels: list[Source] = field(default_factory=list)
    is_cut: bool = False


def payload_tables(folder: Path) -> PayloadTables:
    """Everything that is logged, as of now. Raises UnavailableError for a manifest that cannot be read."""
    sealed = Sealed(folder)
    sealed.refresh()
    names = segments(folder)
    # What was sealed in between is in its segment no more.
    sealed.refresh()
    predictions: list[tuple[str, str, Source]] = []
    by_shape: dict[tuple[str, str, str], list[SealedFile]] = {}
    for file in sealed.files("predictions"):
        by_shape.setdefault((file.namespace, file.service, file.columns), []).append(file)
    for (namespace, service, _), files in by_shape.items():
        predictions.append((namespace, service, _dataset(sealed.folder, files)))
    labels: list[Source] = []
    sealed_labels = list(sealed.files("labels"))
    if sealed_labels:
        labels.append(_dataset(sealed.folder, sealed_labels))
    rows = 0
    left = [name for name in names if name not in sealed.segments]
    for name in reversed(left):
        if rows >= UNSEALED_ROWS:
            return PayloadTables(predictions, labels, is_cut=True)
        placed, _ = read_segment(folder / name)
        if not placed and not (folder / name).exists():
            return payload_tables(folder)  # it was sealed a moment ago: what it held has to be read there
        groups: dict[tuple[str, str, str], list[tuple[int, Prediction]]] = {}
        told: list[tuple[int, Label]] = []
        for position, record in placed:
            if isinstance(record, Label):
                told.append((position, record))
            elif isinstance(record, Prediction) and record.rows:
                groups.setdefault((record.namespace, record.service, record.columns), []).append((position, record))
                rows += record.rows
        predictions += [(ns, service, prediction_table(group)) for (ns, service, _), group in groups.items()]
        if told:
            labels.append(label_table(told))
    return PayloadTables(predictions, labels)


def _dataset(folder: Path, files: list[SealedFile]) -> ds.Dataset:
    # Partitions are told by the manifest; the columns are those of the file.
    return ds.dataset([str(folder / file.path) for file in files], format="parquet", partitioning=None)
