"""Compression of messages, and their form on the wire."""

from __future__ import annotations

import zlib
from typing import Final

from goldenloop.serving.grpc.inbox import LARGEST_MESSAGE, Content
from goldenloop.serving.grpc.status import CallError, Status

ENCODINGS: Final = ("identity", "deflate", "gzip")
SLOW: Final = 256 * 1024  # bytes from which packing and unpacking take so long that they are done beside the event loop
SMALLEST_PACKED: Final = 1024  # bytes of an answer that is worth it
_FASTEST: Final = 1
_WINDOWS = {"deflate": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}


def unpacked(content: Content, encoding: str) -> Content:
    """Return a message without its compression. Raises CallError for what is none of it, or larger than a message may be."""
    if encoding not in _WINDOWS:
        raise CallError(
            Status.INTERNAL if encoding == "identity" else Status.UNIMPLEMENTED,
            f"the message is said to be compressed by {encoding[:40]!r}",
            mend=f"Send grpc-encoding, one of {', '.join(_WINDOWS)}.",
        )
    unpacker = zlib.decompressobj(_WINDOWS[encoding])
    try:
        plain = unpacker.decompress(content, LARGEST_MESSAGE)
    except zlib.error as error:
        raise CallError(
            Status.INTERNAL, f"the message is not compressed by {encoding}: {error}", mend="Send it as it is."
        ) from error
    if unpacker.unconsumed_tail:
        raise CallError(
            Status.RESOURCE_EXHAUSTED, f"the message has more than {LARGEST_MESSAGE} bytes", mend="Split the rows."
        )
    if not unpacker.eof or unpacker.unused_data:
        raise CallError(Status.INTERNAL, f"the message is not one text compressed by {encoding}", mend="Send it whole.")
    return plain


def packed(content: bytes, encoding: str) -> bytes:
    """Return a message compressed, with its prefix."""
    packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _WINDOWS[encoding])
    made = packer.compress(content) + packer.flush()
    return b"\1" + len(made).to_bytes(4) + made


def framed(content: bytes) -> bytes:
    """Return a message as it is, with its prefix."""
    return b"\0" + len(content).to_bytes(4) + content
