"""Models with scikit-learn's interface, as they were saved.

What is changed in a loaded estimator: `n_jobs` becomes 1. What is left out: the names of its features, where it does not pick columns by
name, so that it can be given a matrix instead of a data frame.

For the classifiers in `_MOST_PROBABLE` the answer is by definition the most probable class, so they are asked once and not twice. (For
logistic regression two probabilities may round to the same number where its own answer is the second class; then the first is given.)
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.serving.predictors.messages import Method
from goldenloop.serving.predictors.server import Model
from goldenloop.serving.predictors.skops_types import TRUSTED_TYPES
from goldenloop.serving.predictors.tables import Classes, Table, matrix_of, named, signature_of
from goldenloop.serving.predictors.wire import Array

_MOST_PROBABLE = frozenset(
    {
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.dummy.DummyClassifier",
        "sklearn.ensemble.ExtraTreesClassifier",
        "sklearn.ensemble.GradientBoostingClassifier",
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "sklearn.ensemble.RandomForestClassifier",
        "sklearn.linear_model.LogisticRegression",
        "sklearn.linear_model.LogisticRegressionCV",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.neural_network.MLPClassifier",
        "sklearn.tree.DecisionTreeClassifier",
        "sklearn.tree.ExtraTreeClassifier",
    }
)


class Estimator(Protocol):
    """What a saved object must be able to do."""

    def predict(self, rows: object) -> NDArray[np.generic]:
        """Return an answer for each row."""
        ...


def load_skops(path: Path) -> Estimator:
    """Load a skops file; the types in it must be those that skops or this house trusts. Raises RefusedError, InvalidSpecError."""
    try:
        import skops.io
    except ImportError as error:
        raise RefusedError("skops is not installed", mend="pip install 'goldenloop[formats]'.") from error
    try:
        foreign = [name for name in skops.io.get_untrusted_types(file=path) if name not in TRUSTED_TYPES]
    except Exception as error:  # whatever a broken file makes it raise
        raise InvalidSpecError(f"not a skops file: {type(error).__name__}: {error}", where=path.name) from error
    if foreign:
        raise RefusedError(
            f"the file holds types that are not trusted: {', '.join(sorted(foreign)[:8])}",
            where=path.name,
            mend="Build the model from scikit-learn's own classes, or serve it as a Python class of your own.",
        )
    return _checked(skops.io.load(path, trusted=sorted(TRUSTED_TYPES)), path)


def load_pickle(path: Path) -> Estimator:
    """Unpickle, which runs code in the file: the host has seen to it that it is one of ours or trusted. Raises InvalidSpecError."""
    try:
        if path.suffix in (".pkl", ".pickle"):
            with path.open("rb") as stream:
                return _checked(pickle.load(stream), path)
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, TypeError):
        pass  # joblib's files have these names too
    try:
        import joblib
    except ImportError as error:
        raise RefusedError("joblib is not installed", mend="pip install joblib.") from error
    try:
        return _checked(joblib.load(path), path)
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        raise InvalidSpecError(f"not a saved estimator: {type(error).__name__}: {error}", where=path.name) from error


def model_of(estimator: Estimator, form: ServedForm) -> Model:
    """Make a model of a form out of an estimator. Raises InvalidSpecError where the two do not fit."""
    if _own_class(estimator) == "xgboost.core.Booster" or _own_class(estimator) == "lightgbm.basic.Booster":
        raise RefusedError(
            "the pickle holds a bare booster", mend="Save it with its own save_model: then it needs no trust."
        )
    _one_thread(estimator)
    if form.form == "table":
        return _TableModel(estimator, form)
    return _TensorModel(estimator, form)


class _TableModel:
    def __init__(self, estimator: Estimator, form: ServedForm) -> None:
        signature = signature_of(form)
        self._table = Table(form)
        self._is_matrix = self._table.is_all_numbers and not _picks_by_name(estimator)
        if self._is_matrix:
            _forget_names(estimator)
        self._predict = estimator.predict
        self._probabilities = getattr(estimator, "predict_proba", None)
        self._is_classifier = signature.task == "classification"
        self._is_most_probable = _own_class(_last(estimator)) in _MOST_PROBABLE
        self._classes = Classes(signature)
        if self._is_classifier and (own := getattr(estimator, "classes_", None)) is not None:
            self._classes.check(np.asarray(own).tolist())
        warnings.simplefilter("ignore")  # the same for each row, and nobody reads them

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        given: object = tensors["numbers"] if self._is_matrix else self._table.frame(tensors)
        if not self._is_classifier:
            return {"predict": np.asarray(self._predict(given), dtype=np.float64).reshape(-1)}
        if self._probabilities is None:
            return {"predict": named(np.asarray(self._predict(given)))}
        probabilities = np.asarray(self._probabilities(given))
        if self._is_most_probable:
            return self._classes.from_probabilities(probabilities)
        return {"predict": named(np.asarray(self._predict(given))), "probabilities": probabilities}

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:  # noqa: ARG002
        raise TypeError(f"the model has no {method}: it scores tables")


class _TensorModel:
    """Rows as tensors. The answers have the names of the form's outputs: `probabilities` are those, any other is the prediction."""

    def __init__(self, estimator: Estimator, form: ServedForm) -> None:
        self._estimator = estimator
        self._outputs = [output.name for output in form.outputs] or ["predict"]
        self._by_name = _picks_by_name(estimator)
        if not self._by_name:
            _forget_names(estimator)
        warnings.simplefilter("ignore")

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        given = self._rows(tensors)
        answers: dict[str, Array] = {}
        for name in self._outputs:
            if name == "probabilities":
                answers[name] = np.asarray(self._estimator.predict_proba(given))  # type: ignore[attr-defined]
            else:
                answers[name] = np.asarray(self._estimator.predict(given))
        return answers

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:  # noqa: ARG002
        raise TypeError(f"the model has no {method}: it scores tensors")

    def _rows(self, tensors: dict[str, Array]) -> object:
        if not self._by_name:
            return matrix_of(tensors)
        import pandas

        names = list(getattr(self._estimator, "feature_names_in_", tensors))
        if set(names) <= set(tensors):
            return pandas.DataFrame({name: tensors[name].reshape(-1) for name in names})
        return pandas.DataFrame(matrix_of(tensors), columns=names)


