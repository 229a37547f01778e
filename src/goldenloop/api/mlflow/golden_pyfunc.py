"""Loads a version of a loop as a Python function of MLflow. A copy of this file travels with the version's files and runs at the client:
it needs numpy, pandas and onnxruntime, and nothing of goldenloop.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
import onnxruntime
import pandas as pd


class GoldenModel:
    """A graph over named columns: one input `features` where all are numbers, otherwise one input a column."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._signature = json.loads((folder / "signature.json").read_text())
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def predict(self, model_input: object, params: object = None) -> np.ndarray:  # noqa: ARG002  MLflow gives it
        """The predictions of a data frame with the signature's columns, one for each row; classes as they were trained."""
        frame = pd.DataFrame(model_input)
        columns = self._signature["inputs"]
        missing = [column["name"] for column in columns if column["name"] not in frame]
        if missing:
            raise ValueError(f"the columns {', '.join(missing)} are missing")
        if all(column["kind"] == "number" for column in columns):
            names = [column["name"] for column in columns]
            feed = {"features": frame[names].to_numpy(dtype=np.float32)}
        else:
            feed = {column["name"]: self._values(frame[column["name"]], column["kind"]) for column in columns}
        predictions: np.ndarray = self._session.run(["predict"], feed)[0]
        return predictions.reshape(-1)

    @staticmethod
    def _values(column: pd.Series, kind: str) -> np.ndarray:
        if kind == "number":
            numbers: np.ndarray = column.to_numpy(dtype=np.float32)
            return numbers.reshape(-1, 1)
        texts = ["" if pd.isna(value) else value if isinstance(value, str) else _text(value) for value in column]
        return np.array(texts, dtype=object).reshape(-1, 1)


def _text(value: float | bool) -> str:
    """A category as the platform writes it: truths in small letters, whole numbers without a point."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(int(value)) if float(value).is_integer() else str(value)


def _load_pyfunc(path: str) -> GoldenModel:
    """What MLflow calls with the folder of the model."""
    return GoldenModel(pathlib.Path(path))
