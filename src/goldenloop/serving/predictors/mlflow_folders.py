"""MLflow model folders that need MLflow's own code to load (flavour `python_function`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from goldenloop.core.errors import RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.serving.predictors.messages import Method
from goldenloop.serving.predictors.server import Model
from goldenloop.serving.predictors.tables import Classes, Table, named, signature_of
from goldenloop.serving.predictors.wire import Array


def load_mlflow(folder: Path, form: ServedForm) -> Model:
    """Load a folder with an `MLmodel` file. Raises RefusedError where MLflow is missing, and what MLflow raises."""
    try:
        import mlflow.pyfunc
    except ImportError as error:
        raise RefusedError(
            f"the model needs MLflow to load: {error}",
            where=folder.name,
            mend="pip install mlflow-skinny, and what the folder's requirements.txt names.",
        ) from error
    return _PyFunc(mlflow.pyfunc.load_model(str(folder)), form)


class _PyFunc:
    def __init__(self, model: object, form: ServedForm) -> None:
        self._predict = model.predict  # type: ignore[attr-defined]
        self._table = Table(form) if form.form == "table" else None
        self._is_classifier = form.form == "table" and signature_of(form).task == "classification"
        self._classes = Classes(signature_of(form)) if self._is_classifier else None
        self._outputs = [output.name for output in form.outputs] or ["predict"]

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:  # noqa: ARG002
        if self._table is not None:
            labels = np.asarray(self._predict(self._table.frame(tensors)))
            return {"predict": named(labels) if self._is_classifier else labels.astype(np.float64).reshape(-1)}
        given = next(iter(tensors.values())) if len(tensors) == 1 else tensors
        result = self._predict(given)
        if isinstance(result, dict):
            return {str(name): np.asarray(part) for name, part in result.items()}
        return {self._outputs[0]: np.asarray(result)}

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:  # noqa: ARG002
        raise TypeError(f"the model has no {method}: it scores rows")
