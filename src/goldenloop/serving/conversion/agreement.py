"""Measuring whether a graph answers as the model does that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import GoldenloopError, RefusedError
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import Answer
from goldenloop.serving.conversion.estimators import Expected
from goldenloop.serving.conversion.records import (
    CONVERSION_FILE,
    LABELS_AGREEING,
    MEDIAN_DIFFERENCE,
    RULE,
    Conversion,
)
from goldenloop.serving.models import GRAPH_FILE, SIGNATURE_FILE, load
from goldenloop.serving.scoring import score_table

if TYPE_CHECKING:
    import pyarrow
    from onnx import ModelProto

SERVE_MEND = "Use a scikit-learn estimator that skl2onnx converts, or save the model as ONNX."

TIE = 1e-6  # two probabilities that are nearer than this are equal in float32


def write_and_measure(
    graph: ModelProto,
    signature: Signature,
    name: str,
    sample: pyarrow.Table,
    expected: Sequence[Expected],
    *,
    out: Path,
) -> Conversion:
    """Write the served form, score the sample with it, and compare with whichever of `expected`, what the model `name` says, is nearest.

    A form that is not accepted is removed again, and its record stays. Raises RefusedError.
    """
    out.mkdir(parents=True, exist_ok=True)
    graph.graph.name = (
        "model"  # the converter makes up another one each time, and the same model is to have the same digest
    )
    (out / GRAPH_FILE).write_bytes(graph.SerializeToString())
    (out / SIGNATURE_FILE).write_bytes(msgspec.json.encode(signature))
    try:
        answers = score_table(load(out), _with_numbers(sample, signature))
    except GoldenloopError as error:
        remove_form(out)
        raise RefusedError(f"the converted {name} does not run: {error}", mend=SERVE_MEND) from error
    agreeing, differences = max((compare(one, answers) for one in expected), key=lambda found: found[0])
    largest, median = float(np.max(differences)), float(np.median(differences))
    accepted = agreeing >= LABELS_AGREEING and median < MEDIAN_DIFFERENCE  # a NaN is not below anything
    record = Conversion(
        source="estimator",
        estimator=name,
        rows=len(answers),
        labels_agreeing=agreeing,
        largest_difference=largest,
        median_difference=median,
        accepted=accepted,
        rule=RULE,
        signature=signature,
    )
    if not accepted:
        remove_form(out)
        (out / CONVERSION_FILE).write_bytes(msgspec.json.encode(record))
        raise RefusedError(
            f"the converted {name} does not answer as the estimator does: on {len(answers)} rows {agreeing:.2%} of the "
            f"answers agree, the median difference is {median:.2g}",
            mend=f"Accepted is a model whose {RULE}; gradient boosting and linear models convert exactly.",
        )
    (out / CONVERSION_FILE).write_bytes(msgspec.json.encode(record))
    return record


def compare(expected: Expected, answers: tuple[Answer, ...]) -> tuple[float, NDArray[np.float64]]:
    """Return the share of rows whose labels agree, and the difference of each row."""
    if expected.is_regression:
        values = np.array(expected.labels, dtype=np.float64)
        spread = float(np.std(values)) or max(1.0, float(np.max(np.abs(values))))
        distances = np.abs(np.array([answer[0] for answer in answers], dtype=np.float64) - values) / spread
        return float(np.mean(distances < 1e-3)), distances
    same = np.array([name == answer[0] for name, answer in zip(expected.labels, answers, strict=True)])
    if expected.probabilities is None:
        return float(np.mean(same)), np.zeros(len(answers))
    shares = np.array([answer[1] for answer in answers], dtype=np.float64)
    differences = np.max(np.abs(shares - expected.probabilities), axis=1)
    # Of two classes that are equally probable either is right.
    best = np.sort(expected.probabilities, axis=1)[:, -2:]
    tied = (best[:, -1] - best[:, 0] < TIE) & (differences < TIE)
    return float(np.mean(same | tied)), differences


def _with_numbers(sample: pyarrow.Table, signature: Signature) -> pyarrow.Table:
    """The sample with truths as numbers where the signature takes them so."""
    import pyarrow

    for column in signature.inputs:
        if column.kind == "number" and pyarrow.types.is_boolean(sample.schema.field(column.name).type):
            place = sample.column_names.index(column.name)
            sample = sample.set_column(place, column.name, sample.column(column.name).cast(pyarrow.int8()))
    return sample


def remove_form(out: Path) -> None:
    for name in (GRAPH_FILE, SIGNATURE_FILE):
        (out / name).unlink(missing_ok=True)
