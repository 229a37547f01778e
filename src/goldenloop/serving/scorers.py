"""A version that can score: in this process, or in a predictor process of its own.

A version in this process is scored on the event loop while that is quick (`INLINE_SECONDS`, judged by what its calls took so far), and
otherwise in a thread of its own: one thread a version, so that a slow model holds up neither the others nor the health checks.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.core.routing import Served, Service
from goldenloop.core.served import SERVED_FILE, ServedForm
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import columns_of
from goldenloop.serving.graphs import load_graph
from goldenloop.serving.models import load, read_signature
from goldenloop.serving.predictors.answers import answers_of
from goldenloop.serving.predictors.link import PredictorLink
from goldenloop.serving.predictors.wire import Array
from goldenloop.serving.scoring import TableModel
from goldenloop.serving.work import CodeWork, Document, Result, TensorWork, Work
from goldenloop.standards.tabular import Batch, Layout

INLINE_SECONDS = 0.002  # a call that is expected to take longer does not run on the event loop
_LEARNING = 0.2  # weight of the newest call in the mean of what calls take
_MEND = "Apply the service again; `goldenloop describe` tells where its model came from."


class _Model(Protocol):
    def score(self, work: Work, /) -> Result: ...


class Scorer:
    """One version. `layout` and `signature` are those of a table, None for other forms."""

    def __init__(self, form: ServedForm, *, size_bytes: int = 0) -> None:
        self.form = form
        self.signature: Signature | None = form.signature if form.form == "table" else None
        self.layout = Layout(self.signature) if self.signature is not None else None
        self.columns = "" if self.layout is None else columns_of(self.layout.logged)  # as the payload log names them
        self.size_bytes = size_bytes
        self.load_seconds = 0.0

    @property
    def lanes(self) -> int:
        """How many calls may go on at the same time."""
        return 1

    def is_inline(self, rows: int) -> bool:  # noqa: ARG002
        """Whether so many rows are scored so quickly that it may be done on the event loop."""
        return False

    def score(self, work: Work) -> Result:
        """Score on the event loop; only where `is_inline` says so. Raises GoldenloopError where the model fails."""
        raise NotImplementedError

    async def ask(self, work: Work, *, timeout_seconds: float | None) -> Result:
        """Score without holding up the event loop. Raises GoldenloopError where the model fails or takes too long."""
        raise NotImplementedError

    def is_fault_of_one(self, error: GoldenloopError) -> bool:  # noqa: ARG002
        """Whether an error of a call with several requests may be due to one of them, so that each is worth a call of its own."""
        return True

    def is_away(self, error: GoldenloopError) -> bool:  # noqa: ARG002
        """Whether an error says that the model cannot be asked now, rather than that it failed."""
        return False

    async def close(self) -> None:
        """Let go of threads and connections; calls under way end first."""


class LocalScorer(Scorer):
    """A graph in this process."""

    def __init__(self, form: ServedForm, model: _Model, *, size_bytes: int) -> None:
        super().__init__(form, size_bytes=size_bytes)
        self._model = model
        self._call_seconds = 0.0  # of a call with one row
        self._row_seconds = 0.0  # of each row more
        self._thread: ThreadPoolExecutor | None = None

    @staticmethod
    def of_table(model: TableModel) -> LocalScorer:
        """The scorer of a table's model that is loaded already."""
        form = ServedForm(form="table", runtime="onnx", loader="onnx", signature=model.signature, batching=True)
        return LocalScorer(form, model, size_bytes=0)  # type: ignore[arg-type]  # it is given the work of its form

    def is_inline(self, rows: int) -> bool:
        return self._call_seconds + rows * self._row_seconds < INLINE_SECONDS

    def score(self, work: Work) -> Result:
        begun = time.perf_counter()
        result = self._model.score(work)
        took = time.perf_counter() - begun
        if work.rows <= 4:
            self._call_seconds += (took - self._call_seconds) * _LEARNING
        else:
            a_row = max(0.0, took - self._call_seconds) / work.rows
            self._row_seconds += (a_row - self._row_seconds) * _LEARNING
        return result

    async def ask(self, work: Work, *, timeout_seconds: float | None) -> Result:  # noqa: ARG002
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.score, work)

    async def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)


