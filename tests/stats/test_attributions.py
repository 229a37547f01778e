"""Shapley values: against the definition, efficiency, symmetry, mixed types."""

from __future__ import annotations

import math
from itertools import permutations as orders_of

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from goldenloop.stats.attributions import attribute
from goldenloop.stats.losses import Values


def bumpy(columns: dict[str, Values]) -> NDArray[np.float64]:
    """A score with interactions, jumps and a curve."""
    x = np.column_stack([np.asarray(columns[name], dtype=float) for name in sorted(columns)])
    result: NDArray[np.float64] = x[:, 0] * x[:, -1] + np.where(x.sum(axis=1) > 0.5, 2.0, 0.0) + np.sin(x).sum(axis=1)
    return result


def by_definition(row: dict[str, float], background: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """The mean over all orders and background rows, one score at a time."""
    totals = dict.fromkeys(row, 0.0)
    size = len(next(iter(background.values())))
    orders = list(orders_of(row))
    for order in orders:
        for position in range(size):
            current = {name: background[name][position : position + 1].copy() for name in row}
            before = float(bumpy(current)[0])
            for name in order:
                current[name] = np.array([row[name]])
                after = float(bumpy(current)[0])
                totals[name] += after - before
                before = after
    return {name: total / (len(orders) * size) for name, total in totals.items()}


def example(seed: int, columns: int, rows: int) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    generator = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(columns)]
    return (
        {name: float(generator.normal()) for name in names},
        {name: generator.normal(size=rows) for name in names},
    )


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1_000), columns=st.integers(1, 5))
def test_enumeration_is_the_definition(seed: int, columns: int) -> None:
    row, background = example(seed, columns, 3)
    parts = attribute(bumpy, row, background, permutations=20)
    expected = by_definition(row, background)
    assert all(part.error == 0.0 for part in parts)
    assert {part.name: part.contribution for part in parts} == {
        name: pytest.approx(value, abs=1e-9) for name, value in expected.items()
    }


def test_sampling_comes_near_the_definition_within_its_error() -> None:
    row, background = example(5, 6, 10)
    expected = by_definition(row, background)
    misses = []
    for seed in range(20):
        parts = attribute(bumpy, row, background, permutations=4, seed=seed)
        for part in parts:
            assert part.error is not None
            assert part.error > 0.0
            misses.append((part.contribution - expected[part.name]) / part.error)
    assert 0.6 < np.std(misses) < 1.5
    assert abs(np.mean(misses)) < 0.4


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1_000), columns=st.integers(1, 9), rows=st.integers(1, 6), permutations=st.integers(1, 3))
def test_contributions_add_up_exactly(seed: int, columns: int, rows: int, permutations: int) -> None:
    row, background = example(seed, columns, rows)
    parts = attribute(bumpy, row, background, permutations=permutations, seed=seed)
    own = bumpy({name: np.array([value]) for name, value in row.items()})[0]
    assert sum(part.contribution for part in parts) == pytest.approx(own - bumpy(dict(background)).mean(), abs=1e-9)
    assert parts == attribute(bumpy, row, background, permutations=permutations, seed=seed)


def test_a_column_that_does_nothing_gets_nothing_and_equal_columns_get_equal_parts() -> None:
    def score(columns: dict[str, Values]) -> NDArray[np.float64]:
        return np.asarray(columns["a"], dtype=float) * np.asarray(columns["b"], dtype=float)

    row = {"a": 2.0, "b": 2.0, "idle": 9.0}
    parts = {part.name: part for part in attribute(score, row, {name: np.zeros(3) for name in row})}
    assert parts["idle"].contribution == 0.0
    assert parts["a"].contribution == pytest.approx(parts["b"].contribution) == pytest.approx(2.0)


def test_text_missing_values_and_long_categories_survive() -> None:
    def score(columns: dict[str, Values]) -> NDArray[np.float64]:
        assert np.asarray(columns["amount"]).dtype == np.float64
        named = np.array([value == "a very long category" for value in columns["kind"].tolist()], dtype=float)
        return named + np.nan_to_num(np.asarray(columns["amount"], dtype=float), nan=10.0)

    background: dict[str, Values] = {"kind": np.array(["a", "b"]), "amount": np.array([1, 2])}
    parts = attribute(score, {"kind": "a very long category", "amount": None}, background)
    assert [part.contribution for part in parts] == [pytest.approx(1.0), pytest.approx(8.5)]
    assert parts[1].value is None


def test_one_pair_of_one_row_has_no_error_to_tell() -> None:
    row, background = example(1, 8, 1)
    assert all(part.error is None for part in attribute(bumpy, row, background, permutations=1))


def test_errors() -> None:
    with pytest.raises(ValueError, match="differ in columns"):
        attribute(bumpy, {"a": 1.0}, {"b": np.ones(1)})
    with pytest.raises(ValueError, match="at least one row"):
        attribute(bumpy, {"a": 1.0}, {"a": np.array([])})
    with pytest.raises(ValueError, match="equal length"):
        attribute(bumpy, {"a": 1.0, "b": 1.0}, {"a": np.ones(1), "b": np.ones(2)})
    with pytest.raises(ValueError, match="permutation"):
        attribute(bumpy, {"a": 1.0}, {"a": np.ones(1)}, permutations=0)
    with pytest.raises(ValueError, match="without columns"):
        attribute(bumpy, {}, {})
    with pytest.raises(ValueError, match="finite score"):
        attribute(lambda columns: np.full(len(columns["a"]), math.nan), {"a": 1.0}, {"a": np.ones(1)})
