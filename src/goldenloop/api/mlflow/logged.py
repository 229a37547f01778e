"""Operations on logged models."""

from __future__ import annotations

import msgspec

from goldenloop.api.mlflow.calls import Answer, KeyValue, Operation, operation, pairs_of
from goldenloop.api.mlflow.shapes import logged_model_shape
from goldenloop.core.clock import Clock
from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.mlflow.limits import MOST_IN_BATCH, check_count
from goldenloop.store.database import Database
from goldenloop.tracking import logged
from goldenloop.tracking.experiments import experiment_number
from goldenloop.tracking.logged import NewLoggedModel
from goldenloop.tracking.searching import Question

_STATUS_BY_NUMBER = {"1": "LOGGED_MODEL_PENDING", "2": "LOGGED_MODEL_READY", "3": "LOGGED_MODEL_UPLOAD_FAILED"}


class CreateLoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a new model is told."""

    experiment_id: str = "0"
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: tuple[KeyValue, ...] = ()
    tags: tuple[KeyValue, ...] = ()


class NamedLoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model by id."""

    model_id: str


class FinishLoggedModel(NamedLoggedModel, frozen=True, kw_only=True):
    """How its upload ended."""

    status: str | int


class TagLoggedModel(NamedLoggedModel, frozen=True, kw_only=True):
    """Tags of a model."""

    tags: tuple[KeyValue, ...] = ()


class UntagLoggedModel(NamedLoggedModel, frozen=True, kw_only=True):
    """A tag to be deleted."""

    tag_key: str


class LogModelParams(NamedLoggedModel, frozen=True, kw_only=True):
    """Params of a model."""

    params: tuple[KeyValue, ...] = ()


class DatasetFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset on which models were measured."""

    dataset_name: str
    dataset_digest: str = ""


class OrderBy(msgspec.Struct, frozen=True, kw_only=True):
    """A field to sort by, upwards unless told otherwise."""

    field_name: str
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class SearchLoggedModels(msgspec.Struct, frozen=True, kw_only=True):
    """A question for models."""

    experiment_ids: tuple[str, ...] = ()
    filter: str = ""
    datasets: tuple[DatasetFilter, ...] = ()
    max_results: int = 50
    order_by: tuple[OrderBy, ...] = ()
    page_token: str = ""


class LoggedModelOperations:
    """What can be done with logged models."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def operations(self) -> list[Operation]:
        """What to answer."""
        base = "/mlflow/logged-models"
        one = f"{base}/{{model_id}}"
        return [
            operation("POST", base, CreateLoggedModel, self._create),
            operation("POST", f"{base}/search", SearchLoggedModels, self._search),
            operation("GET", one, NamedLoggedModel, self._get),
            operation("PATCH", one, FinishLoggedModel, self._finish),
            operation("DELETE", one, NamedLoggedModel, self._delete),
            operation("PATCH", f"{one}/tags", TagLoggedModel, self._tag),
            operation("DELETE", f"{one}/tags/{{tag_key}}", UntagLoggedModel, self._untag),
            operation("POST", f"{one}/params", LogModelParams, self._log_params),
        ]

    def _create(self, asked: CreateLoggedModel) -> Answer:
        new = NewLoggedModel(
            experiment_id=experiment_number(asked.experiment_id or "0"),
            name=asked.name,
            model_type=asked.model_type,
            source_run_id=asked.source_run_id or None,
            params=pairs_of(asked.params),
            tags=pairs_of(asked.tags),
        )
        with self._database.write() as transaction:
            made = logged.create_logged_model(transaction, new, now_ms=self._now_ms())
        return {"model": logged_model_shape(made)}

    def _get(self, asked: NamedLoggedModel) -> Answer:
        with self._database.read() as transaction:
            return {"model": logged_model_shape(logged.get_logged_model(transaction, asked.model_id))}

    def _finish(self, asked: FinishLoggedModel) -> Answer:
        status = _STATUS_BY_NUMBER.get(str(asked.status), str(asked.status))
        with self._database.write() as transaction:
            done = logged.finish_logged_model(transaction, asked.model_id, status, now_ms=self._now_ms())
        return {"model": logged_model_shape(done)}

    def _delete(self, asked: NamedLoggedModel) -> Answer:
        with self._database.write() as transaction:
            logged.delete_logged_model(transaction, asked.model_id, now_ms=self._now_ms())
        return {}

    def _tag(self, asked: TagLoggedModel) -> Answer:
        with self._database.write() as transaction:
            tagged = logged.tag_logged_model(transaction, asked.model_id, pairs_of(asked.tags))
        return {"model": logged_model_shape(tagged)}

    def _untag(self, asked: UntagLoggedModel) -> Answer:
        with self._database.write() as transaction:
            logged.untag_logged_model(transaction, asked.model_id, asked.tag_key)
        return {}

    def _log_params(self, asked: LogModelParams) -> Answer:
        check_count(len(asked.params), MOST_IN_BATCH, where="params")
        with self._database.write() as transaction:
            logged.log_model_params(transaction, asked.model_id, pairs_of(asked.params))
        return {}

    def _search(self, asked: SearchLoggedModels) -> Answer:
        if any(order.dataset_name for order in asked.order_by):
            raise InvalidSpecError(
                "lists are not sorted by a metric on one dataset",
                where="order_by.dataset_name",
                mend="Leave it out, and filter by the dataset.",
            )
        orders = tuple(f"{order.field_name} {'ASC' if order.ascending else 'DESC'}" for order in asked.order_by)
        question = Question(
            filter=asked.filter, order_by=orders, max_results=asked.max_results, page_token=asked.page_token
        )
        numbers = [experiment_number(each) for each in asked.experiment_ids]
        datasets = [(each.dataset_name, each.dataset_digest) for each in asked.datasets]
        with self._database.read() as transaction:
            found, token = logged.search_logged_models(transaction, numbers, question, datasets)
        answer: Answer = {"models": [logged_model_shape(each) for each in found]}
        return {**answer, "next_page_token": token} if token else answer

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1_000
