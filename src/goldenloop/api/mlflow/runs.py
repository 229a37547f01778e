"""Operations on runs, and on what is logged in them."""

from __future__ import annotations

import base64
import binascii
import math

import msgspec

from goldenloop.api.mlflow.calls import Answer, KeyValue, Operation, operation, pairs_of
from goldenloop.api.mlflow.shapes import info_shape, metric_shape, run_shape
from goldenloop.core.clock import Clock
from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.mlflow.limits import (
    MOST_IN_BATCH,
    MOST_METRICS,
    MOST_PARAMS,
    MOST_TAGS,
    check_count,
    read_number,
)
from goldenloop.store.database import Database, Transaction
from goldenloop.tracking import inputs, runs
from goldenloop.tracking.experiments import ACTIVE, DELETED, View, experiment_number
from goldenloop.tracking.inputs import INPUT, OUTPUT, Dataset, DatasetInput, RunModel
from goldenloop.tracking.runs import HistoryPlace, NewRun, Run
from goldenloop.tracking.searching import Question
from goldenloop.tracking.values import Metric

_LARGEST_HISTORY = 25_000
_MOST_BULK_RUNS = 100


class NamedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run by id; older clients call it `run_uuid`."""

    run_id: str = ""
    run_uuid: str = ""

    @property
    def run(self) -> str:
        """The id. Raises InvalidSpecError where there is none."""
        identity = self.run_id or self.run_uuid
        if not identity:
            raise InvalidSpecError("no run is named", where="run_id", mend="Give its id.")
        return identity


class CreateRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a new run is told."""

    experiment_id: str = "0"
    user_id: str = ""
    run_name: str = ""
    start_time: int | None = None
    tags: tuple[KeyValue, ...] = ()


class UpdateRun(NamedRun, frozen=True, kw_only=True):
    """How a run stands."""

    status: str | None = None
    end_time: int | None = None
    run_name: str = ""


class MetricMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a metric."""

    key: str
    value: float | str
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""

    def metric(self) -> Metric:
        """As a record. Raises InvalidSpecError."""
        return Metric(
            key=self.key,
            value=self.value if isinstance(self.value, float) else read_number(self.value, where=self.key[:60]),
            timestamp_ms=self.timestamp,
            step=self.step,
            model_id=self.model_id,
            dataset_name=self.dataset_name,
            dataset_digest=self.dataset_digest,
        )


class LogMetric(MetricMessage, frozen=True, kw_only=True):
    """A value of a metric of a run."""

    run_id: str = ""
    run_uuid: str = ""


class LogKeyValue(NamedRun, frozen=True, kw_only=True):
    """A param or a tag of a run."""

    key: str
    value: str = ""


class LogBatch(NamedRun, frozen=True, kw_only=True):
    """Many values of a run."""

    metrics: tuple[MetricMessage, ...] = ()
    params: tuple[KeyValue, ...] = ()
    tags: tuple[KeyValue, ...] = ()


class LogModel(NamedRun, frozen=True, kw_only=True):
    """What older clients say of a model that they saved among the artifacts of a run."""

    model_json: str = ""


class InputMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that a run read."""

    dataset: Dataset
    tags: tuple[KeyValue, ...] = ()


class ModelMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model that a run read or made."""

    model_id: str
    step: int = 0


class LogInputs(NamedRun, frozen=True, kw_only=True):
    """What a run read."""

    datasets: tuple[InputMessage, ...] = ()
    models: tuple[ModelMessage, ...] = ()


class LogOutputs(NamedRun, frozen=True, kw_only=True):
    """The models that a run made."""

    models: tuple[ModelMessage, ...] = ()


class SearchRuns(msgspec.Struct, frozen=True, kw_only=True):
    """A question for runs."""

    experiment_ids: tuple[str, ...] = ()
    filter: str = ""
    run_view_type: View = View.ACTIVE_ONLY
    max_results: int = 1_000
    order_by: tuple[str, ...] = ()
    page_token: str = ""


class History(NamedRun, frozen=True, kw_only=True):
    """A question for all values of a metric."""

    metric_key: str
    max_results: int | None = None
    page_token: str = ""


class BulkHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A question for the values of a metric of several runs, thinned out to what can be drawn."""

    run_ids: tuple[str, ...] = ()
    metric_key: str
    start_step: int | None = None
    end_step: int | None = None
    max_results: int = 2_500


