"""Data sets that are read in pieces: record batches of some columns, so that memory does not grow with the rows.

Parquet files stream. A CSV file has no types of its own, so it is read whole, once, to infer them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.features.source import read_source

_BUFFER_BYTES = 1 << 18  # of each column that is read at the same time
_SAMPLED_GROUPS = 8
_SAMPLED_ROWS = 4_096  # of each of them


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows in Parquet files of one schema, or in memory."""

    location: str
    schema: pa.Schema
    rows: int
    files: tuple[tuple[Path, parquet.FileMetaData], ...] = ()
    table: pa.Table | None = None

    def batches(self, columns: Sequence[str], *, rows: int) -> Iterator[pa.RecordBatch]:
        """These columns in batches of at most so many rows; texts as dictionaries. Raises InvalidSpecError for a damaged file."""
        if self.table is not None:
            yield from self.table.select(list(columns)).to_batches(max_chunksize=rows)
            return
        for path, metadata in self.files:
            with self._opened(path, metadata, columns) as file:
                yield from file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)

    def sample(self, columns: Sequence[str]) -> pa.Table:
        """A few rows from places all over the files: of at most 8 row groups the first 4,096 rows each."""
        if self.table is not None:
            step = max(1, self.rows // (_SAMPLED_GROUPS * _SAMPLED_ROWS))
            return self.table.select(list(columns)).take(list(range(0, self.rows, step)))
        groups = [(path, metadata, group) for path, metadata in self.files for group in range(metadata.num_row_groups)]
        chosen = groups[:: max(1, len(groups) // _SAMPLED_GROUPS)][:_SAMPLED_GROUPS]
        batches = []
        for path, metadata, group in chosen:
            with self._opened(path, metadata, columns) as file:
                reader = file.iter_batches(
                    batch_size=_SAMPLED_ROWS, row_groups=[group], columns=list(columns), use_threads=False
                )
                batches += [pa.Table.from_batches([batch]) for batch in [next(iter(reader), None)] if batch is not None]
        return pa.concat_tables(batches, promote_options="permissive") if batches else self.schema.empty_table()

    @contextmanager
    def _opened(
        self, path: Path, metadata: parquet.FileMetaData, columns: Sequence[str]
    ) -> Iterator[parquet.ParquetFile]:
        texts = [name for name in columns if is_text(self.schema.field(name).type)]
        try:
            with parquet.ParquetFile(
                path, metadata=metadata, read_dictionary=texts, buffer_size=_BUFFER_BYTES, pre_buffer=False
            ) as file:
                yield file
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise _unreadable(path, error) from error


def open_frame(location: str) -> Frame:
    """Look at a Parquet or CSV file, or a folder of Parquet files. Raises NotFoundError, InvalidSpecError."""
    path = Path(location)
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet")) if path.is_dir() else []
    if not path.exists():
        raise NotFoundError("there is no such file or folder", where=location, mend="Check the path.")
    if not files or path.suffix.lower() not in ("", ".parquet", ".pq"):
        table = read_source(location)
        return Frame(location, table.schema, table.num_rows, table=table)
    first: pa.Schema | None = None
    opened = []
    for each in files:
        try:
            with parquet.ParquetFile(each) as file:
                schema = file.schema_arrow
                opened.append((each, file.metadata))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise _unreadable(each, error) from error
        if len(set(schema.names)) < len(schema.names):
            raise InvalidSpecError("columns are named twice", where=str(each), mend="Name each once.")
        first = first or schema
        strange = set(schema.names) ^ set(first.names)
        changed = [name for name in schema.names if not strange and schema.field(name).type != first.field(name).type]
        if strange or changed:
            raise InvalidSpecError(
                f"it has not the same columns as {files[0].name}: {', '.join(sorted(strange or set(changed))[:20])}",
                where=str(each),
                mend="Give every file of the folder the same columns of the same types.",
            )
    assert first is not None
    rows = sum(metadata.num_rows for _, metadata in opened)
    return Frame(location, first.remove_metadata(), rows, files=tuple(opened))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, however they are stored."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _unreadable(path: Path, error: Exception) -> InvalidSpecError:
    text = " ".join(str(error).split())
    return InvalidSpecError(f"it cannot be read: {text}", where=str(path), mend="Give a Parquet or CSV file.")
