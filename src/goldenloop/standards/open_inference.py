"""The Open Inference Protocol (V2) over REST, and the V1 protocol that came before it: bytes ↔ records.

A request is read in two steps: `read_v2` and `read_v1` see to the document and its parameters, `batch_of_v2` and `batch_of_v1` make rows
of it by a signature. So a request can wait, or be routed, before anybody knows which version will answer it.

Columns come as one tensor [n, k] in the signature's order, or as one tensor [n] or [n, 1] a column, by name. What JSON cannot say and
Python's encoder writes all the same (NaN) is taken as null, which is a missing value.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.clock import SECOND, from_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Signature
from goldenloop.standards.tabular import Batch, Layout

Answer: TypeAlias = tuple[str | float, tuple[float, ...]]
Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]
Tensor: TypeAlias = NDArray[np.generic]
_Document = TypeVar("_Document")

LARGEST_BATCH = 1_000_000  # rows in one request
_LATEST_SECONDS = 253_402_300_799.0  # the end of the year 9999

_DTYPES: dict[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_CLASS_DATATYPES: dict[str, Datatype] = {"text": "BYTES", "integer": "INT64", "number": "FP64", "boolean": "BOOL"}
_LENGTH = struct.Struct("<I")


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


class V2Request(msgspec.Struct):
    """A V2 request, read but not yet made rows of. `raw[i]` holds the binary bytes of the i-th input, None where it came as JSON."""

    document: _Infer
    raw: list[bytes | None] | None

    @property
    def id(self) -> str | None:
        """The id that the client gave, if it did."""
        return self.document.id or None

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of the whole request."""
        return self.document.parameters or {}


class V1Request(msgspec.Struct):
    """A V1 request, read but not yet made rows of."""

    document: _Predict

    @property
    def id(self) -> str | None:
        """The id that the client gave, if it did."""
        return self.document.id or None

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of the whole request."""
        return self.document.parameters or {}


class _Written(msgspec.Struct, omit_defaults=True):
    name: str
    shape: list[int]
    datatype: Datatype
    parameters: dict[str, int] | None = None
    data: list[str] | list[float] | list[int] | list[bool] | msgspec.UnsetType = msgspec.UNSET


class _Answered(msgspec.Struct):
    model_name: str
    model_version: str
    id: str
    outputs: list[_Written]


class _Predicted(msgspec.Struct):
    predictions: list[str | float | int | bool]


class TensorMetadata(msgspec.Struct, frozen=True):
    """One tensor of a model; -1 in a shape is any number of rows."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What `GET /v2/models/NAME` answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


_infer_decoder = msgspec.json.Decoder(_Infer)
_predict_decoder = msgspec.json.Decoder(_Predict)
_flat_numbers = msgspec.json.Decoder(list[float])
_nested_numbers = msgspec.json.Decoder(list[list[float]])
_encoder = msgspec.json.Encoder()


def read_v2(body: bytes, *, header_length: int | None = None) -> V2Request:
    """Read a V2 request. `header_length` is `Inference-Header-Content-Length`: JSON of that many bytes, then raw tensors.

    Raises InvalidSpecError.
    """
    if header_length is None:
        document = _decode(_infer_decoder, body)
        if not any(tensor.parameters and "binary_data_size" in tensor.parameters for tensor in document.inputs):
            return V2Request(document, None)
        raise InvalidSpecError(
            "a tensor is said to be binary and the header that says where it begins is missing",
            where="Inference-Header-Content-Length",
            mend="Send the number of bytes of the JSON part in this header.",
        )
    if not 0 < header_length <= len(body):
        raise InvalidSpecError(
            f"the JSON part is said to have {header_length} bytes, the body has {len(body)}",
            where="Inference-Header-Content-Length",
            mend="Send the number of bytes of the JSON part in this header.",
        )
    document = _decode(_infer_decoder, body[:header_length])
    at = header_length
    raw: list[bytes | None] = []
    for tensor in document.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            raw.append(None)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or at + size > len(body):
            raise InvalidSpecError(
                f"binary_data_size is {size!r}, and {len(body) - at} bytes are left in the body",
                where=f"inputs.{tensor.name}",
                mend="Send the number of bytes that the tensor has after the JSON part.",
            )
        raw.append(body[at : at + size])
        at += size
    if at != len(body):
        raise InvalidSpecError(
            f"{len(body) - at} bytes are left after the last binary tensor",
            where="body",
            mend="Give each binary tensor its binary_data_size; they must add up to what follows the JSON part.",
        )
    return V2Request(document, raw)


