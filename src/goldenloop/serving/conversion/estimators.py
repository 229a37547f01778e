"""What a fitted estimator says of itself: its columns, its task, its classes, and its answers to a sample."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.signatures import Column, Signature, Task, as_text

if TYPE_CHECKING:
    import pandas
    import pyarrow


class Estimator(Protocol):
    """Whatever has scikit-learn's interface."""

    def predict(self, rows: object) -> NDArray[np.generic]: ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What the model itself says about the sample."""

    labels: list[str] | list[float]
    probabilities: NDArray[np.float64] | None
    is_regression: bool = False


def load_estimator(path: Path) -> Estimator:
    import joblib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = joblib.load(path)
    except OSError as error:
        raise InvalidSpecError(
            f"the model file cannot be read: {error}", where=str(path), mend="Check the path."
        ) from error
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f"the model needs code that is not installed here: {error}",
            where=str(path),
            mend="Install it in the step's environment, or build the model from scikit-learn's own classes.",
        ) from error
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        raise InvalidSpecError(
            f"not a saved estimator: {error}", where=str(path), mend="Save it with joblib.dump or pickle.dump."
        ) from error
    if not hasattr(loaded, "predict"):
        raise RefusedError(
            f"a {type(loaded).__name__} has no predict",
            where=str(path),
            mend="Save the fitted estimator or pipeline itself.",
        )
    return cast(Estimator, loaded)


def input_names(estimator: Estimator, sample: pyarrow.Table, *, label: str, ignore: frozenset[str]) -> list[str]:
    present = [name for name in sample.column_names if name != label and name not in ignore]
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None:
        names = [str(name) for name in known]
        missing = [name for name in names if name not in sample.column_names]
        if missing:
            raise InvalidSpecError(
                f"the model was trained on the column {missing[0]!r}, which the sample does not have",
                where="sample",
                mend="Give the sample the columns that the model was trained on.",
            )
        return names
    width = getattr(estimator, "n_features_in_", len(present))
    if width != len(present):
        raise InvalidSpecError(
            f"the model takes {width} columns and the sample has {len(present)} beside the label",
            where="sample",
            mend="Train on a data frame, so that the model knows its columns by name, or leave the other columns out.",
        )
    return present


def ask(estimator: Estimator, sample: pyarrow.Table, names: Sequence[str]) -> Expected:
    frame: pandas.DataFrame = sample.select(list(names)).to_pandas()
    given = frame if hasattr(estimator, "feature_names_in_") else frame.to_numpy()
    try:
        labels = np.asarray(estimator.predict(given))
        probabilities = np.asarray(estimator.predict_proba(given)) if hasattr(estimator, "predict_proba") else None
    except Exception as error:  # whatever the user's estimator raises
        raise RefusedError(
            f"the estimator itself cannot score the sample: {type(error).__name__}: {str(error)[:300]}",
            where="sample",
            mend="Train it on columns of the types that the sample has.",
        ) from error
    if labels.ndim > 1 and labels.shape[1:] != (1,):
        raise RefusedError("the model gives several outputs a row", mend="Train one model for each output.")
    flat = labels.reshape(-1).tolist()
    if task_of(estimator) == "regression":
        return Expected([float(value) for value in flat], None, is_regression=True)
    return Expected([as_text(value) for value in flat], probabilities)


def signature_of(
    estimator: Estimator, sample: pyarrow.Table, names: Sequence[str], *, truths_are: Literal["category", "number"]
) -> Signature:
    inputs = tuple(Column(name=name, kind=kind_of(sample, name, truths_are=truths_are)) for name in names)
    if task_of(estimator) == "regression":
        return Signature(inputs=inputs, task="regression")
    classes = np.asarray(estimator.classes_).tolist()  # type: ignore[attr-defined]
    return Signature(
        inputs=inputs, task="classification", classes=tuple(map(as_text, classes)), class_kind=class_kind(classes)
    )


def kind_of(
    sample: pyarrow.Table, name: str, *, truths_are: Literal["category", "number"] = "category"
) -> Literal["category", "number"]:
    import pyarrow

    kind = sample.schema.field(name).type
    if pyarrow.types.is_boolean(kind):
        return truths_are
    types = pyarrow.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
        return "category"
    raise RefusedError(
        f"column {name!r} is of type {kind}",
        where="sample",
        mend="Give numbers, texts or truths; leave out times and lists.",
    )


def has_truths(sample: pyarrow.Table, names: Sequence[str]) -> bool:
    import pyarrow

    return any(pyarrow.types.is_boolean(sample.schema.field(name).type) for name in names)


def class_kind(classes: list[str | float | bool]) -> Literal["text", "integer", "number", "boolean"]:
    if all(isinstance(value, bool) for value in classes):
        return "boolean"
    if all(isinstance(value, int) for value in classes):
        return "integer"
    if all(isinstance(value, int | float) for value in classes):
        return "number"
    return "text"


def task_of(estimator: Estimator) -> Task:
    return "classification" if hasattr(estimator, "classes_") else "regression"


def rounded(sample: pyarrow.Table, names: Sequence[str]) -> pyarrow.Table:
    """The sample with its fractions as a graph gets them: rounded to float32, in columns of the same type."""
    import pyarrow

    for name in names:
        kind = sample.schema.field(name).type
        if pyarrow.types.is_float64(kind):
            column = sample.column(name).cast(pyarrow.float32(), safe=False).cast(kind)
            sample = sample.set_column(sample.column_names.index(name), name, column)
    return sample


def called(estimator: object) -> str:
    """The classes of an estimator's steps."""
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):
        return " → ".join(called(step) for _, step in steps)
    transformers = getattr(estimator, "transformers_", None)
    if isinstance(transformers, list):
        inner = ", ".join(called(step) for _, step, _ in transformers if not isinstance(step, str))
        return f"{type(estimator).__name__}({inner})"
    return type(estimator).__name__