class RunOperations:
    """What can be done with runs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def operations(self) -> list[Operation]:
        """What to answer."""
        base = "/mlflow/runs"
        return [
            operation("POST", f"{base}/create", CreateRun, self._create),
            operation("POST", f"{base}/update", UpdateRun, self._update),
            operation("GET", f"{base}/get", NamedRun, self._get),
            operation("POST", f"{base}/search", SearchRuns, self._search),
            operation("POST", f"{base}/delete", NamedRun, self._delete),
            operation("POST", f"{base}/restore", NamedRun, self._restore),
            operation("POST", f"{base}/log-metric", LogMetric, self._log_metric),
            operation("POST", f"{base}/log-parameter", LogKeyValue, self._log_param),
            operation("POST", f"{base}/set-tag", LogKeyValue, self._set_tag),
            operation("POST", f"{base}/delete-tag", LogKeyValue, self._delete_tag),
            operation("POST", f"{base}/log-batch", LogBatch, self._log_batch),
            operation("POST", f"{base}/log-model", LogModel, self._log_model),
            operation("POST", f"{base}/log-inputs", LogInputs, self._log_inputs),
            operation("POST", f"{base}/outputs", LogOutputs, self._log_outputs),
            operation("GET", "/mlflow/metrics/get-history", History, self._history),
            operation("GET", "/mlflow/metrics/get-history-bulk-interval", BulkHistory, self._bulk_history),
        ]

    def _create(self, asked: CreateRun) -> Answer:
        start_ms = self._clock.now_us() // 1_000 if asked.start_time is None else asked.start_time
        new = NewRun(
            experiment_id=experiment_number(asked.experiment_id or "0"),
            name=asked.run_name,
            user=asked.user_id,
            start_ms=start_ms,
            tags=pairs_of(asked.tags),
        )
        with self._database.write() as transaction:
            made = runs.create_run(transaction, new)
        return {"run": run_shape(made, [], [])}

    def _update(self, asked: UpdateRun) -> Answer:
        with self._database.write() as transaction:
            info = runs.update_run(
                transaction, asked.run, status=asked.status, end_ms=asked.end_time, name=asked.run_name or None
            )
        return {"run_info": info_shape(info)}

    def _get(self, asked: NamedRun) -> Answer:
        with self._database.read() as transaction:
            return {"run": _shapes(transaction, [runs.get_run(transaction, asked.run)])[0]}

    def _search(self, asked: SearchRuns) -> Answer:
        question = Question(
            filter=asked.filter, order_by=asked.order_by, max_results=asked.max_results, page_token=asked.page_token
        )
        numbers = [experiment_number(each) for each in asked.experiment_ids]
        with self._database.read() as transaction:
            found, token = runs.search_runs(transaction, numbers, question, asked.run_view_type)
            answer: Answer = {"runs": _shapes(transaction, found)}
        return {**answer, "next_page_token": token} if token else answer

    def _delete(self, asked: NamedRun) -> Answer:
        with self._database.write() as transaction:
            runs.move_run(transaction, asked.run, DELETED)
        return {}

    def _restore(self, asked: NamedRun) -> Answer:
        with self._database.write() as transaction:
            runs.move_run(transaction, asked.run, ACTIVE)
        return {}

    def _log_metric(self, asked: LogMetric) -> Answer:
        run = NamedRun(run_id=asked.run_id, run_uuid=asked.run_uuid).run
        with self._database.write() as transaction:
            runs.log_values(transaction, run, metrics=[asked.metric()])
        return {}

    def _log_param(self, asked: LogKeyValue) -> Answer:
        with self._database.write() as transaction:
            runs.log_values(transaction, asked.run, params={asked.key: asked.value})
        return {}

    def _set_tag(self, asked: LogKeyValue) -> Answer:
        with self._database.write() as transaction:
            runs.log_values(transaction, asked.run, tags={asked.key: asked.value})
        return {}

    def _delete_tag(self, asked: LogKeyValue) -> Answer:
        with self._database.write() as transaction:
            runs.untag_run(transaction, asked.run, asked.key)
        return {}

    def _log_batch(self, asked: LogBatch) -> Answer:
        check_count(len(asked.metrics), MOST_METRICS, where="metrics")
        check_count(len(asked.params), MOST_PARAMS, where="params")
        check_count(len(asked.tags), MOST_TAGS, where="tags")
        check_count(len(asked.metrics) + len(asked.params) + len(asked.tags), MOST_IN_BATCH, where="batch")
        params = pairs_of(asked.params)
        for entry in asked.params:
            if params[entry.key] != entry.value:
                raise InvalidSpecError(
                    "the param is there twice, with different values",
                    where=f"params.{entry.key[:60]}",
                    mend="Give one.",
                )
        metrics = [each.metric() for each in asked.metrics]
        with self._database.write() as transaction:
            runs.log_values(transaction, asked.run, metrics=metrics, params=params, tags=pairs_of(asked.tags))
        return {}

    def _log_model(self, asked: LogModel) -> Answer:
        tag = "mlflow.log-model.history"
        try:
            described = msgspec.json.decode(asked.model_json, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise InvalidSpecError(
                f"not JSON of a model: {error}", where="model_json", mend="Send an object."
            ) from None
        with self._database.write() as transaction:
            history = runs.get_run(transaction, asked.run).tags.get(tag, "[]")
            models = [*msgspec.json.decode(history), described]
            runs.log_values(transaction, asked.run, tags={tag: msgspec.json.encode(models).decode()})
        return {}

    def _log_inputs(self, asked: LogInputs) -> Answer:
        check_count(len(asked.datasets), MOST_IN_BATCH, where="datasets")
        check_count(len(asked.models), MOST_IN_BATCH, where="models")
        given = [DatasetInput(dataset=each.dataset, tags=pairs_of(each.tags)) for each in asked.datasets]
        models = [RunModel(direction=INPUT, model_id=each.model_id) for each in asked.models]
        with self._database.write() as transaction:
            inputs.log_inputs(transaction, asked.run, given)
            inputs.log_run_models(transaction, asked.run, models)
        return {}

    def _log_outputs(self, asked: LogOutputs) -> Answer:
        check_count(len(asked.models), MOST_IN_BATCH, where="models")
        models = [RunModel(direction=OUTPUT, model_id=each.model_id, step=each.step) for each in asked.models]
        with self._database.write() as transaction:
            inputs.log_run_models(transaction, asked.run, models)
        return {}

    def _history(self, asked: History) -> Answer:
        size = asked.max_results
        if size is not None and not 1 <= size <= _LARGEST_HISTORY:
            raise InvalidSpecError(
                f"{size} is no size of a page", where="max_results", mend=f"Ask for 1 to {_LARGEST_HISTORY}."
            )
        after = _place(asked.page_token) if asked.page_token else None
        with self._database.read() as transaction:
            more = None if size is None else size + 1
            found = runs.metric_history(transaction, asked.run, asked.metric_key, size=more, after=after)
        if size is None or len(found) <= size:
            return {"metrics": [metric_shape(metric) for metric in found]}
        return {
            "metrics": [metric_shape(metric) for metric in found[:size]],
            "next_page_token": _token(found[size - 1]),
        }

    def _bulk_history(self, asked: BulkHistory) -> Answer:
        check_count(len(asked.run_ids), _MOST_BULK_RUNS, where="run_ids")
        if not 1 <= asked.max_results <= _LARGEST_HISTORY:
            raise InvalidSpecError(
                "no such size of a page", where="max_results", mend=f"Ask for 1 to {_LARGEST_HISTORY}."
            )
        low = -math.inf if asked.start_step is None else asked.start_step
        high = math.inf if asked.end_step is None else asked.end_step
        each_most = max(1, asked.max_results // max(1, len(asked.run_ids)))
        shown: list[Answer] = []
        with self._database.read() as transaction:
            for run_id in asked.run_ids:
                values = runs.metric_history(transaction, run_id, asked.metric_key)
                inside = [metric for metric in values if low <= metric.step <= high]
                stride = math.ceil(len(inside) / each_most) or 1
                kept = inside[::stride]
                if inside and kept[-1] is not inside[-1]:
                    kept.append(inside[-1])
                shown += [{**metric_shape(metric), "run_id": run_id} for metric in kept]
        return {"metrics": shown}


def _shapes(transaction: Transaction, found: list[Run]) -> list[Answer]:
    ids = [run.info.id for run in found]
    read, models = inputs.inputs_of(transaction, ids), inputs.run_models_of(transaction, ids)
    return [run_shape(run, read.get(run.info.id, []), models.get(run.info.id, [])) for run in found]


def _token(last: Metric) -> str:
    is_nan = math.isnan(last.value)
    place: HistoryPlace = (last.timestamp_ms, last.step, 0.0 if is_nan else last.value, is_nan)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode()


def _place(token: str) -> HistoryPlace:
    try:
        place: HistoryPlace = msgspec.msgpack.decode(base64.urlsafe_b64decode(token.encode()), type=HistoryPlace)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise InvalidSpecError(
            "this is not a page token of a history", where="page_token", mend="Give the one of the page before."
        ) from None
    return place