class RemoteScorer(Scorer):
    """A model in predictor processes."""

    def __init__(self, form: ServedForm, link: PredictorLink, *, size_bytes: int = 0) -> None:
        super().__init__(form, size_bytes=size_bytes)
        self.link = link

    @property
    def lanes(self) -> int:
        return self.link.lanes

    async def ask(self, work: Work, *, timeout_seconds: float | None) -> Result:
        if isinstance(work, CodeWork):
            document = await self.link.call(
                "predict", dict(work.document), dict(work.headers), timeout_seconds=timeout_seconds
            )
            return Document(document)
        if isinstance(work, TensorWork):
            return await self.link.score(work.rows, dict(work.arrays), timeout_seconds=timeout_seconds)
        given: dict[str, Array] = {"numbers": work.numbers}
        if work.texts.shape[1]:
            given["texts"] = work.texts
        answers = await self.link.score(work.rows, given, timeout_seconds=timeout_seconds)
        assert self.signature is not None  # a batch is laid out by it
        return answers_of(answers, self.signature, work.rows)

    def is_away(self, error: GoldenloopError) -> bool:
        return isinstance(error, UnavailableError)

    def is_fault_of_one(self, error: GoldenloopError) -> bool:
        return not isinstance(error, UnavailableError)  # the process is gone or hangs: asking again would end it again

    async def close(self) -> None:
        await self.link.close()


def read_form(folder: Path) -> ServedForm:
    """Return what a folder says is in it. Raises UnavailableError and InvalidSpecError."""
    path = folder / SERVED_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServedForm)
    except FileNotFoundError:
        return ServedForm(form="table", runtime="onnx", loader="onnx", signature=read_signature(folder), batching=True)
    except OSError as error:
        raise UnavailableError(
            f"what is served cannot be read: {error.strerror}", where=str(path), mend=_MEND
        ) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidSpecError(f"not a served form: {error}", where=str(path), mend=_MEND) from error


def open_version(served: Served, service: Service, *, sockets: Path | None) -> Scorer:
    """Load a version, or connect to whoever does. Takes long: call it in a thread. Raises UnavailableError and InvalidSpecError."""
    begun = time.perf_counter()
    folder = Path(served.path)
    form = read_form(folder)
    if form.runtime == "process":
        if sockets is None:
            raise UnavailableError(
                "this model needs a predictor process, and there is no host of them",
                mend="Start the platform with `up`.",
            )
        replicas = max(1, service.min_replicas, service.max_replicas)
        link = PredictorLink(sockets, served.digest, max_replicas=replicas)
        return RemoteScorer(form, link)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    model = load(folder) if form.form == "table" else load_graph(folder, form)
    scorer = LocalScorer(form, model, size_bytes=size)  # type: ignore[arg-type]  # each is given the work of its form
    _try(scorer)
    scorer.load_seconds = time.perf_counter() - begun
    return scorer


def _try(scorer: LocalScorer) -> None:
    """Score a row of nothing twice, so that the first request finds everything warm and the cost of a call is known."""
    if scorer.layout is None:
        work: Work = TensorWork(
            1,
            {
                spec.name: np.full([1 if size < 0 else size for size in spec.shape], b"", dtype=object)
                if spec.datatype == "BYTES"
                else np.zeros([1 if size < 0 else size for size in spec.shape], dtype=_numpy(spec.datatype))
                for spec in scorer.form.inputs
            },
        )
    else:
        layout = scorer.layout
        texts = np.full((1, len(layout.category_names)), None, dtype=object)
        work = Batch(1, np.zeros((1, len(layout.number_names))), texts)
    for _ in range(2):
        try:
            scorer.score(work)
        except GoldenloopError:
            return  # nothing is no input to some; the first requests will tell


def _numpy(datatype: str) -> str:
    from goldenloop.standards.open_inference.tensors import DTYPES

    return DTYPES[datatype]
