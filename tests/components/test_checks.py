"""Data that is as expected passes, and each way of being otherwise is found and named."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tables_for_tests import customers

from goldenloop.components.checks import check, compare
from goldenloop.components.tables import DataSchema, Expectation, infer
from goldenloop.core.errors import InvalidSpecError


def schema_of(table: pa.Table) -> DataSchema:
    return infer(table, label="answer", timestamp="at", subject="who")


def replaced(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def test_more_of_the_same_is_as_expected() -> None:
    schema = schema_of(customers(2_000))
    found = [check(customers(1_000, seed=seed), schema, previous=customers(2_000)).anomalies for seed in range(1, 30)]
    assert found == [()] * 29


@pytest.mark.parametrize(
    ("column", "change", "kind", "text"),
    [
        ("number", lambda rows: ["much"] * rows, "type", "it holds text, number is expected"),
        ("number", lambda rows: [99.0] * rows, "range", "500 values lie above"),
        ("number", lambda rows: [-99.0, *[0.0] * (rows - 1)], "range", "1 values lie below .* the farthest is -99"),
        ("town", lambda rows: ["east", "nord"] * (rows // 2), "vocabulary", "500 values .*: 'east', 'nord'"),
        (
            "town",
            lambda rows: [None] * 400 + ["west"] * (rows - 400),
            "missing values",
            "80.0% are missing, at most 1.0%",
        ),
        ("holes", lambda rows: [None] * rows, "missing values", "100.0% are missing"),
        ("answer", lambda rows: ["perhaps"] * rows, "vocabulary", "'perhaps'"),
    ],
)
def test_what_is_wrong_is_named(column: str, change: object, kind: str, text: str) -> None:
    schema = schema_of(customers(2_000))
    wrong = replaced(customers(500, seed=1), column, change(500))  # type: ignore[operator]
    found = check(wrong, schema).anomalies
    assert [(anomaly.column, anomaly.kind) for anomaly in found] == [(column, kind)]
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(found[0].text)


def test_missing_columns_and_rows_are_named() -> None:
    schema = schema_of(customers(500))
    found = check(customers(100).drop_columns(["town"]), schema).anomalies
    assert [(anomaly.column, anomaly.kind) for anomaly in found] == [("town", "column")]
    assert [anomaly.kind for anomaly in check(customers(0), schema).anomalies] == ["no rows"]
    with pytest.raises(InvalidSpecError, match="alpha: 0.0 is not between 0 and 1"):
        check(customers(10), schema, alpha=0.0)


def test_skew_and_drift_are_told_apart_and_need_no_label() -> None:
    schema = schema_of(customers(2_000))
    serving = customers(1_000, seed=1, shift=0.6).drop_columns(["answer", "holes"])
    report = check(customers(1_000, seed=2), schema, serving=serving, previous=customers(2_000))
    assert {(anomaly.column, anomaly.kind) for anomaly in report.anomalies} == {("number", "skew"), ("holes", "skew")}
    assert {row.column: row.differs for row in report.serving} == {"number": True, "town": False}
    assert not any(row.differs for row in report.previous)


def test_more_missing_values_are_a_difference() -> None:
    table = customers(1_000, seed=3)
    gone = np.random.default_rng(0).random(1_000) < 0.5
    other = replaced(
        table,
        "holes",
        [None if hole else value for hole, value in zip(gone, table.column("holes").to_pylist(), strict=True)],
    )
    [row] = [
        row
        for row in compare(customers(2_000), other, schema_of(customers(2_000)), alpha=0.01, least_distance=0.1)
        if row.differs
    ]
    assert row.column == "holes"


def test_a_difference_must_be_both_sure_and_large() -> None:
    schema = schema_of(customers(2_000))
    slight = compare(customers(50_000), customers(50_000, seed=1, shift=0.06), schema, alpha=0.01, least_distance=0.1)
    assert [(row.p < 0.01, row.differs) for row in slight if row.column == "number"] == [(True, False)]
    few = compare(customers(2_000), customers(8, seed=1, shift=0.6), schema, alpha=0.01, least_distance=0.1)
    assert [row.differs for row in few if row.column == "number"] == [False]


def test_nothing_changed_is_seldom_reported() -> None:
    """With no least distance, the chance that any column is reported is at most alpha."""
    schema = schema_of(customers(1_000))
    reference = customers(3_000)
    alarms = sum(
        any(
            row.differs
            for row in compare(reference, customers(300, seed=seed), schema, alpha=0.05, least_distance=1e-9)
        )
        for seed in range(1, 301)
    )
    assert alarms <= 25  # 15 are expected at most; more than 25 would come with probability 0.007


def test_expectations_can_be_edited_and_survive_json() -> None:
    schema = schema_of(customers(500))
    edited = msgspec.structs.replace(
        schema, expectations=(Expectation(name="town", family="text", values=("north",), most_unknown=0.9),)
    )
    again = msgspec.json.decode(msgspec.json.encode(edited), type=DataSchema)
    assert again == edited
    assert check(customers(300), again).anomalies == ()
