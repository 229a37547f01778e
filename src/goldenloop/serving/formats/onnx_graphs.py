"""ONNX graphs: of tensors as they are, or of a table where `signature.json` lies beside (what this platform itself writes)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.served import Datatype, ServedForm, TensorSpec
from goldenloop.serving.formats.batching import Arrays, try_out
from goldenloop.serving.formats.found import Found, Made, ends
from goldenloop.serving.models import GRAPH_FILE, SIGNATURE_FILE, load, open_session, read_signature

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto
    from onnxruntime import InferenceSession

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_DEEPEST = 32  # graphs inside graphs


def find(folder: Path, names: Sequence[str]) -> list[Found]:
    """`*.onnx`, each with the weights that it keeps in files of its own."""
    return [found_at(folder, name) for name in names if ends(name, ".onnx")]


def found_at(folder: Path, name: str, *, called: str = "onnx") -> Found:
    """The graph in this file."""
    files = [name]
    if name == GRAPH_FILE and (folder / SIGNATURE_FILE).is_file():
        files.append(SIGNATURE_FILE)
    return Found(format=called, loader="onnx", folder=folder, file=name, files=tuple(files), also="onnx")


def make(found: Found, out: Path) -> Made:
    """Bring it into `out`. Raises InvalidSpecError for what is no graph, RefusedError for what cannot be served."""
    if SIGNATURE_FILE in found.files:
        return _make_table(found, out)
    model = _read(found.path)
    notes = _strip_maps(model)
    (out / GRAPH_FILE).write_bytes(model.SerializeToString())
    for name in _weights_of(model, found):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.path.parent / name, out / name)
    session = open_session(out / GRAPH_FILE)
    inputs, outputs = _specs(session, model, found)

    def score(arrays: Arrays) -> Arrays:
        names = [spec.name for spec in outputs]
        given = session.run(names, dict(arrays))
        return dict(zip(names, map(np.asarray, given), strict=True))

    batching, outputs = try_out(score, inputs, outputs)
    form = ServedForm(
        form="tensors",
        runtime="onnx",
        loader="onnx",
        format=found.format,
        framework_version=found.framework_version or f"{model.producer_name} {model.producer_version}".strip(),
        inputs=inputs,
        outputs=outputs,
        batching=batching,
    )
    return Made(form=form, notes=tuple(notes))


def _make_table(found: Found, out: Path) -> Made:
    for name in (GRAPH_FILE, SIGNATURE_FILE):
        shutil.copyfile(found.folder / name, out / name)
    _weights_of(_read(out / GRAPH_FILE), found, may_have=False)
    load(out)
    signature = read_signature(out)
    form = ServedForm(
        form="table", runtime="onnx", loader="onnx", format=found.format, signature=signature, batching=True
    )
    return Made(form=form)


def _read(path: Path) -> ModelProto:
    import onnx

    try:
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # the parser's errors share no parent with a name
        raise _broken(path, str(error)) from error
    if not model.graph.output:
        raise _broken(path, "it has no outputs")
    return model


def _broken(path: Path, why: str) -> InvalidSpecError:
    return InvalidSpecError(f"not an ONNX model: {why[:300]}", where=path.name, mend="Save the model as ONNX anew.")


def _weights_of(model: ModelProto, found: Found, *, may_have: bool = True) -> list[str]:
    """The files beside the graph that hold its weights. Raises RefusedError where one lies elsewhere, InvalidSpecError where none is."""
    places = {
        entry.value for tensor in _tensors(model.graph) for entry in tensor.external_data if entry.key == "location"
    }
    for place in sorted(places):
        path = PurePosixPath(place)
        inside = found.path.parent / place
        if path.is_absolute() or ".." in path.parts or "\\" in place or not may_have or inside.is_symlink():
            raise RefusedError(
                f"the graph wants weights from {place[:200]!r}",
                where=found.file,
                mend="Keep them in the model's folder.",
            )
        if place in (GRAPH_FILE, SIGNATURE_FILE, "served.json") or not inside.is_file():
            raise InvalidSpecError(
                f"the weights {place[:200]!r} are not there", where=found.file, mend="Put them beside the graph."
            )
    return sorted(places)


def _tensors(graph: GraphProto, depth: int = 0) -> Iterator[TensorProto]:
    """All tensors that are kept in a graph and in those inside it."""
    if depth > _DEEPEST:
        raise RefusedError("graphs lie too deep in one another", mend="Simplify the graph.")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner, depth + 1)


def _strip_maps(model: ModelProto) -> list[str]:
    """Give the scores themselves where the graph gives a list of maps from class to score, which is no tensor."""
    notes = []
    for node in [node for node in model.graph.node if node.op_type == "ZipMap"]:
        for output in model.graph.output:
            if output.name == node.output[0]:
                from onnx import TensorProto, helper

                scores = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None)
                position = list(model.graph.node).index(node)
                identity = helper.make_node("Identity", [node.input[0]], [output.name])
                model.graph.node.remove(node)
                model.graph.node.insert(position, identity)
                output.CopyFrom(scores)
                notes.append(f"The output {scores.name!r} is a tensor of scores, not a list of maps.")
                break
    return notes


def _specs(
    session: InferenceSession, model: ModelProto, found: Found
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    ranks = {entry.name: entry.type.tensor_type.HasField("shape") for entry in model.graph.input}
    inputs = []
    for entry in session.get_inputs():
        if not ranks.get(entry.name, True):
            raise RefusedError(
                f"the input {entry.name!r} does not say how many dimensions it has",
                where=found.file,
                mend="Export the model with shapes of its inputs.",
            )
        inputs.append(_spec(entry.name, entry.type, entry.shape, found))
    outputs = [_spec(entry.name, entry.type, entry.shape, found) for entry in session.get_outputs()]
    return tuple(inputs), tuple(outputs)


def _spec(name: str, kind: str, shape: Sequence[object], found: Found) -> TensorSpec:
    if kind not in _DATATYPES:
        raise RefusedError(
            f"{name!r} is a {kind}, which no protocol carries",
            where=found.file,
            mend="Export the model with plain tensors as inputs and outputs.",
        )
    sizes = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in shape)
    return TensorSpec(name, _DATATYPES[kind], sizes)
