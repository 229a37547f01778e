"""From what was found to a folder with `served.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from goldenloop.core.served import SERVED_FILE, Loader
from goldenloop.serving.formats import boosters, mlflow_folders, onnx_graphs, python_code, saved_estimators, torch_files
from goldenloop.serving.formats.found import Found, Made

_MAKERS: dict[Loader, Callable[[Found, Path], Made]] = {
    "onnx": onnx_graphs.make,
    "skops": saved_estimators.make,
    "pickle": saved_estimators.make,
    "xgboost": boosters.make,
    "lightgbm": boosters.make,
    "torchscript": torch_files.make,
    "exported": torch_files.make,
    "mlflow": mlflow_folders.make,
    "python": python_code.make,
}


def make_form(found: Found, out: Path) -> Made:
    """Make the served form in the folder `out`, which is made, or is empty. `served.json` is written last.

    Raises InvalidSpecError where the file is not what it seems, RefusedError where it cannot be served here.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = _MAKERS[found.loader](found, out)
    (out / SERVED_FILE).write_bytes(msgspec.json.encode(made.form))
    return made
