"""Event times, however they are written."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import DAY, SECOND, to_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.features.times import parse_times

MOMENT = 1_700_000_000


def column(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("value", "kind", "unit"),
    [
        (MOMENT, None, "seconds"),
        (float(MOMENT), None, "seconds"),
        (MOMENT * 1_000, None, "milliseconds"),
        (MOMENT * 1_000_000, None, "microseconds"),
        (MOMENT * 1_000_000_000, None, "nanoseconds"),
        ("2023-11-14T22:13:20Z", None, "text"),
        ("2023-11-14 22:13:20", None, "text"),
        ("2023-11-15T00:13:20+02:00", None, "text"),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), pa.timestamp("ms", tz="UTC"), "timestamp"),
        (datetime(2023, 11, 14, 22, 13, 20), pa.timestamp("ns"), "timestamp"),  # noqa: DTZ001 - one without a zone
    ],
)
def test_one_moment_in_every_form(value: object, kind: pa.DataType | None, unit: str) -> None:
    times, found = parse_times(column([value], kind), name="at")
    assert (times.tolist(), found) == ([MOMENT * SECOND], unit)


def test_dates_and_counts() -> None:
    assert parse_times(column([date(1970, 1, 3)]), name="at")[0].tolist() == [2 * DAY]
    assert parse_times(column([0, 1, 2]), name="at")[0].tolist() == [0, SECOND, 2 * SECOND]
    assert parse_times(column([0.0, 0.25]), name="at")[0].tolist() == [0, SECOND // 4]


@given(st.lists(st.integers(0, 4_000_000_000_000_000), min_size=1, max_size=10))
def test_texts_keep_every_microsecond(moments: list[int]) -> None:
    assert parse_times(column([to_text(moment) for moment in moments]), name="at")[0].tolist() == moments


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2026-01-01", "soon"], "row 2 is 'soon'"),
        ([1, None], "row 2 has no time"),
        ([1.0, float("inf")], "row 2"),
        ([True], "bool"),
    ],
)
def test_what_is_no_time_is_named(values: list[object], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        parse_times(column(values), name="at")
