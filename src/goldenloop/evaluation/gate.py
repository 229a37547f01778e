"""The gate: may this challenger be blessed? Pure: arrays in, a record out.

Rules, in order; the first that speaks decides.
1. Too few training or labelled evaluation rows, or labels that are all the same: inconclusive. No evidence is never
success, and on a constant label everybody is right.
2. A model that answers differently once it is converted: fail.
3. It must beat the trivial baseline: the paired interval of baseline loss minus challenger loss lies above 0. An interval
around 0 is inconclusive; at or below 0 is a fail. A classifier that gives probabilities is held against the classes'
own shares by half the Brier score, a proper score that sees skill also where the most frequent class is hard to beat;
any other against the most frequent class, or the mean, by its loss.
4. Without a champion, that is enough.
5. Its mean loss is at most the champion's plus `margin`.
6. On no slice of at least 30 rows is it significantly worse than the champion by more than `margin` (one-sided, Holm
over all slices).

An answer that is missing (None, NaN) costs 1, whoever gives it. Whether the challenger is better than the champion on
traffic is the rollout's question, answered by a test that is valid at any time; the gate keeps out what is broken,
trivial or plainly worse.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import Task
from goldenloop.stats.intervals import Interval, block_length, holm, mean_excess_p, mean_interval
from goldenloop.stats.losses import Values, as_numbers, as_text, is_missing, loss_scale, losses, metrics
from goldenloop.stats.special import binomial_tail

_SLICE_REPLICATES = 500  # of the intervals of slices


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate asks for. Losses are in [0, 1], so `margin` is in points of loss."""

    min_training_rows: int = 50
    min_evaluation_rows: int = 30
    min_slice_rows: int = 30
    margin: float = 0.0  # how much worse than the champion is still let through
    confidence: float = 0.95  # of the intervals
    slice_alpha: float = 0.05  # chance of refusing an equal challenger for any of its slices
    min_agreement: float = 0.999  # of the converted model with the original one, share of rows


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One model's answers on the evaluation set: a class or a value a row, and a classifier's probabilities (rows x
    classes).
    """

    answers: Values
    probabilities: NDArray[np.float64] | None = None


class SliceResult(msgspec.Struct, frozen=True, kw_only=True):
    """One slice. `difference` is challenger minus champion loss, `gap` its interval; `loss` is the interval of the
    challenger's loss. `p` is Holm's. Of a slice that is too small to be tested there is no p and no interval, and `note` says so.
    """

    column: str
    value: str
    rows: int
    challenger_loss: float
    champion_loss: float | None = None
    difference: float | None = None
    p: float | None = None
    worse: bool = False
    loss: Interval | None = None
    gap: Interval | None = None
    note: str = ""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's verdict with everything it rests on. JSON can hold it.

    `baseline_gain` is the interval of baseline loss minus challenger loss, `champion_gain` of champion loss minus
    challenger loss: positive is good. None where there was nothing to compare.
    """

    verdict: Verdict
    reason: str
    task: Task
    training_rows: int
    evaluation_rows: int
    unlabelled_rows: int
    failures: int  # challenger answers that were missing
    thresholds: Thresholds
    loss_scale: float | None = None  # regression: the error that costs 1
    baseline: str | float | None = None
    baseline_rule: str = ""  # what the baseline was compared by: "Brier" or "loss"
    baseline_own: float | None = None  # the challenger's mean by that rule
    baseline_loss: float | None = None  # the baseline's
    challenger_loss: float | None = None
    champion_loss: float | None = None
    challenger_metrics: dict[str, float | None] = {}
    champion_metrics: dict[str, float | None] = {}
    baseline_gain: Interval | None = None
    champion_gain: Interval | None = None
    agreement: float | None = None
    constant_label: str | None = None  # what every label is, where all are the same
    slices: tuple[SliceResult, ...] = ()


