"""Frames with arrays in them (the messages: `messages`).

A frame is a prefix (two little-endian 32-bit lengths: of the header, of the body), the header (one MessagePack message), padding to a
multiple of 8, and the body: the raw bytes of arrays, each at a multiple of 8. A message refers to its arrays by their place in the body,
so numbers are neither copied nor converted on their way. Arrays of texts and bytes travel in the header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.serving.predictors.messages import LARGEST_FRAME, PREFIX

Array: TypeAlias = NDArray[np.generic]
Message = TypeVar("Message")

_SMALL = 1 << 16  # a frame up to this size is read into a shared buffer
_NUMBERS, _OBJECTS = 1, 2  # codes of MessagePack extensions


class FrameError(Exception):
    """What came is no frame; the connection is of no more use."""


class Codec(Generic[Message]):
    """Turns messages into frames and frames into messages of one direction. Not for several threads."""

    def __init__(self, incoming: object) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._put)
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(incoming, ext_hook=self._get)
        self._parts: list[Array] = []
        self._length = 0
        self._body = memoryview(b"")

    def encode(self, message: msgspec.Struct) -> list[bytes | memoryview]:
        """Return the pieces of a frame, to be sent one after the other. Raises TypeError for what cannot be sent."""
        self._parts = []
        self._length = 0
        header = self._encoder.encode(message)
        if not self._parts:
            return [PREFIX.pack(len(header), 0) + header]
        if PREFIX.size + len(header) + self._length > LARGEST_FRAME - 8:
            raise TypeError(f"{self._length} bytes of arrays are too many for one call")
        pieces: list[bytes | memoryview] = [PREFIX.pack(len(header), self._length) + header + _padding(len(header))]
        for part in self._parts:
            pieces.append(part.data.cast("B"))
            if gap := -part.nbytes % 8:
                pieces.append(bytes(gap))
        return pieces

    def decode(self, frame: memoryview) -> Message:
        """Return the message of a whole frame; its arrays lie in the frame's own memory. Raises FrameError."""
        header, body = PREFIX.unpack_from(frame)
        start = PREFIX.size + header
        self._body = frame[start + -start % 8 :][:body]
        try:
            return self._decoder.decode(frame[PREFIX.size : start])
        except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise FrameError(f"not a message: {error}") from error
        finally:
            self._body = memoryview(b"")

    def _put(self, value: object) -> object:
        if isinstance(value, np.ndarray):
            return self._put_array(value)
        if isinstance(value, np.generic):
            return value.item() if value.dtype.kind in "fiubUS" else str(value)
        for method in ("to_numpy", "numpy", "__array__"):  # frames, series and tensors of the common libraries
            convert: Callable[[], object] | None = getattr(value, method, None)
            if callable(convert):
                return self._put_array(np.asarray(convert()))
        raise TypeError(f"a {type(value).__name__} cannot be sent")

    def _put_array(self, array: Array) -> msgspec.msgpack.Ext:
        kind = array.dtype.kind
        if kind in "fiub":
            if not array.dtype.isnative:
                array = array.astype(array.dtype.newbyteorder("="))
            if not array.flags.c_contiguous:
                array = np.ascontiguousarray(array)
            if array.nbytes:
                self._parts.append(array)
            place = self._length
            self._length += array.nbytes + -array.nbytes % 8
            return msgspec.msgpack.Ext(_NUMBERS, _encode_place((array.dtype.str, place, array.shape)))
        if kind not in "OUSMm":
            raise TypeError(f"an array of {array.dtype} cannot be sent")
        items = (array.astype(str) if kind in "Mm" else array).reshape(-1).tolist()
        return msgspec.msgpack.Ext(_OBJECTS, _encode_objects((array.shape, items)))

    def _get(self, code: int, data: memoryview) -> Array:
        if code == _NUMBERS:
            name, place, shape = _decode_place(data)
            dtype = _DTYPES.get(name)
            if dtype is None:
                raise ValueError(f"arrays of {name} do not travel")
            count = 1
            for size in shape:
                count *= size
            if count == 0:
                return np.empty(shape, dtype)
            return np.frombuffer(self._body, dtype, count, place).reshape(shape)
        if code != _OBJECTS:
            raise ValueError(f"unknown extension {code}")
        shape, items = _decode_objects(data)
        objects = np.empty(len(items), dtype=object)
        objects[:] = items
        return objects.reshape(shape)


class Incoming:
    """Cuts what is received into frames. A small frame is copied out of a buffer, a large one is received into memory of its own."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_SMALL))
        self._end = 0  # of what has been received and not been cut
        self._large: memoryview | None = None
        self._filled = 0

    def space(self) -> memoryview:
        """Where the next bytes go."""
        if self._large is not None:
            return self._large[self._filled :]
        return self._buffer[self._end :]

    def take(self, received: int) -> Iterator[memoryview]:
        """Return the frames that so many more bytes complete. Raises FrameError where what comes is none."""
        if self._large is not None:
            self._filled += received
            if self._filled == len(self._large):
                frame, self._large = self._large, None
                yield frame
            return
        self._end += received
        start = 0
        while self._end - start >= PREFIX.size:
            length = _frame_length(self._buffer, start)
            if length > _SMALL:
                self._begin_large(start, length)
                return
            if self._end - start < length:
                break
            # A copy: the buffer is used again, and the arrays of a message stay.
            yield memoryview(bytearray(self._buffer[start : start + length]))
            start += length
        if start:
            self._buffer[: self._end - start] = bytes(self._buffer[start : self._end])
            self._end -= start

    def _begin_large(self, start: int, length: int) -> None:
        large = np.empty(length, dtype=np.uint8).data
        self._filled = self._end - start
        large[: self._filled] = self._buffer[start : self._end]
        self._large = large
        self._end = 0


def _frame_length(buffer: memoryview, start: int) -> int:
    header, body = PREFIX.unpack_from(buffer, start)
    length: int = PREFIX.size + header
    if body:
        length += -length % 8 + body
    if length > LARGEST_FRAME:
        raise FrameError(f"a frame of {length} bytes is too large")
    return length


def _padding(header: int) -> bytes:
    return bytes(-(PREFIX.size + header) % 8)


_Place: TypeAlias = tuple[str, int, tuple[int, ...]]
_Items: TypeAlias = list[str | bytes | float | bool | None]

_encode_place = msgspec.msgpack.Encoder().encode
_decode_place = msgspec.msgpack.Decoder(_Place).decode
_encode_objects = msgspec.msgpack.Encoder(enc_hook=str).encode
_decode_objects = msgspec.msgpack.Decoder(tuple[tuple[int, ...], list[object]]).decode
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilqBHILQefd"}
