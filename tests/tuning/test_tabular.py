"""Training on tables: every candidate converts to ONNX and agrees, and the latest rows judge."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

from goldenloop.core.clock import SystemClock
from goldenloop.core.errors import InvalidSpecError
from goldenloop.features.schema import Schema, infer_schema, labels_for
from goldenloop.tuning.tabular import CANDIDATES, Recipe, build, frame_for, judge, train


def table(rows: int = 400, *, seed: int = 0, regression: bool = False) -> pa.Table:
    random = np.random.default_rng(seed)
    number, other = random.normal(size=rows), random.normal(size=rows)
    town = random.choice(["north", "south", "east"], size=rows)
    score = number * 2 + (town == "north") * 1.5 + random.normal(scale=0.3, size=rows)
    holes = [None if hole < 0.1 else value for hole, value in zip(random.random(rows), other, strict=True)]
    label: list[object] = score.tolist() if regression else np.where(score > 0.5, "yes", "no").tolist()
    return pa.table({"number": number, "other": holes, "town": town, "label": label})


def schema_of(data: pa.Table) -> Schema:
    return infer_schema(data, label="label", timestamp=None)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("recipe", [recipe for _, recipe in CANDIDATES[1:4]], ids=[name for name, _ in CANDIDATES[1:4]])
def test_every_candidate_converts_and_agrees(recipe: Recipe, regression: bool) -> None:
    data = table(regression=regression)
    schema = schema_of(data)
    model = build(recipe, schema)
    frame = frame_for(data, schema)
    model.fit(frame, labels_for(data, schema)[0])
    kinds = [
        (c.name, FloatTensorType([None, 1]) if c.kind == "number" else StringTensorType([None, 1]))
        for c in schema.inputs
    ]
    options = {"zipmap": False} if not regression else None
    session = onnxruntime.InferenceSession(to_onnx(model, initial_types=kinds, options=options).SerializeToString())
    frame.loc[3, "town"] = "never seen"
    frame.loc[4, "number"] = np.nan
    given = {
        c.name: frame[c.name].to_numpy().astype(np.float32 if c.kind == "number" else object).reshape(-1, 1)
        for c in schema.inputs
    }
    answers = session.run(None, given)
    if regression:
        np.testing.assert_allclose(answers[0].ravel(), model.predict(frame), rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_allclose(answers[1], model.predict_proba(frame), atol=1e-5)


@pytest.mark.parametrize("regression", [False, True])
def test_what_is_learned_beats_the_constant(regression: bool) -> None:
    data = table(regression=regression)
    schema = schema_of(data)
    trained = train(data, schema, budget_seconds=10, clock=SystemClock())
    losses = {trial.name: trial.loss for trial in trained.search.trials}
    constant = losses["constant"]
    assert constant is not None
    assert trained.search.loss < 0.6 * constant
    metrics = judge(trained.model, table(300, seed=1, regression=regression), schema)
    assert metrics["r2" if regression else "accuracy"] > 0.85


def test_the_constant_is_the_prior() -> None:
    data = table()
    schema = schema_of(data)
    labels = labels_for(data, schema)[0]
    model = build(CANDIDATES[0][1], schema)
    model.fit(frame_for(data, schema), labels)
    np.testing.assert_allclose(model.predict_proba(frame_for(data, schema))[:, 1], np.mean(labels == "yes"), atol=1e-6)


def test_the_latest_rows_judge_whatever_their_order_in_the_file() -> None:
    """The label of late rows contradicts the early ones: only a judge that looks at the late rows finds every model bad."""
    random = np.random.default_rng(0)
    number = random.normal(size=500)
    label = np.where(np.arange(500) < 400, number > 0, number <= 0)
    ordered = pa.table({"at": np.arange(500), "number": number, "label": label})
    shuffled = ordered.take(pa.array(random.permutation(500)))
    for data in (ordered, shuffled):
        schema = infer_schema(data, label="label", timestamp="at")
        assert train(data, schema, budget_seconds=10, clock=SystemClock()).search.name == "constant"


def test_rows_without_a_label_are_left_out_and_too_few_are_refused() -> None:
    data = table(50)
    labels = [*data["label"].to_pylist()[:40], *([None] * 10)]
    holes = data.set_column(3, "label", pa.array(labels))
    schema = schema_of(holes)
    assert train(holes, schema, budget_seconds=0, clock=SystemClock()).rows == 40
    with pytest.raises(InvalidSpecError, match="too few"):
        train(holes.slice(0, 1), schema, budget_seconds=0, clock=SystemClock())


def test_a_column_without_any_number_does_not_stop_the_training() -> None:
    data = table(120)
    schema = schema_of(data)
    empty = data.set_column(1, "other", pa.nulls(data.num_rows, pa.float64()))
    trained = train(empty, schema, budget_seconds=5, clock=SystemClock())
    assert judge(trained.model, empty, schema)["accuracy"] > 0.7
