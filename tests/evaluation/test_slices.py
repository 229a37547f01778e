"""Slices: which columns cut, how values are named, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.evaluation.slices import slices_of


def test_categories_with_few_values_cut_and_numbers_only_when_declared() -> None:
    columns = {
        "city": np.array(["a", "b", None, "a"], dtype=object),
        "one": np.array(["x"] * 4),
        "age": np.array([10.0, 20.0, 30.0, math.nan]),
        "constant": np.ones(4),
    }
    kinds = {"city": "category", "one": "category", "age": "number", "constant": "number"}
    assert {name: values.tolist() for name, values in slices_of(columns, kinds).items()} == {
        "city": ["a", "b", "(missing)", "a"]
    }
    cut = slices_of(columns, kinds, declared=("age", "constant"))
    assert cut["age"].tolist() == ["<= 10", "10 to 20", "20 to 30", "(missing)"]
    assert "constant" not in cut


def test_quartiles_hold_a_quarter_each() -> None:
    values = np.random.default_rng(0).normal(size=400)
    _, counts = np.unique(
        slices_of({"x": values}, {"x": "number"}, declared=("x",))["x"].astype(str), return_counts=True
    )
    assert counts.tolist() == [100, 100, 100, 100]


def test_many_values_cut_only_when_declared_and_then_pool_the_rare() -> None:
    values = np.array([f"v{i % 50}" for i in range(500)] + ["common"] * 100)
    assert slices_of({"c": values}, {"c": "category"}) == {}
    cut = slices_of({"c": values}, {"c": "category"}, declared=("c",))["c"]
    assert len({*cut.tolist()}) == 20
    assert {"common", "(other)"} <= {*cut.tolist()}
    assert cut[-1] == "common"


def test_a_declared_column_that_is_no_input_still_cuts() -> None:
    columns = {"x": np.ones(2), "sex": np.array(["f", "m"])}
    assert slices_of(columns, {"x": "number"}, declared=("sex",))["sex"].tolist() == ["f", "m"]


def test_a_declared_column_that_is_missing_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="'sex', which the evaluation set does not have") as caught:
        slices_of({"x": np.ones(2)}, {"x": "number"}, declared=("sex",))
    assert "Its columns are: x" in caught.value.mend
