"""Rows of a table in the Open Inference Protocol: from tensors to the columns of a signature, and from answers back to tensors.

Columns come as one tensor [n, k] in the signature's order, or as one tensor [n] or [n, 1] a column, by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.served import Datatype, TensorSpec
from goldenloop.core.signatures import Signature
from goldenloop.standards.open_inference.records import InferRequest, ModelMetadata
from goldenloop.standards.open_inference.rest import V1Request
from goldenloop.standards.open_inference.tensors import LARGEST_BATCH, Array, Tensor, untyped
from goldenloop.standards.tabular import Batch, Layout

Answer: TypeAlias = tuple[str | float, tuple[float, ...]]

_CLASS_DATATYPES: dict[str, Datatype] = {"text": "BYTES", "integer": "INT64", "number": "FP64", "boolean": "BOOL"}


def rows_of_v2(request: InferRequest, layout: Layout, *, also: frozenset[str] = frozenset()) -> Batch:
    """Make rows of a V2 request; `also` names columns that may be there and are left out. Raises InvalidSpecError."""
    inputs = request.inputs
    if not inputs:
        raise InvalidSpecError(
            "there is no input tensor", where="inputs", mend="Send one tensor [n, k], or one a column."
        )
    if len(inputs) == 1:
        tensor = inputs[0]
        shape = _shape(tensor)
        if len(shape) == 2 and (shape[1] != 1 or layout.width == 1):
            if shape[1] != layout.width:
                raise InvalidSpecError(
                    f"the tensor has the shape {list(tensor.shape)}, the model takes [n, {layout.width}]",
                    where=tensor.where,
                    mend=f"Send the columns {', '.join(layout.names)} in this order.",
                )
            return layout.from_matrix(tensor.values().reshape(shape), where=tensor.where)
        if layout.width == 1:
            return layout.from_matrix(tensor.values().reshape(-1, 1), where=tensor.where)
        if len(shape) == 1 and shape[0] == layout.width and tensor.name not in layout.names:
            raise InvalidSpecError(
                f"the tensor has the shape {list(tensor.shape)}, the model takes [n, {layout.width}]",
                where=tensor.where,
                mend=f"For one row send the shape [1, {layout.width}].",
            )
    columns: dict[str, Array] = {}
    for tensor in inputs:
        shape = _shape(tensor)
        if len(shape) == 2 and shape[1] != 1:
            raise InvalidSpecError(
                f"the tensor has the shape {list(tensor.shape)}, one column has [n] or [n, 1]",
                where=tensor.where,
                mend=f"Send one tensor a column, or one tensor [n, {layout.width}] alone.",
            )
        if tensor.name in columns:
            raise InvalidSpecError("the tensor is there twice", where=tensor.where, mend="Send each column once.")
        columns[tensor.name] = tensor.values()
    return layout.from_columns(columns, where="inputs", also=also)


def rows_of_v1(request: V1Request, layout: Layout, *, also: frozenset[str] = frozenset()) -> Batch:
    """Make rows of a V1 request; `also` names columns that may be there and are left out. Raises InvalidSpecError."""
    where = request.where
    numbers = request.numbers
    if numbers and layout.is_all_numbers and len(numbers) <= LARGEST_BATCH and {*map(len, numbers)} == {layout.width}:
        return layout.from_numbers(numbers, where=where)
    given = untyped(request.content, where)
    if isinstance(given, dict) and where == "inputs":
        return layout.from_columns(
            {name: _column(values, f"inputs.{name}") for name, values in given.items()}, where=where, also=also
        )
    if not isinstance(given, list) or not given or len(given) > LARGEST_BATCH:
        raise InvalidSpecError(
            f"a list of 1 to {LARGEST_BATCH} rows must be there",
            where=where,
            mend="Send each row as a list, or as an object by column name.",
        )
    return layout.from_rows(given, where=where, also=also)


def outputs_of(answers: Sequence[Answer], signature: Signature, asked: Sequence[str] | None) -> list[Tensor]:
    """Return the outputs that were asked for, or all. Raises InvalidSpecError for one that there is not."""
    names = output_names(signature, has_probabilities=bool(answers and answers[0][1]))
    made: list[Tensor] = []
    for name in asked or names:
        if name == "predict":
            labels: list[object] = [*labels_of(answers, signature)]
            made.append(Tensor("predict", _label_datatype(signature), (len(labels),), labels))
        elif name in names:
            shares: list[object] = [share for answer in answers for share in answer[1]]
            made.append(Tensor(name, "FP32", (len(answers), len(signature.classes)), shares))
        else:
            raise InvalidSpecError(
                "there is no such output", where=f"outputs.{name}", mend=f"The model gives {', '.join(names)}."
            )
    return made


def labels_of(answers: Sequence[Answer], signature: Signature) -> list[str | float | int | bool]:
    """Return the class or the value of each row as it is written on the wire."""
    labels = [answer[0] for answer in answers]
    if signature.task == "regression" or signature.class_kind == "text":
        return list(labels)
    if signature.class_kind == "integer":
        return [int(label) for label in labels]
    if signature.class_kind == "number":
        return [float(label) for label in labels]
    return [label == "true" for label in labels]


def output_names(signature: Signature, *, has_probabilities: bool = True) -> tuple[str, ...]:
    """The outputs that a model with this signature gives."""
    return ("predict", "probabilities") if signature.task == "classification" and has_probabilities else ("predict",)


def check_outputs(request: InferRequest, signature: Signature) -> None:
    """Raise InvalidSpecError where a request asks for an output that there is not."""
    names = output_names(signature)
    for asked in request.outputs or ():
        if asked.name not in names:
            raise InvalidSpecError(
                "there is no such output", where=f"outputs.{asked.name}", mend=f"The model gives {', '.join(names)}."
            )


def metadata_of(signature: Signature, *, name: str, versions: tuple[str, ...], platform: str) -> ModelMetadata:
    """What a model takes and gives: one tensor a column (one tensor [n, k] in their order is taken as well)."""
    outputs = [TensorSpec("predict", _label_datatype(signature), (-1,))]
    if signature.task == "classification":
        outputs.append(TensorSpec("probabilities", "FP32", (-1, len(signature.classes))))
    inputs = tuple(
        TensorSpec(column.name, "FP64" if column.kind == "number" else "BYTES", (-1, 1)) for column in signature.inputs
    )
    return ModelMetadata(name, versions, platform, inputs, tuple(outputs))


def _label_datatype(signature: Signature) -> Datatype:
    return "FP64" if signature.task == "regression" else _CLASS_DATATYPES[signature.class_kind]


def _shape(tensor: Tensor) -> tuple[int, ...]:
    shape = tensor.shape
    if not 1 <= len(shape) <= 2 or any(size < 1 for size in shape) or shape[0] > LARGEST_BATCH:
        raise InvalidSpecError(
            f"the tensor has the shape {list(shape[:8])}",
            where=tensor.where,
            mend=f"Send [n, k], [n, 1] or [n] with n from 1 to {LARGEST_BATCH}.",
        )
    if math.prod(shape) > 1 << 28:
        raise InvalidSpecError(
            f"the tensor has {math.prod(shape)} values", where=tensor.where, mend="Send fewer rows at a time."
        )
    return shape


def _column(values: object, where: str) -> Array:
    if not isinstance(values, list) or not 1 <= len(values) <= LARGEST_BATCH:
        raise InvalidSpecError(
            "a column is a list of values", where=where, mend=f"Send a list of 1 to {LARGEST_BATCH} values."
        )
    made = np.empty(len(values), dtype=object)
    made[:] = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    return made
