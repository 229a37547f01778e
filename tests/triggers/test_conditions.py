"""A bound on a metric fires once for each crossing, however the value dances around it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.triggers.conditions import Crossing, Held, crossed


def fired(crossing: Crossing, values: list[float | None]) -> list[int]:
    held, found = Held(), []
    for place, value in enumerate(values):
        fires, held = crossed(crossing, held, value)
        if fires:
            found.append(place)
    return found


@pytest.mark.parametrize(
    ("crossing", "values", "expected"),
    [
        (Crossing(below=0.8), [0.9, 0.79, 0.7], [1]),
        (Crossing(above=0.2), [0.1, 0.3, 0.1, 0.3], [1, 3]),
        (Crossing(below=0.8, windows=3), [0.7, 0.7, 0.9, 0.7, 0.7, 0.7], [5]),
        (Crossing(below=0.8, clear=0.05), [0.7, 0.82, 0.7, 0.86, 0.7], [0, 4]),
        (Crossing(below=0.8, windows=2), [0.7, None, 0.7], [2]),
        (Crossing(below=0.8, windows=2), [0.7, float("nan"), 0.7], [2]),
        (Crossing(below=0.8), [None, None], []),
        (Crossing(below=0.8), [0.8], []),
    ],
)
def test_when_it_fires(crossing: Crossing, values: list[float | None], expected: list[int]) -> None:
    assert fired(crossing, values) == expected


@given(st.lists(st.floats(0.0, 1.0), max_size=60), st.integers(1, 4), st.floats(0.0, 0.2))
def test_between_two_firings_the_value_came_back(values: list[float], windows: int, clear: float) -> None:
    crossing = Crossing(below=0.5, windows=windows, clear=clear)
    found = fired(crossing, list(values))
    for first, second in pairwise(found):
        assert any(crossing.is_cleared(value) for value in values[first:second])
        assert all(crossing.is_crossed(value) for value in values[second - windows + 1 : second + 1])
