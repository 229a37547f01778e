"""Tensors of the Open Inference Protocol: how each datatype is written as JSON and as raw bytes, and read from both.

A tensor is read when it is asked for, so that a request can wait, or be routed, before its values are looked at. It is read in one of two
ways. `values` gives them flat as a table takes them: numbers, texts, and None or NaN where one is missing. `array` gives them in their
shape and in the datatype's own NumPy type, as a model of tensors takes them; BYTES are an object array of `bytes`.

Raw bytes are little-endian; BYTES are each preceded by their length (four bytes). What JSON cannot say and Python's encoder writes all the
same (NaN) was made null before: in a floating-point tensor null is NaN.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.served import Datatype

Array: TypeAlias = NDArray[np.generic]
Parameters: TypeAlias = Mapping[str, object]

LARGEST_BATCH = 1_000_000  # rows of a table in one request

DTYPES: dict[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_DATATYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
_NO_PARAMETERS: dict[str, object] = {}
_LENGTH = struct.Struct("<I")
_flat_numbers = msgspec.json.Decoder(list[float])
_nested_numbers = msgspec.json.Decoder(list[list[float]])


class Tensor:
    """One tensor, with its values in one of three forms: JSON not yet read, raw bytes not yet read, or values."""

    __slots__ = ("_content", "datatype", "name", "parameters", "shape")

    def __init__(
        self,
        name: str,
        datatype: Datatype,
        shape: Sequence[int],
        content: msgspec.Raw | bytes | memoryview | Array | list[object] | None,
        parameters: Parameters | None = None,
    ) -> None:
        self.name = name
        self.datatype: Datatype = datatype
        self.shape = tuple(shape)
        self.parameters: Parameters = _NO_PARAMETERS if parameters is None else parameters
        self._content = content

    @staticmethod
    def of_array(name: str, array: Array) -> Tensor:
        """Return the tensor of an array; texts and objects become BYTES. Raises InvalidSpecError for what no datatype holds."""
        datatype = _DATATYPES.get(array.dtype.newbyteorder("<"))
        if datatype is not None:
            return Tensor(name, datatype, array.shape, array)  # type: ignore[arg-type]  # a key of DTYPES
        if array.dtype.kind in "OSU":
            return Tensor(name, "BYTES", array.shape, array.astype(object) if array.dtype.kind != "O" else array)
        raise InvalidSpecError(
            f"values of the type {array.dtype} have no datatype",
            where=name,
            mend=f"Give one of {', '.join(DTYPES)} or texts.",
        )

    @property
    def where(self) -> str:
        """What errors call this tensor."""
        return f"inputs.{self.name}"

    def values(self) -> Array:
        """Return the values flat, as many as the shape says: numbers, or objects (text, number, truth, None). Raises InvalidSpecError."""
        wanted = math.prod(self.shape)
        content = self._content
        if isinstance(content, np.ndarray):
            return content.reshape(-1)
        if isinstance(content, bytes | memoryview):
            if self.datatype == "BYTES":
                return _objects(self._texts(self._pieces(content, wanted)))
            return self._raw_numbers(content, wanted)
        if self.datatype == "BYTES":
            return _objects(self._flat(wanted))
        plain = self._plain_numbers(wanted)
        return self._numbers(self._flat(wanted)) if plain is None else plain

    def array(self) -> Array:
        """Return the values in their shape, in the datatype's NumPy type. Raises InvalidSpecError."""
        content = self._content
        if isinstance(content, np.ndarray):
            return content.reshape(self.shape)
        if self.datatype == "BYTES":
            wanted = math.prod(self.shape)
            is_raw = isinstance(content, bytes | memoryview)
            pieces = self._pieces(content, wanted) if is_raw else map(self._as_bytes, self._flat(wanted))  # type: ignore[arg-type]
            return _objects(list(pieces)).reshape(self.shape)
        numbers = self.values()
        if numbers.dtype.kind == "f" and self.datatype[:2] != "FP":
            raise InvalidSpecError(
                f"a value is missing, and {self.datatype} has no way to say so",
                where=self.where,
                mend="Send all values, or a floating-point datatype.",
            )
        return numbers.astype(DTYPES[self.datatype], copy=False).reshape(self.shape)

    def json(self) -> list[object]:
        """Return the values flat, as JSON writes them. Raises InvalidSpecError where BYTES are no UTF-8."""
        content = self._content
        if isinstance(content, list):
            return content
        array = self.array().reshape(-1)
        if self.datatype != "BYTES":
            plain: list[object] = array.tolist()
            return plain
        return list(self._texts(array.tolist()))

    def raw(self) -> bytes:
        """Return the values as raw bytes."""
        if isinstance(self._content, bytes):
            return self._content
        if self.datatype == "BYTES":
            flat = self._content if isinstance(self._content, list) else self.array().reshape(-1).tolist()
            encoded = [self._as_bytes(value) for value in flat]
            return b"".join([_LENGTH.pack(len(value)) + value for value in encoded])
        if isinstance(self._content, list):
            return np.array(self._content, dtype=DTYPES[self.datatype]).tobytes()
        array = self.array()
        return array.astype(DTYPES[self.datatype], copy=False).tobytes()

    def _plain_numbers(self, wanted: int) -> NDArray[np.float64] | None:
        """Floating-point numbers without a null, flat or two deep: nearly all requests."""
        content = self._content
        if not isinstance(content, msgspec.Raw) or self.datatype[:2] != "FP":
            return None
        try:
            flat = _flat_numbers.decode(content)
        except (msgspec.DecodeError, RecursionError):
            return self._nested_numbers(content)
        return np.array(flat, dtype=np.float64) if len(flat) == wanted else None

    def _nested_numbers(self, content: msgspec.Raw) -> NDArray[np.float64] | None:
        if len(self.shape) != 2:
            return None
        try:
            rows = _nested_numbers.decode(content)
        except (msgspec.DecodeError, RecursionError):
            return None
        if len(rows) != self.shape[0] or any(len(row) != self.shape[1] for row in rows):
            return None
        return np.array(rows, dtype=np.float64).reshape(-1)

    def _flat(self, wanted: int) -> list[object]:
        if isinstance(self._content, list):
            return self._content
        if self._content is None:
            raise InvalidSpecError(
                "the tensor has no data", where=self.where, mend="Send data, or binary_data_size and the raw bytes."
            )
        assert isinstance(self._content, msgspec.Raw)
        data = untyped(self._content, self.where)
        if not isinstance(data, list):
            raise self._wrong_shape()
        depth = 1
        while data and isinstance(data[0], list):
            # One level: each of its lists must have the size that the shape says for it.
            size = self.shape[depth] if depth < len(self.shape) else -1
            if any(not isinstance(inner, list) or len(inner) != size for inner in data):
                raise self._wrong_shape()
            data = [value for inner in data for value in inner]
            depth += 1
        if depth not in (1, len(self.shape)):
            raise self._wrong_shape()
        if len(data) != wanted:
            raise InvalidSpecError(
                f"the data holds {len(data)} values, the shape says {wanted}",
                where=self.where,
                mend=f"The shape is {list(self.shape)}.",
            )
        if any(isinstance(value, list | dict) for value in data):
            raise self._wrong_shape()
        return data

    def _wrong_shape(self) -> InvalidSpecError:
        return InvalidSpecError(
            "the data does not have the shape that is given",
            where=self.where,
            mend=f"The shape is {list(self.shape)}; send the values flat, or in lists that are nested so.",
        )

    def _numbers(self, flat: list[object]) -> Array:
        """Numbers of JSON values; as floats where one is missing."""
        for value in flat:
            if not (value is None or isinstance(value, bool | int | float)):
                raise InvalidSpecError(
                    f"the tensor is said to be {self.datatype} and holds {str(value)[:40]!r}",
                    where=self.where,
                    mend="Send BYTES for texts, null for a missing number.",
                )
            if isinstance(value, float) and self.datatype[:2] != "FP" and not value.is_integer():
                raise InvalidSpecError(
                    f"the tensor is said to be {self.datatype} and holds fractions", where=self.where, mend="Send FP64."
                )
        try:
            if self.datatype[:2] == "FP" or None in flat:
                return np.array(flat, dtype=np.float64)
            return np.array([int(value) for value in flat], dtype=DTYPES[self.datatype])  # type: ignore[call-overload]
        except OverflowError as error:
            raise InvalidSpecError(
                f"a value does not fit into {self.datatype}",
                where=self.where,
                mend="Send a larger datatype, such as FP64.",
            ) from error

    def _raw_numbers(self, raw: bytes | memoryview, wanted: int) -> Array:
        dtype = np.dtype(DTYPES[self.datatype])
        if len(raw) != wanted * dtype.itemsize:
            raise InvalidSpecError(
                f"{wanted} values of {self.datatype} have {wanted * dtype.itemsize} bytes, not {len(raw)}",
                where=self.where,
                mend="Let shape, datatype and binary_data_size agree.",
            )
        # Truths may come as any byte; NumPy must see 0 or 1.
        return np.frombuffer(raw, dtype=np.uint8) != 0 if self.datatype == "BOOL" else np.frombuffer(raw, dtype=dtype)

    def _pieces(self, raw: bytes | memoryview, wanted: int) -> list[bytes]:
        pieces: list[bytes] = []
        at, size = 0, len(raw)
        while at + 4 <= size and len(pieces) < wanted:
            (length,) = _LENGTH.unpack_from(raw, at)
            at += 4 + length
            if at > size:
                break
            pieces.append(bytes(raw[at - length : at]))
        if len(pieces) != wanted or at != size:
            raise InvalidSpecError(
                f"the shape says {wanted} texts, the raw bytes hold {'more' if at < size else len(pieces)}",
                where=self.where,
                mend="Let shape and raw bytes agree; each text is preceded by its length in four bytes.",
            )
        return pieces

    def _texts(self, pieces: Sequence[object]) -> list[object]:
        try:
            return [piece.decode() if isinstance(piece, bytes) else piece for piece in pieces]
        except UnicodeDecodeError as error:
            raise InvalidSpecError("a text is not UTF-8", where=self.where, mend="Send texts as UTF-8.") from error

    def _as_bytes(self, value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return value.encode()
        raise InvalidSpecError(
            f"{'null' if value is None else str(value)[:60]} is no value of BYTES",
            where=self.where,
            mend="Send texts in a tensor of BYTES.",
        )


def untyped(content: bytes | msgspec.Raw, where: str) -> object:
    """Decode JSON of any kind. Raises InvalidSpecError."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidSpecError(f"not JSON that can be read: {error}", where=where, mend="Send valid JSON.") from error


def _objects(values: Sequence[object]) -> Array:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