def read_v1(body: bytes) -> V1Request:
    """Read a V1 request. Raises InvalidSpecError."""
    document = _decode(_predict_decoder, body)
    if (document.instances is msgspec.UNSET) == (document.inputs is msgspec.UNSET):
        raise InvalidSpecError(
            "exactly one of 'instances' and 'inputs' must be there", where="body", mend='Send {"instances": [ROW, …]}.'
        )
    return V1Request(document)


def batch_of_v2(request: V2Request, layout: Layout, *, also: frozenset[str] = frozenset()) -> Batch:
    """Make rows of a V2 request; `also` names columns that may be there and are left out. Raises InvalidSpecError."""
    _check_outputs(request, layout.signature)
    inputs = request.document.inputs
    if not inputs:
        raise InvalidSpecError(
            "there is no input tensor", where="inputs", mend="Send one tensor [n, k], or one a column."
        )
    raws: Sequence[bytes | None] = request.raw or [None] * len(inputs)
    if len(inputs) == 1:
        tensor = inputs[0]
        where = f"inputs.{tensor.name}"
        shape = _shape(tensor)
        if len(shape) == 2 and (shape[1] != 1 or layout.width == 1):
            if shape[1] != layout.width:
                raise InvalidSpecError(
                    f"the tensor has the shape {tensor.shape}, the model takes [n, {layout.width}]",
                    where=where,
                    mend=f"Send the columns {', '.join(layout.names)} in this order.",
                )
            return layout.from_matrix(_values(tensor, raws[0]).reshape(shape), where=where)
        if layout.width == 1:
            return layout.from_matrix(_values(tensor, raws[0]).reshape(-1, 1), where=where)
        if len(shape) == 1 and shape[0] == layout.width and tensor.name not in layout.names:
            raise InvalidSpecError(
                f"the tensor has the shape {tensor.shape}, the model takes [n, {layout.width}]",
                where=where,
                mend=f"For one row send the shape [1, {layout.width}].",
            )
    columns: dict[str, Tensor] = {}
    for tensor, raw in zip(inputs, raws, strict=True):
        shape = _shape(tensor)
        if len(shape) == 2 and shape[1] != 1:
            raise InvalidSpecError(
                f"the tensor has the shape {tensor.shape}, one column has [n] or [n, 1]",
                where=f"inputs.{tensor.name}",
                mend=f"Send one tensor a column, or one tensor [n, {layout.width}] alone.",
            )
        if tensor.name in columns:
            raise InvalidSpecError(
                "the tensor is there twice", where=f"inputs.{tensor.name}", mend="Send each column once."
            )
        columns[tensor.name] = _values(tensor, raw).reshape(-1)
    return layout.from_columns(columns, where="inputs", also=also)


def batch_of_v1(request: V1Request, layout: Layout, *, also: frozenset[str] = frozenset()) -> Batch:
    """Make rows of a V1 request; `also` names columns that may be there and are left out. Raises InvalidSpecError."""
    document = request.document
    where = "inputs" if document.instances is msgspec.UNSET else "instances"
    content = document.inputs if document.instances is msgspec.UNSET else document.instances
    assert isinstance(content, msgspec.Raw)  # `read_v1` saw to it
    raw = bytes(content)
    if layout.is_all_numbers and raw[:2] == b"[[":
        try:
            rows = _nested_numbers.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            if len(rows) <= LARGEST_BATCH and all(len(row) == layout.width for row in rows):
                return layout.from_matrix(np.array(rows, dtype=np.float64), where=where)
    given = _untyped(raw, where)
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


def event_time_of(parameters: dict[str, object], header: str | None) -> int | None:
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


