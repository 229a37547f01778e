"""What a predictor process tells its host: JSON, one message a line. The host answers nothing; a byte from it means: end."""

from __future__ import annotations

import contextlib
import socket

import msgspec

# Exit codes of a predictor: it was asked to end; its model could not be loaded; the model's code closed what the process needs.
ENDED, LOAD_FAILED, CLOSED = 0, 3, 4


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded."""

    lanes: int


class LoadFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The model cannot be loaded."""

    reason: str


class OutOfMemory(msgspec.Struct, frozen=True, tag="memory"):
    """A call found no memory; the process ends."""


ToHost = Ready | LoadFailed | OutOfMemory


def say(control: socket.socket, message: ToHost) -> None:
    """Tell the host, if it is still there."""
    with contextlib.suppress(OSError):
        control.sendall(msgspec.json.encode(message) + b"\n")
