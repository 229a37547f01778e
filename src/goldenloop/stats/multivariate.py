"""Do rows as a whole differ from the reference, also where each column alone looks the same.

- `domain_classifier`: can a quick model tell which rows are new? Its ROC AUC is 0.5 where it cannot.
- `maximum_mean_discrepancy`: the distance of two clouds in a Gaussian kernel's space (Gretton et al., JMLR 13, 2012).
- `Reconstruction`: rows that a few principal components of the reference cannot rebuild (as NannyML's data
  reconstruction drift): correlations that broke.

Rows are matrices of numbers: mixed columns by `encoding.Encoding`, embeddings as they are, texts by their length. Each
looks at a bounded number of rows and columns, drawn by the seed, so that its cost does not grow with the window.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.losses import area_under_curve
from goldenloop.stats.measured import Measured, as_matrix, counted, joined, unmeasured
from goldenloop.stats.special import normal_quantile, normal_tail

_MOST_ROWS = 1_000  # of reference and window each
_MOST_COLUMNS = 256
_FEWEST_ROWS = 20
_FOLDS = 2
_PERMUTATIONS = 200


def domain_classifier(
    reference: NDArray[np.float64], current: NDArray[np.float64], *, confidence: float = 0.95, seed: int = 0
) -> Measured:
    """Return the ROC AUC with which random trees tell current rows from reference rows they were not fitted on.

    Cross-fitted in two halves; the AUC is the mean of both, its interval DeLong's (Biometrics 44, 1988), the p-value
    one-sided of "0.5" with the variance of Mann and Whitney's statistic. It needs a few hundred rows to see small
    changes, and it sees what no one cares about as well (a counter that grows). Rows must be independent: repeated
    rows in both halves are recognised. At most 1,000 rows of each and 256 columns. Same seed, same result. Cost:
    about 100 ms. Raises ValueError for other shapes or unequal columns.
    """
    (one, two), note = _samples(reference, current, seed=seed)
    if min(len(one), len(two)) < _FEWEST_ROWS:
        return unmeasured(_too_few(one, two), rows=len(two))
    if one.shape[1] == 0:
        return unmeasured("no columns to look at", rows=len(two))
    from sklearn.ensemble import ExtraTreesClassifier

    # Trees compare in 32 bits.
    rows = np.clip(np.concatenate([one, two]), -1e30, 1e30)
    new = np.arange(len(rows)) >= len(one)
    fold = np.concatenate([np.arange(len(one)) % _FOLDS, np.arange(len(two)) % _FOLDS])
    areas, variances, null = [], [], []
    for held in range(_FOLDS):
        # Trees that need no OpenMP: its threads spin where cores are shared, and fits then take seconds.
        fitted = ExtraTreesClassifier(n_estimators=30, min_samples_leaf=5, max_features=None, random_state=seed).fit(
            rows[fold != held], new[fold != held]
        )
        scores, truth = fitted.predict_proba(rows[fold == held])[:, 1], new[fold == held]
        area = area_under_curve(truth, scores)
        areas.append(0.5 if area is None else area)
        variances.append(delong_variance(truth, scores))
        positives = int(np.count_nonzero(truth))
        negatives = truth.size - positives
        null.append((truth.size + 1.0) / (12.0 * positives * negatives))
    area = sum(areas) / _FOLDS
    half = normal_quantile(0.5 + confidence / 2.0) * math.sqrt(sum(variances)) / _FOLDS
    return Measured(
        value=area,
        low=max(area - half, 0.0),
        high=min(area + half, 1.0),
        p_value=normal_tail((area - 0.5) / (math.sqrt(sum(null)) / _FOLDS)),
        rows=len(two),
        note=note,
    )


def delong_variance(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return DeLong's variance of the ROC AUC: the variance over positives of the share of negatives below each, over
    their number, and the same the other way round. Cost: O(rows log rows).
    """
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])
    if high.size < 2 or low.size < 2:
        return 0.25
    return (
        float(_shares_below(high, low).var(ddof=1)) / high.size + float(_shares_below(low, high).var(ddof=1)) / low.size
    )


