"""What a fitted estimator gives away about its columns: where its trees split, what its scalers saw, which categories its encoders know.

Points behind steps that only shift and scale, or keep columns as they are, are carried back to the columns that the user sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import RefusedError
from goldenloop.serving.conversion.estimators import Estimator

# Fitted attributes whose last axis counts columns, and whose values are places where columns have values.
_POINTS = (
    "mean_",
    "center_",
    "data_min_",
    "data_max_",
    "statistics_",
    "theta_",
    "means_",
    "cluster_centers_",
    "quantiles_",
)
_ROWS = ("support_vectors_", "_fit_X")  # rows of the training data
_ENOUGH = 2_000  # points of one column


@dataclass(slots=True)
class Hints:
    """One column. `values` are all that an encoder knows; None among them is the missing category."""

    points: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    values: list[object] = field(default_factory=list)

    def add(self, points: NDArray[np.generic]) -> None:
        """Add points; beyond enough of them they are thinned out."""
        self.points += [float(point) for point in np.ravel(points)[:_ENOUGH] if np.isfinite(point)]
        if len(self.points) > 2 * _ENOUGH:
            self.points = self.points[:: len(self.points) // _ENOUGH]


@dataclass(frozen=True, slots=True)
class _Place:
    """A column inside the estimator: `hints` of the user's column, which is `factor` times this one, plus `offset`."""

    hints: Hints
    factor: float = 1.0
    offset: float = 0.0

    def add(self, points: NDArray[np.generic]) -> None:
        self.hints.add(np.asarray(points, dtype=np.float64) * self.factor + self.offset)


_Places = Sequence[_Place | None]


def hints_of(estimator: Estimator) -> dict[str, Hints]:
    """Return the columns by name, in order; without names of their own they are called x0, x1, … Raises RefusedError."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        count = getattr(estimator, "n_features_in_", None)
        if count is None:
            raise RefusedError(
                f"a {type(estimator).__name__} does not say which columns it takes",
                mend="Serve texts and images by an ONNX graph, or by a Python class of your own that loads the model.",
            )
        names = [f"x{place}" for place in range(count)]
    hints = {str(name): Hints() for name in names}
    _walk(estimator, [_Place(column) for column in hints.values()])
    return hints


def _walk(part: object, places: _Places) -> _Places:
    """Collect what a part says of its columns; return the places of what it passes on."""
    steps = getattr(part, "steps", None)
    if isinstance(steps, list):
        for _, step in steps:
            places = _walk(step, places)
        return places
    if hasattr(part, "transformers_"):
        return _walk_columns(part, places)
    if hasattr(part, "transformer_list"):
        return [place for _, inner in part.transformer_list for place in _walk(inner, places)]
    if isinstance(part, str) or part is None:  # passthrough
        return [] if part == "drop" else places
    _add_trees(part, places)
    _add_points(part, places)
    for inner in _estimators_in(part):
        _walk(inner, places)
    return _passed_on(part, places)


def _walk_columns(part: object, places: _Places) -> _Places:
    indices = getattr(part, "_transformer_to_input_indices", {})
    passed: list[_Place | None] = []
    for name, inner, _ in part.transformers_:  # type: ignore[attr-defined]
        inside = [places[index] for index in indices.get(name, ()) if index < len(places)]
        passed += _walk(inner, inside)
    return passed


def _estimators_in(part: object) -> list[object]:
    """The estimators that a meta-estimator has fitted on the same columns; members of forests are trees, and are read as those."""
    found: list[object] = []
    for name in ("estimators_", "estimator_", "best_estimator_", "calibrated_classifiers_", "estimator", "regressor_"):
        inner = getattr(part, name, None)
        members = (
            np.asarray(inner, dtype=object).reshape(-1).tolist() if isinstance(inner, list | np.ndarray) else [inner]
        )
        found += [each for each in members if hasattr(each, "n_features_in_") and not hasattr(each, "tree_")]
    return found


def _add_trees(part: object, places: _Places) -> None:
    members = getattr(part, "estimators_", None)
    trees = [part] if hasattr(part, "tree_") else []
    if isinstance(members, list | np.ndarray):
        trees += [each for each in np.asarray(members, dtype=object).reshape(-1).tolist() if hasattr(each, "tree_")]
    splits: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = [
        (each.tree_.feature, each.tree_.threshold) for each in trees
    ]
    for stage in getattr(part, "_predictors", ()):
        for predictor in stage:
            inner = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            splits.append((inner["feature_idx"], inner["num_threshold"]))
    if not splits:
        return
    features = np.concatenate([feature for feature, _ in splits]).astype(np.int64)
    thresholds = np.concatenate([threshold for _, threshold in splits]).astype(np.float64)
    for index, place in enumerate(places):
        if place is not None:
            place.add(np.unique(thresholds[features == index]))


def _add_points(part: object, places: _Places) -> None:
    for name in (*_POINTS, *_ROWS):
        values = getattr(part, name, None)
        if not isinstance(values, np.ndarray) or values.ndim == 0 or values.shape[-1] != len(places):
            continue
        if values.dtype.kind not in "fiu":
            continue
        for index, place in enumerate(places):
            if place is not None:
                place.add(values[..., index])
    spreads = getattr(part, "scale_", None)
    if isinstance(spreads, np.ndarray) and spreads.shape == (len(places),) and spreads.dtype.kind == "f":
        for place, spread in zip(places, spreads.tolist(), strict=True):
            if place is not None and hasattr(part, "with_mean"):
                place.hints.spreads.append(abs(spread * place.factor))
    for place, values in zip(places, getattr(part, "categories_", ()), strict=False):
        if place is not None:
            place.hints.values += [None if value is None or value != value else value for value in values.tolist()]
    for place, edges in zip(places, getattr(part, "bin_edges_", ()), strict=False):
        if place is not None:
            place.add(np.asarray(edges))


def _passed_on(part: object, places: _Places) -> _Places:
    """The places of a transformer's columns, None where the values are others."""
    kind = type(part).__name__
    count = len(places)
    if kind == "SimpleImputer" and not getattr(part, "add_indicator", False):
        return places
    factors, offsets = np.ones(count), np.zeros(count)
    if kind in ("StandardScaler", "RobustScaler", "MaxAbsScaler"):
        factors = _column(part, "scale_", factors)
        offsets = _column(part, "mean_" if kind == "StandardScaler" else "center_", offsets)
    elif kind == "MinMaxScaler":
        factors = 1.0 / _column(part, "scale_", factors)
        offsets = -_column(part, "min_", offsets) * factors
    else:
        return []
    return [
        None if place is None else _Place(place.hints, place.factor * factor, place.factor * offset + place.offset)
        for place, factor, offset in zip(places, factors.tolist(), offsets.tolist(), strict=True)
    ]


def _column(part: object, name: str, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    values = getattr(part, name, None)
    return values if isinstance(values, np.ndarray) and values.shape == otherwise.shape else otherwise
