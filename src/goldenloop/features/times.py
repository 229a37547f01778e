"""Event times in data: ISO 8601 texts, dates, timestamps, or numbers of seconds, milliseconds, microseconds or
nanoseconds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import InvalidSpecError

TimeUnit = Literal["text", "timestamp", "date", "seconds", "milliseconds", "microseconds", "nanoseconds"]

# A number this large is not seconds: the largest value of each unit up to the year 5138.
_SECONDS_BELOW = 1e11
_MILLISECONDS_BELOW = 1e14
_MICROSECONDS_BELOW = 1e17


def parse_times(column: pa.ChunkedArray, *, name: str) -> tuple[npt.NDArray[np.int64], TimeUnit]:
    """Return a column's moments in microseconds since the Unix epoch, and how they were written.

    Texts and timestamps without an offset are UTC. Numbers are seconds unless their size says milliseconds,
    microseconds or nanoseconds; a mere count 0, 1, 2 … is so many seconds, which keeps its order. Raises
    InvalidSpecError with the first row (from 1) that is missing or not a moment.
    """
    if column.null_count:
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0]) + 1
        raise InvalidSpecError(f"row {row} has no time", where=f"column {name}", mend="Give every row a time.")
    kind = column.type
    if pa.types.is_dictionary(kind):
        return parse_times(column.cast(kind.value_type), name=name)
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64()).to_numpy(), "timestamp"
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(), "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(column.to_numpy(), name)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_texts(column, name), "text"
    raise InvalidSpecError(f"{kind} is not a time", where=f"column {name}", mend="Use ISO 8601 texts or epoch seconds.")


def _from_numbers(values: npt.NDArray[np.float64], name: str) -> tuple[npt.NDArray[np.int64], TimeUnit]:
    if not np.all(np.isfinite(values)):
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise InvalidSpecError(f"row {row} is not a moment", where=f"column {name}", mend="Give every row a time.")
    largest = float(np.abs(values).max(initial=0))
    if largest < _SECONDS_BELOW:
        if np.issubdtype(values.dtype, np.integer):
            return values.astype(np.int64) * SECOND, "seconds"
        return np.rint(values * SECOND).astype(np.int64), "seconds"
    if largest < _MILLISECONDS_BELOW:
        return np.rint(values * 1_000).astype(np.int64), "milliseconds"
    if largest < _MICROSECONDS_BELOW:
        return values.astype(np.int64), "microseconds"
    return (values.astype(np.int64) // 1_000).astype(np.int64), "nanoseconds"


def _from_texts(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.int64]:
    texts = pd.Series(column.to_pylist(), dtype=object)
    moments = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    wrong = np.flatnonzero(moments.isna().to_numpy())
    if len(wrong):
        raise InvalidSpecError(
            f"row {int(wrong[0]) + 1} is {texts.iloc[int(wrong[0])]!r}, not a moment",
            where=f"column {name}",
            mend="Write times as ISO 8601, such as 2026-01-31T12:00:00Z.",
        )
    return np.asarray(moments.dt.as_unit("us").astype("int64").to_numpy(), dtype=np.int64)
