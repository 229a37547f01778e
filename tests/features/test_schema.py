"""What columns are said to be, and the arrays that come of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.features.schema import Schema, columns_for, event_times, infer_schema, labels_for

ROWS = 30
TABLE = pa.table(
    {
        "at": [f"2026-01-{day:02d}" for day in range(1, ROWS + 1)],
        "customer": [f"c{number % 7}" for number in range(ROWS)],
        "income": pa.array([None if number == 3 else number * 1.5 for number in range(ROWS)]),
        "count": list(range(ROWS)),
        "member": [number % 2 == 0 for number in range(ROWS)],
        "town": pa.array([None if number == 4 else ["x", "y"][number % 2] for number in range(ROWS)]),
        "note": [f"note {number}" for number in range(ROWS)],
        "version": ["v1"] * ROWS,
        "nothing": pa.nulls(ROWS),
        "repaid": [number % 3 == 0 for number in range(ROWS)],
    }
)


def schema() -> Schema:
    return infer_schema(TABLE, label="repaid", timestamp="at", subject="customer", protected=["town"])


def test_each_column_has_a_kind_and_a_reason() -> None:
    found = schema()
    assert {column.name: column.kind for column in found.columns} == {
        "at": "timestamp",
        "customer": "ignored",
        "income": "number",
        "count": "number",
        "member": "number",
        "town": "category",
        "note": "ignored",
        "version": "category",  # constant so far; the world may change
        "nothing": "ignored",
        "repaid": "ignored",
    }
    reasons = {column.name: column.reason for column in found.columns}
    assert "an id" in reasons["note"]
    assert reasons["version"] == "it holds one text so far"
    assert "subject" in reasons["customer"]
    assert [column.name for column in found.columns if column.protected] == ["town"]
    assert (found.task, found.classes, found.class_kind) == ("classification", ("false", "true"), "boolean")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Schema) == found
    assert found.signature.names == ("income", "count", "member", "town", "version")


def test_the_arrays() -> None:
    arrays = columns_for(TABLE, schema())
    assert list(arrays) == ["income", "count", "member", "town", "version"]
    assert np.isnan(arrays["income"][3])
    assert arrays["member"].tolist()[:2] == [1.0, 0.0]
    assert arrays["town"].tolist()[3:5] == ["y", ""]
    assert event_times(TABLE, schema()).tolist()[:2] == [1767225600000000, 1767312000000000]


@pytest.mark.parametrize(
    ("labels", "task", "classes", "kind"),
    [
        (["b", "a", "b"], "classification", ("a", "b"), "text"),
        ([10, 9, 10], "classification", ("9", "10"), "integer"),
        ([1.0, 0.0, None], "classification", ("0", "1"), "integer"),
        ([0.5, 0.25, 1.0], "regression", (), "number"),
        (list(range(21)), "regression", (), "number"),
    ],
)
def test_the_task_follows_from_the_label(labels: list[object], task: str, classes: tuple[str, ...], kind: str) -> None:
    table = pa.table({"x": [float(number % 5) for number in range(len(labels))], "y": labels})
    found = infer_schema(table, label=None, timestamp=None)
    assert (found.label, found.task, found.classes) == ("y", task, classes)
    if task == "classification":
        assert found.class_kind == kind
    assert found.task_reason
    values, present = labels_for(table, found)
    assert len(values) == len(labels)
    assert present.tolist() == [label is not None for label in labels]
    assert event_times(table, found).tolist() == list(range(len(labels)))


def test_wrong_names_have_a_hint() -> None:
    with pytest.raises(InvalidSpecError, match=r"no column 'repayed'\. Did you mean 'repaid'") as caught:
        infer_schema(TABLE, label="repayed", timestamp=None)
    assert caught.value.where == "data.label"
    with pytest.raises(InvalidSpecError, match="no column 'sex'"):
        infer_schema(TABLE, label="repaid", timestamp=None, protected=["sex"])


def test_data_that_nothing_can_be_learned_from() -> None:
    with pytest.raises(InvalidSpecError, match="no column is left"):
        infer_schema(pa.table({"a": pa.nulls(3), "y": [0, 1, 0]}), label="y", timestamp=None)
    with pytest.raises(InvalidSpecError, match="every label is missing"):
        infer_schema(pa.table({"a": [1, 2], "y": pa.array([None, None], pa.int64())}), label="y", timestamp=None)


def test_another_table_that_does_not_fit() -> None:
    with pytest.raises(InvalidSpecError, match="no column 'town'"):
        columns_for(TABLE.drop_columns(["town"]), schema())
    text = TABLE.set_column(2, "income", pa.array(["much"] * ROWS))
    with pytest.raises(InvalidSpecError, match="'income' holds string, not numbers"):
        columns_for(text, schema())
