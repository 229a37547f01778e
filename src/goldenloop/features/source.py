"""Reading data sets: CSV and Parquet files or folders of them, as Arrow tables; their version by content; windows of
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.features.times import parse_times

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_GIVE_FILES = "Give a .csv or .parquet file, or a folder of them."
_PARQUET_MAGIC = b"PAR1"
_SMALLEST_BLOCK = 1 << 20
_LARGEST_BLOCK = 1 << 30


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A span of event time by a column: from `start_us` (inclusive) until `end_us` (exclusive); none means open."""

    column: str
    start_us: int | None = None
    end_us: int | None = None


class ContentVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a table holds, whatever file it came from: a digest of the whole and of each column."""

    digest: str
    rows: int
    columns: dict[str, str]


def read_source(location: str, *, window: Window | None = None) -> pa.Table:
    """Read a file or a folder whole, in the order of the file names, and cut it to the window.

    Raises NotFoundError where there is nothing, InvalidSpecError for what is not readable, with the file and the line.
    """
    if "://" in location or location.startswith("feast:"):
        raise InvalidSpecError("only files on this machine can be read yet", where=location, mend=_GIVE_FILES)
    path = Path(location)
    if not path.exists():
        raise NotFoundError("there is no such file or folder", where=location, mend="Check the path in data.source.")
    tables = [(file, _read_file(file)) for file in _files(path)]
    table = _join(tables)
    if table.num_rows == 0:
        raise InvalidSpecError("there are no rows in it", where=location, mend="Give data with at least one row.")
    return table if window is None else cut(table, window)


def cut(table: pa.Table, window: Window) -> pa.Table:
    """Return the rows inside a window. Raises InvalidSpecError where the column is missing or is not a time."""
    if window.column not in table.column_names:
        raise InvalidSpecError(
            f"there is no column {window.column!r}",
            where="data.timestamp",
            mend=f"It has {_listed(table.column_names)}.",
        )
    times, _ = parse_times(table.column(window.column), name=window.column)
    keep = np.ones(len(times), dtype=bool)
    if window.start_us is not None:
        keep &= times >= window.start_us
    if window.end_us is not None:
        keep &= times < window.end_us
    return table.filter(pa.array(keep))


def read_artifact(path: Path) -> pa.Table:
    """Read a data set that has no suffix to go by, Parquet or CSV. Raises InvalidSpecError."""
    with open(path, "rb") as stream:
        is_parquet = stream.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    try:
        return parquet.read_table(path, use_threads=False) if is_parquet else _read_csv(path)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        text = " ".join(str(error).split())
        raise InvalidSpecError(f"it cannot be read: {text}", where=str(path), mend=_GIVE_FILES) from error


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, compressed with Zstandard. The bytes depend on the content only."""
    parquet.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def content_version(table: pa.Table) -> ContentVersion:
    """Return the version of a table by its content.

    Two tables with the same columns (in any order), kinds and values have the same version, also when one was written
    to another file format in between. Cost: one pass over the data.
    """
    columns = {name: _column_digest(table.column(name)) for name in table.column_names}
    whole = hashlib.sha256(str(table.num_rows).encode())
    for name in sorted(columns):
        whole.update(f"\0{len(name)}:{name}={columns[name]}".encode())
    return ContentVersion(digest=whole.hexdigest(), rows=table.num_rows, columns=columns)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() not in _FORMATS:
            what = f"{path.suffix or 'no suffix'} is not a format that is known"
            raise InvalidSpecError(what, where=str(path), mend=_GIVE_FILES)
        return [path]
    for marker, what in (("_delta_log", "a Delta table"), ("metadata", "an Iceberg table")):
        if (path / marker).is_dir():
            raise InvalidSpecError(f"this is {what}, which cannot be read yet", where=str(path), mend=_GIVE_FILES)
    if (path / "feature_store.yaml").is_file():
        what = "this is a Feast repository, which cannot be read yet"
        raise InvalidSpecError(what, where=str(path), mend=_GIVE_FILES)
    files = sorted(member for member in path.rglob("*") if member.suffix.lower() in _FORMATS and member.is_file())
    if not files:
        raise NotFoundError("there is no .csv or .parquet file in it", where=str(path), mend=_GIVE_FILES)
    return files


