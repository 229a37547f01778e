"""From a served form to a model in this process: one function a loader. Each framework is imported only where a model needs it.

Every model gets one thread (or as many as its service was given processors): requests are what runs side by side, and threads that wait for
each other in the middle of a small model cost tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from goldenloop.core.errors import RefusedError
from goldenloop.core.served import Loader, ServedForm
from goldenloop.serving.predictors.server import ConcurrentModel, Model

Loaded = Model | ConcurrentModel


def load(folder: Path, form: ServedForm, *, name: str, threads: int) -> Loaded:
    """Load the model of a folder. Raises RefusedError where a package is missing, InvalidSpecError for a bad file, or what it raises."""
    return _LOADERS[form.loader](folder, form, name, threads)


def _skops(folder: Path, form: ServedForm, _name: str, _threads: int) -> Model:
    from goldenloop.serving.predictors.estimators import load_skops, model_of

    return model_of(load_skops(folder / form.file), form)


def _pickle(folder: Path, form: ServedForm, _name: str, _threads: int) -> Model:
    from goldenloop.serving.predictors.estimators import load_pickle, model_of

    return model_of(load_pickle(folder / form.file), form)


def _xgboost(folder: Path, form: ServedForm, _name: str, threads: int) -> Model:
    from goldenloop.serving.predictors.boosters import load_xgboost

    return load_xgboost(folder / form.file, form, threads=threads)


def _lightgbm(folder: Path, form: ServedForm, _name: str, threads: int) -> Model:
    from goldenloop.serving.predictors.boosters import load_lightgbm

    return load_lightgbm(folder / form.file, form, threads=threads)


def _torchscript(folder: Path, form: ServedForm, _name: str, threads: int) -> Model:
    from goldenloop.serving.predictors.torches import load_torchscript

    return load_torchscript(folder / form.file, form, threads=threads)


def _exported(folder: Path, form: ServedForm, _name: str, threads: int) -> Model:
    from goldenloop.serving.predictors.torches import load_exported

    return load_exported(folder / form.file, form, threads=threads)


def _mlflow(folder: Path, form: ServedForm, _name: str, _threads: int) -> Model:
    from goldenloop.serving.predictors.mlflow_folders import load_mlflow

    return load_mlflow(folder / form.file, form)


def _python(folder: Path, form: ServedForm, name: str, _threads: int) -> Loaded:
    from goldenloop.serving.predictors.code import load_code

    return load_code(folder, form, name=name)


def _onnx(folder: Path, form: ServedForm, _name: str, _threads: int) -> Model:
    raise RefusedError(f"a model of {form.loader} is scored in the inference workers", where=str(folder))


_LOADERS: dict[Loader, Callable[[Path, ServedForm, str, int], Loaded]] = {
    "onnx": _onnx,
    "skops": _skops,
    "pickle": _pickle,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "torchscript": _torchscript,
    "exported": _exported,
    "mlflow": _mlflow,
    "python": _python,
}
