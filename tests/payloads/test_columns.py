"""Records as tables and back: nothing of a record is lost."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenloop.payloads.columns import label_table, labels_of, prediction_table, predictions_of
from goldenloop.payloads.records import Answer, Label, Prediction, columns_of

COLUMNS = columns_of(["age", "id", "job"])  # two numbers and a text, one of them with a name of ours
TEXT = st.text(max_size=5)
ANSWERS = st.one_of(
    st.tuples(TEXT, st.tuples(st.floats(0, 1), st.floats(0, 1))),
    st.tuples(st.floats(allow_nan=False), st.just(())),
)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    rows = draw(st.integers(1, 3))
    numbers = draw(st.lists(st.floats(), min_size=2 * rows, max_size=2 * rows))
    answers: dict[str, tuple[Answer, ...]] = {
        version: tuple(draw(st.lists(ANSWERS, min_size=rows, max_size=rows)))
        for version in draw(st.sets(st.sampled_from(["1", "2", "3"])))
    }
    return Prediction(
        id=draw(TEXT),
        alias=draw(st.none() | TEXT),
        namespace="default",
        service="loan",
        arrival_us=draw(st.integers(0, 2**50)),
        event_us=draw(st.integers(0, 2**50)),
        columns=COLUMNS,
        rows=rows,
        # Of all values that are no number one is kept, which is what the scorer saw in each.
        numbers=np.array([math.nan if math.isnan(n) else n for n in numbers], dtype="<f8").tobytes(),
        texts=tuple(draw(st.lists(st.none() | TEXT, min_size=rows, max_size=rows))),
        version=draw(st.sampled_from(["1", "2"])),
        reason=draw(TEXT),
        answers=answers,
        failures=draw(st.dictionaries(st.sampled_from(["1", "2", "4"]), TEXT)),
        latency_us=draw(st.integers(0, 2**40)),
        unit=draw(TEXT),
        scored_us=draw(st.dictionaries(st.sampled_from(["1", "2", "3"]), st.integers(0, 2**40))),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(predictions(), min_size=1, max_size=4))
def test_predictions_come_back_as_they_were(records: list[Prediction]) -> None:
    placed = [(10 * place, record) for place, record in enumerate(records)]
    table = prediction_table(placed)
    assert table.num_rows == sum(record.rows for record in records)
    assert table.schema.names[-3:] == ["age", "id_", "job"]
    assert list(predictions_of(table, namespace="default", service="loan", columns=COLUMNS)) == placed


LABELS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, LABELS, st.none() | st.integers(0, 2**50)), max_size=5))
def test_labels_come_back_as_they_were(drawn: list[tuple[str, bool | int | float | str | None, int | None]]) -> None:
    placed = [
        (place, Label(prediction=key, row=1, label=value, observed_us=observed, arrival_us=9))
        for place, (key, value, observed) in enumerate(drawn)
    ]
    back = list(labels_of(label_table(placed)))
    assert back == placed
    assert [type(label.label) for _, label in back] == [type(label.label) for _, label in placed]
