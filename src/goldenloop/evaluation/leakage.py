"""Signs that an evaluation is easier than the world: a column that gives the label away, rows that were trained on, a wrong order of
time, labels that contradict each other. All are about the data; none needs the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.json import Json
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import ColumnKind, Task
from goldenloop.evaluation.checks import Columns, Finding, Subject, nothing
from goldenloop.evaluation.rows import row_codes
from goldenloop.standards.evaluation import LabelCheck, LeakageCheck
from goldenloop.stats.intervals import wilson_interval
from goldenloop.stats.losses import Values, area_under_curve, as_numbers, as_text

MOST_TRAINING_ROWS = (
    200_000  # that are compared with the evaluation rows: the latest, which are likeliest to be the same
)
FEWEST_ROWS = 60  # to say that a column tells the label
_BINS = 32  # of a column, where its relation to the label may have any shape
_EQUAL_VALUES = 0.1  # labels that differ by less than this part of the error that costs 1 do not contradict each other


def smell_leakage(
    subject: Subject,
    asked: LeakageCheck,
    *,
    training: Columns,
    training_labels: Values,
    evaluation_times: NDArray[np.int64] | None,
    training_until_us: int | None,
) -> Finding:
    """The check. `evaluation_times` and the last training time are event times, None where rows have none."""
    if subject.rows == 0:
        return nothing("there are no labelled rows")
    told: list[str] = []
    single = best_columns(subject.columns, subject.kinds, subject.labels, task=subject.task)
    evidence: dict[str, Json] = {"single": dict(single[:5]), "maxSingle": asked.max_single}
    giving = [name for name, score in single if score >= asked.max_single]
    if giving:
        measure = "R²" if subject.task == "regression" else "AUC"
        told.append(
            f"{', '.join(giving[:3])} alone tells the label ({measure} {single[0][1]:.4g}): is it known before the label is?"
        )
    shared, usual = duplicates(subject.columns, subject.labels, training, training_labels)
    evidence |= {"duplicates": shared, "duplicatesAmongTraining": usual, "maxDuplicates": asked.max_duplicates}
    # Where rows repeat within the training set, as with a few categories, they are expected to repeat here.
    surely = wilson_interval(round(shared * subject.rows), subject.rows, confidence=0.99).low
    if shared > asked.max_duplicates and surely > usual:
        told.append(
            f"{shared:.1%} of the evaluation rows are in the training data, where only {usual:.1%} repeat among themselves"
        )
    if evaluation_times is not None and training_until_us is not None and evaluation_times.size:
        early = float(np.mean(evaluation_times < training_until_us))
        evidence["earlierThanTraining"] = early
        if early > 0.0:
            told.append(f"{early:.1%} of the evaluation rows are earlier than the last row that was trained on")
    if told:
        return Finding(verdict=Verdict.FAIL, reason="; ".join(told), evidence=evidence)
    return Finding(
        verdict=Verdict.PASS,
        reason="no column alone gives the label away, and no evaluation row was trained on more than chance explains",
        evidence=evidence,
    )


def contradictions(subject: Subject, asked: LabelCheck) -> Finding:
    """The check of labels: which rows are equal in all inputs and have another label. On those nobody can be right each time."""
    if subject.rows == 0:
        return nothing("there are no labelled rows")
    codes = row_codes(subject.columns)
    if subject.task == "regression":
        numbers = as_numbers(subject.labels, what="labels")
        middles = _medians(codes, numbers)
        against = np.abs(numbers - middles[codes]) > _EQUAL_VALUES * subject.scale
    else:
        labels = row_codes({"label": subject.labels})
        pairs, counts = np.unique(codes * (labels.max(initial=0) + 1) + labels, return_counts=True)
        commonest = np.zeros(codes.max(initial=0) + 1, dtype=np.int64)
        np.maximum.at(commonest, pairs // (labels.max(initial=0) + 1), counts)
        against_count = subject.rows - int(commonest.sum())
        against = np.arange(subject.rows) < against_count
    share = float(np.mean(against))
    evidence: dict[str, Json] = {"contradicting": share, "maxContradictions": asked.max_contradictions}
    if share > asked.max_contradictions:
        return Finding(
            verdict=Verdict.FAIL,
            reason=f"{share:.1%} of the rows have the same inputs as others and another label: "
            f"no model can be right on more than {1.0 - share:.1%}",
            evidence=evidence,
        )
    return Finding(
        verdict=Verdict.PASS, reason=f"{share:.1%} of the rows contradict rows with the same inputs", evidence=evidence
    )


def best_columns(
    columns: Columns, kinds: Mapping[str, ColumnKind], labels: Values, *, task: Task
) -> list[tuple[str, float]]:
    """Return how well each column alone tells the label, the best first: 1 is perfectly, 1/2 (R²: 0) not at all.

    Classification: the mean over classes of the area under the curve, of the column itself where it is a number, or of each
    class's share in its bins, learned on every other row and judged on the others; the better of both. Regression: R² of the
    bins' means, in the same way. Fewer than 60 rows say nothing. Cost: O(columns * rows * classes).
    """
    if len(labels) < FEWEST_ROWS:
        return []
    if task == "regression":
        targets = as_numbers(labels, what="labels")[None, :]
    else:
        texts = as_text(labels)
        names, counts = np.unique(texts.astype(str), return_counts=True)
        common = names[counts >= FEWEST_ROWS // 6]
        if common.size < 2:
            return []
        targets = np.array(
            [texts == name for name in common.tolist()][: 1 if names.size == 2 else None], dtype=np.float64
        )
    learned = np.arange(len(labels)) % 2 == 0
    scores = []
    for name, values in columns.items():
        binned = _binned(values, kinds[name], name)
        score = float(np.mean([_told_by_bins(binned, target, learned, task) for target in targets]))
        if task == "classification" and kinds[name] == "number":
            score = max(score, float(np.mean([_told_by_order(as_numbers(values), target) for target in targets])))
        scores.append((name, score))
    return sorted(scores, key=lambda each: (-each[1], each[0]))


def duplicates(columns: Columns, labels: Values, training: Columns, training_labels: Values) -> tuple[float, float]:
    """Return the share of rows that are in the training data, label included, and the share of training rows that are there twice."""
    known = len(training_labels)
    first = max(0, known - MOST_TRAINING_ROWS)
    together: dict[str, Values] = {
        name: np.concatenate([np.asarray(training[name])[first:], np.asarray(values)])
        for name, values in columns.items()
    }
    texts = [as_text(np.asarray(training_labels)[first:]), as_text(labels)]
    codes = row_codes({**together, "": np.concatenate(texts)})
    trained, judged = codes[: known - first], codes[known - first :]
    if trained.size == 0 or judged.size == 0:
        return 0.0, 0.0
    counts = np.bincount(trained, minlength=int(codes.max()) + 1)
    return float(np.mean(counts[judged] > 0)), float(np.mean(counts[trained] > 1))


def _binned(values: Values, kind: ColumnKind, name: str) -> NDArray[np.int64]:
    if kind != "number":
        return row_codes({name: values})
    numbers = as_numbers(values, what=name)
    present = numbers[np.isfinite(numbers)]
    if present.size == 0:
        return np.zeros(numbers.size, dtype=np.int64)
    limits = np.unique(np.quantile(present, np.linspace(0, 1, _BINS + 1)[1:-1], method="inverted_cdf"))
    places = np.searchsorted(limits, numbers, side="left")
    return np.where(np.isfinite(numbers), places, limits.size + 1).astype(np.int64)


def _told_by_bins(
    binned: NDArray[np.int64], target: NDArray[np.float64], learned: NDArray[np.bool_], task: Task
) -> float:
    """How well the bins' means, learned on one half, tell the target on the other."""
    size = int(binned.max()) + 1
    counts = np.bincount(binned[learned], minlength=size)
    sums = np.bincount(binned[learned], weights=target[learned], minlength=size)
    base = float(target[learned].mean())
    # A value that was seen once or twice says little: pulled towards the mean of all.
    said = ((sums + base) / (counts + 1.0))[binned[~learned]]
    came = target[~learned]
    if task == "classification":
        return area_under_curve(came == 1.0, said) or 0.5
    spread = float(((came - came.mean()) ** 2).sum())
    return max(0.0, 1.0 - float(((came - said) ** 2).sum()) / spread) if spread > 0.0 else 0.0


def _told_by_order(numbers: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    present = np.isfinite(numbers)
    if np.count_nonzero(present) < FEWEST_ROWS:
        return 0.5
    area = area_under_curve(target[present] == 1.0, numbers[present])
    return 0.5 if area is None else max(area, 1.0 - area)


def _medians(codes: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.lexsort((numbers, codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sizes = np.diff(np.append(starts, codes.size))
    middles: NDArray[np.float64] = numbers[order][starts + sizes // 2]
    return middles
