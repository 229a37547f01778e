"""Control's side of the monitor worker: starts it, asks it, and starts it again when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TypeVar

import msgspec

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.signatures import Signature
from goldenloop.monitors.analyst import QualityFacts, QualityQuestion, Span, Summary, TrainingFacts, WindowFacts
from goldenloop.monitors.catalogue.base import Asked
from goldenloop.monitors.comparing import BesideFacts, ComparedFacts, Comparison
from goldenloop.monitors.worker import read_message, write_message

Answer = TypeVar("Answer")
_ATTEMPTS = 3  # a question that kills the worker so often is given up


class AnalystProcess:
    """An `Analyst` whose work is done elsewhere. Safe to call from several threads; one question at a time."""

    def __init__(self, payloads: Path, *, log: Path) -> None:
        self._payloads = payloads
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: dict[tuple[str, str], bool] = {}

    def expect(self, namespace: str, service: str, *, replay: bool) -> None:
        self._expected[namespace, service] = replay
        self._ask("expect", type(None), namespace=namespace, service=service, replay=replay)

    def sync(self) -> dict[str, Summary]:
        return self._ask("sync", dict[str, Summary])

    def count_before(self, namespace: str, service: str, event_us: int) -> int:
        return self._ask("count_before", int, namespace=namespace, service=service, event_us=event_us)

    def event_time_at(self, namespace: str, service: str, position: int) -> int:
        return self._ask("event_time_at", int, namespace=namespace, service=service, position=position)

    def window(
        self, span: Span, champion: str, reference: str, signature: Signature, asked: tuple[Asked, ...]
    ) -> WindowFacts:
        return self._ask(
            "window",
            WindowFacts,
            span=span,
            champion=champion,
            reference=reference,
            signature=signature,
            asked=asked,
        )

    def quality(self, span: Span, asked: QualityQuestion) -> QualityFacts:
        return self._ask("quality", QualityFacts, span=span, asked=asked)

    def compare(self, span: Span, asked: Comparison) -> ComparedFacts:
        return self._ask("compare", ComparedFacts, span=span, asked=asked)

    def beside(self, span: Span, champion: str, challenger: str) -> BesideFacts:
        return self._ask("beside", BesideFacts, span=span, champion=champion, challenger=challenger)

    def new_labels(self, namespace: str, service: str, since_us: int, until_us: int) -> int:
        return self._ask("new_labels", int, namespace=namespace, service=service, since_us=since_us, until_us=until_us)

    def training_rows(
        self, span: Span, label: str, timestamp: str, path: str, without: tuple[tuple[int, int], ...]
    ) -> TrainingFacts:
        return self._ask(
            "training_rows", TrainingFacts, span=span, label=label, timestamp=timestamp, path=path, without=without
        )

    def close(self) -> None:
        """Let the worker end."""
        with self._lock:
            self._stop()

    def _ask(self, method: str, kind: type[Answer], **arguments: object) -> Answer:
        question = msgspec.msgpack.encode((method, arguments))
        with self._lock:
            for _ in range(_ATTEMPTS):
                reply = self._exchange(question)
                if reply is None:
                    self._stop()
                    continue
                succeeded, result = msgspec.msgpack.decode(reply, type=tuple[bool, msgspec.Raw])
                if succeeded:
                    return msgspec.msgpack.decode(result, type=kind)
                what, where, mend = msgspec.msgpack.decode(result, type=tuple[str, str, str])
                raise GoldenloopError(what, where=where, mend=mend)
        raise UnavailableError(
            f"the monitor worker died {_ATTEMPTS} times over {method!r}", where=str(self._log), mend="Its log says why."
        )

    def _exchange(self, question: bytes) -> bytes | None:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write_message(process.stdin, question)  # type: ignore[arg-type]
            return read_message(process.stdout)  # type: ignore[arg-type]
        except OSError:
            return None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "goldenloop.monitors.worker", str(self._payloads)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                )
            for (namespace, service), replay in self._expected.items():
                arguments = {"namespace": namespace, "service": service, "replay": replay}
                self._exchange(msgspec.msgpack.encode(("expect", arguments)))
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            try:
                process.stdin.close()
                process.wait(timeout=5)
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