def write_v2(
    request: V2Request, answers: Sequence[Answer], signature: Signature, *, model: str, version: str, identity: str
) -> tuple[bytes, int | None]:
    """Return the body of the answer to a V2 request, and for a body with raw tensors how many bytes its JSON part has.

    The outputs that it asks for are among those that `batch_of_v2` let through.
    """
    all_binary = request.parameters.get("binary_data_output") is True
    wanted = request.document.outputs
    names = output_names(signature, has_probabilities=bool(answers and answers[0][1]))
    outputs: list[_Written] = []
    tail: list[bytes] = []
    for asked in wanted or [_Output(name) for name in names]:
        options = asked.parameters or {}
        written = _output(asked.name, answers, signature)
        if options.get("binary_data", all_binary) is True:
            raw = _raw_of(written)
            tail.append(raw)
            written.parameters = {"binary_data_size": len(raw)}
            written.data = msgspec.UNSET
        outputs.append(written)
    head = _encoder.encode(_Answered(model, version, request.id or identity, outputs))
    if not tail:
        return head, None
    return b"".join([head, *tail]), len(head)


def write_v1(answers: Sequence[Answer], signature: Signature) -> bytes:
    """Return the body of the answer to a V1 request: the class or the value of each row."""
    return _encoder.encode(_Predicted(_labels([answer[0] for answer in answers], signature)))


def output_names(signature: Signature, *, has_probabilities: bool = True) -> tuple[str, ...]:
    """The outputs that a model with this signature gives."""
    return ("predict", "probabilities") if signature.task == "classification" and has_probabilities else ("predict",)


def metadata_of(signature: Signature, *, name: str, versions: tuple[str, ...]) -> ModelMetadata:
    """What a model takes and gives: one tensor a column (one tensor [n, k] in their order is taken as well)."""
    outputs = [TensorMetadata("predict", _label_datatype(signature), (-1,))]
    if signature.task == "classification":
        outputs.append(TensorMetadata("probabilities", "FP32", (-1, len(signature.classes))))
    inputs = tuple(
        TensorMetadata(column.name, "FP64" if column.kind == "number" else "BYTES", (-1, 1))
        for column in signature.inputs
    )
    return ModelMetadata(name, versions, "onnxruntime_onnx", inputs, tuple(outputs))


def _check_outputs(request: V2Request, signature: Signature) -> None:
    names = output_names(signature)
    for asked in request.document.outputs or []:
        where = f"outputs.{asked.name}"
        if asked.name not in names:
            raise InvalidSpecError("there is no such output", where=where, mend=f"The model gives {', '.join(names)}.")
        if asked.parameters and "classification" in asked.parameters:
            raise InvalidSpecError("the classification extension is not served", where=where, mend="Leave it out.")


def _output(name: str, answers: Sequence[Answer], signature: Signature) -> _Written:
    if name == "predict":
        labels = _labels([answer[0] for answer in answers], signature)
        return _Written(name, [len(answers)], _label_datatype(signature), data=labels)  # type: ignore[arg-type]
    flat = [share for answer in answers for share in answer[1]]
    return _Written(name, [len(answers), len(signature.classes)], "FP32", data=flat)


def _labels(labels: list[str | float], signature: Signature) -> list[str | float | int | bool]:
    """The answers as they are written on the wire."""
    if signature.task == "regression" or signature.class_kind == "text":
        return list(labels)
    if signature.class_kind == "integer":
        return [int(label) for label in labels]
    if signature.class_kind == "number":
        return [float(label) for label in labels]
    return [label == "true" for label in labels]


def _label_datatype(signature: Signature) -> Datatype:
    return "FP64" if signature.task == "regression" else _CLASS_DATATYPES[signature.class_kind]


def _raw_of(written: _Written) -> bytes:
    assert not isinstance(written.data, msgspec.UnsetType)
    if written.datatype == "BYTES":
        encoded = [str(value).encode() for value in written.data]
        return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)
    return np.array(written.data, dtype=_DTYPES[written.datatype]).tobytes()


def _shape(tensor: _Input) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if not 1 <= len(shape) <= 2 or any(size < 1 for size in shape) or shape[0] > LARGEST_BATCH:
        raise InvalidSpecError(
            f"the tensor has the shape {tensor.shape[:8]}",
            where=f"inputs.{tensor.name}",
            mend=f"Send [n, k], [n, 1] or [n] with n from 1 to {LARGEST_BATCH}.",
        )
    return shape


