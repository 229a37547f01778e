"""How good are answers whose labels are not there yet: an estimate, what it assumes, and its correction by few labels.

Classification: a calibrated probability is the chance that an answer is right, so its mean over a window is the
expected accuracy, and expected counts of right and wrong answers give the other metrics (confidence-based performance
estimation). Regression: a small tree of the inputs and the answer predicts how large the error will be.

Both assume that labels depend on inputs as they did in the reference, and that inputs lie where the reference had rows.
A changed relation (concept drift) cannot be seen from inputs alone, whatever the method. Labels that have come correct
the estimate without that assumption: `corrected_mean`.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.measured import Measured, as_matrix, counted, joined, unmeasured
from goldenloop.stats.proportions import student_quantile
from goldenloop.stats.special import normal_quantile
from goldenloop.stats.trees import Trees, Walk, export_trees

ASSUMPTION = "assumes that labels depend on inputs as in the reference; a change of that cannot be seen without labels"
FEWEST_LABELS = 10  # with which an estimate is corrected

_FEWEST_REFERENCE_ROWS = 50
_DRAWS = 200
_DRAWN_CELLS = 2_000_000  # labels drawn for one interval; fewer draws for large windows
_OUTSIDE_TOLERATED = 0.05
_LEAVES = 32
_ROWS_IN_LEAF = 25
_ROBUST_QUANTILE = 0.99
_LARGEST_LOSS = 1e100  # so that squares stay finite


class Calibrator(msgspec.Struct, frozen=True, kw_only=True):
    """Isotonic regression of outcomes on scores, as points between which it is linear.

    `rows`: how many reference rows each point's level stands on. `level`: which level each point belongs to.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    level: tuple[int, ...]
    rows: tuple[int, ...]

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Calibrator:
        """Fit on reference rows whose labels are known; the same as scikit-learn's IsotonicRegression.

        Isotonic levels fit the reference's noise, so give it rows that the model was not trained on, some hundreds.
        Cost: O(rows log rows). Raises ValueError for unequal lengths or no row with a finite score.
        """
        from sklearn.isotonic import IsotonicRegression

        outcomes, values = np.asarray(positive, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if outcomes.shape != values.shape:
            raise ValueError(f"outcomes and scores differ in shape: {outcomes.shape} and {values.shape}")
        usable = np.isfinite(values)
        if not bool(usable.any()):
            raise ValueError("a calibrator needs at least one row with a finite score")
        outcomes, values = outcomes[usable], values[usable]
        fitted = IsotonicRegression(out_of_bounds="clip").fit(values, outcomes)
        points, chances = np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_)
        levels, level = np.unique(chances, return_inverse=True)
        nearest = np.abs(np.asarray(fitted.predict(values))[:, None] - levels[None, :]).argmin(axis=1)
        return cls(
            scores=tuple(map(float, points)),
            probabilities=tuple(float(min(max(chance, 0.0), 1.0)) for chance in chances),
            level=tuple(map(int, level)),
            rows=tuple(np.bincount(nearest, minlength=levels.size).tolist()),
        )

    def apply(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The calibrated probabilities; NaN stays NaN."""
        values = np.asarray(scores, dtype=np.float64)
        return np.where(np.isnan(values), math.nan, np.interp(values, self.scores, self.probabilities))

    def outside(self, scores: NDArray[np.float64]) -> float:
        """The share of scores below the reference's lowest or above its highest; 0 for none."""
        values = np.asarray(scores, dtype=np.float64)
        if values.size == 0:
            return 0.0
        with np.errstate(invalid="ignore"):
            return float(np.mean((values < self.scores[0]) | (values > self.scores[-1])))


def estimate_binary(
    calibrator: Calibrator,
    scores: NDArray[np.float64],
    selected: NDArray[np.bool_] | None = None,
    *,
    outside: float = 0.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Measured]:
    """Return the expected `accuracy`, `precision`, `recall`, `f1` and `roc_auc` of answers without labels.

    `scores`: the model's probability of the positive class, on which the calibrator was fitted. `selected`: the answer
    was the positive class (default: score at least 0.5). `outside`: the share of rows outside the reference's inputs,
    from an outlier scorer; with 5 % or more the note says that the estimate extrapolates.

    With p calibrated: true positives = sum of p over selected rows, false positives = sum of 1 - p over them, and so
    on; the ROC AUC weighs each row p as a positive and 1 - p as a negative (the estimator of NannyML's CBPE, with the
    same numbers). The interval says where the realised metric will lie, if the assumption holds: labels are drawn from
    the probabilities, and probabilities from what their reference rows leave open. It is blind to concept drift.
    Same seed, same interval. Cost: O(200 * rows). Raises ValueError for unequal lengths.
    """
    values = np.asarray(scores, dtype=np.float64)
    chosen = values >= 0.5 if selected is None else np.asarray(selected, dtype=bool)
    if values.ndim != 1 or chosen.shape != values.shape:
        raise ValueError(f"scores and answers differ in shape: {values.shape} and {chosen.shape}")
    names = ("accuracy", "precision", "recall", "f1", "roc_auc")
    usable = np.isfinite(values)
    left_out = int(np.count_nonzero(~usable))
    values, chosen = values[usable], chosen[usable]
    note = _limits(calibrator, values, left_out=left_out, outside=outside)
    if values.size == 0:
        return {name: unmeasured(joined("no row has a probability", note)) for name in names}
    order = np.argsort(values, kind="stable")
    values, chosen = values[order], chosen[order]
    chances = calibrator.apply(values)
    ranks = _mean_ranks(values)
    expected = _binary_metrics(chances[None, :], chosen, ranks, values)
    drawn = _binary_metrics(_drawn_labels(calibrator, values, chances, seed=seed), chosen, ranks, None)
    return {
        name: _around(expected[name], drawn[name], confidence=confidence, rows=values.size, note=note) for name in names
    }


def estimate_accuracy(
    calibrator: Calibrator,
    sure: NDArray[np.float64],
    *,
    outside: float = 0.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Measured:
    """Return the expected accuracy for any number of classes, from the probability of the class that was answered.

    The calibrator was fitted on "the answer was right" against that probability (`calibration.top_label`). Otherwise as
    `estimate_binary`.
    """
    values = np.asarray(sure, dtype=np.float64)
    usable = np.isfinite(values)
    left_out = int(np.count_nonzero(~usable))
    values = values[usable]
    note = _limits(calibrator, values, left_out=left_out, outside=outside)
    if values.size == 0:
        return unmeasured(joined("no row has a probability", note))
    chances = calibrator.apply(values)
    drawn = _drawn_labels(calibrator, values, chances, seed=seed).mean(axis=1)
    return _around(float(chances.mean()), drawn, confidence=confidence, rows=values.size, note=note)


class LossModel(msgspec.Struct, frozen=True, kw_only=True):
    """How large the absolute error of a regression's answers is, by inputs and answer: a small honest tree.

    Splits come from one half of the reference rows and errors from the other (Athey & Imbens, PNAS 113, 2016), so
    that a leaf's mean error is not the one it was chosen for. `low`, `high`: the reference's range of each column.
    """

    tree: Trees
    rows: tuple[int, ...]  # of each node, as are the following
    mean: tuple[float, ...]
    robust: tuple[float, ...]
    square: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, inputs: NDArray[np.float64], losses: NDArray[np.float64], *, seed: int = 0) -> LossModel:
        """Fit on reference rows: `inputs` are numbers (encoded columns and the answer), `losses` are |label - answer|.

        Missing inputs count as 0. Cost: O(rows log rows * columns). Raises ValueError for unequal lengths or fewer than
        50 rows with a finite loss.
        """
        from sklearn.tree import DecisionTreeRegressor

        matrix, errors = as_matrix(inputs, what="inputs"), np.asarray(losses, dtype=np.float64)
        if errors.shape != (matrix.shape[0],):
            raise ValueError(f"{matrix.shape[0]} rows of inputs do not go with losses {errors.shape}")
        usable = np.isfinite(errors)
        matrix, errors = _filled(matrix[usable]), np.minimum(errors[usable], _LARGEST_LOSS)
        if errors.size < _FEWEST_REFERENCE_ROWS:
            raise ValueError(f"a model of the loss needs {_FEWEST_REFERENCE_ROWS} labelled rows, not {errors.size}")
        first = np.random.default_rng(seed).permutation(errors.size) < errors.size // 2
        clipped = np.minimum(errors, np.quantile(errors, _ROBUST_QUANTILE))
        tree = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, min_samples_leaf=_ROWS_IN_LEAF, random_state=seed)
        tree.fit(matrix[first], clipped[first])
        exported = export_trees([tree.tree_], [np.zeros(tree.tree_.node_count)])
        leaf = Walk(exported).leaves(matrix[~first])[:, 0]
        nodes = len(exported.features)
        rows = np.bincount(leaf, minlength=nodes)
        whole = errors[~first], clipped[~first], errors[~first] ** 2
        means = []
        for values in whole:
            sums = np.bincount(leaf, weights=values, minlength=nodes)
            # A leaf that no row of the second half reached says what all rows say.
            means.append(np.where(rows > 0, sums / np.maximum(rows, 1), float(values.mean())))
        return cls(
            tree=exported,
            rows=tuple(rows.tolist()),
            mean=tuple(means[0].tolist()),
            robust=tuple(means[1].tolist()),
            square=tuple(means[2].tolist()),
            low=tuple(matrix.min(axis=0).tolist()),
            high=tuple(matrix.max(axis=0).tolist()),
        )

    def losses(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """The expected absolute error of each row."""
        matrix = self._checked(inputs)
        if matrix.shape[0] == 0:
            return np.zeros(0)
        return np.asarray(self.mean)[Walk(self.tree).leaves(matrix)[:, 0]]

    def estimate(self, inputs: NDArray[np.float64], *, confidence: float = 0.95) -> dict[str, Measured]:
        """Return the expected `mae`, `robust_mae` (errors above the reference's 99th percentile count as that) and
        `rmse` of answers without labels.

        A direct estimate of the loss, as NannyML's DLE, with a tree instead of boosting. The interval of `mae` is where
        the realised one will lie if labels depend on inputs as before; `robust_mae` and `rmse` have none. Cost: O(rows
        * depth). Raises ValueError for another number of columns.
        """
        matrix = self._checked(inputs)
        count = matrix.shape[0]
        if count == 0:
            return {name: unmeasured("the window is empty") for name in ("mae", "robust_mae", "rmse")}
        outside = float(((matrix < np.asarray(self.low)) | (matrix > np.asarray(self.high))).any(axis=1).mean())
        note = joined(ASSUMPTION, _extrapolation(outside))
        leaf = Walk(self.tree).leaves(matrix)[:, 0]
        mean, square, rows = np.asarray(self.mean), np.asarray(self.square), np.asarray(self.rows)
        variance = np.maximum(square - mean**2, 0.0)
        members = np.bincount(leaf, minlength=mean.size) / count
        error = float((members**2 * variance / np.maximum(rows, 1)).sum() + variance[leaf].mean() / count)
        half = normal_quantile(0.5 + confidence / 2.0) * math.sqrt(error)
        value = float(mean[leaf].mean())
        return {
            "mae": Measured(value=value, low=max(value - half, 0.0), high=value + half, rows=count, note=note),
            "robust_mae": Measured(value=float(np.asarray(self.robust)[leaf].mean()), rows=count, note=note),
            "rmse": Measured(value=math.sqrt(float(square[leaf].mean())), rows=count, note=note),
        }

    def _checked(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = as_matrix(inputs, what="inputs")
        if matrix.shape[1] != len(self.low):
            raise ValueError(f"the model of the loss knows {len(self.low)} columns, not {matrix.shape[1]}")
        return _filled(matrix)


def corrected_mean(
    labelled: NDArray[np.float64],
    labelled_estimates: NDArray[np.float64],
    unlabelled_estimates: NDArray[np.float64],
    *,
    confidence: float = 0.95,
) -> Measured:
    """Return the mean of a loss (or of "was right") over a window in which only some rows have labels.

    Prediction-powered inference: mean of the labelled rows' true values + w * (mean estimate of unlabelled rows - mean
    estimate of labelled rows), with the weight w that makes the variance least (Angelopoulos, Bates, Fannjiang, Jordan
    & Zrnic, Science 382, 2023; the weight: Angelopoulos, Duchi & Zrnic, 2023). Useless estimates get weight 0 and do no
    harm; wrong ones, as after concept drift, are corrected. It misleads where labelled rows are not like the others
    (only easy rows get labels early). Interval: Student's t. Fewer than 10 labels: no value. Rows with NaN are left
    out. Cost: O(rows). Raises ValueError for unequal lengths.

    >>> generator = np.random.default_rng(0)
    >>> truth = generator.normal(size=1_000) + 5.0
    >>> estimates = truth + 0.1 * generator.normal(size=1_000) - 2.0  # wrong by 2, always
    >>> found = corrected_mean(truth[:50], estimates[:50], estimates[50:])
    >>> bool(abs(found.value - truth.mean()) < 0.05), found.high - found.low < 0.2
    (True, True)
    """
    truth, known = np.asarray(labelled, dtype=np.float64), np.asarray(labelled_estimates, dtype=np.float64)
    others = np.asarray(unlabelled_estimates, dtype=np.float64)
    if truth.shape != known.shape:
        raise ValueError(f"labels and their estimates differ in shape: {truth.shape} and {known.shape}")
    usable = np.isfinite(truth) & np.isfinite(known)
    truth, known, others = truth[usable], known[usable], others[np.isfinite(others)]
    n, m = truth.size, others.size
    if n < FEWEST_LABELS:
        return unmeasured(f"{counted(n, 'label')}; {FEWEST_LABELS} are needed to correct an estimate", rows=n)
    with np.errstate(all="ignore"):  # sums of numbers near the largest float
        weight = _best_weight(truth, known, others)
        value = float(truth.mean()) + (weight * (float(others.mean()) - float(known.mean())) if m else 0.0)
        error = float((truth - weight * known).var()) / n + (weight**2 * float(others.var()) / m if m else 0.0)
    if not (math.isfinite(value) and math.isfinite(error)):
        return unmeasured("the losses are too large to be averaged", rows=n + m)
    half = student_quantile(0.5 + confidence / 2.0, n - 1) * math.sqrt(error)
    return Measured(value=value, low=value - half, high=value + half, rows=n + m)


def _best_weight(truth: NDArray[np.float64], known: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """cov(truth, estimate) / ((1 + n/m) var(estimate)), within [0, 1]."""
    if others.size == 0:
        return 0.0
    spread = float(np.concatenate([known, others]).var(ddof=1))
    if not spread > 0.0:
        return 0.0
    covariance = float(((truth - truth.mean()) * (known - known.mean())).mean())
    return min(max(covariance / ((1.0 + truth.size / others.size) * spread), 0.0), 1.0)


def _binary_metrics(
    outcomes: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    ranks: NDArray[np.float64],
    scores: NDArray[np.float64] | None,
) -> dict[str, NDArray[np.float64]]:
    """Each metric for each line of outcomes; with `scores`, outcomes are chances and rows part into both classes."""
    hits = outcomes[:, chosen].sum(axis=1)
    positives = outcomes.sum(axis=1)
    selected, rows = float(np.count_nonzero(chosen)), float(chosen.size)
    right = hits + (rows - selected) - (positives - hits)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "accuracy": right / rows,
            "precision": hits / np.full(hits.shape, selected),
            "recall": hits / positives,
            "f1": 2.0 * hits / (selected + positives),
        }
        if scores is None:
            area = (outcomes @ ranks - positives * (positives + 1.0) / 2.0) / (positives * (rows - positives))
        else:
            area = np.array([_parted_area(outcomes[0], scores)])
    found["roc_auc"] = area
    return found


def _parted_area(chances: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """The area under the curve of rows that are positive with weight p and negative with weight 1 - p; in order."""
    _, starts = np.unique(scores, return_index=True)
    positive = np.add.reduceat(chances, starts)
    negative = np.add.reduceat(1.0 - chances, starts)
    below = np.cumsum(negative) - negative
    pairs = float(positive.sum()) * float(negative.sum())
    return float(positive @ (below + negative / 2.0)) / pairs if pairs > 0.0 else math.nan


def _mean_ranks(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, numbers = np.unique(ordered, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(numbers) - (numbers - 1) / 2.0)[inverse]
    return ranks


def _drawn_labels(
    calibrator: Calibrator, scores: NDArray[np.float64], chances: NDArray[np.float64], *, seed: int
) -> NDArray[np.float64]:
    """Labels as they may come, draws by rows: a level's probability from its Beta posterior, then the labels."""
    generator = np.random.default_rng(seed)
    draws = min(max(_DRAWN_CELLS // chances.size, 20), _DRAWS)
    points = np.asarray(calibrator.scores)
    middles = (points[1:] + points[:-1]) / 2.0
    level = np.asarray(calibrator.level)[np.searchsorted(middles, scores)]
    height = np.zeros(len(calibrator.rows))
    height[np.asarray(calibrator.level)] = calibrator.probabilities
    rows = np.asarray(calibrator.rows, dtype=np.float64)
    posterior = generator.beta(rows * height + 0.5, rows * (1.0 - height) + 0.5, size=(draws, rows.size))
    shifted = chances + (posterior - posterior.mean(axis=0))[:, level]
    drawn: NDArray[np.float64] = (generator.random((draws, chances.size)) < shifted).astype(np.float64)
    return drawn


def _around(
    value: float | NDArray[np.float64], drawn: NDArray[np.float64], *, confidence: float, rows: int, note: str
) -> Measured:
    """The expected value with the scatter of the drawn ones around it."""
    expected = float(np.asarray(value).ravel()[0])
    usable = drawn[np.isfinite(drawn)]
    if not math.isfinite(expected):
        return unmeasured(joined("it has no meaning where one class is not expected or not answered", note), rows=rows)
    if usable.size == 0:
        return Measured(value=expected, rows=rows, note=note)
    low, high = np.quantile(usable - usable.mean(), [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Measured(
        value=expected,
        low=min(max(expected + float(low), 0.0), expected),
        high=max(min(expected + float(high), 1.0), expected),
        rows=rows,
        note=note,
    )


def _limits(calibrator: Calibrator, scores: NDArray[np.float64], *, left_out: int, outside: float) -> str:
    reference = sum(calibrator.rows)
    return joined(
        ASSUMPTION,
        f"only {counted(reference, 'reference row')}" if reference < _FEWEST_REFERENCE_ROWS else "",
        f"{counted(left_out, 'row')} without a probability left out" if left_out else "",
        _extrapolation(max(outside, calibrator.outside(scores))),
    )


def _extrapolation(outside: float) -> str:
    if not outside >= _OUTSIDE_TOLERATED:
        return ""
    return f"{outside:.0%} of the rows lie outside the reference: there the estimate is a guess"


def _filled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Missing inputs as 0, infinities as the largest number of 32 bits, in which trees compare."""
    largest = float(np.finfo(np.float32).max)
    return np.clip(np.nan_to_num(matrix, nan=0.0, posinf=largest, neginf=-largest), -largest, largest)
