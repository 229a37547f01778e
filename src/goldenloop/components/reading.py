"""Reading rows from where people keep them: files, SQL, Delta and Iceberg tables; each with the version of what was read.

A table format's own version is taken where it has one (Delta's number, Iceberg's snapshot); anything else is versioned by the digest
of its content, which survives a rewrite to another format. Addresses may hold `$NAME` or `${NAME}`, taken from the environment, so
that passwords need not be written into pipelines.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.json as pajson

from goldenloop.core.errors import InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.features.source import content_version, read_source

if TYPE_CHECKING:
    from sqlalchemy import Engine

FileFormat = Literal["auto", "csv", "parquet", "jsonl"]
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
}
_LARGEST_BLOCK = 1 << 30  # of JSON that is looked at together, so that one column has one kind
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows, and which state of their source they are: `content:…`, `delta:3` or `iceberg:…`."""

    table: pa.Table
    version: str


def read_files(source: str, *, format: FileFormat = "auto") -> Reading:
    """Read a file or a folder of files: CSV, Parquet or JSON lines, on this machine or at a URL that fsspec knows.

    `auto` goes by the suffix, in a folder by the suffix that its files share. Raises NotFoundError where nothing is there,
    InvalidSpecError with file and line for what cannot be read, UnavailableError where a URL does not answer.
    """
    source = expanded(source)
    if "://" in source and not source.startswith("file://"):
        with tempfile.TemporaryDirectory() as folder:
            return _read_local(_fetch(source, Path(folder)), format, shown=source)
    return _read_local(Path(source.removeprefix("file://")), format, shown=source)


def read_sql(url: str, query: str) -> Reading:
    """Read what a query gives, by an SQLAlchemy URL. The connection is rolled back: a query that writes leaves nothing.

    Raises InvalidSpecError for a URL or a query that is wrong, UnavailableError where the database does not answer.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        engine = create_engine(expanded(url))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise InvalidSpecError(
            f"the address of the database cannot be used: {_first_line(error)}",
            where="url",
            mend="Write it as sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, and install the driver.",
        ) from error
    try:
        names, values = _rows_of_query(engine, query)
    finally:
        engine.dispose()
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InvalidSpecError(
            f"columns are named twice: {', '.join(sorted(repeated))}", where="query", mend="Name each once, with AS."
        )
    try:
        table = pa.table({name: pa.array(column) for name, column in zip(names, values, strict=True)})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidSpecError(
            f"a column holds values of several kinds: {_first_line(error)}",
            where="query",
            mend="Use CAST in the query.",
        ) from error
    return _by_content(table, shown="query")


def _rows_of_query(engine: Engine, query: str) -> tuple[list[str], list[list[object]]]:
    """The names and the columns that a query gives; what it wrote is rolled back."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise UnavailableError(f"the database does not answer: {_first_line(error)}", where="url") from error
    with connection:
        try:
            result = connection.execute(text(query))
            if not result.returns_rows:
                raise InvalidSpecError("the query gives no rows", where="query", mend="Give a SELECT.")
            names = list(result.keys())
            rows = result.fetchall()
        except SQLAlchemyError as error:
            raise InvalidSpecError(f"the query fails: {_first_line(error)}", where="query", mend="Mend it.") from error
        finally:
            connection.rollback()
    return names, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]


def read_delta(location: str, *, version: int = -1) -> Reading:
    """Read a Delta table, its newest version where `version` is negative.

    Raises UnavailableError without the package deltalake, NotFoundError for a table or a version that is not there.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise _needs("deltalake", "a Delta table") from error
    where = expanded(location)
    try:
        opened = DeltaTable(where, version=None if version < 0 else version)
        table = opened.to_pyarrow_table()
    except (DeltaError, OSError, ValueError) as error:
        raise NotFoundError(
            f"there is no Delta table that can be read: {_first_line(error)}",
            where=location if version < 0 else f"{location}, version {version}",
            mend="Check the address and the version.",
        ) from error
    return Reading(_with_rows(table, location), f"delta:{opened.version()}")


def read_iceberg(table: str, *, catalog: dict[str, str] | None = None, snapshot: str = "") -> Reading:
    """Read an Iceberg table: `NAMESPACE.TABLE` of a catalog, or, without one, the folder or the metadata file of a table.

    `catalog` holds PyIceberg's properties (`type`, `uri`, …). `snapshot` is the id of an older snapshot. Raises UnavailableError
    without the package pyiceberg or where the catalog does not answer, NotFoundError for what is not there.
    """
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NoSuchTableError, RESTError
        from pyiceberg.table import StaticTable
    except ImportError as error:
        raise _needs("pyiceberg", "an Iceberg table") from error
    if snapshot and not snapshot.isdigit():
        raise InvalidSpecError(f"{snapshot!r} is no snapshot", where="snapshot", mend="Give its number.")
    try:
        if catalog:
            properties = {name: expanded(value) for name, value in catalog.items()}
            opened = load_catalog(properties.pop("name", "default"), **properties).load_table(table)
        else:
            opened = StaticTable.from_metadata(_newest_metadata(expanded(table)))
        chosen = int(snapshot) if snapshot else None
        if chosen is not None and opened.snapshot_by_id(chosen) is None:
            raise NotFoundError(f"there is no snapshot {snapshot}", where=table, mend="Leave it out for the newest.")
        rows = opened.scan(snapshot_id=chosen).to_arrow()
    except (NoSuchTableError, FileNotFoundError) as error:
        raise NotFoundError(
            f"there is no such Iceberg table: {_first_line(error)}", where=table, mend="Check its name."
        ) from error
    except (RESTError, ConnectionError, OSError) as error:
        raise UnavailableError(f"the catalog did not answer: {_first_line(error)}", where=table) from error
    current = opened.current_snapshot()
    named = chosen if chosen is not None else (current.snapshot_id if current is not None else 0)
    return Reading(_with_rows(rows, table), f"iceberg:{named}")


def expanded(text: str) -> str:
    """Put the environment's values in the place of `$NAME` and `${NAME}`. Raises InvalidSpecError for one that is not set.

    >>> expanded("folder/file.csv")
    'folder/file.csv'
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise InvalidSpecError(
                f"the environment of this step has no {name}", where=found[0], mend="Set it for the task, as a secret."
            )
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _read_local(path: Path, format: FileFormat, *, shown: str) -> Reading:
    if not path.exists():
        raise NotFoundError("there is no such file or folder", where=shown, mend="Give a path that this step can see.")
    if format not in ("auto", *_SUFFIXES):
        raise InvalidSpecError(f"{format!r} is no format", where="format", mend="Give auto, csv, parquet or jsonl.")
    if (format if format != "auto" else _format_of(path)) == "jsonl":
        return _by_content(_read_json_lines(path, shown=shown), shown=shown)
    if path.is_file() and format != "auto" and path.suffix.lower() not in _SUFFIXES[format]:
        # The reader goes by the suffix; a link with the right one spares a copy.
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / f"{path.name}{_SUFFIXES[format][0]}"
            link.symlink_to(path.resolve())
            return _by_content(read_source(str(link)), shown=shown)
    return _by_content(read_source(str(path)), shown=shown)