def _values(tensor: _Input, raw: bytes | None) -> Tensor:
    """The values of a tensor, flat; as many as its shape says."""
    wanted = math.prod(tensor.shape)
    where = f"inputs.{tensor.name}"
    if raw is not None:
        return _raw_values(tensor.datatype, raw, wanted=wanted, where=where)
    if isinstance(tensor.data, msgspec.UnsetType):
        raise InvalidSpecError(
            "the tensor has no data", where=where, mend="Send data, or binary_data_size and the raw bytes."
        )
    content = bytes(tensor.data)
    if tensor.datatype[:2] == "FP":
        try:
            flat = _flat_numbers.decode(content)
        except (msgspec.DecodeError, RecursionError):
            flat = None
        if flat is not None and len(flat) == wanted:
            return np.array(flat, dtype=np.float64)
    values = _flatten(_untyped(content, where), tensor.shape, where)
    if tensor.datatype == "BYTES":
        return _objects(values)
    if not {bool, int, float, type(None)}.issuperset(map(type, values)):
        wrong = next(value for value in values if not isinstance(value, bool | int | float | None))
        raise InvalidSpecError(
            f"the tensor is said to be {tensor.datatype} and holds {str(wrong)[:40]!r}",
            where=where,
            mend="Send BYTES for texts, null for a missing number.",
        )
    try:
        if tensor.datatype[:2] == "FP" or None in values:
            return np.array(values, dtype=np.float64)
        if float in set(map(type, values)):
            raise InvalidSpecError(
                f"the tensor is said to be {tensor.datatype} and holds fractions", where=where, mend="Send FP64."
            )
        return np.array(values, dtype=_DTYPES[tensor.datatype])
    except OverflowError as error:
        raise InvalidSpecError(
            f"a value does not fit into {tensor.datatype}", where=where, mend="Send a larger datatype, such as FP64."
        ) from error


def _raw_values(datatype: Datatype, raw: bytes, *, wanted: int, where: str) -> Tensor:
    if datatype != "BYTES":
        dtype = np.dtype(_DTYPES[datatype])
        if len(raw) != wanted * dtype.itemsize:
            raise InvalidSpecError(
                f"{wanted} values of {datatype} have {wanted * dtype.itemsize} bytes, not {len(raw)}",
                where=where,
                mend="Let shape, datatype and binary_data_size agree.",
            )
        values = np.frombuffer(raw, dtype=dtype)
        return values if datatype != "BOOL" else np.frombuffer(raw, dtype=np.uint8) != 0
    texts: list[object] = []
    at = 0
    while at < len(raw) and len(texts) <= wanted:
        end = at + _LENGTH.size
        length = _LENGTH.unpack_from(raw, at)[0] if end <= len(raw) else len(raw)
        if end + length > len(raw):
            raise InvalidSpecError(
                "a text is longer than what is left of the tensor",
                where=where,
                mend="Put the length of each text before it (u32).",
            )
        try:
            texts.append(raw[end : end + length].decode())
        except UnicodeDecodeError as error:
            raise InvalidSpecError("a text is not UTF-8", where=where, mend="Send categories as UTF-8.") from error
        at = end + length
    if len(texts) != wanted or at != len(raw):
        raise InvalidSpecError(
            f"the shape says {wanted} texts, the raw bytes hold {'more' if at < len(raw) else len(texts)}",
            where=where,
            mend="Let shape and binary_data_size agree.",
        )
    return _objects(texts)


def _flatten(data: object, shape: list[int], where: str) -> list[object]:
    wrong = InvalidSpecError(
        "the data does not have the shape that is given", where=where, mend=f"The shape is {shape}."
    )
    if not isinstance(data, list):
        raise wrong
    if data and isinstance(data[0], list):
        if (
            len(shape) != 2
            or len(data) != shape[0]
            or not all(isinstance(row, list) and len(row) == shape[1] for row in data)
        ):
            raise wrong
        data = [value for row in data for value in row]
    if len(data) != math.prod(shape):
        wrong.what = f"the data holds {len(data)} values, the shape says {math.prod(shape)}"
        raise wrong
    if any(isinstance(value, list | dict) for value in data):
        raise wrong
    return data


def _column(values: object, where: str) -> Tensor:
    if not isinstance(values, list) or not 1 <= len(values) <= LARGEST_BATCH:
        raise InvalidSpecError(
            "a column is a list of values", where=where, mend=f"Send a list of 1 to {LARGEST_BATCH} values."
        )
    return _objects([value[0] if isinstance(value, list) and len(value) == 1 else value for value in values])


def _objects(values: list[object]) -> Tensor:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _untyped(content: bytes, where: str) -> object:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidSpecError(f"not JSON that can be read: {error}", where=where, mend="Send valid JSON.") from error


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
