"""XGBoost and LightGBM by their native interfaces: the scikit-learn wrappers cost ten times as much for one row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.serving.predictors.messages import Method
from goldenloop.serving.predictors.server import Model
from goldenloop.serving.predictors.tables import Classes, Table, matrix_of, signature_of
from goldenloop.serving.predictors.wire import Array

Raw = NDArray[np.generic]


def load_xgboost(path: Path, form: ServedForm, *, threads: int) -> Model:
    """Load a booster that `save_model` wrote. Raises RefusedError, InvalidSpecError."""
    try:
        import xgboost
    except ImportError as error:
        raise RefusedError("xgboost is not installed", mend="pip install 'goldenloop[formats]'.") from error
    try:
        booster = xgboost.Booster(model_file=str(path))
    except xgboost.core.XGBoostError as error:
        raise InvalidSpecError(
            f"not an XGBoost model: {str(error).splitlines()[0][:300]}",
            where=path.name,
            mend="Save it with save_model.",
        ) from error
    booster.set_param({"nthread": threads, "device": "cpu"})
    learner = json.loads(booster.save_config())["learner"]
    objective = str(learner["objective"]["name"])
    best = booster.attr("best_iteration")
    rounds = (0, 0 if best is None else int(best) + 1)

    def score(rows: Raw) -> Raw:
        raw: Raw = booster.inplace_predict(rows, iteration_range=rounds, validate_features=False)
        return raw

    if objective == "multi:softmax":
        # It gives the class itself; the same model gives the probabilities when it is asked for them.
        booster.set_param({"objective": "multi:softprob"})
    return _Booster(score, form, is_probability=objective.startswith(("binary:logistic", "multi:")))


def load_lightgbm(path: Path, form: ServedForm, *, threads: int) -> Model:
    """Load a booster that `save_model` wrote. Raises RefusedError, InvalidSpecError."""
    try:
        import lightgbm
    except ImportError as error:
        raise RefusedError("lightgbm is not installed", mend="pip install 'goldenloop[formats]'.") from error
    try:
        booster = lightgbm.Booster(model_file=str(path))
    except (lightgbm.basic.LightGBMError, ValueError, IndexError, KeyError) as error:
        raise InvalidSpecError(
            f"not a LightGBM model: {str(error)[:300]}", where=path.name, mend="Save it with save_model."
        ) from error
    objective = _lightgbm_objective(path)

    def score(rows: object) -> Raw:
        raw: Raw = np.asarray(booster.predict(rows, num_threads=threads))
        return raw

    categories = getattr(booster, "pandas_categorical", None)
    return _Booster(
        score,
        form,
        is_probability=objective.startswith(("binary", "multiclass", "cross_entropy")),
        categories=categories,
    )


class _Booster:
    """A booster of either kind."""

    def __init__(
        self,
        score: Callable[..., Raw],
        form: ServedForm,
        *,
        is_probability: bool,
        categories: list[list[str]] | None = None,
    ) -> None:
        self._score = score
        self._is_table = form.form == "table"
        self._outputs = [output.name for output in form.outputs] or ["predict"]
        self._is_probability = is_probability
        self._classes: Classes | None = None
        self._table: Table | None = None
        self._categories = categories or []
        if self._is_table:
            signature = signature_of(form)
            self._table = Table(form)
            if signature.task == "classification":
                self._classes = Classes(signature)
            if not self._table.is_all_numbers and not categories:
                raise InvalidSpecError(
                    "the booster takes numbers, and the signature has categories",
                    where="signature",
                    mend="Encode the categories in the pipeline that trains it.",
                )
            if self._classes is not None and not is_probability:
                raise InvalidSpecError(
                    "the booster's objective gives no probabilities",
                    where="signature",
                    mend="Train with binary:logistic or multi:softprob (XGBoost), binary or multiclass (LightGBM).",
                )

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        if not self._is_table:
            return self._tensors(self._score(matrix_of(tensors)))
        raw = self._score(tensors["numbers"] if not self._categories else self._frame(tensors))
        if self._classes is None:
            return {"predict": raw.astype(np.float64).reshape(-1)}
        return self._classes.from_second(raw) if raw.ndim == 1 else self._classes.from_probabilities(raw)

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:  # noqa: ARG002
        raise TypeError(f"the model has no {method}: it scores rows")

    def _tensors(self, raw: Raw) -> dict[str, Array]:
        answers: dict[str, Array] = {}
        for name in self._outputs:
            if name != "probabilities":
                answers[name] = raw if raw.ndim == 1 or "probabilities" not in self._outputs else raw.argmax(axis=1)
            elif raw.ndim == 1 and self._is_probability:
                answers[name] = np.column_stack([np.subtract(1.0, raw), raw])
            else:
                answers[name] = raw
        return answers

    def _frame(self, tensors: dict[str, Array]) -> object:
        import pandas

        assert self._table is not None
        frame = self._table.frame(tensors)
        texts = [name for name in frame.columns if frame[name].dtype.kind not in "fiub"]
        for name, values in zip(texts, self._categories, strict=True):
            known = frame[name].where(frame[name].isin(values))  # what was never seen is missing
            frame[name] = pandas.Categorical(known, categories=values)
        return frame


def _lightgbm_objective(path: Path) -> str:
    with path.open("r", errors="replace") as lines:
        for line in lines:
            if line.startswith("objective="):
                return line.removeprefix("objective=").strip()
            if line.startswith("Tree="):
                break
    return ""