def judge(
    task: Task,
    labels: Values,
    challenger: Evidence,
    *,
    champion: Evidence | None = None,
    classes: tuple[str, ...] = (),
    slices: Mapping[str, NDArray[np.object_]] | None = None,
    training_rows: int,
    agreement: float | None = None,
    baseline: str | float | None = None,
    scale: float | None = None,
    seed: int = 0,
    thresholds: Thresholds | None = None,
) -> Evaluation:
    """Return the verdict on the challenger; rows are in the order of time.

    `baseline` is what a model that knows only the training labels says; without it the evaluation set's own most
    frequent class or mean is taken, which is harder to beat. `scale` is the regression error that costs 1, by default
    the central 90 % range of these labels. Intervals resample blocks of rows^(1/3) rows where neighbours in time are
    alike. Rows without a label are left out.

    Error rates: an equal challenger is refused for its slices with probability at most `slice_alpha`, where rows are
    independent; one that only matches the baseline passes rule 3 with probability about (1 - confidence) / 2. Rule 5
    is a point estimate: an equal challenger fails it half the time, a slightly worse one passes nearly as often.
    Cost: O(rows * (slices + 1)) and 2,000 resamples. Raises InvalidSpecError for lengths that differ or labels that
    fit no task.
    """
    asked = thresholds or Thresholds()
    cuts = dict(slices or {})
    _check_lengths(labels, challenger, champion, cuts)
    labelled = labelled_rows(task, labels)
    rows = int(np.count_nonzero(labelled))
    kept = np.asarray(labels)[labelled]
    challenger = _rows_of(challenger, labelled)
    champion = _rows_of(champion, labelled) if champion is not None else None
    empty = Evaluation(
        verdict=Verdict.INCONCLUSIVE,
        reason="",
        task=task,
        training_rows=training_rows,
        evaluation_rows=rows,
        unlabelled_rows=len(labels) - rows,
        failures=int(np.count_nonzero(_unanswered(task, challenger.answers))),
        thresholds=asked,
        agreement=agreement,
    )
    if rows == 0:
        return _decided(
            empty, Verdict.INCONCLUSIVE, "no row of the evaluation set has a label, so nothing can be judged"
        )
    used_scale = (scale if scale is not None else loss_scale(kept)) if task == "regression" else 1.0
    trivial = baseline if baseline is not None else _trivial(task, kept)
    lost = losses(task, kept, challenger.answers, scale=used_scale)
    if challenger.probabilities is not None and classes:
        rule = "Brier"
        own, trivial_lost = _half_brier(kept, challenger.probabilities, classes), _shares_brier(kept, classes)
    else:
        rule = "loss"
        said = np.full(rows, trivial, dtype=object)
        own, trivial_lost = lost, losses(task, kept, said, scale=used_scale)
    champion_lost = losses(task, kept, champion.answers, scale=used_scale) if champion is not None else None
    measured = msgspec.structs.replace(
        empty,
        constant_label=_constant(kept),
        loss_scale=used_scale if task == "regression" else None,
        baseline=trivial,
        baseline_rule=rule,
        baseline_own=float(own.mean()),
        baseline_loss=float(trivial_lost.mean()),
        challenger_loss=float(lost.mean()),
        champion_loss=float(champion_lost.mean()) if champion_lost is not None else None,
        challenger_metrics=_metrics(task, kept, challenger, classes),
        champion_metrics=_metrics(task, kept, champion, classes) if champion is not None else {},
        baseline_gain=_gain(trivial_lost - own, asked, seed),
        champion_gain=_gain(champion_lost - lost, asked, seed) if champion_lost is not None else None,
        slices=_slice_results(
            {name: np.asarray(values, dtype=object)[labelled] for name, values in cuts.items()},
            lost,
            champion_lost=champion_lost,
            asked=asked,
        ),
    )
    return _decided(measured, *_verdict(measured))


