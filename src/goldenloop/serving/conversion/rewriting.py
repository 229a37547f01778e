"""What fitted encoders and imputers know of missing categories and truths, as a graph writes them: the empty text, "true" and "false"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import RefusedError
from goldenloop.core.signatures import as_text


def rewrite(part: object, seen: set[int]) -> None:
    """Rewrite, in place, what fitted encoders and imputers know of missing categories and truths."""
    from sklearn.base import BaseEstimator
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, list | tuple):
        for member in part:
            rewrite(member, seen)
        return
    if isinstance(part, dict):
        for member in part.values():
            rewrite(member, seen)
        return
    if not isinstance(part, BaseEstimator):
        return
    if isinstance(part, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        if getattr(part, "is_categorical_", None) is not None and np.any(part.is_categorical_):
            raise RefusedError(
                f"{type(part).__name__} with categorical_features cannot be converted: the graph would split on them as on numbers",
                mend="Encode categories with OrdinalEncoder or OneHotEncoder and leave categorical_features at None.",
            )
        return
    if hasattr(part, "get_booster"):
        part.get_booster().feature_names = None  # XGBoost's converter knows columns by their places
    if isinstance(part, OneHotEncoder) and hasattr(part, "categories_"):
        part.categories_ = [_plain(categories) for categories in part.categories_]
    elif isinstance(part, OrdinalEncoder) and hasattr(part, "categories_"):
        # An encoder that writes unknown and missing alike as NaN needs no entry for the missing one.
        drops_missing = _is_nan(part.unknown_value) and _is_nan(part.encoded_missing_value)
        part.categories_ = [_plain(categories, drops_missing=drops_missing) for categories in part.categories_]
    elif isinstance(part, SimpleImputer) and getattr(part, "statistics_", np.empty(0)).dtype == object:
        part.missing_values = ""
    for member in list(vars(part).values()):
        rewrite(member, seen)


def _plain(categories: NDArray[np.generic], *, drops_missing: bool = False) -> NDArray[np.generic]:
    """Texts for truths, and the empty text for the missing category; numbers stay as they are."""
    if categories.dtype.kind in "iuf":
        return categories
    values = categories.tolist()
    if drops_missing:
        values = [value for value in values if value is not None and not _is_nan(value)]
    return np.array(["" if value is None or _is_nan(value) else as_text(value) for value in values], dtype=object)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value
