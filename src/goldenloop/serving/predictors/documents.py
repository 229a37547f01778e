"""What a user's class takes and gives, in the terms of the two protocols.

For V1 an answer is a document with `predictions` or `explanations`, or just what stands in it. For V2 it is a document with `outputs`, or
arrays by name, or one array.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from goldenloop.serving.predictors.wire import Array

_DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


def is_v2(payload: object) -> bool:
    """Whether a payload is one of the second protocol."""
    return isinstance(payload, Mapping) and "inputs" in payload and "instances" not in payload


def answer_of(result: object, *, v2: bool, names: Sequence[str]) -> object:
    """Return the document of an answer; `names` are those of the outputs, where they are known. Raises TypeError."""
    if not v2:
        if isinstance(result, Mapping) and ("predictions" in result or "explanations" in result or "error" in result):
            return result
        return {"predictions": result}
    if isinstance(result, Mapping):
        if "outputs" in result:
            given = result["outputs"]
            if isinstance(given, Mapping):
                return {**result, "outputs": [_output(str(name), part) for name, part in given.items()]}
            return {**result, "outputs": [_output_of(part, place, names) for place, part in enumerate(given)]}
        return {"outputs": [_output(str(name), part) for name, part in result.items()]}
    return {"outputs": [_output(names[0] if names else "output-0", result)]}


def kserve_request(payload: object) -> object:
    """Return a V2 payload as KServe's `InferRequest`."""
    kserve = sys.modules["kserve"]
    document = cast("Mapping[str, object]", payload)
    inputs = []
    for entry in cast("Sequence[Mapping[str, object]]", document["inputs"]):
        one = kserve.InferInput(entry["name"], list(cast("Sequence[int]", entry["shape"])), entry["datatype"])
        one.set_data_from_numpy(np.asarray(entry["data"]), binary_data=False)
        inputs.append(one)
    return kserve.InferRequest(
        model_name=document.get("model_name", ""),
        infer_inputs=inputs,
        request_id=document.get("id"),
        parameters=document.get("parameters"),
    )


def kserve_answer(result: object) -> object:
    """Return what a KServe model gave, in plain terms."""
    kserve = sys.modules["kserve"]
    if isinstance(result, kserve.InferResponse):
        return {"outputs": {output.name: output.as_numpy() for output in result.outputs}}
    if isinstance(result, kserve.InferRequest):
        return {
            "inputs": [
                {"name": one.name, "shape": list(one.shape), "datatype": one.datatype, "data": one.as_numpy()}
                for one in result.inputs
            ]
        }
    return result


def _output_of(part: object, place: int, names: Sequence[str]) -> dict[str, object]:
    if not isinstance(part, Mapping) or "data" not in part:
        raise TypeError(f"outputs[{place}] is no mapping with name and data")
    name = str(part.get("name", names[place] if place < len(names) else f"output-{place}"))
    made = _output(name, part["data"])
    if "shape" in part:
        shape = [int(size) for size in cast("Sequence[int]", part["shape"])]
        made["data"] = cast(Array, made["data"]).reshape(shape)
        made["shape"] = shape
    for kept in ("datatype", "parameters"):
        if kept in part:
            made[kept] = part[kept]
    return made


def _output(name: str, value: object) -> dict[str, object]:
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype == object and not all(isinstance(item, str | bytes | None | bool) for item in array.reshape(-1)):
        raise TypeError(f"the output {name!r} is no array: its rows differ in length or hold objects")
    datatype = "BYTES" if array.dtype == object else _DATATYPES.get(array.dtype.name)
    if datatype is None:
        raise TypeError(f"the output {name!r} is an array of {array.dtype}, which does not travel")
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array}
