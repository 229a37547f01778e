"""Frames: how records lie in a segment file, so that damage is seen, named and stepped over. No input or output happens here.

    segment = magic and version (8 bytes), then frames
    frame   = length of the body (u32), checksum (u32), body; little endian
    body    = one record in MessagePack: an array whose first element is the tag

The checksum is the CRC-32 of the body, begun with a seed that belongs to the segment. So bytes that a client sent, and that happen to
look like a frame, are not taken for one when the frame around them is damaged.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"GLPAYLD\x02"
HEADER_BYTES = len(MAGIC)
FRAME_BYTES = 8  # what stands before a body
LARGEST_BODY = 256 * 1024 * 1024  # a bound, so that a damaged length is seen as such

_FRAME = struct.Struct("<II")
# A body begins as a MessagePack array (short, or with a 16-bit length) whose first element is the text "t", "l" or "x". It is looked
# ahead for, so that bytes before a body which happen to look like one do not hide it.
_BODY = re.compile(rb"(?=(?:[\x90-\x9f]|\xdc..)\xa1[tlx])", re.DOTALL)


def seed_of(segment: str) -> int:
    """The seed of the checksums in a segment, from its file name."""
    return zlib.crc32(segment.encode())


def frame(body: bytes, *, seed: int) -> bytes:
    """Return the body with its length and checksum before it."""
    return _FRAME.pack(len(body), zlib.crc32(body, seed)) + body


@dataclass(frozen=True, slots=True)
class Piece:
    """What lies at an offset: a whole body, or a stretch of damage with the reason. `end` is the offset after it."""

    offset: int
    end: int
    body: memoryview | None
    reason: str = ""


def pieces(content: memoryview, start: int, *, seed: int, whole: bool) -> Iterator[Piece]:
    """Yield what lies in the content from `start` on, in order.

    The last frame may not be all there yet: then nothing is yielded for it, unless `whole` says that no more will come. A stretch that
    is not a frame ends where the next valid frame begins.
    """
    at = start
    size = len(content)
    while at < size:
        end, reason = _check(content, at, seed)
        if not reason:
            yield Piece(at, end, content[at + FRAME_BYTES : end])
            at = end
            continue
        following = _next_frame(content, at + 1, seed)
        if following is None and not whole:
            # Either a frame that is being written, or damage whose end is not in sight: what comes next will tell.
            return
        stop = size if following is None else following
        yield Piece(at, stop, None, reason)
        at = stop


def _check(content: memoryview, at: int, seed: int) -> tuple[int, str]:
    """Return the end of the frame at an offset and "", or the reason why none is there."""
    if at + FRAME_BYTES > len(content):
        return at, "ends in the middle of a frame"
    length, checksum = _FRAME.unpack_from(content, at)
    if not 0 < length <= LARGEST_BODY:
        return at, f"a frame of {length} bytes, which none has"
    end = at + FRAME_BYTES + length
    if end > len(content):
        return at, "ends in the middle of a frame"
    if zlib.crc32(content[at + FRAME_BYTES : end], seed) != checksum:
        return at, "the checksum does not fit"
    return end, ""


def _next_frame(content: memoryview, start: int, seed: int) -> int | None:
    """The offset of the first valid frame at or after `start`."""
    for found in _BODY.finditer(content, start + FRAME_BYTES):
        at = found.start() - FRAME_BYTES
        if not _check(content, at, seed)[1]:
            return at
    return None