def maximum_mean_discrepancy(
    reference: NDArray[np.float64], current: NDArray[np.float64], *, permutations: int = _PERMUTATIONS, seed: int = 0
) -> Measured:
    """Return the unbiased squared maximum mean discrepancy in a Gaussian kernel, with its permutation p-value.

    exp(-d^2 / (2 s^2)) with s^2 half the median squared distance of the pooled rows, which is what makes the value
    independent of units, and small for clouds that differ in fine detail. Columns are scaled by the reference's
    deviation first. The p-value is exact for exchangeable rows; it cannot be below 1 / (permutations + 1). At most
    1,000 rows altogether and 256 columns. No interval: it is a test. Same seed, same result. Cost: O(rows^2 *
    (columns + permutations)), about 100 ms. Raises ValueError for other shapes, unequal columns, or no permutations.

    >>> generator = np.random.default_rng(0)
    >>> same = maximum_mean_discrepancy(generator.normal(size=(200, 2)), generator.normal(size=(200, 2)))
    >>> other = maximum_mean_discrepancy(generator.normal(size=(200, 2)), generator.normal(size=(200, 2)) + 1.0)
    >>> same.p_value > 0.05, other.p_value < 0.01
    (True, True)
    """
    if permutations < 1:
        raise ValueError("a permutation test needs at least one permutation")
    (one, two), note = _samples(reference, current, seed=seed, most=_MOST_ROWS // 2)
    if min(len(one), len(two)) < _FEWEST_ROWS:
        return unmeasured(_too_few(one, two), rows=len(two))
    scale = one.std(axis=0)
    rows = np.concatenate([one, two]) / np.where(scale > 0.0, scale, 1.0)
    squares = np.einsum("ij,ij->i", rows, rows)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * rows @ rows.T, 0.0)
    middle = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    if middle == 0.0:
        middle = float(distances.mean())
    if middle == 0.0:
        return unmeasured("all rows are the same", rows=len(two))
    kernel = np.exp(-distances / middle)
    np.fill_diagonal(kernel, 0.0)
    generator = np.random.default_rng(seed)
    member = np.zeros((len(rows), permutations + 1))
    member[: len(one), 0] = 1.0
    for place in range(1, permutations + 1):
        member[generator.permutation(len(rows))[: len(one)], place] = 1.0
    n, m = float(len(one)), float(len(two))
    inside = np.einsum("ij,ij->j", member, kernel @ member)
    touching = kernel.sum(axis=1) @ member
    between = touching - inside
    outside = float(kernel.sum()) - inside - 2.0 * between
    values = inside / (n * (n - 1.0)) + outside / (m * (m - 1.0)) - 2.0 * between / (n * m)
    # Permutations that tie up to rounding count against the alarm.
    at_least = int(np.count_nonzero(values[1:] >= values[0] - 1e-12))
    return Measured(value=float(values[0]), p_value=(1.0 + at_least) / (permutations + 1.0), rows=len(two), note=note)


