"""The monitor worker: an analyst in a process of its own, so that reading the log never holds up control.

    python -m goldenloop.monitors.worker PAYLOADS

Questions and answers are MessagePack, one at a time, over standard input and output: a 4-byte length, then `[method, arguments]`, or
`[true, result]` and `[false, [what, where, mend]]`. It ends when its standard input does.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.signatures import Signature
from goldenloop.monitors.analyst import LogAnalyst, QualityQuestion, Span
from goldenloop.monitors.catalogue.base import Asked
from goldenloop.monitors.comparing import Comparison
from goldenloop.payloads.log import PayloadReader

LENGTH = struct.Struct("<I")
LARGEST_MESSAGE = 256 << 20
RECORDS_AT_ONCE = 10_000
_METHODS = frozenset(
    {
        "expect",
        "sync",
        "count_before",
        "event_time_at",
        "window",
        "quality",
        "compare",
        "beside",
        "new_labels",
        "training_rows",
    }
)


def read_message(stream: BinaryIO) -> bytes | None:
    """The next message, or None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def write_message(stream: BinaryIO, body: bytes) -> None:
    """Send a message."""
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


_KINDS: dict[tuple[str, str], object] = {
    ("window", "asked"): tuple[Asked, ...],
    ("quality", "asked"): QualityQuestion,
    ("compare", "asked"): Comparison,
}


def _argument(method: str, name: str, value: object) -> object:
    if name == "span":
        return msgspec.convert(value, Span)
    if name == "signature":
        return msgspec.convert(value, Signature)
    kind = _KINDS.get((method, name))
    return value if kind is None else msgspec.convert(value, kind)


def main(folder: str) -> None:
    """Answer until the other side is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not stand among the answers
    reader = PayloadReader(Path(folder))
    analyst = LogAnalyst(lambda: reader.read(RECORDS_AT_ONCE), damage=lambda: len(reader.damage))
    while (message := read_message(sys.stdin.buffer)) is not None:
        method, arguments = msgspec.msgpack.decode(message, type=tuple[str, dict[str, object]])
        try:
            if method not in _METHODS:
                raise GoldenloopError(f"the monitor worker knows no {method!r}")
            result = getattr(analyst, method)(
                **{name: _argument(method, name, value) for name, value in arguments.items()}
            )
            reply: tuple[bool, object] = (True, result)
        except GoldenloopError as error:
            reply = (False, (error.what, error.where, error.mend))
        write_message(answers, msgspec.msgpack.encode(reply))


if __name__ == "__main__":
    main(sys.argv[1])
