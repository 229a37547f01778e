"""The Open Inference Protocol (V2) over REST, and the V1 protocol that came before it: bytes ↔ records.

A V2 body is JSON, or, where the header `Inference-Header-Content-Length` says how long that is, JSON followed by the raw bytes of the
tensors that have a `binary_data_size`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from goldenloop.core.clock import SECOND, from_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.served import Datatype
from goldenloop.standards.open_inference.records import AskedOutput, InferRequest, InferResponse
from goldenloop.standards.open_inference.tensors import Tensor, untyped

_Document = TypeVar("_Document")
_LATEST_SECONDS = 253_402_300_799.0  # the end of the year 9999


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: Datatype
    parameters: dict[str, object] | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, object] | None = None


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, object] | None = None
    outputs: list[_Output] | None = None


class _Predict(msgspec.Struct):
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, object] | None = None
    id: str | None = None


class _Written(msgspec.Struct, omit_defaults=True):
    name: str
    shape: Sequence[int]
    datatype: Datatype
    parameters: Mapping[str, object] | None = None
    data: list[object] | msgspec.UnsetType = msgspec.UNSET


class _Answered(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    id: str
    outputs: list[_Written]
    parameters: Mapping[str, object] | None = None


class _Numbers(msgspec.Struct):
    """The commonest request of all, read in one pass: rows of nothing but numbers."""

    instances: list[list[float]]
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, object] | None = None
    id: str | None = None


class V1Request:
    """A V1 request, read but not yet made rows or tensors of. Exactly one of `instances` and `inputs` is there: `where` says which.

    `numbers` are the rows where all of them are lists of numbers, else None; `content` is what was sent, as JSON, in either case.
    """

    __slots__ = ("_body", "id", "numbers", "parameters", "where")

    def __init__(
        self,
        body: bytes | msgspec.Raw,
        where: str,
        document: _Numbers | _Predict,
        numbers: list[list[float]] | None = None,
    ) -> None:
        self.id = document.id or ""
        self.parameters: dict[str, object] = document.parameters or {}
        self.where = where
        self.numbers = numbers
        self._body = body

    @property
    def content(self) -> msgspec.Raw:
        """The value of `instances` or `inputs`."""
        if isinstance(self._body, msgspec.Raw):
            return self._body
        content = _predict_decoder.decode(self._body).instances
        assert isinstance(content, msgspec.Raw)  # it was read before
        return content


_infer_decoder = msgspec.json.Decoder(_Infer)
_predict_decoder = msgspec.json.Decoder(_Predict)
_numbers_decoder = msgspec.json.Decoder(_Numbers)
_encoder = msgspec.json.Encoder()


def read_v2(body: bytes, *, model: str, version: str = "", header_length: int | None = None) -> InferRequest:
    """Read a V2 request. `header_length` is `Inference-Header-Content-Length`: JSON of that many bytes, then raw tensors.

    Raises InvalidSpecError.
    """
    if header_length is not None and not 0 < header_length <= len(body):
        raise InvalidSpecError(
            f"the JSON part is said to have {header_length} bytes, the body has {len(body)}",
            where="Inference-Header-Content-Length",
            mend="Send the number of bytes of the JSON part in this header.",
        )
    document = _decode(_infer_decoder, body if header_length is None else body[:header_length])
    at = len(body) if header_length is None else header_length
    inputs: list[Tensor] = []
    for tensor in document.inputs:
        content: msgspec.Raw | memoryview | None = None if tensor.data is msgspec.UNSET else tensor.data
        parameters = tensor.parameters
        if parameters and "shared_memory_region" in parameters:
            raise InvalidSpecError(
                "shared memory is not served", where=f"inputs.{tensor.name}", mend="Send the values with the request."
            )
        if parameters and "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            if header_length is None:
                raise InvalidSpecError(
                    "a tensor is said to be binary and the header that says where it begins is missing",
                    where="Inference-Header-Content-Length",
                    mend="Send the number of bytes of the JSON part in this header.",
                )
            if not isinstance(size, int) or isinstance(size, bool) or size < 0 or at + size > len(body):
                raise InvalidSpecError(
                    f"binary_data_size is {size!r}, and {len(body) - at} bytes are left in the body",
                    where=f"inputs.{tensor.name}",
                    mend="Send the number of bytes that the tensor has after the JSON part.",
                )
            content = memoryview(body)[at : at + size]
            at += size
        if len(tensor.shape) > 32 or any(size < 0 for size in tensor.shape):
            raise InvalidSpecError(
                f"the tensor has the shape {tensor.shape[:8]}",
                where=f"inputs.{tensor.name}",
                mend="Send a size of 0 or more for each of at most 32 dimensions.",
            )
        inputs.append(Tensor(tensor.name, tensor.datatype, tensor.shape, content, parameters))
    if at != len(body):
        raise InvalidSpecError(
            f"{len(body) - at} bytes are left after the last binary tensor",
            where="body",
            mend="Give each binary tensor its binary_data_size; they must add up to what follows the JSON part.",
        )
    return InferRequest(
        model=model,
        version=version,
        id=document.id or "",
        parameters=document.parameters,
        inputs=inputs,
        outputs=[AskedOutput(each.name, each.parameters or {}) for each in document.outputs]
        if document.outputs
        else None,
    )


def write_v2(request: InferRequest, response: InferResponse) -> tuple[bytes, int | None]:
    """Return the body of the answer, and for a body with raw tensors how many bytes its JSON part has."""
    all_binary = request.parameters.get("binary_data_output") is True
    asked = {output.name: output.parameters for output in request.outputs or ()}
    outputs: list[_Written] = []
    tail: list[bytes] = []
    for tensor in response.outputs:
        options = asked.get(tensor.name)
        binary = all_binary if options is None else options.get("binary_data", all_binary)
        if binary is True:
            raw = tensor.raw()
            tail.append(raw)
            parameters = {**tensor.parameters, "binary_data_size": len(raw)}
            outputs.append(_Written(tensor.name, tensor.shape, tensor.datatype, parameters))
        else:
            outputs.append(
                _Written(tensor.name, tensor.shape, tensor.datatype, tensor.parameters or None, data=tensor.json())
            )
    answered = _Answered(response.model_name, response.model_version, response.id, outputs, response.parameters or None)
    head = _encoder.encode(answered)
    if not tail:
        return head, None
    return b"".join([head, *tail]), len(head)


def json_of_request(request: InferRequest) -> bytes:
    """A request as JSON, also where its tensors came as raw bytes. Raises InvalidSpecError for a tensor that cannot be read."""
    inputs = [_Written(tensor.name, tensor.shape, tensor.datatype, data=tensor.json()) for tensor in request.inputs]
    return _encoder.encode({"id": request.id, "parameters": request.parameters, "inputs": inputs})


def json_of_response(response: InferResponse) -> bytes:
    """An answer as JSON."""
    outputs = [_Written(tensor.name, tensor.shape, tensor.datatype, data=tensor.json()) for tensor in response.outputs]
    return _encoder.encode(_Answered(response.model_name, response.model_version, response.id, outputs))


def read_v1(body: bytes) -> V1Request:
    """Read a V1 request. Raises InvalidSpecError."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        plain = _numbers_decoder.decode(body)
        if plain.inputs is msgspec.UNSET:
            return V1Request(body, "instances", plain, plain.instances)
    document = _decode(_predict_decoder, body)
    if isinstance(document.instances, msgspec.Raw) and document.inputs is msgspec.UNSET:
        return V1Request(document.instances, "instances", document)
    if isinstance(document.inputs, msgspec.Raw) and document.instances is msgspec.UNSET:
        return V1Request(document.inputs, "inputs", document)
    raise InvalidSpecError(
        "exactly one of 'instances' and 'inputs' must be there", where="body", mend='Send {"instances": [ROW, …]}.'
    )


