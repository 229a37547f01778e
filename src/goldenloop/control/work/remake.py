"""Comparing a version with what a second run of the same code on the same data made, in a process that holds no keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from goldenloop.control.work.assess import scale_of, serve_form, trivial_answer
from goldenloop.control.work.checking import MaybeAnswer, answered, evidence_of
from goldenloop.control.work.records import Remade, Remaking
from goldenloop.core.ids import digest_file
from goldenloop.evaluation.gate import judge
from goldenloop.features.source import content_version
from goldenloop.serving.models import GRAPH_FILE
from goldenloop.serving.scoring import score_table
from goldenloop.serving.unconverted import OBJECT_FILE, load_version

TOLERANCE = (
    1e-6  # of a probability, or of a number in units of the labels' spread: sums in another order differ by less
)


def remake(request: Remaking, folder: Path) -> Remade:
    """Do it. Raises RefusedError where the second model cannot be brought into a served form."""
    data, evaluation, schema = pq.read_table(request.data), pq.read_table(request.evaluation), request.schema
    inputs = {column.name for column in schema.inputs}
    ignore = frozenset(name for name in data.column_names if name not in inputs)
    served = folder / "served"
    conversion = serve_form(Path(request.model), data, label=schema.label, ignore=ignore, out=served)
    second, first = load_version(served), load_version(Path(request.served))
    answers, before = score_table(second, evaluation), answered(first, evaluation)
    scale = scale_of(schema.task, data, schema.label)
    labels = np.array(evaluation.column(schema.label).to_pylist(), dtype=object)
    judged = judge(
        schema.task,
        labels,
        evidence_of(answers, second.signature),
        champion=evidence_of(before, first.signature),
        classes=second.signature.classes,
        training_rows=data.num_rows,
        baseline=trivial_answer(schema.task, data, schema.label),
        scale=scale,
    )
    differences = [_difference(one, other, scale) for one, other in zip(answers, before, strict=True)]
    kept = [name for name in data.column_names if name != schema.timestamp]
    return Remade(
        digest=digest_file(served / (GRAPH_FILE if conversion.runtime == "onnx" else OBJECT_FILE)),
        columns=content_version(data.select(kept)).columns,
        rows=len(answers),
        alike=sum(difference <= TOLERANCE for difference in differences),
        farthest=max(differences, default=0.0),
        metrics=dict(judged.challenger_metrics),
        metrics_before=dict(judged.champion_metrics or {}),
    )


def _difference(one: MaybeAnswer, other: MaybeAnswer, scale: float) -> float:
    """How far two answers are apart; 1 where the class is another one, or only one of the models answered."""
    (value, shares), (value_before, shares_before) = one, other
    if isinstance(value, float) and isinstance(value_before, float):
        return abs(value - value_before) / (scale or 1.0)
    if value != value_before:
        return 1.0
    return _largest(shares, shares_before)


def _largest(shares: Sequence[float], before: Sequence[float]) -> float:
    return max((abs(one - other) for one, other in zip(shares, before, strict=False)), default=0.0)
