"""Model files of every format for the tests of recognition and of examination."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from onnx import TensorProto, helper, save
from sklearn.linear_model import LogisticRegression

COLUMNS = ["price", "demand", "hour"]


def frame(rows: int = 400) -> pd.DataFrame:
    """Numbers, and what depends on them: `up` of two classes, `size` of three, `value`."""
    generator = np.random.default_rng(3)
    made = pd.DataFrame(generator.normal(size=(rows, 3)) * [1, 10, 100], columns=COLUMNS)
    made["up"] = (made["price"] + made["demand"] / 10 > 0).astype(int)
    made["size"] = np.digitize(made["price"], [-0.5, 0.5])
    made["value"] = made["price"] * 3 + made["hour"] / 50
    return made


def estimator() -> LogisticRegression:
    made = frame()
    return LogisticRegression().fit(made[COLUMNS], made["up"])


def write_onnx(path: Path, *, shape: tuple[object, ...] = ("rows", 3)) -> None:
    """Twice the input."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    taken = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(shape))
    node = helper.make_node("Add", ["x", "x"], ["y"])
    save(helper.make_model(helper.make_graph([node], "twice", [given], [taken]), ir_version=9), str(path))


def write_joblib(path: Path) -> None:
    joblib.dump(estimator(), path)


def write_skops(path: Path) -> None:
    import skops.io

    skops.io.dump(estimator(), path)


def write_xgboost(path: Path, objective: str = "binary:logistic", label: str = "up", **settings: object) -> None:
    import xgboost

    made = frame()
    rows = xgboost.DMatrix(made[COLUMNS], made[label])
    booster = xgboost.train({"objective": objective, "nthread": 1, **settings}, rows, num_boost_round=10)
    kind = "json" if path.suffix == ".json" else "ubj"
    path.write_bytes(bytes(booster.save_raw(kind)))


def write_lightgbm(path: Path, objective: str = "binary", label: str = "up", **settings: object) -> None:
    import lightgbm

    made = frame()
    rows = lightgbm.Dataset(made[COLUMNS], made[label])
    told = {"objective": objective, "verbosity": -1, "num_threads": 1, **settings}
    lightgbm.train(told, rows, num_boost_round=10).save_model(path)


def write_torchscript(path: Path) -> None:
    """What such an archive has inside, as far as recognition looks."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"):
            archive.writestr(name, b"3")


def write_torch_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02.")


def write_exported(path: Path) -> None:
    """An archive of torch.export, described as version 2.13 describes it."""
    size = {"as_expr": {"expr_str": "s0", "hint": {"as_int": 2}}}
    values = {
        "image": {"dtype": 7, "sizes": [size, {"as_int": 4}]},
        "l_weight": {"dtype": 7, "sizes": [{"as_int": 3}, {"as_int": 4}]},
        "softmax": {"dtype": 7, "sizes": [size, {"as_int": 3}]},
    }
    tensor: Callable[[str], dict[str, object]] = lambda name: {"arg": {"as_tensor": {"name": name}}}  # noqa: E731
    graph = {
        "graph": {"tensor_values": values},
        "signature": {
            "input_specs": [{"parameter": {"arg": {"name": "l_weight"}}}, {"user_input": tensor("image")}],
            "output_specs": [{"user_output": tensor("softmax")}],
        },
        "module_call_graph": [
            {"signature": {"out_spec": json.dumps([1, {"type": "builtins.dict", "context": '["scores"]'}])}}
        ],
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", b"pt2")
        archive.writestr("m/models/model.json", json.dumps({"graph_module": graph, "torch_version": "2.13.0"}))


def write_python(path: Path) -> None:
    path.write_text("class Doubler:\n    batching = True\n\n    def predict(self, payload):\n        return payload\n")


WRITERS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    # file → format, loader, and how it is written
    "model.onnx": ("onnx", "onnx", write_onnx),
    "model.skops": ("sklearn", "skops", write_skops),
    "model.joblib": ("sklearn", "pickle", write_joblib),
    "model.pkl": ("sklearn", "pickle", write_joblib),
    "model.bst": ("xgboost", "xgboost", write_xgboost),
    "model.json": ("xgboost", "xgboost", write_xgboost),
    "model.ubj": ("xgboost", "xgboost", write_xgboost),
    "model.txt": ("lightgbm", "lightgbm", write_lightgbm),
    "lightgbm.bst": ("lightgbm", "lightgbm", write_lightgbm),
    "model.pt": ("pytorch", "torchscript", write_torchscript),
    "model.pt2": ("pytorch", "exported", write_exported),
    "model.py": ("python", "python", write_python),
}


def mlflow_folder(folder: Path, flavors: str, *, signature: bool = False) -> Path:
    """A folder with an MLmodel as MLflow 3 writes it; `flavors` is the YAML below that word."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(f'{{"type": "double", "name": "{name}", "required": true}}' for name in ("a", "b", "c"))
    said = f"signature:\n  inputs: '[{columns}]'\n  outputs: '[{{\"type\": \"long\"}}]'\n  params: null\n"
    (folder / "MLmodel").write_text(f"flavors:\n{flavors}mlflow_version: 3.17.2\n{said if signature else ''}")
    (folder / "requirements.txt").write_text("mlflow==3.17.2\n")
    return folder