def write_v1(predictions: object) -> bytes:
    """Return the body of the answer to a V1 request: one element a row."""
    return _encoder.encode({"predictions": predictions})


def tensors_of_v1(request: V1Request, wanted: Mapping[str, Datatype]) -> list[Tensor]:
    """Make tensors of a V1 request for a model that takes `wanted` (name → datatype).

    `instances` are rows: of a model with one input each is its value (or an object of that one name), of one with several an object by
    name. `inputs` are whole tensors: one, or an object by name. Raises InvalidSpecError.
    """
    given = untyped(request.content, request.where)
    whole: dict[str, object]
    if request.where == "inputs":
        whole = given if isinstance(given, dict) else {next(iter(wanted)): given}
    else:
        if not isinstance(given, list) or not given:
            raise InvalidSpecError("a list of rows must be there", where="instances", mend="Send one element a row.")
        if isinstance(given[0], dict) and not (set(given[0]) == {"b64"} and len(wanted) == 1):
            whole = {name: [_of(row, name, place) for place, row in enumerate(given)] for name in given[0]}
        else:
            whole = {next(iter(wanted)): given}
    if len(wanted) > 1 and set(whole) != set(wanted):
        raise InvalidSpecError(
            f"the model takes {', '.join(wanted)}, and {', '.join(whole)} came",
            where=request.where,
            mend="Send an object with these names.",
        )
    return [_tensor_of(name, datatype, whole, request.where) for name, datatype in wanted.items()]


