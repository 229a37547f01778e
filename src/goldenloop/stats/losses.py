"""What an answer costs: a loss in [0, 1] for each row, and the customary metrics over many rows.

Labels are compared as text (`as_text`), so that 1, 1.0 and "1" are one class. A missing answer (None, NaN, infinity)
is a failure and costs 1, the most a row can cost. A missing label has no loss: callers leave such rows out, and these
functions refuse them.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Task: TypeAlias = Literal["classification", "regression"]
Values: TypeAlias = NDArray[np.generic]  # numbers, booleans, text, or objects with None among them

_SMALLEST_PROBABILITY = 1e-15


def as_text(values: Values) -> NDArray[np.object_]:
    """Return the values as text, None where one is missing; a whole number is written without its fraction.

    >>> as_text(np.array([1.0, "1", 1, None, float("nan"), True, "no"], dtype=object)).tolist()
    ['1', '1', '1', None, None, 'True', 'no']
    """
    array = np.asarray(values)
    texts = np.empty(array.shape[0], dtype=object)
    texts[:] = [_text_of(value) for value in array.tolist()]
    return texts


def as_numbers(values: Values, *, what: str = "values") -> NDArray[np.float64]:
    """Return the values as 64-bit floats, NaN where one is missing. Raises ValueError for text that is no number."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    try:
        return np.array(
            [math.nan if value is None else float(value) for value in np.asarray(values).tolist()], dtype=np.float64
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} hold something that is not a number: {error}") from error


def is_missing(values: Values) -> NDArray[np.bool_]:
    """Which values are None, NaN or infinite.

    >>> is_missing(np.array(["a", None, float("nan")], dtype=object)).tolist()
    [False, True, True]
    """
    array = np.asarray(values)
    if array.dtype.kind == "f":
        missing: NDArray[np.bool_] = ~np.isfinite(array)
        return missing
    if array.dtype.kind != "O":
        return np.zeros(array.shape[0], dtype=bool)
    return np.array([text is None for text in as_text(array).tolist()], dtype=bool)


def zero_one_loss(labels: Values, answers: Values) -> NDArray[np.float64]:
    """Return 0 where the answer is the label and 1 where it is not or is missing.

    It says nothing about how sure a model was, and on rare classes "always no" is hard to beat. Cost: O(rows), about
    0.5 microseconds each. Raises ValueError for unequal lengths and missing labels.

    >>> zero_one_loss(np.array([1, 0, 1]), np.array(["1", "1", None], dtype=object)).tolist()
    [0.0, 1.0, 1.0]
    """
    _check_pair(labels, answers)
    wrong: NDArray[np.bool_] = as_text(labels) != as_text(answers)
    return wrong.astype(np.float64)


def absolute_loss(labels: Values, answers: Values, *, scale: float) -> NDArray[np.float64]:
    """Return min(1, |label - answer| / scale); 1 where the answer is missing.

    `scale` is the error, in the label's unit, from which on one mistake is as bad as any other: the clip bounds what
    a single row can decide, so a model that is rarely but wildly wrong looks better here than by its mean absolute
    error. Choose it once per loop (`loss_scale`), not per comparison. Cost: O(rows). Raises ValueError for unequal
    lengths, missing labels, a scale that is not positive.

    >>> absolute_loss(np.array([1.0, 2.0, 3.0]), np.array([1.5, 9.0, np.nan]), scale=2.0).tolist()
    [0.25, 1.0, 1.0]
    """
    _check_pair(labels, answers)
    if not (scale > 0.0 and math.isfinite(scale)):
        raise ValueError(f"the scale of a loss must be positive and finite, not {scale}")
    errors = np.abs(as_numbers(labels, what="labels") - as_numbers(answers, what="answers"))
    return np.minimum(np.where(np.isnan(errors), np.inf, errors) / scale, 1.0)


def loss_scale(labels: Values) -> float:
    """Return a scale for `absolute_loss`: the central 90 % range of these labels; where that is 0, the whole range;
    where that is 0, 1.

    >>> loss_scale(np.arange(101.0))
    90.0
    """
    numbers = as_numbers(labels, what="labels")
    numbers = numbers[np.isfinite(numbers)]
    if numbers.size == 0:
        raise ValueError("a scale needs at least one label that is a number")
    low, high = np.quantile(numbers, (0.05, 0.95))
    return float(high - low) or float(np.ptp(numbers)) or 1.0


def losses(task: Task, labels: Values, answers: Values, *, scale: float = 1.0) -> NDArray[np.float64]:
    """The loss of each row for the task: zero-one, or absolute over `scale`."""
    if task == "classification":
        return zero_one_loss(labels, answers)
    return absolute_loss(labels, answers, scale=scale)


