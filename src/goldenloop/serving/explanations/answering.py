"""Explaining answers while they are asked for: by the explainer of a service, by the `explain` of a user's class, or by the version's own.

Linear models are explained on the event loop; boosted trees by a process of their own (`aside`), which may crash of them; what is sampled
in a thread beside the requests. All of it within the service's time limit, or `SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.served import TensorSpec
from goldenloop.payloads.records import Answer
from goldenloop.serving.explanations.aside import explain_aside
from goldenloop.serving.explanations.records import Explained, Linear, Trees, read_explainer
from goldenloop.serving.explanations.rows import explain_row
from goldenloop.serving.queues import TimedOutError
from goldenloop.serving.scorers import RemoteScorer, Scorer
from goldenloop.standards.open_inference.records import InferRequest, ModelMetadata
from goldenloop.standards.open_inference.rest import V1Request
from goldenloop.standards.open_inference.table import labels_of, rows_of_v1, rows_of_v2
from goldenloop.standards.open_inference.tensors import Tensor, untyped
from goldenloop.standards.tabular import Batch, Layout

if TYPE_CHECKING:
    from goldenloop.serving.dataplane import Deployed

EXPLAINER_SUFFIX = "-explainer"  # of the name by which the explanations of a service are asked for as a model
LARGEST_ROWS = 100  # explained in one request
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows explained: the version that did it, its answers, and why."""

    version: str
    layout: Layout
    answers: tuple[Answer, ...]
    explained: list[Explained]


async def explain_v1(deployed: Deployed, request: V1Request, headers: Mapping[str, str]) -> dict[str, object]:
    """Answer a V1 `:explain` request. Raises InvalidSpecError, UnavailableError, TimedOutError."""
    by_code = _own_explainer(deployed)
    if by_code is not None:
        document = {request.where: untyped(request.content, request.where), "parameters": request.parameters}
        made = await by_code.link.call("explain", document, dict(headers), timeout_seconds=_seconds(deployed))
        return made if isinstance(made, dict) else {"explanations": _plain(made)}
    layout = _layout(deployed)
    rows = await _explain(deployed, rows_of_v1(request, layout, also=deployed.columns))
    return {
        "model_name": deployed.name,
        "model_version": rows.version,
        "predictions": labels_of(rows.answers, layout.signature),
        "explanations": [
            {
                "of": each.of,
                "score": each.score,
                "usual": each.usual,
                "method": each.method,
                "background": each.against,
                "attributions": {part.name: part.contribution for part in each.attributions},
            }
            for each in rows.explained
        ],
    }


async def explain_v2(
    deployed: Deployed, request: InferRequest, headers: Mapping[str, str]
) -> tuple[str, object | list[Tensor]]:
    """Answer a V2 request to `NAME-explainer`: the version, and tensors or what the service's own explainer gave.

    Raises as `explain_v1`.
    """
    by_code = _own_explainer(deployed)
    if by_code is not None:
        inputs = [
            {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": tensor.array()}
            for tensor in request.inputs
        ]
        document = {"id": request.id, "parameters": dict(request.parameters), "inputs": inputs}
        made = await by_code.link.call("explain", document, dict(headers), timeout_seconds=_seconds(deployed))
        return deployed.service.champion, made
    layout = _layout(deployed)
    rows = await _explain(deployed, rows_of_v2(request, layout, also=deployed.columns))
    by_name = [{part.name: part.contribution for part in each.attributions} for each in rows.explained]
    parts = np.array([[each[name] for name in layout.names] for each in by_name], dtype=np.float64)
    base = np.array([each.usual for each in rows.explained], dtype=np.float64)
    return rows.version, [Tensor.of_array("attributions", parts), Tensor.of_array("base", base)]


def explainer_metadata(deployed: Deployed, predictor: ModelMetadata) -> ModelMetadata:
    """What `NAME-explainer` takes and gives. Raises UnavailableError where the service cannot be explained."""
    outputs: tuple[TensorSpec, ...] = ()
    if _own_explainer(deployed) is None:
        width = _layout(deployed).width
        outputs = (TensorSpec("attributions", "FP64", (-1, width)), TensorSpec("base", "FP64", (-1,)))
    return ModelMetadata(
        predictor.name + EXPLAINER_SUFFIX, predictor.versions, "goldenloop_explainer", predictor.inputs, outputs
    )


def _own_explainer(deployed: Deployed) -> RemoteScorer | None:
    """The user's code that explains, if there is any."""
    scorer = deployed.models[deployed.service.champion]
    by_code = deployed.explainer if deployed.explainer is not None else scorer if scorer.form.form == "code" else None
    return by_code if isinstance(by_code, RemoteScorer) else None


def _layout(deployed: Deployed) -> Layout:
    layout = deployed.models[deployed.service.champion].layout
    if layout is None:
        raise UnavailableError(
            f"{deployed.name!r} takes no table", where=deployed.name, mend="Give the service an explainer of your own."
        )
    return layout


def _seconds(deployed: Deployed) -> float:
    return deployed.service.timeout_seconds or SECONDS


async def _explain(deployed: Deployed, batch: Batch) -> _Rows:
    version, seconds = deployed.service.champion, _seconds(deployed)
    scorer, layout = deployed.models[version], _layout(deployed)
    if batch.rows > LARGEST_ROWS:
        raise InvalidSpecError(
            f"{batch.rows} rows are more than are explained at a time",
            where="instances",
            mend=f"Send at most {LARGEST_ROWS}.",
        )
    folder = next(Path(served.path) for served in deployed.service.versions if served.version == version)
    explainer = read_explainer(folder)
    try:
        async with asyncio.timeout(seconds):
            answers = await _answers(scorer, batch, seconds)
            rows = [dict(zip(layout.names, row, strict=True)) for row in layout.values(batch)]
            asked = list(zip(rows, (answer for answer, _ in answers), strict=True))
            if isinstance(explainer.form, Linear):
                explained = [
                    explain_row(folder, layout, _never, row, answer, explainer=explainer) for row, answer in asked
                ]
            elif isinstance(explainer.form, Trees):
                explained = await explain_aside(folder, layout.signature, explainer.form, asked)
            else:
                predict = _Predict(scorer, layout, asyncio.get_running_loop(), seconds)
                explained = await asyncio.to_thread(
                    lambda: [
                        explain_row(folder, layout, predict, row, answer, explainer=explainer) for row, answer in asked
                    ]
                )
    except TimeoutError as error:
        raise TimedOutError(
            f"not explained within {seconds:g} s", where=deployed.name, mend="Send fewer rows."
        ) from error
    return _Rows(version, layout, answers, explained)


async def _answers(scorer: Scorer, batch: Batch, seconds: float) -> tuple[Answer, ...]:
    result = await scorer.ask(batch, timeout_seconds=seconds)
    assert isinstance(result, tuple)  # as of every table
    return result


class _Predict:
    """Scores from a thread: the model is asked through the event loop, and not any more once the request's time is over."""

    def __init__(self, scorer: Scorer, layout: Layout, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._scorer = scorer
        self._layout = layout
        self._loop = loop
        self._end = time.monotonic() + seconds

    def __call__(self, columns: Mapping[str, NDArray[np.generic]], rows: int, /) -> tuple[Answer, ...]:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        given = self._layout.from_columns(columns, where="columns")
        assert given.rows == rows
        asked = asyncio.run_coroutine_threadsafe(_answers(self._scorer, given, left), self._loop)
        return asked.result(left)


def _never(_columns: Mapping[str, NDArray[np.generic]], _rows: int, /) -> tuple[Answer, ...]:
    raise AssertionError("a linear model is explained by its coefficients")


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
