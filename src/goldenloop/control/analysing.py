"""AnalysisTemplates that guard a rollout: their metrics are measured on threads of their own, so that no slow server holds up the ring.

What has been measured is kept with the rollout, in the transaction of what it led to. A measurement that was under way when control died
is made again. An analysis that fails rolls back; one that cannot be made, or says nothing, keeps the champion.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from goldenloop.control.memory import RolloutMemory
from goldenloop.control.view import LoopView
from goldenloop.core.clock import SECOND
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.core.json import Json
from goldenloop.rollouts.evidence import AnalysisState, MetricState
from goldenloop.standards import kubernetes
from goldenloop.standards.analysis_template import NO_LIMIT, Metric, Prometheus, Web, assess, pick, read_metrics
from goldenloop.standards.rollout import AnalysisUse
from goldenloop.store import resources
from goldenloop.store.database import Transaction

TEMPLATE = kubernetes.kind_named("analysistemplates")
LARGEST_ANSWER_BYTES = 1 << 20
AT_ONCE = 4  # measurements on their way, of all rollouts
_SHORTEST_INTERVAL_US = SECOND

Measure = Callable[[Metric], Json]


def measure(metric: Metric) -> Json:
    """The result of one measurement. Raises GoldenloopError where there is none; takes at most about the provider's timeout."""
    provider = metric.provider
    if isinstance(provider, Prometheus):
        query = urllib.parse.urlencode({"query": provider.query})
        answer = _fetch(f"{provider.address.rstrip('/')}/api/v1/query?{query}", provider)
        return _samples(answer, metric.name)
    answer = _fetch(provider.url, provider, method=provider.method, body=provider.body)
    return pick(answer, provider.json_path, where=f"metric {metric.name}") if provider.json_path else answer


