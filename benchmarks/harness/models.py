"""The models that every server serves, and the requests that it is asked with."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
from harness.load import GrpcRequest, Request

COLUMNS = 30


@dataclass(frozen=True, slots=True)
class Models:
    """Saved estimators, and the same in the form that we serve."""

    iris: Path  # files of joblib
    lightgbm: Path
    iris_served: Path  # folders
    lightgbm_served: Path
    iris_object: Path  # not converted


def make(folder: Path) -> Models:
    """Train, save and convert: logistic regression on Iris, and 100 trees over 30 columns."""
    import lightgbm
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    from goldenloop.serving.conversion import convert
    from goldenloop.serving.predictors.trust import sign_folder
    from goldenloop.serving.unconverted import keep_object

    rows, labels = load_iris(return_X_y=True, as_frame=True)
    rows.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    generator = np.random.default_rng(1)
    wide = pd.DataFrame(generator.normal(size=(2000, COLUMNS)), columns=[f"c{number}" for number in range(COLUMNS)])
    truth = (wide["c0"] + wide["c1"] * wide["c2"] > 0).astype(int).to_numpy()
    trees = lightgbm.LGBMClassifier(n_estimators=100, n_jobs=1, verbose=-1)
    folder.mkdir(parents=True)
    made = Models(*(folder / name for name in ("iris.joblib", "lightgbm.joblib", "iris", "lightgbm", "object")))
    joblib.dump(LogisticRegression(max_iter=500).fit(rows.to_numpy(), labels), made.iris)
    joblib.dump(trees.fit(wide.to_numpy(), truth), made.lightgbm)
    named = LogisticRegression(max_iter=500).fit(rows, labels)
    joblib.dump(named, folder / "iris_named.joblib")
    joblib.dump(
        lightgbm.LGBMClassifier(n_estimators=100, n_jobs=1, verbose=-1).fit(wide, truth), folder / "trees_named.joblib"
    )
    iris = pa.Table.from_pandas(rows.assign(label=labels), preserve_index=False)
    with contextlib.redirect_stdout(io.StringIO()):  # the converter of trees says a line
        convert(folder / "iris_named.joblib", iris, label="label", out=made.iris_served)
        table = pa.Table.from_pandas(wide.assign(label=truth), preserve_index=False)
        convert(folder / "trees_named.joblib", table, label="label", out=made.lightgbm_served)
    keep_object(
        folder / "iris_named.joblib",
        iris,
        label="label",
        ignore=frozenset(),
        why="to be compared",
        out=made.iris_object,
    )
    sign_folder(made.iris_object, b"k" * 32)
    return made


def rows_of(columns: int, count: int) -> np.ndarray:
    """The rows that are asked for."""
    return np.random.default_rng(7).normal(size=(count, columns)).round(4)


def v1(name: str, rows: np.ndarray) -> Request:
    """As JSON of the first protocol."""
    return Request(f"/v1/models/{name}:predict", json.dumps({"instances": rows.tolist()}).encode())


def v2_json(name: str, rows: np.ndarray) -> Request:
    """As JSON of the second protocol, all rows in one tensor."""
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return Request(f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}).encode())


def bento(name: str, rows: np.ndarray) -> Request:
    """As BentoML takes an argument `rows`."""
    return Request(f"/{name}", json.dumps({"rows": rows.tolist()}).encode())


def v2_binary(name: str, rows: np.ndarray) -> Request:
    """As raw bytes of the second protocol, answered so."""
    raw = rows.astype("<f8").tobytes()
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = (("content-type", "application/octet-stream"), ("inference-header-content-length", str(len(head))))
    return Request(f"/v2/models/{name}/infer", head + raw, headers)


def grpc(name: str, rows: np.ndarray) -> GrpcRequest:
    """As raw bytes over gRPC."""
    from goldenloop.standards.open_inference.messages import MESSAGES, SERVICE

    tensor = {"name": "x", "datatype": "FP64", "shape": list(rows.shape)}
    body = MESSAGES.write(
        "ModelInferRequest", model_name=name, inputs=[tensor], raw_input_contents=[rows.astype("<f8").tobytes()]
    )
    return GrpcRequest(f"/{SERVICE}/ModelInfer", body)
