"""The served form of a model version: a folder that says, in `served.json`, what is in it and who can score it.

Control makes such folders (in job processes), inference workers and predictor processes read them. A folder without `served.json` and with
`signature.json` and `model.onnx` is of the form `table`, runtime `onnx`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.signatures import Signature

SERVED_FILE = "served.json"

Form = Literal["table", "tensors", "code"]
Runtime = Literal["onnx", "process"]
Loader = Literal[
    "onnx", "skops", "pickle", "xgboost", "lightgbm", "torchscript", "exported", "mlflow", "python"
]  # `exported`: a program of torch.export
Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]


class TensorSpec(msgspec.Struct, frozen=True):
    """One tensor that a model takes or gives; -1 in a shape is any size."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class ServedForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is in a folder.

    `table`: rows of named columns, described by `signature`; the answers are `predict` and, for a classifier, `probabilities`.
    `tensors`: any tensors, described by `inputs` and `outputs`. `code`: a class of the user's own, which takes whatever comes.

    `batching` says whether the rows of several requests may be scored in one call (the first dimension of every tensor counts rows).
    `file` is the model's file or folder, relative; `python` the interpreter that loads it, where it is not our own. `v1` is what a
    classifier's table gives over the V1 protocol, which has room for one value a row.
    """

    form: Form
    runtime: Runtime
    loader: Loader
    format: str = ""  # what it was before: "sklearn", "xgboost", …
    framework_version: str = ""
    file: str = "model.onnx"
    signature: Signature | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    batching: bool = False
    v1: Literal["classes", "scores"] = "classes"
    python: str | None = None
    class_name: str | None = None  # of loader `python`, where the file has several