def _verdict(seen: Evaluation) -> tuple[Verdict, str]:
    """The rules, on what was measured."""
    asked = seen.thresholds
    if seen.evaluation_rows < asked.min_evaluation_rows:
        return (
            Verdict.INCONCLUSIVE,
            f"{seen.evaluation_rows} labelled evaluation rows are too few; {asked.min_evaluation_rows} are needed",
        )
    if seen.training_rows < asked.min_training_rows:
        return (
            Verdict.INCONCLUSIVE,
            f"{seen.training_rows} training rows are too few; {asked.min_training_rows} are needed",
        )
    if seen.constant_label is not None:
        return Verdict.INCONCLUSIVE, (
            f"every label of the evaluation set is {seen.constant_label!r}, so a trivial model is always right as well"
        )
    if seen.agreement is not None and not seen.agreement >= asked.min_agreement:
        return Verdict.FAIL, (
            f"the converted model agrees with the original on {seen.agreement:.2%} of rows; "
            f"{asked.min_agreement:.2%} are needed"
        )
    gain, own = seen.baseline_gain, seen.challenger_loss
    if gain is None or own is None:
        return Verdict.INCONCLUSIVE, "there is nothing to compare with the baseline"
    trivial = (
        f"always answering {seen.baseline!r}" if seen.baseline_rule == "loss" else "only knowing the classes' shares"
    )
    score = "mean loss" if seen.baseline_rule == "loss" else "half Brier score"
    if gain.estimate <= 0.0 or gain.high <= 0.0:
        return (
            Verdict.FAIL,
            f"its {score} {seen.baseline_own:.4g} is no lower than {seen.baseline_loss:.4g} of {trivial}",
        )
    if gain.low <= 0.0:
        return Verdict.INCONCLUSIVE, (
            f"its gain over {trivial}, {gain.estimate:.4g} of {score}, is not certain: "
            f"the {gain.confidence:.0%} interval {gain.low:.4g} to {gain.high:.4g} includes 0"
        )
    if seen.champion_loss is None:
        return (
            Verdict.PASS,
            f"it beats {trivial} by {gain.estimate:.4g} of {score}, and there is no champion yet",
        )
    if own > seen.champion_loss + asked.margin + 1e-12:
        return Verdict.FAIL, (
            f"its mean loss {own:.4g} is higher than the champion's {seen.champion_loss:.4g} "
            f"plus the margin {asked.margin:g}"
        )
    worse = [part for part in seen.slices if part.worse]
    if worse:
        worst = max(worse, key=lambda part: part.difference or 0.0)
        return Verdict.FAIL, (
            f"it is worse than the champion where {worst.column} is {worst.value}: by {worst.difference:.4g} of loss "
            f"on {worst.rows} rows (p = {worst.p:.2g})"
        )
    return (
        Verdict.PASS,
        f"its mean loss {own:.4g} does not exceed the champion's {seen.champion_loss:.4g} "
        f"plus the margin {asked.margin:g}, "
        "and on no slice is it significantly worse",
    )


def _constant(labels: Values) -> str | None:
    distinct = {*as_text(labels).tolist()}
    return str(distinct.pop()) if len(distinct) == 1 else None


def _decided(evaluation: Evaluation, verdict: Verdict, reason: str) -> Evaluation:
    return msgspec.structs.replace(evaluation, verdict=verdict, reason=reason)


def _gain(differences: NDArray[np.float64], asked: Thresholds, seed: int) -> Interval:
    """The interval of the mean. Blocks are resampled only where neighbours are alike: on few rows with rare large differences, as of a
    model that is nearly always right, studentised blocks are far too wide.
    """
    block = block_length(differences.size) if _neighbours_are_alike(differences) else 1
    return mean_interval(differences, confidence=asked.confidence, block=block, seed=seed)


def _neighbours_are_alike(values: NDArray[np.float64]) -> bool:
    """Whether the lag-one autocorrelation is beyond two standard errors of none."""
    centred = values - values.mean()
    energy = float(centred @ centred)
    if values.size < 3 or energy == 0.0:
        return False
    return float(centred[1:] @ centred[:-1]) / energy > 2.0 / float(np.sqrt(values.size))


def _slice_results(
    cuts: dict[str, NDArray[np.object_]],
    lost: NDArray[np.float64],
    *,
    champion_lost: NDArray[np.float64] | None,
    asked: Thresholds,
) -> tuple[SliceResult, ...]:
    """Every slice of every cut, the tested ones adjusted for their number."""
    members = {
        (column, value): np.flatnonzero(values == value)
        for column, values in cuts.items()
        for value in sorted({str(value) for value in values.tolist()})
    }
    raw: dict[str, float] = {}
    if champion_lost is not None:
        for (column, value), rows in members.items():
            if rows.size >= asked.min_slice_rows:
                raw[f"{column}\0{value}"] = worse_p(lost[rows] - champion_lost[rows], asked.margin)
    adjusted = holm(raw)
    results = []
    for (column, value), rows in members.items():
        p = adjusted.get(f"{column}\0{value}")
        mine = float(lost[rows].mean())
        theirs = float(champion_lost[rows].mean()) if champion_lost is not None else None
        is_tested = rows.size >= asked.min_slice_rows
        results.append(
            SliceResult(
                column=column,
                value=value,
                rows=int(rows.size),
                challenger_loss=mine,
                champion_loss=theirs,
                difference=mine - theirs if theirs is not None else None,
                p=p,
                worse=p is not None and p <= asked.slice_alpha,
                loss=_slice_interval(lost[rows], asked) if is_tested else None,
                gap=_slice_interval(lost[rows] - champion_lost[rows], asked)
                if is_tested and champion_lost is not None
                else None,
                note=""
                if is_tested
                else f"{rows.size} rows are too few to be tested; {asked.min_slice_rows} are needed",
            )
        )
    return tuple(results)


