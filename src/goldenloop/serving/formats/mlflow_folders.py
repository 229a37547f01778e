"""MLflow's model folders, by their file `MLmodel`. MLflow itself is needed only where the model is a Python function of its own.

The flavours are looked at in the order in which they can be served best: a graph, an estimator, a booster, and last the Python function,
whose folder runs code when it is loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.served import Datatype, ServedForm, TensorSpec
from goldenloop.serving.formats import boosters, onnx_graphs, saved_estimators, torch_files
from goldenloop.serving.formats.found import LARGEST_DOCUMENT, Found, Made

FILE = "MLmodel"
_COLUMN_TYPES: dict[str, Datatype] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_ELEMENT_TYPES: dict[str, Datatype] = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "str": "BYTES", "object": "BYTES",
}  # fmt: skip

_Entries = Mapping[str, object]


def find(folder: Path, names: Sequence[str]) -> list[Found]:
    """The model of a folder with an `MLmodel`. Raises InvalidSpecError where that is broken."""
    if FILE not in names:
        return []
    document = _read(folder / FILE)
    flavors = _entries(document.get("flavors"))
    columns = tuple(spec.name for spec in _specs(document, "inputs") if not _is_tensor(document, "inputs"))
    if entries := _entries(flavors.get("onnx")):
        return [onnx_graphs.found_at(folder, _file(folder, entries, "data"), called="mlflow")]
    if entries := _entries(flavors.get("sklearn")):
        version = str(entries.get("sklearn_version", ""))
        file = _file(folder, entries, "pickled_model")
        return [saved_estimators.found_at(folder, file, called="mlflow", version=version)]
    for kind, key in (("xgboost", "xgb_version"), ("lightgbm", "lgb_version")):
        if entries := _entries(flavors.get(kind)):
            file, version = _file(folder, entries, "data"), str(entries.get(key, ""))
            if file.endswith((".pkl", ".pickle", ".skops")):
                return [saved_estimators.found_at(folder, file, called="mlflow", also=kind, version=version)]
            return [boosters.found_at(folder, file, kind, called="mlflow", version=version, columns=columns)]
    if entries := _entries(flavors.get("pytorch")):
        programs = sorted(folder.glob("**/*.pt2"))
        if programs:
            file = programs[0].relative_to(folder).as_posix()
            version = str(entries.get("pytorch_version", ""))
            return [torch_files.found_at(folder, file, "exported", called="mlflow", version=version)]
    if _entries(flavors.get("python_function")):
        return [_found_function(folder, document)]
    raise InvalidSpecError(
        f"the folder has none of the flavours that are served, but {', '.join(map(str, flavors)) or 'none'}",
        where=FILE,
        mend="Log the model with one of onnx, sklearn, xgboost, lightgbm or python_function.",
    )


def make(found: Found, out: Path) -> Made:
    """Keep the folder, for a Python function that MLflow loads."""
    shutil.copytree(found.folder, out / "mlflow")
    form = ServedForm(
        form="tensors",
        runtime="process",
        loader="mlflow",
        format="mlflow",
        framework_version=found.framework_version,
        file="mlflow",
        inputs=found.inputs,
        outputs=found.outputs,
    )
    note = "A Python function of MLflow: it finds the packages of this installation, not those in its requirements.txt."
    return Made(form=form, notes=(note,))


def _found_function(folder: Path, document: _Entries) -> Found:
    files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    return Found(
        format="mlflow",
        loader="mlflow",
        folder=folder,
        file=FILE,
        files=files,
        pickles=files,  # which of them are run is up to MLflow and the flavour
        also="python_function",
        framework_version=str(document.get("mlflow_version", "")),
        inputs=_specs(document, "inputs"),
        outputs=_specs(document, "outputs"),
    )


def _read(path: Path) -> _Entries:
    import yaml

    try:
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise ValueError("it is too long")
        document = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _broken(str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise _broken("it names no flavors")
    return cast(_Entries, document)


def _broken(why: str) -> InvalidSpecError:
    return InvalidSpecError(
        f"not MLflow's description of a model: {why[:300]}", where=FILE, mend="Save the model anew."
    )


def _entries(value: object) -> _Entries:
    return cast(_Entries, value) if isinstance(value, dict) else {}


def _file(folder: Path, entries: _Entries, key: str) -> str:
    name = entries.get(key)
    if not isinstance(name, str) or not name:
        raise _broken(f"{key} is missing")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not (folder / name).is_file():
        raise _broken(f"{key} names {name[:200]!r}, which is not there")
    return name


def _is_tensor(document: _Entries, side: str) -> bool:
    specs = _signature(document, side)
    return bool(specs) and specs[0].get("type") == "tensor"


def _signature(document: _Entries, side: str) -> list[_Entries]:
    said = _entries(document.get("signature")).get(side)
    try:
        specs = json.loads(said) if isinstance(said, str) else []
    except ValueError as error:
        raise _broken(f"the signature's {side} are not JSON") from error
    return [_entries(spec) for spec in specs] if isinstance(specs, list) else []


def _specs(document: _Entries, side: str) -> tuple[TensorSpec, ...]:
    """The tensors of one side of the signature; none where it holds what is no tensor."""
    made = []
    for place, spec in enumerate(_signature(document, side)):
        name = str(spec.get("name") or ("predict" if side == "outputs" else f"input_{place}"))
        inner = _entries(spec.get("tensor-spec"))
        shape = inner.get("shape", [-1])
        datatype = _ELEMENT_TYPES.get(str(inner.get("dtype"))) if inner else _COLUMN_TYPES.get(str(spec.get("type")))
        if datatype is None or not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
            return ()
        made.append(TensorSpec(name, datatype, tuple(shape)))
    return tuple(made)
