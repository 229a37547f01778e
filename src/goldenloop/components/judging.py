"""Judging a model: how good it is with how sure that is, over all and in parts, and whether it may be blessed.

Blessing is the gate's (`goldenloop.evaluation.gate`), with limits of one's own on the metrics beside it. In a Loop the platform blesses
again, on the rows it chose itself; what stands here is input to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from goldenloop.components.tables import DataSchema, read_schema, rows_for
from goldenloop.components.training import MODEL_FILE, SCHEMA_FILE
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import ColumnKind, Task, as_text
from goldenloop.evaluation.gate import Evaluation, Evidence, Thresholds, judge
from goldenloop.evaluation.slices import slices_of
from goldenloop.features.schema import columns_for, labels_for
from goldenloop.stats.intervals import mean_interval, wilson_interval
from goldenloop.stats.losses import metrics
from goldenloop.stats.special import normal_quantile

_SMALLEST_PROBABILITY = 1e-15
_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A metric; `low` and `high` are its interval, None where it has none. The value is None where it means nothing on these rows."""

    value: float | None
    low: float | None = None
    high: float | None = None


class SliceReport(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of the rows where `column` is `value`."""

    column: str
    value: str
    rows: int
    metrics: dict[str, Measure]


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on the labelled rows. Intervals are for one look at rows that do not depend on each other."""

    task: Task
    rows: int
    confidence: float
    metrics: dict[str, Measure]
    slices: tuple[SliceReport, ...] = ()


class Blessing(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict, why, and the gate's evidence."""

    verdict: Verdict
    reason: str
    evaluation: Evaluation

    @property
    def blessed(self) -> bool:
        """No evidence is never success: inconclusive is no."""
        return self.verdict is Verdict.PASS


def measure(
    evidence: Evidence,
    labels: npt.NDArray[np.generic],
    task: Task,
    *,
    classes: tuple[str, ...] = (),
    confidence: float = 0.95,
) -> dict[str, Measure]:
    """The customary metrics with intervals: Wilson's for accuracy, a bootstrap's for means (log_loss, brier, mae, and rmse by its
    square), DeLong's on the logit scale for auc; the others have none. Raises ValueError for no rows.
    """
    values = metrics(task, labels, evidence.answers, probabilities=evidence.probabilities, classes=classes)
    found = {name: Measure(value=value) for name, value in values.items()}
    if task == "regression":
        errors = np.abs(np.asarray(evidence.answers, dtype=np.float64) - np.asarray(labels, dtype=np.float64))
        errors = errors[np.isfinite(errors)]
        if len(errors):
            found["mae"] = _mean(errors, confidence)
            squares = mean_interval(errors**2, confidence=confidence)
            found["rmse"] = Measure(
                value=values["rmse"], low=float(np.sqrt(max(squares.low, 0.0))), high=float(np.sqrt(squares.high))
            )
        return found
    truth = [as_text(label) for label in labels.tolist()]
    said = [None if answer is None else as_text(answer) for answer in np.asarray(evidence.answers).tolist()]
    right = sum(told == true for told, true in zip(said, truth, strict=True))
    accuracy = wilson_interval(right, len(truth), confidence=confidence)
    found["accuracy"] = Measure(value=accuracy.estimate, low=accuracy.low, high=accuracy.high)
    if evidence.probabilities is None or not classes:
        return found
    hot = np.array(truth, dtype=object)[:, None] == np.array(classes, dtype=object)[None, :]
    shares = np.where(np.isfinite(evidence.probabilities), evidence.probabilities, 0.0)
    of_label = np.clip(np.where(hot, shares, 0.0).sum(axis=1), _SMALLEST_PROBABILITY, 1.0)
    found["log_loss"] = _mean(-np.log(of_label), confidence)
    found["brier"] = _mean(((shares - hot) ** 2).sum(axis=1) + (~hot.any(axis=1)), confidence)
    if len(classes) == 2 and values.get("auc") is not None:
        found["auc"] = _area(hot[hot.any(axis=1), 1], shares[hot.any(axis=1), 1], confidence)
    return found


def evaluate(
    model: Path, table: pa.Table, schema: DataSchema, *, slices: Sequence[str] = (), confidence: float = 0.95
) -> EvaluationReport:
    """Measure a model on the labelled rows of a table, over all and by slice: categories with 2 to 20 values, and the columns that
    are named, numbers by quartiles. Raises InvalidSpecError.
    """
    if not 0.0 < confidence < 1.0:
        raise InvalidSpecError(
            f"{confidence} is no confidence", where="confidence", mend="Give 0.95, or another share."
        )
    labels, present = _labels(table, schema)
    evidence, classes = answers_of(model, table, schema)
    kept = _rows_of(evidence, present)
    cut = {name: values[present] for name, values in _slices(table, schema, slices).items()}
    parts = []
    for column, names in cut.items():
        for value in sorted({str(name) for name in names.tolist()}):
            rows = names == value
            if not rows.any():
                continue
            part = measure(_rows_of(kept, rows), labels[rows], schema.task, classes=classes, confidence=confidence)
            parts.append(SliceReport(column=column, value=value, rows=int(rows.sum()), metrics=part))
    return EvaluationReport(
        task=schema.task,
        rows=len(labels),
        confidence=confidence,
        metrics=measure(kept, labels, schema.task, classes=classes, confidence=confidence),
        slices=tuple(parts),
    )


def bless(
    model: Path,
    table: pa.Table,
    schema: DataSchema,
    *,
    champion: Path | None = None,
    limits: Mapping[str, float] | None = None,
    margin: float = 0.0,
    slices: Sequence[str] = (),
    training_rows: int,
) -> Blessing:
    """Judge by the gate, then by `limits`: for each metric the least it may be, or the most where lower is better (log_loss, brier,
    mae, rmse). Without a champion the model must beat the trivial baseline. Raises InvalidSpecError.
    """
    labels, present = _labels(table, schema)
    evidence, classes = answers_of(model, table, schema)
    kept = _rows_of(evidence, present)
    rival = None if champion is None else _rows_of(answers_of(champion, table, schema)[0], present)
    seen = judge(
        schema.task,
        labels,
        kept,
        champion=rival,
        classes=classes,
        slices={name: values[present] for name, values in _slices(table, schema, slices).items()},
        training_rows=training_rows,
        thresholds=Thresholds(margin=margin),
    )
    verdict, reason = seen.verdict, seen.reason
    for name, limit in (limits or {}).items():
        if name not in seen.challenger_metrics:
            raise InvalidSpecError(
                f"{name!r} is not measured here",
                where=f"limits.{name}",
                mend=f"Use one of {', '.join(seen.challenger_metrics)}.",
            )
        value = seen.challenger_metrics[name]
        if value is None:
            if verdict is Verdict.PASS:
                verdict, reason = (
                    Verdict.INCONCLUSIVE,
                    f"{name} means nothing on these rows, so its limit cannot be checked",
                )
        elif (value > limit) if name in _LOWER_IS_BETTER else (value < limit):
            side = "above" if name in _LOWER_IS_BETTER else "below"
            verdict, reason = Verdict.FAIL, f"{name} is {value:.4g}, {side} its limit {limit:g}"
            break
    return Blessing(verdict=verdict, reason=reason, evaluation=seen)


def answers_of(model: Path, table: pa.Table, schema: DataSchema) -> tuple[Evidence, tuple[str, ...]]:
    """What a model says about every row, and its classes. Takes a folder with `model.joblib`, the file itself, or the served form of
    a version, as a Loop hands over its champion. Raises InvalidSpecError.
    """
    if (model / "signature.json").is_file():
        return _served_answers(model, table)
    file = model / MODEL_FILE if model.is_dir() else model
    own = read_schema(str(model / SCHEMA_FILE)) if (model / SCHEMA_FILE).is_file() else schema
    try:
        loaded = joblib.load(file)
        frame = rows_for(table, own)
        said = np.asarray(loaded.predict(frame)).reshape(-1)
    except InvalidSpecError:
        raise
    except Exception as error:  # unpickling and foreign estimators raise whatever they meet
        raise InvalidSpecError(
            f"the model cannot answer: {type(error).__name__}: {error}",
            where=str(model),
            mend="Train it on this schema.",
        ) from error
    if schema.task == "regression":
        return Evidence(answers=said.astype(np.float64)), ()
    texts = np.array([as_text(value) for value in said.tolist()], dtype=object)
    if not hasattr(loaded, "predict_proba"):
        return Evidence(answers=texts), schema.classes
    classes = tuple(as_text(value) for value in np.asarray(loaded.classes_).tolist())
    return Evidence(answers=texts, probabilities=np.asarray(loaded.predict_proba(frame), dtype=np.float64)), classes


def _served_answers(folder: Path, table: pa.Table) -> tuple[Evidence, tuple[str, ...]]:
    from goldenloop.serving.scoring import score_table
    from goldenloop.serving.unconverted import load_version

    model = load_version(folder)
    answers = score_table(model, table)
    said = np.empty(len(answers), dtype=object)
    said[:] = [value for value, _ in answers]
    classes = model.signature.classes
    if not classes:
        return Evidence(answers=said), ()
    return Evidence(answers=said, probabilities=np.array([shares for _, shares in answers], dtype=np.float64)), classes


def _labels(table: pa.Table, schema: DataSchema) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    labels, present = labels_for(table, schema)
    if not present.any():
        raise InvalidSpecError("no row has a label", where="evaluation", mend="Give rows whose label is known.")
    kept = labels[present]
    if schema.task == "classification":
        kept = np.array([as_text(value) for value in kept.tolist()], dtype=object)
    return kept, present


def _slices(table: pa.Table, schema: DataSchema, declared: Sequence[str]) -> dict[str, npt.NDArray[np.object_]]:
    columns = dict(columns_for(table, schema))
    for name in declared:
        if name in table.column_names and name not in columns:
            columns[name] = np.array(table.column(name).to_pylist(), dtype=object)
    kinds: dict[str, ColumnKind] = {
        column.name: "number" if column.kind == "number" else "category" for column in schema.inputs
    }
    return slices_of(columns, kinds, declared=tuple(declared))


def _rows_of(evidence: Evidence, rows: npt.NDArray[np.bool_]) -> Evidence:
    shares = evidence.probabilities
    return Evidence(answers=np.asarray(evidence.answers)[rows], probabilities=None if shares is None else shares[rows])


def _mean(values: npt.NDArray[np.float64], confidence: float) -> Measure:
    interval = mean_interval(values, confidence=confidence)
    return Measure(value=interval.estimate, low=interval.low, high=interval.high)


def _area(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], confidence: float) -> Measure:
    """The area under the ROC curve with DeLong's interval (Biometrics 44, 1988), taken on the logit scale so that it stays in 0..1.

    At an area of exactly 0 or 1, or with one row of a class, the variance says nothing and there is no interval.
    """
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])

    def placed(values: npt.NDArray[np.float64], among: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        less = np.searchsorted(among, values, side="left")
        return (less + 0.5 * (np.searchsorted(among, values, side="right") - less)) / len(among)

    of_positive, of_negative = placed(above, below), 1.0 - placed(below, above)
    area = float(of_positive.mean())
    if not 0.0 < area < 1.0 or min(len(above), len(below)) < 2:
        return Measure(value=area)
    variance = float(of_positive.var(ddof=1) / len(above) + of_negative.var(ddof=1) / len(below))
    half = normal_quantile(0.5 + confidence / 2.0) * np.sqrt(variance) / (area * (1.0 - area))
    centre = np.log(area / (1.0 - area))
    return Measure(
        value=area, low=float(1.0 / (1.0 + np.exp(half - centre))), high=float(1.0 / (1.0 + np.exp(-centre - half)))
    )
