"""Features by entity key, while a prediction is made: the newest row that each entity has.

`FeatureLookup` is what a user's code is given; where the rows lie is behind it. `ParquetFeatures` reads them from a Parquet file, or from
all the Parquet files of a folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from goldenloop.core.errors import InvalidSpecError, UnavailableError

if TYPE_CHECKING:
    import pyarrow

FEATURES_VARIABLE = "GOLDENLOOP_FEATURES"  # of a predictor process: the features of its service
LOOK_SECONDS = 1.0  # between two looks whether the files have changed
_TIMES = ("event_timestamp", "timestamp", "event_time", "time")  # names of a column that says which row is the newest


class FeatureLookup(Protocol):
    """Finds features by key."""

    def get(self, entity: str, keys: Sequence[object]) -> dict[str, list[object]]:
        """Return the features of these entities by name, each with as many values as there are keys, None for a key that is not there.

        `entity` is the name of the key. Raises InvalidSpecError for an entity of which nothing is kept.
        """
        ...


class ParquetFeatures:
    """The rows of `uri` (a path, or `file://…`), which ends in `#KEY`, the column by which they are found.

    Of several rows with one key the newest counts: by the first column of `event_timestamp`, `timestamp`, `event_time`, `time` that there
    is, else the last one. Files that change are read again, at most once a second; while they cannot be read, what was read last stays.
    """

    def __init__(self, uri: str) -> None:
        address, _, key = uri.rpartition("#")
        if not address or not key:
            raise InvalidSpecError(
                f"{uri!r} names no key", where="features", mend="Write PATH#COLUMN: the column by which rows are found."
            )
        parts = urlsplit(address)
        if parts.scheme not in ("", "file"):
            raise InvalidSpecError(
                f"{parts.scheme}:// is not read here", where="features", mend="Give a Parquet file or a folder of them."
            )
        self._path = Path(unquote(parts.path) if parts.scheme else address)
        self._key = key
        self._lock = Lock()
        self._looked = 0.0
        self._state: tuple[tuple[str, int, int], ...] | None = None
        self._places: dict[object, int] = {}
        self._columns: dict[str, list[object]] = {}
        with self._lock:
            self._read_if_changed()

    def get(self, entity: str, keys: Sequence[object]) -> dict[str, list[object]]:
        """See `FeatureLookup`."""
        if entity != self._key:
            raise InvalidSpecError(
                f"there are no features of {entity!r}", where=str(self._path), mend=f"They are kept by {self._key!r}."
            )
        with self._lock:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                try:
                    self._read_if_changed()
                except UnavailableError:
                    self._looked = time.monotonic()  # what was read before stays
            places = [self._places.get(key) for key in keys]
            return {
                name: [None if place is None else values[place] for place in places]
                for name, values in self._columns.items()
            }

    def _read_if_changed(self) -> None:
        files = sorted(self._path.glob("*.parquet")) if self._path.is_dir() else [self._path]
        try:
            state = tuple((str(file), (told := file.stat()).st_mtime_ns, told.st_size) for file in files)
        except OSError as error:
            raise UnavailableError(f"the features cannot be read: {error.strerror}", where=str(self._path)) from error
        if not state:
            raise UnavailableError("there are no Parquet files", where=str(self._path), mend="Put one there.")
        if state != self._state:
            self._take(_read(files))
            self._state = state
        self._looked = time.monotonic()

    def _take(self, table: pyarrow.Table) -> None:
        if self._key not in table.column_names:
            raise UnavailableError(
                f"there is no column {self._key!r}",
                where=str(self._path),
                mend=f"There are {', '.join(table.column_names[:12])}.",
            )
        by = next((name for name in _TIMES if name in table.column_names), None)
        if by is not None:
            import pyarrow.compute

            times = table.column(by).combine_chunks()
            order = pyarrow.compute.array_sort_indices(times, order="ascending", null_placement="at_start")
            table = table.take(order)
        keys = table.column(self._key).to_pylist()
        self._places = {key: place for place, key in enumerate(keys)}  # the last one of each stays
        self._columns = {name: table.column(name).to_pylist() for name in table.column_names if name != self._key}


def _read(files: Sequence[Path]) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    try:
        tables = [pyarrow.parquet.read_table(file) for file in files]
        return pyarrow.concat_tables(tables, promote_options="permissive")
    except (OSError, pyarrow.ArrowException) as error:
        raise UnavailableError(f"the features cannot be read: {error}", where=str(files[0].parent)) from error