class Analyses:
    """Measurements on their way. `advance` is called by one thread."""

    def __init__(self, measure_with: Measure = measure) -> None:
        self._measure = measure_with
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="analysis")
        self._under_way: dict[tuple[str, str, str], Future[Json]] = {}

    def advance(
        self, transaction: Transaction, view: LoopView, rollout: RolloutMemory, *, now_us: int
    ) -> tuple[AnalysisState, ...]:
        """The analyses of a rollout after what has been measured since; starts what is due."""
        uses = {use.template_name: use for use in view.spec.rollout.analysis}
        return tuple(
            self._advance(transaction, view, rollout.name, state, uses.get(state.name), now_us)
            for state in rollout.state.analyses
        )

    def close(self) -> None:
        """Begin nothing more; what is on its way ends by its own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _advance(
        self,
        transaction: Transaction,
        view: LoopView,
        rollout: str,
        state: AnalysisState,
        use: AnalysisUse | None,
        now_us: int,
    ) -> AnalysisState:
        if state.phase != "Running":
            return state
        if use is None:
            return msgspec.structs.replace(state, phase="Successful", message="the Loop no longer asks for it")
        try:
            metrics = _metrics_of(transaction, view.namespace, use)
        except GoldenloopError as error:
            return msgspec.structs.replace(state, phase="Error", message=str(error))
        known = {metric.name: metric for metric in state.metrics}
        found = []
        for metric in metrics:
            mine = known.get(metric.name) or MetricState(name=metric.name, next_us=now_us + metric.initial_delay_us)
            found.append(self._metric((rollout, state.name, metric.name), metric, mine, now_us))
        return _concluded(state, tuple(found), is_endless=any(metric.count is None for metric in metrics))

    def _metric(self, key: tuple[str, str, str], metric: Metric, state: MetricState, now_us: int) -> MetricState:
        if state.phase != "Running":
            return state
        future = self._under_way.get(key)
        if future is None:
            # A clock that was set back must not hold a measurement for longer than its interval.
            wait_us = max(metric.interval_us, metric.initial_delay_us)
            if now_us >= state.next_us or state.next_us - now_us > wait_us:
                self._under_way[key] = self._threads.submit(self._measure, metric)
            return state
        if not future.done():
            return state
        del self._under_way[key]
        return measured(metric, state, future, now_us=now_us)


def begun(view: LoopView) -> tuple[AnalysisState, ...]:
    """The analyses of a rollout that begins. A stream that is replayed has no wall clock that a server outside could be asked about."""
    if view.spec.replay:
        return ()
    return tuple(AnalysisState(name=use.template_name) for use in view.spec.rollout.analysis)


def measured(metric: Metric, state: MetricState, future: Future[Json], *, now_us: int) -> MetricState:
    """A metric after one more measurement."""
    state = msgspec.structs.replace(state, next_us=now_us + max(metric.interval_us, _SHORTEST_INTERVAL_US))
    try:
        result = future.result()
        outcome = assess(metric, result)
    except Exception as error:  # whatever a stranger's server says: it is no evidence
        errors = state.errors_in_a_row + 1
        over = errors > metric.consecutive_error_limit
        return msgspec.structs.replace(
            state, errors_in_a_row=errors, message=f"no result: {error}"[:500], phase="Error" if over else "Running"
        )
    said = f"{json.dumps(result)[:200]} is {outcome.lower()}"
    state = msgspec.structs.replace(
        state,
        message=said,
        errors_in_a_row=0,
        successful=state.successful + (outcome == "Successful"),
        failed=state.failed + (outcome == "Failed"),
        inconclusive=state.inconclusive + (outcome == "Inconclusive"),
    )
    if metric.failure_limit != NO_LIMIT and state.failed > metric.failure_limit:
        return msgspec.structs.replace(state, phase="Failed")
    if metric.inconclusive_limit != NO_LIMIT and state.inconclusive > metric.inconclusive_limit:
        return msgspec.structs.replace(state, phase="Inconclusive")
    if metric.count is not None and state.successful + state.failed + state.inconclusive >= metric.count:
        return msgspec.structs.replace(state, phase="Successful")
    return state


def _concluded(state: AnalysisState, metrics: tuple[MetricState, ...], *, is_endless: bool) -> AnalysisState:
    """An analysis is as bad as its worst metric; it is successful when all are."""
    state = msgspec.structs.replace(state, metrics=metrics, is_endless=is_endless)
    for phase in ("Failed", "Error", "Inconclusive"):
        for metric in metrics:
            if metric.phase == phase:
                return msgspec.structs.replace(state, phase=metric.phase, message=f"{metric.name}: {metric.message}")
    if all(metric.phase == "Successful" for metric in metrics):
        return msgspec.structs.replace(state, phase="Successful", message="every metric was measured as often as asked")
    return state


def _metrics_of(transaction: Transaction, namespace: str, use: AnalysisUse) -> tuple[Metric, ...]:
    document = resources.find(transaction, TEMPLATE, namespace, use.template_name)
    where = f"analysistemplates/{use.template_name}"
    if document is None:
        raise InvalidSpecError("there is no such AnalysisTemplate", where=where, mend="Apply it first.")
    return read_metrics(document["spec"], {argument.name: argument.value for argument in use.args}, where=where)


def _fetch(address: str, provider: Prometheus | Web, *, method: str = "GET", body: str = "") -> Json:
    headers = {"Accept": "application/json", **dict(provider.headers)}
    data = body.encode() if body else None
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(address, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=provider.timeout_seconds) as answer:
            content = answer.read(LARGEST_ANSWER_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{error}", where=address) from error
    if len(content) > LARGEST_ANSWER_BYTES:
        raise UnavailableError("the answer is larger than 1 MiB", where=address)
    try:
        found: Json = json.loads(content)
    except ValueError as error:
        raise InvalidSpecError(f"the answer is not JSON: {error}", where=address) from error
    return found


def _samples(answer: Json, name: str) -> Json:
    """What Argo gives a condition: a list of numbers for a vector, one number for a scalar."""
    where = f"metric {name}"
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or "result" not in data:
        raise InvalidSpecError("this is no answer of Prometheus", where=where)
    result, kind = data["result"], data.get("resultType")
    try:
        if kind == "vector" and isinstance(result, list):
            return [_number(each["value"][1]) for each in result]  # type: ignore[index, call-overload]
        if kind == "scalar" and isinstance(result, list):
            return _number(result[1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidSpecError(f"this is no answer of Prometheus: {error!r}", where=where) from error
    raise InvalidSpecError(f"a result of type {kind!r} is not understood", where=where, mend="Ask for a vector.")


def _number(text: object) -> float:
    value = float(str(text))
    if math.isnan(value):
        raise InvalidSpecError(
            "the result is not a number", mend="Nothing was counted yet, perhaps: there is no evidence."
        )
    return value