class Reconstruction(msgspec.Struct, frozen=True, kw_only=True):
    """The reference's principal components that explain 65 % of its variance, columns standardised.

    `error`, `deviation`: mean and standard deviation of a reference row's reconstruction error, from the half of the
    rows that was not fitted.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    error: float
    deviation: float

    @classmethod
    def of(cls, reference: NDArray[np.float64], *, explained: float = 0.65, held_out: bool = True) -> Reconstruction:
        """Fit on reference rows; at most 256 columns are used. With `held_out` false everything is fitted and measured
        on all rows, as NannyML does, and the error is a little too small.

        Cost: O(rows * columns^2). Raises ValueError for other shapes or fewer than 20 rows.
        """
        rows = _finite(as_matrix(reference, what="reference rows"))
        if len(rows) < _FEWEST_ROWS:
            raise ValueError(f"principal components need {_FEWEST_ROWS} reference rows, not {len(rows)}")
        fitted, others = (rows[::2], rows[1::2]) if held_out else (rows, rows)
        centre, scale = fitted.mean(axis=0), fitted.std(axis=0)
        scale = np.where(scale > 0.0, scale, 1.0)
        _, singular, directions = np.linalg.svd((fitted - centre) / scale, full_matrices=False)
        energy = np.cumsum(singular**2)
        # A column that never varied has no energy; where none varies nothing needs rebuilding.
        kept = int(np.searchsorted(energy / (energy[-1] or 1.0), explained, side="right")) + 1 if energy.size else 0
        model = cls(
            centre=tuple(centre.tolist()),
            scale=tuple(scale.tolist()),
            components=tuple(map(tuple, directions[:kept].tolist())),
            error=0.0,
            deviation=0.0,
        )
        errors = model.errors(others)
        return msgspec.structs.replace(model, error=float(errors.mean()), deviation=float(errors.std()))

    def errors(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Euclidean distance of each standardised row from what the components rebuild. Raises ValueError for
        another number of columns.
        """
        matrix = _finite(as_matrix(rows, what="rows"))
        if matrix.shape[1] != len(self.centre):
            raise ValueError(f"the reference has {len(self.centre)} columns, these rows {matrix.shape[1]}")
        standardised = (matrix - np.asarray(self.centre)) / np.asarray(self.scale)
        directions = np.asarray(self.components).reshape(len(self.components), len(self.centre))
        rest = standardised - (standardised @ directions.T) @ directions
        distances: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rest, rest))
        return distances

    def judge(self, rows: NDArray[np.float64], *, confidence: float = 0.95) -> Measured:
        """Return the window's mean reconstruction error; the p-value is two-sided of "as the reference's" (normal).

        A fall is as strange as a rise: columns that became copies of each other are rebuilt too well. Rows must be
        independent. The mean and the deviation of the reference are taken as known.
        """
        errors = self.errors(rows)
        if errors.size == 0:
            return unmeasured("the window is empty")
        value, root = float(errors.mean()), math.sqrt(errors.size)
        half = normal_quantile(0.5 + confidence / 2.0) * (float(errors.std()) or self.deviation) / root
        p_value = None
        if self.deviation > 0.0:
            p_value = min(1.0, 2.0 * normal_tail(abs(value - self.error) / (self.deviation / root)))
        return Measured(
            value=value,
            low=max(value - half, 0.0),
            high=value + half,
            p_value=p_value,
            rows=errors.size,
            note="" if p_value is not None else "the reference is rebuilt without error",
        )


def _samples(
    reference: NDArray[np.float64], current: NDArray[np.float64], *, seed: int, most: int = _MOST_ROWS
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], str]:
    """At most so many rows and columns of each, missing and infinite numbers filled."""
    one, two = as_matrix(reference, what="reference rows"), as_matrix(current, what="rows")
    if one.shape[1] != two.shape[1]:
        raise ValueError(f"the reference has {one.shape[1]} columns, these rows {two.shape[1]}")
    generator = np.random.default_rng(seed)
    left_out = max(one.shape[1] - _MOST_COLUMNS, 0)
    columns = np.sort(generator.permutation(one.shape[1])[:_MOST_COLUMNS])
    one, two = (rows[generator.permutation(len(rows))[:most]][:, columns] for rows in (one, two))
    return (_finite(one), _finite(two)), joined(f"{counted(left_out, 'column')} not looked at" if left_out else "")


def _finite(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Missing numbers as 0, and none so large that its square is infinite."""
    return np.clip(np.nan_to_num(matrix, nan=0.0, posinf=1e100, neginf=-1e100), -1e100, 1e100)


def _too_few(one: NDArray[np.float64], two: NDArray[np.float64]) -> str:
    return f"{counted(len(one), 'reference row')} and {counted(len(two), 'row')}; {_FEWEST_ROWS} of each are needed"


def _shares_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the others below each value, ties a half; others ascending."""
    below = np.searchsorted(others, values, side="left") + np.searchsorted(others, values, side="right")
    return below / (2.0 * others.size)
