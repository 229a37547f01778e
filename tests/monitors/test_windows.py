"""Where windows lie, and why they are as long as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import DAY, HOUR, MINUTE, WEEK
from goldenloop.core.errors import InvalidSpecError
from goldenloop.monitors.windows import ENOUGH_ROWS, ROWS_WITHOUT_TIME, WindowSize, choose_size, grid_for


def every(step_us: int, count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * step_us


def test_what_was_asked_for_is_taken() -> None:
    assert choose_size(77, None).rows == 77
    assert choose_size("36h", every(HOUR, 10)).size_us == 36 * HOUR
    with pytest.raises(InvalidSpecError, match="not a duration"):
        choose_size("soon", None)


@pytest.mark.parametrize(
    ("step_us", "count", "expected"),
    [(10_000_000, 4_000, HOUR), (MINUTE, 4_000, 6 * HOUR), (5 * MINUTE, 4_000, DAY), (30 * MINUTE, 4_000, WEEK)],
)
def test_auto_takes_the_shortest_span_in_which_enough_rows_come(step_us: int, count: int, expected: int) -> None:
    size = choose_size("auto", every(step_us, count))
    assert size.size_us == expected
    assert expected // step_us >= ENOUGH_ROWS
    assert str(ENOUGH_ROWS) in size.why


def test_auto_counts_rows_where_time_does_not_help() -> None:
    assert choose_size("auto", None).rows == ROWS_WITHOUT_TIME
    assert choose_size("auto", every(0, 50)).rows == ROWS_WITHOUT_TIME
    assert choose_size("auto", every(WEEK, 60)).rows == ENOUGH_ROWS


@given(origin=st.integers(0, 10**15), size=st.integers(1, 10**12), after=st.integers(0, 10**13))
def test_every_moment_lies_in_the_window_that_begins_before_it(origin: int, size: int, after: int) -> None:
    grid = grid_for(WindowSize(size_us=size, why="given"), origin)
    moment = origin + after
    index = grid.index_at(moment)
    assert grid.start_us(index) <= moment < grid.start_us(index + 1)
    assert grid.start_us(0) == origin


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="longer than nothing"):
        grid_for(WindowSize(size_us=0, why="given"), 5)
    assert grid_for(WindowSize(rows=5, why="given"), 7).rows == 5