def _of(row: object, name: str, place: int) -> object:
    if not isinstance(row, dict) or name not in row:
        raise InvalidSpecError(
            f"the row has no {name!r}", where=f"instances[{place}]", mend="Send the same names in every row."
        )
    return row[name]


def _tensor_of(name: str, datatype: Datatype, whole: dict[str, object], where: str) -> Tensor:
    if name not in whole:
        raise InvalidSpecError(f"{name!r} is missing", where=where, mend=f"Send {name}.")
    shape: list[int] = []
    level = whole[name]
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    return Tensor(name, datatype, shape or [1], msgspec.Raw(_encoder.encode(whole[name] if shape else [whole[name]])))


def event_time_of(parameters: Mapping[str, object], header: str | None) -> int | None:
    """Return the event time that a request gives, in microseconds, or None. Text is ISO 8601, a number is seconds since 1970.

    >>> event_time_of({"event_time": 1.5}, None), event_time_of({}, "1970-01-01T00:00:02Z"), event_time_of({}, None)
    (1500000, 2000000, None)
    """
    given = parameters.get("event_time")
    where = "parameters.event_time"
    if given is None:
        if header is None:
            return None
        given, where = header, "x-event-time"
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(given, str | int | float) and not isinstance(given, bool):
            seconds = float(given)
            if math.isfinite(seconds) and abs(seconds) <= _LATEST_SECONDS:
                return round(seconds * SECOND)
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(given, str):
            return from_text(given)
    raise InvalidSpecError(
        f"{str(given)[:60]!r} is not a time",
        where=where,
        mend="Send ISO 8601 text (2024-05-01T12:00:00Z) or seconds since 1970.",
    )


def _decode(decoder: msgspec.json.Decoder[_Document], body: bytes) -> _Document:
    try:
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            if b"NaN" not in body and b"Infinity" not in body:
                raise
            return decoder.decode(_encoder.encode(json.loads(body, parse_constant=_constant)))
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        text = str(error)
        raise InvalidSpecError(
            f"the request cannot be read: {text[:1].lower()}{text[1:]}",
            where="body",
            mend="Send JSON as the protocol has it.",
        ) from error


def _constant(name: str) -> None:
    """What Python writes for numbers that JSON does not have: NaN is a missing value, an infinity an error."""
    if name != "NaN":
        raise InvalidSpecError(
            f"{name} is not a number that can be scored", where="body", mend="Send null where a value is not known."
        )