def _read_file(path: Path) -> pa.Table:
    try:
        if _FORMATS[path.suffix.lower()] == "parquet":
            return parquet.read_table(path, use_threads=False).replace_schema_metadata(None)
        return _read_csv(path)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        text = " ".join(str(error).split())
        raise InvalidSpecError(f"it cannot be read: {text}", where=str(path), mend="Mend the file.") from error


def _read_csv(path: Path) -> pa.Table:
    size = path.stat().st_size
    if size == 0:
        raise InvalidSpecError("the file is empty", where=str(path), mend="Its first line names the columns.")
    ragged: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    table = csv.read_csv(
        path,
        # One block as large as the file, so that the kind of a column is inferred from all of it.
        read_options=csv.ReadOptions(use_threads=False, block_size=min(max(size + 1, _SMALLEST_BLOCK), _LARGEST_BLOCK)),
        parse_options=csv.ParseOptions(invalid_row_handler=note),
    )
    if ragged:
        first = ragged[0]
        raise InvalidSpecError(
            f"it has {first.actual_columns} values, {first.expected_columns} columns are named: {first.text[:80]!r}",
            where=f"{path}, line {first.number}",
            mend="Give every line the same number of values; put texts with commas into quotes.",
        )
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise InvalidSpecError(f"columns are named twice: {_listed(repeated)}", where=str(path), mend="Name each once.")
    return table


def _join(tables: list[tuple[Path, pa.Table]]) -> pa.Table:
    first_path, first = tables[0]
    for path, table in tables[1:]:
        strange = set(table.column_names) ^ set(first.column_names)
        if strange:
            raise InvalidSpecError(
                f"it has not the same columns as {first_path.name}: {_listed(strange)}",
                where=str(path),
                mend="Give every file of the folder the same columns.",
            )
    try:
        return pa.concat_tables((table for _, table in tables), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        text = " ".join(str(error).split())
        raise InvalidSpecError(
            f"its files do not go together: {text}",
            where=str(first_path.parent),
            mend="Give a column the same kind in every file.",
        ) from error


def _column_digest(column: pa.ChunkedArray) -> str:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    hasher = hashlib.sha256()
    missing = np.asarray(column.is_null())
    hasher.update(np.packbits(missing).tobytes())
    for piece in _canonical(column):
        hasher.update(piece)
    return hasher.hexdigest()


def _canonical(column: pa.ChunkedArray) -> Iterator[bytes]:
    """The values as bytes that depend on nothing else: not on chunks, offsets, or what stands under a missing value."""
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        yield b"integer"
        yield np.ascontiguousarray(column.cast(pa.int64()).fill_null(0).to_numpy(), dtype="<i8").tobytes()
    elif pa.types.is_floating(kind):
        yield b"number"
        values = np.array(column.cast(pa.float64()).fill_null(0.0).to_numpy(), dtype="<f8")
        values[np.isnan(values)] = np.nan  # one pattern of bits for all of them
        yield (values + 0.0).tobytes()  # and one zero
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        yield b"time"
        yield column.cast(pa.timestamp("us")).cast(pa.int64()).fill_null(0).to_numpy().astype("<i8").tobytes()
    else:
        yield b"text"
        texts = column.cast(pa.large_string()).fill_null("").combine_chunks()
        encoded = [text.encode() for text in texts.to_pylist()]
        yield np.array([len(text) for text in encoded], dtype="<i8").tobytes()
        yield b"".join(encoded)


def _listed(names: list[str] | set[str]) -> str:
    return ", ".join(sorted(names)[:20])