def _slice_interval(values: NDArray[np.float64], asked: Thresholds) -> Interval:
    return mean_interval(values, confidence=asked.confidence, replicates=_SLICE_REPLICATES)


def worse_p(differences: NDArray[np.float64], margin: float) -> float:
    """One-sided p-value of "not worse than the margin": McNemar's exact sign test where losses are 0/1 and the margin
    is 0.
    """
    if margin == 0.0 and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all()):
        worse, better = int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
        return binomial_tail(worse, worse + better)
    return mean_excess_p(differences, margin)


def _half_brier(labels: Values, probabilities: NDArray[np.float64], classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Half the squared distance between the probabilities and what came, a row: 0 to 1. A row without an answer costs 1."""
    truth = as_text(labels)
    came = np.array([[name == label for name in classes] for label in truth.tolist()], dtype=np.float64)
    costs: NDArray[np.float64] = 0.5 * ((probabilities - came) ** 2).sum(axis=1)
    unseen = ~came.any(axis=1)  # a class the model does not know: all that it gave was wrong
    costs[unseen] = 0.5 * ((probabilities[unseen] ** 2).sum(axis=1) + 1.0)
    return np.where(np.isfinite(costs), costs, 1.0)


def _shares_brier(labels: Values, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """The same of somebody who always gives each class its share among these very labels, which no constant forecast beats."""
    truth = as_text(labels)
    shares = np.array([float(np.mean(truth == name)) for name in classes])
    return _half_brier(labels, np.tile(shares, (len(truth), 1)), classes)


def _trivial(task: Task, labels: Values) -> str | float:
    if task == "regression":
        return float(as_numbers(labels).mean())
    names, counts = np.unique(as_text(labels).astype(str), return_counts=True)
    return str(names[int(np.argmax(counts))])


def _metrics(task: Task, labels: Values, model: Evidence, classes: tuple[str, ...]) -> dict[str, float | None]:
    return metrics(task, labels, model.answers, probabilities=model.probabilities, classes=classes)


def _unanswered(task: Task, answers: Values) -> NDArray[np.bool_]:
    if task == "classification":
        return is_missing(answers)
    finite: NDArray[np.bool_] = np.isfinite(as_numbers(answers, what="answers"))
    return ~finite


def labelled_rows(task: Task, labels: Values) -> NDArray[np.bool_]:
    """Which rows have a label; for regression, one that is a finite number."""
    try:
        if task == "classification":
            return ~is_missing(labels)
        finite: NDArray[np.bool_] = np.isfinite(as_numbers(labels, what="labels"))
    except ValueError as error:
        raise InvalidSpecError(
            str(error),
            where="evaluation_data",
            mend="Regression needs numbers as labels; set task: classification for names.",
        ) from error
    return finite


def _rows_of(model: Evidence, rows: NDArray[np.bool_]) -> Evidence:
    return Evidence(
        answers=np.asarray(model.answers)[rows],
        probabilities=None if model.probabilities is None else np.asarray(model.probabilities)[rows],
    )


def _check_lengths(
    labels: Values, challenger: Evidence, champion: Evidence | None, cuts: Mapping[str, NDArray[np.object_]]
) -> None:
    lengths = {
        "challenger": len(challenger.answers),
        **{f"slices.{name}": len(values) for name, values in cuts.items()},
    }
    if champion is not None:
        lengths["champion"] = len(champion.answers)
    for where, length in lengths.items():
        if length != len(labels):
            raise InvalidSpecError(
                f"{length} rows do not match {len(labels)} labels",
                where=where,
                mend="Score every row of the evaluation set once; give None for a row that could not be answered.",
            )
    for where, model in (("challenger", challenger), ("champion", champion)):
        if model is not None and model.probabilities is not None and len(model.probabilities) != len(labels):
            raise InvalidSpecError(
                f"{len(model.probabilities)} rows of probabilities do not match {len(labels)} labels",
                where=where,
                mend="Give one row of probabilities for each row of the evaluation set.",
            )
