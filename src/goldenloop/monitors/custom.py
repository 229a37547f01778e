"""Monitors of a user's own: one class in a file, measured in a process of its own.

    python -m goldenloop.monitors.custom

The code runs neither in control nor in the monitor worker: a child of the worker loads it, and is ended when it takes longer than
`LONGEST_SECONDS` or dies. Whatever goes wrong is a finding with the verdict error. Questions are pickles from the worker; answers are
MessagePack, since nothing that the code may have made is to be unpickled.
"""

from __future__ import annotations

import os
import pickle
import selectors
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors.catalogue.base import Asked, Monitor, Past, Window
from goldenloop.monitors.findings import Outcome, bounded, could_not
from goldenloop.standards.loop import NamedMonitor

LONGEST_SECONDS = 10.0  # of one window, the first one's import included
_LARGEST_ANSWER = 16 << 20
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Question:
    """A window for a custom monitor. `labelled`: whether its labels are due."""

    asked: Asked
    window: Window
    known: JsonObject | None
    labelled: bool


def load_monitor(settings: NamedMonitor) -> Monitor:  # type: ignore[type-arg]  # it knows a record of its own
    """The monitor of a source, run here and now. Raises InvalidSpecError with what is wrong with it."""
    file, _, name = settings.source.rpartition(":")
    space: dict[str, object] = {"__name__": "custom_monitor", "__file__": file}
    try:
        exec(compile(settings.code, file, "exec"), space)  # the operator's own code, in a process made for it
    except Exception as error:
        raise InvalidSpecError(
            f"{type(error).__name__}: {error}", where=file, mend="Run the file by itself."
        ) from error
    found = space.get(name)
    if not (isinstance(found, type) and issubclass(found, Monitor)):
        raise InvalidSpecError(
            f"there is no monitor {name!r}",
            where=file,
            mend="Derive it from goldenloop.monitors.catalogue.base.Monitor.",
        )
    try:
        made: Monitor[object] = found()
    except TypeError as error:
        raise InvalidSpecError(str(error), where=settings.source, mend="It is made without arguments.") from error
    return made


def fit_custom(settings: NamedMonitor, past: Past) -> JsonObject | None:
    """What the monitor needs to know of the reference; in the assess job."""
    known = load_monitor(settings).fit(past)
    fitted: JsonObject | None = None if known is None else msgspec.to_builtins(known)
    return fitted


def answer(question: Question) -> Outcome | None:
    """What the monitor says; None where it is to be asked at the other time."""
    settings = question.asked.settings
    name = settings.source.rpartition(":")[2]
    try:
        monitor = load_monitor(settings)
        if monitor.needs_labels is not question.labelled:
            return None
        if len(question.window) < monitor.fewest_rows:
            note = f"{len(question.window)} rows; fewer than {monitor.fewest_rows} say nothing"
            return could_not("custom", f"{name}.rows", note)
        known: object = question.known
        if known is not None and monitor.knows is not None:
            known = msgspec.convert(known, monitor.knows)
        outcome = bounded(monitor.measure(question.window, known, question.asked))
    except Exception as error:
        return could_not("custom", f"{name}.error", f"{type(error).__name__}: {error}"[:500], verdict=Verdict.ERROR)
    # It warns by its threshold or by its own past; the promise belongs to the monitors whose scores are known.
    findings = tuple(
        msgspec.structs.replace(each, monitor="custom", metric=f"{name}.{each.metric}") for each in outcome.findings
    )
    flags = tuple(msgspec.structs.replace(each, monitor="custom") for each in outcome.flags)
    return Outcome(monitor=settings.name, findings=findings, flags=flags, broken=outcome.broken)


class CustomProcess:
    """The child in which custom monitors run; started when it is needed, and again after it had to be ended."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def measure(self, asked: Asked, window: Window, known: JsonObject | None, *, labelled: bool) -> Outcome | None:
        """What the monitor says of a window; None where it is to be asked at the other time."""
        name = asked.settings.source.rpartition(":")[2]
        question = pickle.dumps(Question(asked, window, known, labelled))
        try:
            reply = self._exchange(question)
            return msgspec.msgpack.decode(reply, type=Outcome | None)
        except TimeoutError:
            note = f"it took longer than {LONGEST_SECONDS:.0f} s and was ended"
        except (OSError, EOFError, msgspec.DecodeError) as error:
            note = f"its process ended: {error}"
        self.close()
        return could_not("custom", f"{name}.error", note, verdict=Verdict.ERROR)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
            child.wait()

    def _exchange(self, question: bytes) -> bytes:
        if self._child is None:
            command = [sys.executable, "-m", "goldenloop.monitors.custom"]
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        end = time.monotonic() + LONGEST_SECONDS
        message = memoryview(_LENGTH.pack(len(question)) + question)
        while message:  # an unbuffered pipe takes what it can
            message = message[os.write(child.stdin.fileno(), message) :]
        (length,) = _LENGTH.unpack(_read(child.stdout, _LENGTH.size, end))
        if length > _LARGEST_ANSWER:
            raise EOFError(f"its answer has {length} bytes")
        return _read(child.stdout, length, end)


def _read(stream: object, count: int, end: float) -> bytes:
    """So many bytes before `end`. Raises TimeoutError, or EOFError where the stream ends."""
    descriptor = stream.fileno()  # type: ignore[attr-defined]
    found = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while len(found) < count:
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError
            part = os.read(descriptor, count - len(found))
            if not part:
                raise EOFError("it said nothing")
            found += part
    return found


def main() -> None:
    """Answer until the other side is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not stand among the answers
    source: BinaryIO = sys.stdin.buffer
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        body = msgspec.msgpack.encode(answer(pickle.loads(source.read(length))))
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()


if __name__ == "__main__":
    # By its own name, so that questions are of the class that they were made of.
    from goldenloop.monitors.custom import main as run

    run()
