"""PyTorch: exported programs (`*.pt2`) and TorchScript (`*.pt`), told apart by what is in the archive that either is.

What `torch.save` writes, a whole module or its weights, is a pickle that names Python classes which are not in the file: it is not served.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.json import JsonObject
from goldenloop.core.served import Datatype, Loader, ServedForm, TensorSpec
from goldenloop.serving.formats.batching import Arrays, try_out
from goldenloop.serving.formats.found import Found, Made, ends
from goldenloop.serving.predictors.loaders import load
from goldenloop.serving.predictors.server import Model

_ENDINGS = (".pt", ".pth", ".pt2", ".ts", ".torchscript")
_LARGEST_PROGRAM = 64 << 20  # bytes of the description of a program
# How programs of torch.export count their element types.
_DATATYPES: dict[int, Datatype] = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL",
}  # fmt: skip
_MEND = "Save torch.export.save(torch.export.export(module, example), 'model.pt2'), or torch.jit.script(module).save('model.pt')."


def find(folder: Path, names: Sequence[str]) -> list[Found]:
    """Files of the two kinds. Raises RefusedError for those that `torch.save` wrote."""
    found = []
    for name in names:
        if ends(name, *_ENDINGS):
            loader = _loader_of(folder / name)
            if loader is None:
                raise RefusedError(
                    "it is a pickle of a module or of weights, which needs the Python code that it was made by",
                    where=name,
                    mend=f"{_MEND} With code of your own, load it in a Python class (modelFormat: python).",
                )
            found.append(found_at(folder, name, loader))
    return found


def found_at(folder: Path, name: str, loader: Loader, *, called: str = "pytorch", version: str = "") -> Found:
    """The model in this file."""
    inputs, outputs, of_torch = _described(folder / name) if loader == "exported" else ((), (), "")
    return Found(
        format=called,
        loader=loader,
        folder=folder,
        file=name,
        files=(name,),
        also="pytorch",
        framework_version=version or of_torch,
        inputs=inputs,
        outputs=outputs,
    )


def make(found: Found, out: Path) -> Made:
    """Keep the file, once it was loaded as it will be served. Raises RefusedError where PyTorch is not installed, InvalidSpecError."""
    name = Path(found.file).name
    shutil.copyfile(found.path, out / name)
    form = ServedForm(
        form="tensors",
        runtime="process",
        loader=found.loader,
        format=found.format,
        framework_version=found.framework_version,
        file=name,
        inputs=found.inputs,
        outputs=found.outputs,
    )
    model = cast(Model, load(out, form, name="model", threads=1))
    if not found.inputs:
        note = "The file does not say which tensors the model takes: they are given to it as they come, in their order."
        return Made(form=form, notes=(note,))

    def score(arrays: Arrays) -> Arrays:
        given = model.score(len(next(iter(arrays.values()))), dict(arrays))
        return {output: np.asarray(array) for output, array in given.items()}

    batching, outputs = try_out(score, found.inputs, found.outputs)
    return Made(form=msgspec.structs.replace(form, batching=batching, outputs=outputs))


def _loader_of(path: Path) -> Loader | None:
    """Which of the two it is, None for a pickle. Raises InvalidSpecError for what is none of PyTorch's files."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if path.open("rb").read(2)[:1] == b"\x80":  # how pickles begin: what torch.save wrote before it wrote archives
            return None
        raise InvalidSpecError(f"not a file of PyTorch: {error}", where=path.name, mend=_MEND) from error
    if "archive_format" in inside or "models/model.json" in inside:
        return "exported"
    if any(name.startswith("code/") for name in inside) and "constants.pkl" in inside:
        return "torchscript"
    return None


def _described(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], str]:
    """The inputs, the outputs and PyTorch's version, as an exported program describes itself; nothing where it is not understood."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.partition("/")[2] == "models/model.json")
            if archive.getinfo(name).file_size > _LARGEST_PROGRAM:
                return (), (), ""
            program = cast(JsonObject, json.loads(archive.read(name)))
        module = cast("dict[str, dict]", program["graph_module"])  # type: ignore[type-arg]
        values = module["graph"]["tensor_values"]
        taken = [
            spec["user_input"]["arg"]["as_tensor"]["name"]
            for spec in module["signature"]["input_specs"]
            if "user_input" in spec
        ]
        given = [
            spec["user_output"]["arg"]["as_tensor"]["name"]
            for spec in module["signature"]["output_specs"]
            if "user_output" in spec
        ]
        names = _output_names(str(module["module_call_graph"][0]["signature"]["out_spec"]), len(given))
        inputs = tuple(_spec(name, values[name]) for name in taken)
        outputs = tuple(_spec(called or name, values[name]) for called, name in zip(names, given, strict=True))
        return inputs, outputs, str(program.get("torch_version", ""))
    except (KeyError, IndexError, TypeError, ValueError, StopIteration, zipfile.BadZipFile, OSError):
        return (), (), ""


def _output_names(spec: str, count: int) -> list[str]:
    """The keys, where the program gives a dictionary; otherwise nothing for each."""
    outer = json.loads(spec)[1]
    if outer.get("type") == "builtins.dict":
        keys = json.loads(outer["context"])
        if len(keys) == count and all(isinstance(key, str) for key in keys):
            return [str(key) for key in keys]
    return [""] * count


def _spec(name: str, value: JsonObject) -> TensorSpec:
    sizes = cast("list[JsonObject]", value["sizes"])
    shape = tuple(cast(int, size["as_int"]) if "as_int" in size else -1 for size in sizes)
    return TensorSpec(re.sub(r"\W", "_", name), _DATATYPES[cast(int, value["dtype"])], shape)
