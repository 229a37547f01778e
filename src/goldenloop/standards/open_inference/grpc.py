"""The Open Inference Protocol over gRPC: messages ↔ records.

Values come in one of two ways, all of a request in the same: raw bytes of each tensor, in the order of the tensors, or typed lists within
them. They are answered in the same way. Raw bytes of large requests are looked at where they lie and not copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.open_inference.messages import MESSAGES
from goldenloop.standards.open_inference.records import AskedOutput, InferRequest, InferResponse
from goldenloop.standards.open_inference.tensors import DTYPES, Array, Parameters, Tensor

LARGE: Final = 16 * 1024  # bytes of a message from which its raw tensors are not copied
_MOST_DIMENSIONS: Final = 32
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
    "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_LENGTH_DELIMITED: Final = 2
_RAW_INPUT: Final = 7 << 3 | _LENGTH_DELIMITED
_MODEL_NAME, _MODEL_VERSION, _ID, _OUTPUT, _RAW_OUTPUT = (number << 3 | _LENGTH_DELIMITED for number in (1, 2, 3, 5, 6))
_INFER_RESPONSE: Final = 2 << 3 | _LENGTH_DELIMITED


class Parameter:
    """What is read of an `InferParameter`."""

    def WhichOneof(self, group: str) -> str | None:  # the library's name
        """The field that is set."""
        raise NotImplementedError


class _Tensor:
    name: str
    datatype: str
    shape: Sequence[int]
    parameters: Mapping[str, Parameter]
    contents: object

    def HasField(self, name: str) -> bool:  # the library's name
        raise NotImplementedError


class _Asked:
    name: str
    parameters: Mapping[str, Parameter]


class _Request:
    model_name: str
    model_version: str
    id: str
    parameters: Mapping[str, Parameter]
    inputs: Sequence[_Tensor]
    outputs: Sequence[_Asked]
    raw_input_contents: Sequence[bytes]


class GrpcRequest(InferRequest):
    """A request as it came over gRPC; `wants_raw` says that its values were raw, and so are to be those of the answer."""

    __slots__ = ("wants_raw",)
    wants_raw: bool


def read_infer(content: bytes | bytearray) -> GrpcRequest:
    """Read a ModelInferRequest. Raises InvalidSpecError."""
    raws: Sequence[bytes | memoryview] | None = None
    if len(content) >= LARGE:
        content, raws = _lifted(content)
    message = MESSAGES.read(content, "ModelInferRequest", _Request)
    if raws is None:
        raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        raise InvalidSpecError(
            f"there are {len(message.inputs)} tensors and {len(raws)} raw contents",
            where="raw_input_contents",
            mend="Send one for each tensor, in their order, or none.",
        )
    inputs = [_input(tensor, raws[place] if raws else None) for place, tensor in enumerate(message.inputs)]
    request = GrpcRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=_parameters(message.parameters),
        inputs=inputs,
        outputs=[AskedOutput(asked.name, _parameters(asked.parameters)) for asked in message.outputs] or None,
    )
    request.wants_raw = bool(raws) or not inputs
    return request


def write_infer(response: InferResponse, *, raw: bool) -> bytes:
    """Write a ModelInferResponse. Values that have no typed form (FP16) make all of them raw."""
    raw = raw or any(tensor.datatype not in _CONTENTS for tensor in response.outputs)
    if response.parameters or any(tensor.parameters for tensor in response.outputs) or not raw:
        return MESSAGES.write("ModelInferResponse", **_fields(response, raw=raw))
    # Written by hand: the description of an output is the same bytes again and again.
    parts = [
        _field(_MODEL_NAME, response.model_name.encode()),
        _field(_MODEL_VERSION, response.model_version.encode()),
        _field(_ID, response.id.encode()),
    ]
    parts += [_description(tensor.name, tensor.datatype, tensor.shape) for tensor in response.outputs]
    for tensor in response.outputs:
        values = tensor.raw()
        parts += [_prefix(_RAW_OUTPUT, len(values)), values]
    return b"".join(parts)


def write_stream(response: InferResponse, *, raw: bool) -> bytes:
    """Write a ModelStreamInferResponse that holds an answer."""
    return _field(_INFER_RESPONSE, write_infer(response, raw=raw))


def write_stream_error(text: str, request: InferRequest | None) -> bytes:
    """Write a ModelStreamInferResponse that says what went wrong, and of which request."""
    named = {} if request is None else {"infer_response": {"model_name": request.model, "id": request.id}}
    return MESSAGES.write("ModelStreamInferResponse", error_message=text, **named)


def parameter_of(value: object) -> dict[str, object]:
    """The fields of an `InferParameter` that says this value."""
    if isinstance(value, bool):
        return {"bool_param": value}
    if isinstance(value, int):
        return {"int64_param": value} if -(2**63) <= value < 2**63 else {"string_param": str(value)}
    return {"double_param": value} if isinstance(value, float) else {"string_param": str(value)}


def _input(tensor: _Tensor, raw: bytes | memoryview | None) -> Tensor:
    name, datatype = tensor.name, tensor.datatype
    where = f"inputs.{name}"
    if datatype not in DTYPES and datatype != "BYTES":
        raise InvalidSpecError(
            f"there is no datatype {datatype[:40]!r}", where=where, mend=f"Use one of {', '.join(DTYPES)} or BYTES."
        )
    shape = tuple(tensor.shape)
    if len(shape) > _MOST_DIMENSIONS or any(size < 0 for size in shape):
        raise InvalidSpecError(
            f"the tensor has the shape {list(shape[:8])}",
            where=where,
            mend=f"Send a size of 0 or more for each of at most {_MOST_DIMENSIONS} dimensions.",
        )
    parameters = _parameters(tensor.parameters) if tensor.parameters else None
    if parameters and "shared_memory_region" in parameters:
        raise InvalidSpecError("shared memory is not served", where=where, mend="Send the values with the request.")
    has_contents = tensor.HasField("contents")
    if raw is not None:
        if has_contents:
            raise InvalidSpecError(
                "the tensor has values both in contents and in raw_input_contents",
                where=where,
                mend="Send one of them.",
            )
        return Tensor(name, datatype, shape, raw, parameters)  # type: ignore[arg-type]  # looked at above
    if not has_contents and 0 not in shape:
        raise InvalidSpecError("the tensor has no data", where=where, mend="Send contents, or raw_input_contents.")
    return Tensor(name, datatype, shape, _values(tensor, shape, where), parameters)  # type: ignore[arg-type]


def _values(tensor: _Tensor, shape: tuple[int, ...], where: str) -> Array:
    """The values of a typed tensor, flat. Raises InvalidSpecError."""
    datatype = tensor.datatype
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidSpecError(f"{datatype} has no typed contents", where=where, mend="Send raw_input_contents.")
    given: Sequence[object] = getattr(tensor.contents, field)
    wanted = 1
    for size in shape:
        wanted *= size
    if len(given) != wanted:
        raise InvalidSpecError(
            f"{field} holds {len(given)} values, the shape says {wanted}",
            where=where,
            mend=f"The shape is {list(shape)}.",
        )
    if datatype == "BYTES":
        texts = np.empty(wanted, dtype=object)
        texts[:] = list(given)
        return texts
    try:
        return np.array(list(given), dtype=DTYPES[datatype])
    except OverflowError as error:
        raise InvalidSpecError(
            f"a value does not fit into {datatype}", where=where, mend="Send a larger datatype, such as INT64."
        ) from error


def _parameters(given: Mapping[str, Parameter]) -> Parameters:
    made: dict[str, object] = {}
    for name, parameter in given.items():
        field = parameter.WhichOneof("parameter_choice")
        if field is not None:
            made[name] = getattr(parameter, field)
    return made


def _lifted(content: bytes | bytearray) -> tuple[bytes, list[memoryview]]:
    """Take the raw tensors out of a message: return the rest of it, and where they lie. Raises InvalidSpecError."""
    view = memoryview(content)
    rest: list[memoryview] = []
    raws: list[memoryview] = []
    at, size = 0, len(content)
    while at < size:
        begin = at
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, at = _varint(content, at)
            end = at + length
        elif kind == 0:
            _, end = _varint(content, at)
        else:
            end = at + {1: 8, 5: 4}.get(kind, size)
        if end > size:
            raise InvalidSpecError(
                "it is no ModelInferRequest: it ends within a field", where="message", mend="Send it whole."
            )
        if tag == _RAW_INPUT:
            raws.append(view[at:end])
        else:
            rest.append(view[begin:end])
        at = end
    return b"".join(rest), raws


def _varint(content: bytes | bytearray, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise InvalidSpecError("it is no ModelInferRequest: a number has no end", where="message", mend="Send it whole.")


def _prefix(tag: int, length: int) -> bytes:
    """What stands before the bytes of a field."""
    if length < 0x80:
        return bytes((tag, length))
    made = bytearray((tag,))
    while length > 0x7F:
        made.append(0x80 | length & 0x7F)
        length >>= 7
    made.append(length)
    return bytes(made)


def _field(tag: int, content: bytes) -> bytes:
    return _prefix(tag, len(content)) + content if content else b""


@lru_cache(maxsize=1024)
def _description(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """An output without its values, as a field of the answer."""
    described = MESSAGES.write("ModelInferResponse.InferOutputTensor", name=name, datatype=datatype, shape=shape)
    return _prefix(_OUTPUT, len(described)) + described


def _fields(response: InferResponse, *, raw: bool) -> dict[str, object]:
    outputs = [_output(tensor, raw=raw) for tensor in response.outputs]
    return {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "parameters": _written(response.parameters),
        "outputs": outputs,
        "raw_output_contents": [tensor.raw() for tensor in response.outputs] if raw else [],
    }


def _output(tensor: Tensor, *, raw: bool) -> dict[str, object]:
    fields: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if tensor.parameters:
        fields["parameters"] = _written(tensor.parameters)
    if not raw:
        array = tensor.array().reshape(-1)
        values: Iterable[object] = array.tolist()
        if tensor.datatype == "BYTES":
            values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        fields["contents"] = {_CONTENTS[tensor.datatype]: values}
    return fields


def _written(parameters: Parameters) -> dict[str, object]:
    return {name: parameter_of(value) for name, value in parameters.items()}