def _checked(loaded: object, path: Path) -> Estimator:
    if not callable(getattr(loaded, "predict", None)):
        raise InvalidSpecError(
            f"a {type(loaded).__name__} has no predict",
            where=path.name,
            mend="Save the fitted estimator or pipeline itself.",
        )
    return cast(Estimator, loaded)


def _one_thread(estimator: Estimator) -> None:
    for part in _parts(estimator):
        for name in ("n_jobs", "nthread", "num_threads", "thread_count"):
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, 1)


def _picks_by_name(estimator: Estimator) -> bool:
    """Whether it was trained on a data frame and something in it may ask for columns by name."""
    if not hasattr(estimator, "feature_names_in_"):
        return False
    for part in _parts(estimator):
        own = _own_class(part)
        if not own.startswith(("sklearn.", "lightgbm.", "xgboost.")) or "sklearn.compose" in own or "Function" in own:
            return True
    return False


def _forget_names(estimator: Estimator) -> None:
    for part in _parts(estimator):
        vars(part).pop("feature_names_in_", None)


def _parts(estimator: object, seen: set[int] | None = None) -> Iterator[object]:
    """The estimator and every estimator inside it."""
    seen = set() if seen is None else seen
    if id(estimator) in seen or not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return
    seen.add(id(estimator))
    yield estimator
    for value in list(vars(estimator).values()):
        for inner in _spread(value):
            yield from _parts(inner, seen)


def _spread(value: object) -> Iterator[object]:
    """What lies in lists, arrays and pairs such as a pipeline's steps."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            for entry in value.reshape(-1).tolist():
                yield entry
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _spread(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _spread(entry)
    else:
        yield value


def _last(estimator: object) -> object:
    steps = getattr(estimator, "steps", None)
    return _last(steps[-1][1]) if isinstance(steps, list) and steps else estimator


def _own_class(value: object) -> str:
    """The public name of its class: without the private modules that scikit-learn keeps its classes in."""
    kind = type(value)
    module = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
    return f"{module}.{kind.__qualname__}"
