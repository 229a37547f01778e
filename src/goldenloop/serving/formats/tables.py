"""What the formats of tables share: the form after a conversion, and the form without one, proven by scoring with it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pyarrow

from goldenloop.core.errors import GoldenloopError, RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.core.signatures import Signature
from goldenloop.serving.conversion import Conversion
from goldenloop.serving.conversion.agreement import compare
from goldenloop.serving.conversion.estimators import Expected
from goldenloop.serving.conversion.records import LABELS_AGREEING
from goldenloop.serving.formats.found import Found, Made
from goldenloop.serving.predictors.loaders import load
from goldenloop.serving.predictors.server import Model
from goldenloop.serving.scoring import batch_of_table
from goldenloop.standards.tabular import Layout

_SCORED_ROWS = 200


def converted(found: Found, record: Conversion) -> Made:
    """The form of a graph that was accepted."""
    form = ServedForm(
        form="table",
        runtime="onnx",
        loader="onnx",
        format=found.format,
        framework_version=found.framework_version,
        signature=record.signature,
        batching=True,
    )
    note = (
        f"Converted to ONNX: on {record.rows} made-up rows {record.labels_agreeing:.2%} of the answers agree, "
        f"the largest difference is {record.largest_difference:.2g}."
    )
    return Made(form=form, notes=(note,))


def in_process(form: ServedForm, sample: pyarrow.Table, expected: Expected, *, why: str, out: Path) -> Made:
    """The form of the object itself, once it was loaded as it will be served and scored some rows. Raises RefusedError."""
    assert form.signature is not None  # it is a table
    rows = sample.slice(0, _SCORED_ROWS)
    batch = batch_of_table(Layout(form.signature), rows)
    try:
        model = cast(Model, load(out, form, name="model", threads=1))
        given = model.score(batch.rows, {"numbers": batch.numbers, "texts": batch.texts})
    except GoldenloopError:
        raise
    except Exception as error:  # whatever the model raises
        raise RefusedError(
            f"the model cannot score what it was trained on: {type(error).__name__}: {str(error)[:300]}",
            where=form.file,
            mend="Train it on columns of numbers, texts or truths.",
        ) from error
    agreeing = _agreeing(form.signature, given, expected)
    if agreeing < LABELS_AGREEING:
        raise RefusedError(
            f"the loaded model gives other answers: {agreeing:.2%} agree", where=form.file, mend="Save the model anew."
        )
    return Made(form=form, notes=(f"Not converted, served by a process of its own: {why}",))


def _agreeing(signature: Signature, given: dict[str, np.ndarray], expected: Expected) -> float:
    labels = given["predict"].reshape(-1).tolist()
    first = Expected(
        expected.labels[: len(labels)],
        None if expected.probabilities is None else expected.probabilities[: len(labels)],
        is_regression=signature.task == "regression",
    )
    shares = given.get("probabilities")
    answers = tuple((label, () if shares is None else tuple(shares[row].tolist())) for row, label in enumerate(labels))
    return compare(first, answers)[0]
