"""A transformer learns from training rows only, and does the same to all others."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tables_for_tests import customers

from goldenloop.components.tables import infer, rows_for
from goldenloop.components.transforming import (
    DateParts,
    apply_transformer,
    fit_transformer,
    load_transformer,
    recipe_of,
)
from goldenloop.core.errors import InvalidSpecError


def columns(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: np.asarray(table.column(name).to_pylist()) for name in table.column_names}


def test_numbers_are_imputed_and_scaled_by_the_training_rows() -> None:
    table, later = customers(500), customers(50, seed=1, shift=3.0)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    for scale, middle in (("standard", np.mean), ("robust", np.median)):
        fitted = fit_transformer(table, schema, recipe_of(scale=scale))
        assert float(middle(columns(apply_transformer(fitted, table, schema))["number"])) == pytest.approx(
            0.0, abs=1e-6
        )
        moved = columns(apply_transformer(fitted, later, schema))
        assert float(moved["number"].mean()) > 2.0
        assert np.isfinite(moved["holes"]).all()
    within = columns(apply_transformer(fit_transformer(table, schema, recipe_of(scale="range")), table, schema))
    assert (within["number"].min(), within["number"].max()) == (0.0, 1.0)
    kept = columns(
        apply_transformer(fit_transformer(table, schema, recipe_of(impute="keep", scale="none")), table, schema)
    )
    assert np.isnan(kept["holes"].astype(float)).mean() == pytest.approx(0.2, abs=0.05)
    assert kept["number"] == pytest.approx(np.asarray(table.column("number")), rel=1e-6)


def test_categories_are_encoded_and_new_ones_let_through() -> None:
    table = customers(300)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    strange = table.slice(0, 2).set_column(3, "town", pa.array(["east", None]))
    hot = columns(apply_transformer(fit_transformer(table, schema, recipe_of()), strange, schema))
    assert [hot[f"town_{name}"].sum() for name in ("north", "south", "west")] == [0, 0, 0]
    ordinal = columns(apply_transformer(fit_transformer(table, schema, recipe_of(encode="ordinal")), strange, schema))
    assert ordinal["town"].tolist() == [-1, -1]
    rare = table.set_column(3, "town", pa.array(["north"] * 290 + ["a", "b"] * 5))
    pooled = apply_transformer(fit_transformer(rare, schema, recipe_of(rare=20)), rare, schema)
    assert sum(name.startswith("town_") for name in pooled.column_names) == 2
    assert {"answer", "at", "who"} <= set(pooled.column_names)


def test_dates_become_their_parts() -> None:
    moments = pd.DataFrame({"at": [0.0, 1_709_210_700_000_000.0, np.nan]})  # 2024-02-29, a Thursday, 12:45
    parts = DateParts().fit(moments)
    assert parts.get_feature_names_out().tolist() == ["at_hour", "at_weekday", "at_month", "at_days"]
    found = parts.transform(moments)
    assert found[:2].tolist() == [[0.0, 3.0, 1.0, 0.0], [12.75, 3.0, 2.0, 19782.0]]
    assert np.isnan(found[2]).all()


def test_dates_come_from_texts_and_may_be_missing() -> None:
    table = customers(100).append_column("seen", pa.array(["2024-02-29T12:45:00Z", None] * 50))
    schema = infer(table, label="answer", timestamp="at", subject="who", dates=["seen", "at"])
    assert "seen" not in {column.name for column in schema.inputs}
    assert rows_for(table, schema)["seen"].iloc[0] == 1_709_210_700_000_000.0
    made = apply_transformer(fit_transformer(table, schema, recipe_of(impute="keep", scale="none")), table, schema)
    assert made.column("seen_hour")[0].as_py() == 12.75
    assert made.column("at_month")[0].as_py() == 11.0
    with pytest.raises(InvalidSpecError, match="there is no column 'when'"):
        infer(table, label="answer", dates=["when"])
    with pytest.raises(InvalidSpecError, match="there is no column 'seen'"):
        rows_for(customers(10), schema)


def test_what_is_no_recipe_or_transformer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="Invalid enum value 'guess'.*impute is median, mean or keep"):
        recipe_of(impute="guess")
    table = customers(20)
    schema = infer(table, label="answer")
    with pytest.raises(InvalidSpecError, match="there are no rows to fit on"):
        fit_transformer(table.slice(0, 0), schema, recipe_of())
    (tmp_path / "noise").write_bytes(b"noise")
    joblib.dump({"a": 1}, tmp_path / "dictionary")
    for name, message in (("noise", "cannot be read"), ("dictionary", "a dict is no transformer")):
        with pytest.raises(InvalidSpecError, match=message):
            load_transformer(str(tmp_path / name))
