"""Models of tensors in this process: an ONNX graph whose inputs and outputs are whatever they are (images, texts, embeddings)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.served import ServedForm, TensorSpec
from goldenloop.serving.work import Arrays, TensorWork
from goldenloop.standards.open_inference.records import InferRequest
from goldenloop.standards.open_inference.tensors import DTYPES, Array

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class TensorGraph:
    """One graph, loaded. It holds no state that a request changes."""

    def __init__(self, form: ServedForm, session: InferenceSession) -> None:
        self._run = session.run
        self._texts = {spec.name for spec in form.inputs if spec.datatype == "BYTES"}
        self._outputs = [output.name for output in session.get_outputs()]

    def score(self, work: TensorWork) -> Arrays:
        """Run the graph. Raises UnavailableError when it fails."""
        feed = {name: _as_texts(array) if name in self._texts else array for name, array in work.arrays.items()}
        try:
            given = self._run(self._outputs, feed)
        except Exception as error:  # the runtime's errors share no parent with a name
            raise UnavailableError(f"the model failed: {str(error)[:500]}") from error
        return dict(zip(self._outputs, map(np.asarray, given), strict=True))


def load_graph(folder: Path, form: ServedForm) -> TensorGraph:
    """Load the graph of a served form. Raises UnavailableError where it is not there, InvalidSpecError where it cannot be read."""
    from goldenloop.serving.models import open_session

    return TensorGraph(form, open_session(folder / form.file))


def work_of(form: ServedForm, tensors: Mapping[str, Array], *, batching: bool) -> TensorWork:
    """Check tensors against what a model takes, bring them to its datatypes, and count their rows.

    A model with one input takes it by any name. A form that names no inputs takes everything. Raises InvalidSpecError.
    """
    if not form.inputs:
        return TensorWork(_rows(tensors) if batching else 1, tensors)
    if len(form.inputs) == 1 and len(tensors) == 1:
        arrays = {form.inputs[0].name: _fitting(form.inputs[0], next(iter(tensors.values())))}
    else:
        wanted = {spec.name: spec for spec in form.inputs}
        missing, unknown = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
        if missing or unknown:
            what = (
                f"there is no input {sorted(unknown)[0]!r}" if unknown else f"input {sorted(missing)[0]!r} is missing"
            )
            raise InvalidSpecError(what, where="inputs", mend=f"The model takes {', '.join(wanted)}.")
        arrays = {name: _fitting(spec, tensors[name]) for name, spec in wanted.items()}
    return TensorWork(_rows(arrays) if batching else 1, arrays)


def arrays_of(request: InferRequest) -> dict[str, Array]:
    """Return the inputs of a request by name. Raises InvalidSpecError."""
    if not request.inputs:
        raise InvalidSpecError("there is no input tensor", where="inputs", mend="Send the model's inputs.")
    arrays: dict[str, Array] = {}
    for tensor in request.inputs:
        if tensor.name in arrays:
            raise InvalidSpecError("the tensor is there twice", where=tensor.where, mend="Send each input once.")
        arrays[tensor.name] = tensor.array()
    return arrays


def _fitting(spec: TensorSpec, array: Array) -> Array:
    where = f"inputs.{spec.name}"
    wanted = spec.shape
    if len(wanted) != array.ndim or any(
        size not in (-1, given) for size, given in zip(wanted, array.shape, strict=True)
    ):
        raise InvalidSpecError(
            f"the tensor has the shape {list(array.shape)}, the model takes {list(wanted)}",
            where=where,
            mend="Send a tensor of this shape; -1 is any size.",
        )
    if spec.datatype == "BYTES":
        if array.dtype != object:
            raise InvalidSpecError("the model takes texts", where=where, mend="Send the datatype BYTES.")
        return array
    dtype = np.dtype(DTYPES[spec.datatype])
    if array.dtype == dtype:
        return array
    # Among numbers of one kind, and from whole to floating ones, nothing that a model could tell is lost.
    kinds = (array.dtype.kind, dtype.kind)
    if kinds not in {
        ("f", "f"),
        ("i", "i"),
        ("u", "u"),
        ("u", "i"),
        ("i", "u"),
        ("i", "f"),
        ("u", "f"),
        ("b", "i"),
        ("b", "u"),
    }:
        raise InvalidSpecError(
            f"the tensor is of {array.dtype}, the model takes {spec.datatype}",
            where=where,
            mend=f"Send the datatype {spec.datatype}.",
        )
    if kinds[1] in "iu" and array.size:
        bounds = np.iinfo(dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise InvalidSpecError(f"a value does not fit into {spec.datatype}", where=where, mend="Send smaller ones.")
    return array.astype(dtype)


def _rows(arrays: Mapping[str, Array]) -> int:
    sizes = {array.shape[0] if array.ndim else 1 for array in arrays.values()}
    if len(sizes) != 1:
        raise InvalidSpecError(
            f"the tensors have {', '.join(map(str, sorted(sizes)))} rows",
            where="inputs",
            mend="Send as many rows in each tensor: the first size of each shape.",
        )
    return sizes.pop()


def _as_texts(array: Array) -> Array:
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise UnavailableError("a text is not UTF-8, and the graph takes texts", mend="Send texts as UTF-8.") from error
    return texts.reshape(array.shape)
