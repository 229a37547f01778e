"""From what a version gave to what goes out: outputs of the Open Inference Protocol, predictions of V1."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.serving.classification import classified
from goldenloop.serving.dataplane import Answered
from goldenloop.serving.work import Document
from goldenloop.standards.open_inference.records import InferRequest
from goldenloop.standards.open_inference.table import labels_of, outputs_of
from goldenloop.standards.open_inference.tensors import Tensor


class Predicted(msgspec.Struct, frozen=True, eq=False):
    """The answer to a V1 request."""

    predictions: object
    answered: Answered
    document: Mapping[str, object] | None = None  # where the model gave a whole document


def outputs_of_answer(answered: Answered, request: InferRequest) -> list[Tensor]:
    """The outputs that a request asks for, or all. Raises InvalidSpecError for one that there is not."""
    result, scorer = answered.result, answered.scorer
    asked = None if request.outputs is None else [output.name for output in request.outputs]
    if scorer.signature is not None:
        assert isinstance(result, tuple)
        outputs = outputs_of(result, scorer.signature, asked)
    else:
        if isinstance(result, Document):
            made = tensors_of(result.content, "outputs")
        else:
            assert not isinstance(result, tuple)
            made = [Tensor.of_array(name, array) for name, array in result.items()]
        outputs = made if asked is None else picked(made, asked)
    if request.outputs is not None and any("classification" in output.parameters for output in request.outputs):
        return classified(outputs, request.outputs, scorer.signature)
    return outputs


def picked(made: list[Tensor], asked: list[str]) -> list[Tensor]:
    """The outputs of these names. Raises InvalidSpecError for one that there is not."""
    by_name = {tensor.name: tensor for tensor in made}
    for name in asked:
        if name not in by_name:
            raise InvalidSpecError(
                "there is no such output", where=f"outputs.{name}", mend=f"The model gives {', '.join(by_name)}."
            )
    return [by_name[name] for name in asked]


def predicted_of(answered: Answered) -> Predicted:
    """The answer to a V1 request: one element a row where rows are counted."""
    result, scorer = answered.result, answered.scorer
    if scorer.signature is not None:
        assert isinstance(result, tuple)
        if scorer.form.v1 == "scores":
            is_binary = len(scorer.signature.classes) == 2
            return Predicted([shares[1] if is_binary else shares for _, shares in result], answered)
        return Predicted(labels_of(result, scorer.signature), answered)
    if isinstance(result, Document):
        content = result.content
        if isinstance(content, Mapping) and "predictions" in content:
            return Predicted(content["predictions"], answered, content)
        return Predicted(content, answered)
    assert not isinstance(result, tuple)
    plain = {name: _json_of(name, array) for name, array in result.items()}
    if len(plain) == 1:
        return Predicted(next(iter(plain.values())), answered)
    if not scorer.form.batching:
        return Predicted(plain, answered)
    return Predicted([dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)], answered)


def _json_of(name: str, array: np.ndarray) -> list[object]:
    """An array as nested lists; texts as text."""
    if array.dtype.kind == "O":
        array = np.array(Tensor.of_array(name, array).json(), dtype=object).reshape(array.shape)
    nested: list[object] = array.tolist()
    return nested


def tensors_of(content: object, key: str) -> list[Tensor]:
    """Tensors of what a user's class gave: a document with `inputs` or `outputs`, arrays by name, or one array-like.

    Raises UnavailableError where they are none.
    """
    try:
        if isinstance(content, Mapping) and key in content:
            return [
                Tensor.of_array(each["name"], np.asarray(each["data"]).reshape(each.get("shape", -1)))
                if each.get("datatype") != "BYTES"
                else Tensor.of_array(
                    each["name"], np.asarray(each["data"], dtype=object).reshape(each.get("shape", -1))
                )
                for each in content[key]
            ]
        if isinstance(content, Mapping):
            if key == "outputs" and "predictions" in content:
                return [Tensor.of_array("output-0", np.asarray(content["predictions"]))]
            return [Tensor.of_array(str(name), np.asarray(value)) for name, value in content.items()]
        return [Tensor.of_array("output-0" if key == "outputs" else "input-0", np.asarray(content))]
    except (GoldenloopError, KeyError, TypeError, ValueError) as error:
        raise UnavailableError(
            f"the class gave no tensors: {error}", mend="Return a dict of name → array, or one array."
        ) from error


def listed(value: object) -> object:
    """Make JSON of arrays (a hook of the encoder). Raises TypeError for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
