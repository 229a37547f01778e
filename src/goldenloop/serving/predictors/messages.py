"""What workers, predictor processes and their host say to each other over a Unix stream socket.

worker → process   Score, Call
process → worker   Hello once, after the model is loaded; Answer or Failed for each call; Bye when it is about to end: what it has not
                   answered by then it has not begun
host → worker      Refused, in the place of Hello, where the model could not be loaded
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

import msgspec

LARGEST_FRAME = 1 << 30  # bytes; a longer one ends the connection
WIRE_VERSION = 1
PREFIX = struct.Struct("<II")  # lengths of the header and of the body

Method = Literal["predict", "explain", "preprocess", "postprocess"]
FailureKind = Literal["raised", "memory", "late"]
# raised: by the model's code. memory: it had none left. late: its time was over.


class Score(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Score rows that lie in arrays by name. Times are microseconds; the deadline is on the machine's monotonic clock."""

    call: int
    limit_us: int  # how long it may run once it has begun
    deadline_us: int  # after this it need not begin
    rows: int
    tensors: dict[str, object]


class Call(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Call a method of the user's own class."""

    call: int
    limit_us: int
    deadline_us: int
    method: Method
    payload: object
    headers: dict[str, str]


class Hello(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """Who answers. `instance` is that start of the process, `connection` this connection's number in its page, `lanes` how many calls
    it takes at the same time.
    """

    wire: int
    instance: int
    connection: int
    lanes: int


class Answer(msgspec.Struct, array_like=True, tag=4, frozen=True):
    call: int
    result: object


class Failed(msgspec.Struct, array_like=True, tag=5, frozen=True):
    call: int
    kind: FailureKind
    text: str


class Bye(msgspec.Struct, array_like=True, tag=6, frozen=True):
    pass


class Refused(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """The model is not loaded, and will be tried again in so many seconds."""

    reason: str
    retry_seconds: float


ToProcess: TypeAlias = Score | Call
ToWorker: TypeAlias = Hello | Answer | Failed | Bye | Refused


def plain_frame(message: msgspec.Struct) -> bytes:
    """The frame of a message without arrays."""
    header = msgspec.msgpack.encode(message)
    return PREFIX.pack(len(header), 0) + header
