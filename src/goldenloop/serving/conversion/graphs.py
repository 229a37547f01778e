"""From a fitted estimator to a graph in the served form."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

from goldenloop.core.errors import RefusedError
from goldenloop.core.signatures import Signature
from goldenloop.serving.conversion.agreement import SERVE_MEND
from goldenloop.serving.conversion.constants import register_constants
from goldenloop.serving.conversion.estimators import Estimator, called
from goldenloop.serving.conversion.missing import carry_missing
from goldenloop.serving.conversion.rewriting import rewrite
from goldenloop.serving.conversion.wrappers import register_boosters
from goldenloop.serving.models import FEATURES

if TYPE_CHECKING:
    from onnx import ModelProto

_SPLIT_TAKES_SIZES = 13  # from this opset on the sizes are an input, before it an attribute
_OPSET_OF_BOOSTERS = {"": 18, "ai.onnx.ml": 3}  # their converters write no newer one


def graph_of(estimator: Estimator, signature: Signature) -> ModelProto:
    """Return the graph in the served form. Raises RefusedError that names the operator which cannot be converted."""
    prepared = copy.deepcopy(estimator)
    rewrite(prepared, set())
    is_matrix = all(column.kind == "number" for column in signature.inputs)
    try:
        graph = _translate(prepared, signature, by_column=not is_matrix)
    except RefusedError:
        if not is_matrix:
            raise
        # It picks columns by name: take them one by one and cut them out of the matrix.
        graph = _translate(prepared, signature, by_column=True)
        _cut_from_matrix(graph, signature)
    carry_missing(graph, prepared)
    name_outputs(graph, signature, has_probabilities=hasattr(estimator, "predict_proba"))
    return graph


def _translate(prepared: Estimator, signature: Signature, *, by_column: bool) -> ModelProto:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    register_constants()
    opset = _OPSET_OF_BOOSTERS if register_boosters() else None
    types = [(FEATURES, FloatTensorType([None, len(signature.inputs)]))]
    if by_column:
        kinds = {"number": FloatTensorType, "category": StringTensorType}
        types = [(column.name, kinds[column.kind]([None, 1])) for column in signature.inputs]
    options = {"zipmap": False} if signature.task == "classification" else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph: ModelProto = skl2onnx.convert_sklearn(
                prepared, initial_types=types, options=options, target_opset=opset
            )
    except Exception as error:  # the converter raises whatever it met
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise RefusedError(
            f"{called(prepared)} cannot be converted: {type(error).__name__}: {first[:300]}", mend=SERVE_MEND
        ) from error
    if by_column:
        _name_inputs(graph, signature)
    return graph


def _name_inputs(graph: ModelProto, signature: Signature) -> None:
    """Give the inputs the columns' own names, which the converter writes with underscores. They come in the order of the columns."""
    entries = list(graph.graph.input)
    if len(entries) != len(signature.inputs):
        raise RefusedError(
            f"the graph takes {len(entries)} of {len(signature.inputs)} columns",
            mend="Train the model without the columns it drops.",
        )
    # In two steps, since a name that was written may be the own name of another column.
    for stage in ("temporary", "final"):
        renamed = {
            entry.name: f"input of column {place}" if stage == "temporary" else column.name
            for place, (entry, column) in enumerate(zip(entries, signature.inputs, strict=True))
        }
        inner = {name for node in graph.graph.node for name in node.output}
        clash = inner & set(renamed.values())
        for node in graph.graph.node:
            node.input[:] = [renamed.get(name, f"{name} inside" if name in clash else name) for name in node.input]
            node.output[:] = [f"{name} inside" if name in clash else name for name in node.output]
        for entry in entries:
            entry.name = renamed[entry.name]
        for output in graph.graph.output:
            if output.name in clash:
                output.name = f"{output.name} inside"


def _cut_from_matrix(graph: ModelProto, signature: Signature) -> None:
    from onnx import TensorProto, helper

    names = list(signature.names)
    columns, ones = [f"{name} cut" for name in names], [1] * len(names)
    opset = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _SPLIT_TAKES_SIZES:
        split = helper.make_node("Split", [FEATURES], columns, axis=1, split=ones)
    else:
        sizes = helper.make_tensor("sizes of the columns", TensorProto.INT64, [len(names)], ones)
        graph.graph.initializer.append(sizes)
        split = helper.make_node("Split", [FEATURES, sizes.name], columns, axis=1)
    for node in graph.graph.node:
        node.input[:] = [f"{name} cut" if name in names else name for name in node.input]
    graph.graph.node.insert(0, split)
    del graph.graph.input[:]
    graph.graph.input.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [None, len(names)]))


def name_outputs(graph: ModelProto, signature: Signature, *, has_probabilities: bool) -> None:
    """Give the outputs their names in the served form; scores that are no probabilities are left out."""
    from onnx import helper

    wanted = ["predict", "probabilities"] if signature.task == "classification" and has_probabilities else ["predict"]
    outputs = list(graph.graph.output)[: len(wanted)]
    taken = {name for node in graph.graph.node for name in node.output} | {entry.name for entry in graph.graph.input}
    del graph.graph.output[:]
    for name, output in zip(wanted, outputs, strict=True):
        if output.name != name:
            if name in taken:
                for node in graph.graph.node:
                    node.input[:] = [f"{name} inside" if entry == name else entry for entry in node.input]
                    node.output[:] = [f"{name} inside" if entry == name else entry for entry in node.output]
            source = f"{name} inside" if output.name == name else output.name
            graph.graph.node.append(helper.make_node("Identity", [source], [name]))
            output.name = name
        graph.graph.output.append(output)