def metrics(
    task: Task,
    labels: Values,
    answers: Values,
    *,
    probabilities: NDArray[np.float64] | None = None,
    classes: tuple[str, ...] = (),
) -> dict[str, float | None]:
    """Return the customary metrics of the task; None where one has no meaning for these rows.

    classification: `accuracy`, `macro_f1` (over classes that occur in labels or answers) and, with `probabilities`
    (rows x classes, in the order of `classes`), `log_loss` (natural, probabilities clipped to 1e-15), `brier` (sum
    over classes of squared differences, 0..2) and, for two classes, `auc` (that the second ranks above the first,
    ties a half; None where only one class occurs). Missing answers are wrong in accuracy and F1; rows without finite
    probabilities count as probability 0 for the label. regression: `mae`, `rmse`, `r2` (None where labels are
    constant) over rows with an answer, and `answered` (their share): an error without a size cannot be averaged, so
    read `answered` first. Infinite answers count as missing.
    Cost: O(rows * classes + rows log rows). Raises ValueError for no rows, unequal lengths or missing labels.

    >>> metrics("classification", np.array(["a", "b"]), np.array(["a", "a"]))["accuracy"]
    0.5
    >>> metrics("regression", np.array([1.0, 1.0]), np.array([1.0, 2.0]))["r2"] is None
    True
    """
    _check_pair(labels, answers)
    if len(labels) == 0:
        raise ValueError("metrics need at least one labelled row")
    if task == "regression":
        return _regression_metrics(as_numbers(labels, what="labels"), as_numbers(answers, what="answers"))
    truth, said = as_text(labels), as_text(answers)
    found: dict[str, float | None] = {"accuracy": float(np.mean(truth == said)), "macro_f1": _macro_f1(truth, said)}
    if probabilities is not None:
        found.update(_probability_metrics(truth, np.asarray(probabilities, dtype=np.float64), classes))
    return found


def area_under_curve(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """Return the chance that a positive scores above a negative, ties a half (Mann-Whitney); None where either is
    absent.

    >>> area_under_curve(np.array([True, False, True]), np.array([0.9, 0.9, 0.1]))
    0.25
    """
    positives = int(np.count_nonzero(positive))
    negatives = positive.size - positives
    if positives == 0 or negatives == 0 or bool(np.isnan(scores).any()):
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def _text_of(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else (None if math.isinf(value) else repr(value))
    return str(value)


def _check_pair(labels: Values, answers: Values) -> None:
    if len(labels) != len(answers):
        raise ValueError(f"{len(labels)} labels cannot be compared with {len(answers)} answers")
    missing = is_missing(labels)
    if bool(missing.any()):
        raise ValueError(f"the label of row {int(np.argmax(missing))} is missing; leave out rows without a label")


def _macro_f1(truth: NDArray[np.object_], said: NDArray[np.object_]) -> float:
    scores = []
    for name in sorted({*truth.tolist(), *said.tolist()} - {None}):
        hit = int(np.count_nonzero((truth == name) & (said == name)))
        scores.append(2.0 * hit / (int(np.count_nonzero(truth == name)) + int(np.count_nonzero(said == name))))
    return float(np.mean(scores))


def _probability_metrics(
    truth: NDArray[np.object_], probabilities: NDArray[np.float64], classes: tuple[str, ...]
) -> dict[str, float | None]:
    if probabilities.shape != (truth.size, len(classes)):
        raise ValueError(
            f"probabilities are of shape {probabilities.shape}, not {(truth.size, len(classes))}: rows x classes"
        )
    usable = np.where(np.isfinite(probabilities).all(axis=1, keepdims=True), probabilities, 0.0)
    hot = truth[:, None] == np.array(classes, dtype=object)[None, :]
    of_label = np.where(hot, usable, 0.0).sum(axis=1)
    unknown = (~hot.any(axis=1)).astype(np.float64)  # a label that is no class: its own square is missing from the sum
    found: dict[str, float | None] = {
        "log_loss": float(-np.log(np.clip(of_label, _SMALLEST_PROBABILITY, 1.0)).mean()),
        "brier": float((((usable - hot) ** 2).sum(axis=1) + unknown).mean()),
    }
    if len(classes) == 2:
        known = hot.any(axis=1)
        found["auc"] = area_under_curve(hot[known, 1], usable[known, 1])
    return found


def _regression_metrics(truth: NDArray[np.float64], said: NDArray[np.float64]) -> dict[str, float | None]:
    answered = np.isfinite(said)
    share = float(answered.mean())
    if share == 0.0:
        return {"mae": None, "rmse": None, "r2": None, "answered": 0.0}
    truth, errors = truth[answered], (said - truth)[answered]
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "r2": 1.0 - float((errors**2).sum()) / spread if spread > 0.0 else None,
        "answered": share,
    }
