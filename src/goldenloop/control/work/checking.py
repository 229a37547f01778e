"""The checks of a version in its job process: rows and answers of the served form, as `goldenloop.evaluation` looks at them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from goldenloop.control.work.cost import check_cost, measure_cost
from goldenloop.control.work.records import Assessment
from goldenloop.core.errors import UnavailableError
from goldenloop.core.signatures import Signature
from goldenloop.evaluation.checks import Check, Finding, Subject, nothing
from goldenloop.evaluation.examining import Training, examine
from goldenloop.evaluation.gate import Evidence, labelled_rows
from goldenloop.features.schema import event_times
from goldenloop.serving.scoring import TableModel, batch_of_table, score_table
from goldenloop.stats.losses import Values, losses

MaybeAnswer: TypeAlias = tuple[str | float | None, tuple[float, ...]]  # None where a model failed


def evidence_of(answers: Sequence[MaybeAnswer], signature: Signature) -> Evidence:
    """Answers as the gate takes them."""
    said = np.empty(len(answers), dtype=object)
    said[:] = [value for value, _ in answers]
    if signature.task == "regression" or not any(shares for _, shares in answers):
        return Evidence(answers=said)
    unknown = (math.nan,) * len(signature.classes)  # where there was no answer
    return Evidence(
        answers=said, probabilities=np.array([shares or unknown for _, shares in answers], dtype=np.float64)
    )


def answered(model: TableModel, table: pa.Table) -> Sequence[MaybeAnswer]:
    """What a champion answers to each row, None where it fails: a challenger is not refused for what the champion cannot do."""
    try:
        return score_table(model, table)
    except UnavailableError:
        pass
    answers: list[MaybeAnswer] = []
    for row in range(table.num_rows):
        try:
            answers += score_table(model, table.slice(row, 1))
        except UnavailableError:
            answers.append((None, ()))
    return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The rows that a version is judged on, and those it was trained on."""

    data: pa.Table
    evaluation: pa.Table
    labels: Values
    scale: float
    protected: Mapping[str, Values]  # each row's part, by the column that cuts


def checks_of(
    request: Assessment,
    rows: Judged,
    models: Mapping[str, TableModel],
    challenger: Evidence,
    champion: Evidence | None,
    *,
    file: Path,
    folder: Path,
) -> tuple[Check, ...]:
    """What is looked at beside the comparison, on the labelled evaluation rows."""
    schema, model = request.schema, models["challenger"]
    signature, layout = model.signature, model.layout
    labelled = labelled_rows(schema.task, rows.labels)
    labels = rows.labels[labelled]

    def lost(said: Evidence) -> NDArray[np.float64]:
        return losses(schema.task, labels, np.asarray(said.answers)[labelled], scale=rows.scale)

    def predict(columns: dict[str, Values]) -> Evidence:
        return evidence_of(model.predict(columns, len(next(iter(columns.values())))), signature)

    def cost() -> Finding:
        if rows.evaluation.num_rows == 0:
            return nothing("there are no rows to ask with")
        sizes = {"challenger": file.stat().st_size}
        if request.champion is not None:
            sizes["champion"] = sum(path.stat().st_size for path in Path(request.champion).glob("model.*"))
        return check_cost(measure_cost(models, rows.evaluation, sizes, folder), request.judging.serving)

    columns = layout.columns(batch_of_table(layout, rows.evaluation))
    probabilities = challenger.probabilities
    subject = Subject(
        task=schema.task,
        label=schema.label,
        labels=labels,
        columns={name: values[labelled] for name, values in columns.items()},
        kinds={column.name: column.kind for column in signature.inputs},
        protected={
            name: np.asarray(rows.protected[name])[labelled] for name in request.protected if name in rows.protected
        },
        challenger=Evidence(
            answers=np.asarray(challenger.answers)[labelled],
            probabilities=None if probabilities is None else probabilities[labelled],
        ),
        losses=lost(challenger),
        champion_losses=None if champion is None else lost(champion),
        classes=signature.classes,
        scale=rows.scale,
        predict=predict,
    )
    training = Training(
        columns=layout.columns(batch_of_table(layout, rows.data)),
        labels=np.array(rows.data.column(schema.label).to_pylist(), dtype=object),
        until_us=int(event_times(rows.data, schema).max()) if schema.timestamp and rows.data.num_rows else None,
        evaluation_times=event_times(rows.evaluation, schema)[labelled] if schema.timestamp else None,
    )
    return examine(subject, training, request.judging, margin=request.margin, cost=cost)
