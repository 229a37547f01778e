"""`recognise`: which model is in a folder, by names and first bytes. Nothing is loaded, and nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.ids import digest_file
from goldenloop.serving.formats import (
    boosters,
    mlflow_folders,
    onnx_graphs,
    python_code,
    saved_estimators,
    torch_files,
)
from goldenloop.serving.formats.found import Finder, Found, ends
from goldenloop.serving.predictors.trust import digest_folder

FORMATS: dict[str, Finder] = {
    "onnx": onnx_graphs.find,
    "sklearn": saved_estimators.find,
    "xgboost": boosters.find_xgboost,
    "lightgbm": boosters.find_lightgbm,
    "pytorch": torch_files.find,
    "mlflow": mlflow_folders.find,
    "python": python_code.find,
}
_ALSO_CALLED = {
    "scikit-learn": "sklearn",
    "torch": "pytorch",
    "torchscript": "pytorch",
    "custom": "python",
    "pyfunc": "mlflow",
}
# What others serve, and by which files it is known.
_NOT_SERVED = {
    "tensorflow": (".pb", ".tflite", ".h5", ".keras"),
    "tensorrt": (".plan", ".engine"),
    "triton": ("config.pbtxt",),
    "paddle": (".pdmodel", ".pdiparams"),
    "pmml": (".pmml",),
    "huggingface": (".safetensors", ".gguf"),
    "catboost": (".cbm",),
    "spark": (),
    "openvino_ir": (),
    "predictive": (),
    "vllm": (),
}
_DEEPEST = 4  # folders that hold nothing but another one
_MOST_FILES = 10_000


def recognise(
    folder: Path, *, said: str | None = None, class_name: str | None = None, trusted: frozenset[str] = frozenset()
) -> Found:
    """Return the one model in the folder. `said` is what the user calls its format, `class_name` which class of a Python file is meant.

    `trusted` are the SHA-256 digests of files (for a Python function of MLflow: of its folder) that may run code when they are loaded.

    Raises InvalidSpecError where no model is found, or several, or another than was said; RefusedError for a format that is not served,
    and for what runs code and is not trusted.
    """
    wanted = None if said is None else _known(said)
    inside = _inside(folder)
    found = _look(inside, _names(inside, deep=False), wanted, class_name)
    if not found:
        found = _look(inside, _names(inside, deep=True), wanted, class_name)
    if not found:
        raise _nothing(inside, wanted)
    if len(found) > 1:
        raise InvalidSpecError(
            f"there are several models: {', '.join(each.called for each in found[:8])}",
            where=str(folder),
            mend="Point at the file itself, or say modelFormat where they are of several formats.",
        )
    _check_trust(found[0], trusted)
    return found[0]


def _known(said: str) -> str:
    name = said.strip().lower()
    name = _ALSO_CALLED.get(name, name)
    if name in _NOT_SERVED:
        raise RefusedError(
            f"models of the format {said!r} are not served",
            where="modelFormat",
            mend="Export the model as ONNX, or load it in a Python class of your own (modelFormat: python).",
        )
    if name not in FORMATS:
        raise InvalidSpecError(
            f"the format {said!r} is not known",
            where="modelFormat",
            mend=f"Give one of {', '.join(FORMATS)}, or leave it out: the files tell.",
        )
    return name


def _inside(folder: Path) -> Path:
    """The folder, or the only one in it, as archives have it."""
    for _ in range(_DEEPEST):
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]
    return folder


def _names(folder: Path, *, deep: bool) -> list[str]:
    paths = folder.rglob("*") if deep else folder.iterdir()
    names = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in name.split("/")):
            names.append(name)
        if len(names) > _MOST_FILES:
            raise InvalidSpecError(
                "there are too many files", where=str(folder), mend="Point at the model's own folder."
            )
    return sorted(names)


def _look(folder: Path, names: Sequence[str], wanted: str | None, class_name: str | None) -> list[Found]:
    if wanted in (None, "mlflow") or mlflow_folders.FILE in names:
        found = mlflow_folders.find(folder, names)
        if found and wanted not in (None, "mlflow", found[0].also) and wanted != "python":
            raise _another(found, str(wanted))
        if found and wanted != "python":
            return found  # its files are its own
    found = []
    for name, find in FORMATS.items():
        if wanted is not None and name != wanted:
            continue
        if name == "python":
            found += python_code.find(folder, names, class_name=class_name)
        elif name != "mlflow":
            found += find(folder, names)
    if not found and wanted is not None:
        others = _look(folder, names, None, class_name)
        if others:
            raise _another(others, wanted)
    return found


def _another(found: Sequence[Found], wanted: str) -> InvalidSpecError:
    return InvalidSpecError(
        f"modelFormat says {wanted}, and the files are {', '.join(each.called for each in found[:8])}",
        where="modelFormat",
        mend="Say the format that the files are of, or leave it out.",
    )


def _nothing(folder: Path, wanted: str | None) -> InvalidSpecError | RefusedError:
    names = _names(folder, deep=True)
    for kind, endings in _NOT_SERVED.items():
        for name in names:
            if endings and ends(name, *endings):
                return RefusedError(
                    f"{name!r} is a model of {kind}, which is not served",
                    where=str(folder),
                    mend="Export it as ONNX, or load it in a Python class of your own (a file model.py).",
                )
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return InvalidSpecError(
        f"there is no model{f' of the format {wanted}' if wanted else ''} among {listed or 'no files'}",
        where=str(folder),
        mend="Models are *.onnx, *.skops, *.joblib, *.pkl, *.bst, *.ubj, *.json, *.txt, *.pt2, *.pt, MLmodel or model.py.",
    )


def _check_trust(found: Found, trusted: frozenset[str]) -> None:
    if not found.pickles:
        return
    if found.loader == "mlflow":
        digest, what = (
            digest_folder(found.folder),
            "the folder is a Python function of MLflow, which runs code when it is loaded",
        )
    else:
        digest, what = digest_file(found.path), f"{found.file!r} is a pickle, which can run any code when it is loaded"
    if digest not in trusted:
        raise RefusedError(
            f"{what}, and it is not trusted",
            where=found.file,
            mend=f"Save it as skops or ONNX; or, if you made it yourself, accept it with `goldenloop trust {digest}`.",
        )