def _format_of(path: Path) -> str:
    files = [path] if path.is_file() else [member for member in path.rglob("*") if member.is_file()]
    known = {name for name, suffixes in _SUFFIXES.items() for file in files if file.suffix.lower() in suffixes}
    if len(known) > 1 and "jsonl" in known:
        raise InvalidSpecError(
            f"the folder holds {' and '.join(sorted(known))}", where=str(path), mend="Say which with format."
        )
    return known.pop() if len(known) == 1 else "csv"


def _read_json_lines(path: Path, *, shown: str) -> pa.Table:
    wanted = _SUFFIXES["jsonl"]
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in wanted)
    if not files:
        raise NotFoundError("there is no file of JSON lines in it", where=shown, mend="Name them .jsonl.")
    tables = []
    for file in files:
        size = file.stat().st_size
        if size == 0:
            raise InvalidSpecError("the file is empty", where=str(file), mend="Write one object a line.")
        options = pajson.ReadOptions(use_threads=False, block_size=min(size + 1, _LARGEST_BLOCK))
        try:
            tables.append(pajson.read_json(file, read_options=options))
        except pa.ArrowInvalid as error:
            raise InvalidSpecError(
                f"it cannot be read as JSON lines: {_first_line(error)}",
                where=str(file),
                mend="Write one object a line.",
            ) from error
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidSpecError(
            f"its files do not go together: {_first_line(error)}",
            where=shown,
            mend="Give a column the same kind in each.",
        ) from error


def _fetch(source: str, folder: Path) -> Path:
    """Bring a file or a folder here."""
    import fsspec

    try:
        system, inside = fsspec.core.url_to_fs(source)
        is_folder = system.isdir(inside)
        target = folder / (Path(inside.rstrip("/")).name or "data")
        system.get(
            inside.rstrip("/") + ("/" if is_folder else ""),
            str(target) + ("/" if is_folder else ""),
            recursive=is_folder,
        )
    except FileNotFoundError as error:
        raise NotFoundError("there is nothing at this address", where=source, mend="Check it.") from error
    except (ImportError, ValueError) as error:
        raise InvalidSpecError(
            f"this kind of address needs something that is not here: {_first_line(error)}",
            where=source,
            mend="Install it.",
        ) from error
    except Exception as error:  # every file system has errors of its own
        raise UnavailableError(f"it cannot be read: {_first_line(error)}", where=source) from error
    return target


def _newest_metadata(location: str) -> str:
    """The metadata file of a table's folder: the one with the highest number."""
    path = Path(location.removeprefix("file://"))
    if "://" in location.removeprefix("file://") or location.endswith(".json"):
        return location
    files = sorted((path / "metadata").glob("*.metadata.json"), key=_metadata_number)
    if not files:
        raise NotFoundError("there is no Iceberg metadata in it", where=location, mend="Give the folder of the table.")
    return str(files[-1])


def _metadata_number(file: Path) -> tuple[int, str]:
    digits = re.match(r"v?(\d+)", file.name)
    return (int(digits[1]) if digits else -1, file.name)


def _by_content(table: pa.Table, *, shown: str) -> Reading:
    table = _with_rows(table, shown)
    return Reading(table, f"content:{content_version(table).digest}")


def _with_rows(table: pa.Table, where: str) -> pa.Table:
    """The rows with nested objects as columns of their own, `outer.inner`. Raises InvalidSpecError for none, and for lists."""
    if table.num_rows == 0:
        raise InvalidSpecError("there are no rows in it", where=where, mend="Give data with at least one row.")
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    for field in table.schema:
        if pa.types.is_nested(field.type):
            raise InvalidSpecError(
                f"column {field.name!r} holds {field.type}", where=where, mend="Give one value a row and column."
            )
    return table


def _needs(package: str, what: str) -> UnavailableError:
    return UnavailableError(
        f"reading {what} needs the package {package}, which is not here",
        where=package,
        mend=f"Install it beside goldenloop: pip install {package}.",
    )


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
