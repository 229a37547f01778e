"""Operations on experiments."""

from __future__ import annotations

import msgspec

from goldenloop.api.mlflow.calls import Answer, KeyValue, Operation, operation, pairs_of
from goldenloop.api.mlflow.shapes import experiment_shape
from goldenloop.core.clock import Clock
from goldenloop.store.database import Database
from goldenloop.tracking import experiments
from goldenloop.tracking.experiments import ACTIVE, DELETED, View, experiment_number
from goldenloop.tracking.inputs import search_datasets
from goldenloop.tracking.searching import Question
from goldenloop.tracking.values import EXPERIMENT, delete_tag

_DATASETS_SHOWN = 1_000


class CreateExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """What a new experiment is told."""

    name: str
    artifact_location: str = ""
    tags: tuple[KeyValue, ...] = ()


class NamedExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment by id."""

    experiment_id: str


class ExperimentByName(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment by name."""

    experiment_name: str


class RenameExperiment(NamedExperiment, frozen=True, kw_only=True):
    """Another name for an experiment."""

    new_name: str


class TagExperiment(NamedExperiment, frozen=True, kw_only=True):
    """A tag of an experiment."""

    key: str
    value: str = ""


class SearchExperiments(msgspec.Struct, frozen=True, kw_only=True):
    """A question for experiments."""

    max_results: int = 1_000
    page_token: str = ""
    filter: str = ""
    order_by: tuple[str, ...] = ()
    view_type: View = View.ACTIVE_ONLY


class SearchDatasets(msgspec.Struct, frozen=True, kw_only=True):
    """Experiments whose datasets are asked for."""

    experiment_ids: tuple[str, ...] = ()


class ExperimentOperations:
    """What can be done with experiments."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def operations(self) -> list[Operation]:
        """What to answer."""
        base = "/mlflow/experiments"
        return [
            operation("POST", f"{base}/create", CreateExperiment, self._create),
            operation("GET", f"{base}/get", NamedExperiment, self._get),
            operation("GET", f"{base}/get-by-name", ExperimentByName, self._get_by_name),
            operation("POST", f"{base}/search", SearchExperiments, self._search),
            operation("GET", f"{base}/search", SearchExperiments, self._search),
            operation("POST", f"{base}/update", RenameExperiment, self._rename),
            operation("POST", f"{base}/delete", NamedExperiment, self._delete),
            operation("POST", f"{base}/restore", NamedExperiment, self._restore),
            operation("POST", f"{base}/set-experiment-tag", TagExperiment, self._tag),
            operation("POST", f"{base}/delete-experiment-tag", TagExperiment, self._untag),
            operation("POST", f"{base}/search-datasets", SearchDatasets, self._search_datasets),
        ]

    def _create(self, asked: CreateExperiment) -> Answer:
        with self._database.write() as transaction:
            made = experiments.create_experiment(
                transaction,
                asked.name,
                location=asked.artifact_location,
                tags=pairs_of(asked.tags),
                now_ms=self._now_ms(),
            )
        return {"experiment_id": str(made.id)}

    def _get(self, asked: NamedExperiment) -> Answer:
        with self._database.read() as transaction:
            found = experiments.get_experiment(transaction, experiment_number(asked.experiment_id))
        return {"experiment": experiment_shape(found)}

    def _get_by_name(self, asked: ExperimentByName) -> Answer:
        with self._database.read() as transaction:
            return {"experiment": experiment_shape(experiments.experiment_named(transaction, asked.experiment_name))}

    def _search(self, asked: SearchExperiments) -> Answer:
        question = Question(
            filter=asked.filter, order_by=asked.order_by, max_results=asked.max_results, page_token=asked.page_token
        )
        with self._database.read() as transaction:
            found, token = experiments.search_experiments(transaction, question, asked.view_type)
        answer: Answer = {"experiments": [experiment_shape(each) for each in found]}
        return {**answer, "next_page_token": token} if token else answer

    def _rename(self, asked: RenameExperiment) -> Answer:
        with self._database.write() as transaction:
            experiments.rename_experiment(
                transaction, experiment_number(asked.experiment_id), asked.new_name, now_ms=self._now_ms()
            )
        return {}

    def _delete(self, asked: NamedExperiment) -> Answer:
        return self._move(asked, DELETED)

    def _restore(self, asked: NamedExperiment) -> Answer:
        return self._move(asked, ACTIVE)

    def _move(self, asked: NamedExperiment, lifecycle: str) -> Answer:
        with self._database.write() as transaction:
            experiments.move_experiment(
                transaction, experiment_number(asked.experiment_id), lifecycle, now_ms=self._now_ms()
            )
        return {}

    def _tag(self, asked: TagExperiment) -> Answer:
        with self._database.write() as transaction:
            number = experiment_number(asked.experiment_id)
            experiments.tag_experiment(transaction, number, asked.key, asked.value, now_ms=self._now_ms())
        return {}

    def _untag(self, asked: TagExperiment) -> Answer:
        with self._database.write() as transaction:
            found = experiments.active_experiment(transaction, experiment_number(asked.experiment_id))
            delete_tag(transaction, EXPERIMENT, str(found.id), asked.key)
        return {}

    def _search_datasets(self, asked: SearchDatasets) -> Answer:
        numbers = [experiment_number(each) for each in asked.experiment_ids]
        with self._database.read() as transaction:
            found = search_datasets(transaction, numbers, limit=_DATASETS_SHOWN)
        shown: list[Answer] = []
        for each in found:
            summary: Answer = {"experiment_id": str(each.experiment_id), "name": each.name, "digest": each.digest}
            shown.append({**summary, "context": each.context} if each.context else summary)
        return {"dataset_summaries": shown}

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1_000
