"""Linear models: each column's part is its coefficient times its distance from what is usual.

The parts are not read out of the estimator's steps but measured. A linear model behind steps that prepare each column by itself (scalers,
encoders, imputers) has scores that are sums over its columns: what one column adds is seen by changing that column alone. Then the sums
are compared with the estimator's own scores on a sample; where they differ, as they do behind steps that mix columns or bend them, the
model is not explained so. For independent columns these are the Shapley values (Strumbelj & Kononenko 2014), exactly and not sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import UnavailableError
from goldenloop.core.signatures import Signature, as_text
from goldenloop.payloads.records import Value
from goldenloop.serving.conversion.estimators import Estimator
from goldenloop.serving.explanations.records import (
    Background,
    Explained,
    Linear,
    LinearColumn,
    Vector,
    chosen_score,
    explained_by_parts,
)
from goldenloop.stats.attributions import Attribution

if TYPE_CHECKING:
    import pandas
    import pyarrow

_LARGEST_DIFFERENCE = 1e-6  # of a sum from the estimator's score, in parts of the largest score
_COMPARED_ROWS = 500
_MOST_CATEGORIES = 10_000  # of one column
_UNKNOWN = "a category that nobody knows"

Numbers = NDArray[np.float64]
_Scores = Callable[["pandas.DataFrame"], Numbers]


def linear_form(
    estimator: Estimator, signature: Signature, sample: pyarrow.Table, background: pyarrow.Table
) -> Linear | None:
    """Measure the parts of a linear model, None where it is not one. The sample holds every category that the model knows."""
    last = _last(estimator)
    if not hasattr(last, "coef_"):
        return None
    scores = _scores_of(estimator, signature)
    if scores is None:
        return None
    frame = sample.select(list(signature.names)).to_pandas()
    try:
        return _measured(scores, signature, frame, background.select(list(signature.names)).to_pandas(), last)
    except Exception:  # a user's estimator raises what it likes at rows that it has not seen; it is sampled then
        return None


def explain_linear(
    form: Linear, signature: Signature, row: Mapping[str, Value], answer: str | float, *, against: Background
) -> Explained:
    """Explain one row. Raises UnavailableError for a value that the model does not take."""
    place, sign = chosen_score(signature, answer, len(form.usual))
    parts = [
        Attribution(
            name=column.name,
            value=row[column.name],
            contribution=sign * (_added(column, row[column.name])[place] - column.usual[place]),
            error=0.0,
        )
        for column in form.columns
    ]
    of = "value"
    if signature.classes:
        of = f"log-odds of {answer}" if form.is_logistic else f"score of {answer}"
    return explained_by_parts(parts, usual=sign * form.usual[place], of=of, method="linear", against=against)


def _added(column: LinearColumn, value: Value) -> Vector:
    if value is None or value != value:
        added = column.missing
    elif column.slope and not isinstance(value, str):
        return tuple(slope * value for slope in column.slope)
    else:
        added = column.values.get(as_text(value), column.unknown)
    if added is None:
        raise UnavailableError(
            f"the model does not take {value!r} in the column {column.name!r}",
            where=column.name,
            mend="Send another value.",
        )
    return added


def _scores_of(estimator: Estimator, signature: Signature) -> _Scores | None:
    """The scores whose parts add up: of a classifier those before they are made probabilities."""
    ask = estimator.predict if signature.task == "regression" else getattr(estimator, "decision_function", None)
    if ask is None:
        return None
    by_name = hasattr(estimator, "feature_names_in_")

    def scores(frame: pandas.DataFrame) -> Numbers:
        given = np.asarray(ask(frame if by_name else frame.to_numpy()), dtype=np.float64)
        return given.reshape(len(frame), -1)

    return scores


def _measured(
    scores: _Scores, signature: Signature, frame: pandas.DataFrame, background: pandas.DataFrame, last: object
) -> Linear | None:
    complete = frame.dropna()
    base = (complete if len(complete) else frame).iloc[[0]]
    start = scores(base)[0]
    columns = [_column(scores, base, frame[column.name], kind=column.kind) for column in signature.inputs]
    compared = frame.iloc[:_COMPARED_ROWS]
    own = scores(compared)
    # What a row adds up to, without the score of a row in which every column adds nothing.
    offset = start - sum(np.array(_added(column, _plain(base[column.name].iloc[0]))) for column in columns)
    added = offset + _sums(columns, compared)
    if not np.abs(own - added).max() <= _LARGEST_DIFFERENCE * max(1.0, float(np.abs(own).max())):
        return None
    usual = [
        tuple(np.mean([_added(column, _plain(value)) for value in background[column.name]], axis=0).tolist())
        for column in columns
    ]
    kept = tuple(
        LinearColumn(
            name=column.name,
            slope=column.slope,
            values=column.values,
            unknown=column.unknown,
            missing=column.missing,
            usual=mean,
        )
        for column, mean in zip(columns, usual, strict=True)
    )
    is_logistic = "LogisticRegression" in type(last).__name__ and len(start) == 1
    return Linear(usual=tuple((offset + np.sum(usual, axis=0)).tolist()), columns=kept, is_logistic=is_logistic)


def _column(scores: _Scores, base: pandas.DataFrame, values: pandas.Series, *, kind: str) -> LinearColumn:
    """What one column adds, by changing it alone in the row `base`."""
    name = str(values.name)
    known = list(dict.fromkeys(values.dropna().tolist()))

    def added(given: Sequence[object]) -> Numbers:
        import pandas

        rows = pandas.concat([base] * len(given), ignore_index=True)
        rows[name] = pandas.Series(list(given), dtype=values.dtype if values.dtype.kind == "f" else None)
        return scores(rows)

    missing = _tried(lambda: added([np.nan if kind == "number" else None]))
    if kind == "number":
        numbers = [float(value) for value in known]
        low, high = min(numbers, default=0.0), max(numbers, default=1.0)
        if low == high:
            high = low + 1.0
        at_low, at_high = added([low, high])
        slope = (at_high - at_low) / (high - low)
        zero = at_low - slope * low
        return LinearColumn(
            name=name,
            slope=tuple(slope.tolist()),
            missing=None if missing is None else tuple((missing - zero).tolist()),
            usual=(),
        )
    if len(known) > _MOST_CATEGORIES:
        raise ValueError(f"{len(known)} categories are too many to keep")
    each = added(known)
    unknown = None if values.dtype.kind == "b" else _tried(lambda: added([_UNKNOWN]))
    first = each[0]
    return LinearColumn(
        name=name,
        values={as_text(value): tuple((score - first).tolist()) for value, score in zip(known, each, strict=True)},
        unknown=None if unknown is None else tuple((unknown - first).tolist()),
        missing=None if missing is None else tuple((missing - first).tolist()),
        usual=(),
    )


def _tried(score: Callable[[], Numbers]) -> Numbers | None:
    """The score of a row that the estimator may refuse."""
    try:
        made = score()[0]
    except Exception:  # whatever it says to values that it does not take
        return None
    return made if bool(np.isfinite(made).all()) else None


def _sums(columns: Sequence[LinearColumn], frame: pandas.DataFrame) -> Numbers:
    parts = [[_added(column, _plain(value)) for value in frame[column.name]] for column in columns]
    sums: Numbers = np.sum(np.array(parts), axis=0)
    return sums


def _plain(value: object) -> Value:
    """A cell of a frame as it would travel."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _last(estimator: object) -> object:
    steps = getattr(estimator, "steps", None)
    return _last(steps[-1][1]) if isinstance(steps, list) and steps else estimator
