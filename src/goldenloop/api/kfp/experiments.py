"""Experiments of KFP's API."""

from __future__ import annotations

import msgspec
from starlette.routing import Route

from goldenloop.api.kfp.calls import Answer, Call, filled, namespace_of, route
from goldenloop.control.platform import Platform
from goldenloop.core.clock import to_text
from goldenloop.pipelines import experiments
from goldenloop.pipelines.experiments import Experiment
from goldenloop.store import tables
from goldenloop.store.database import record_of
from goldenloop.store.paging import read_page


class ExperimentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a new experiment."""

    display_name: str = ""
    description: str = ""
    namespace: str = ""


class ExperimentRoutes:
    """Routes under `/experiments`."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database
        self._clock = platform.world.clock

    def routes(self) -> list[Route]:
        """What to mount."""
        one = "/experiments/{experiment}"
        return [
            route("/experiments", self._create, method="POST"),
            route("/experiments", self._list),
            route(f"{one}:archive", self._archive, method="POST"),
            route(f"{one}:unarchive", self._unarchive, method="POST"),
            route(one, self._get),
            route(one, self._delete, method="DELETE"),
        ]

    def _create(self, call: Call) -> Answer:
        given = call.message(ExperimentMessage, where="experiment")
        with self._database.write() as transaction:
            made = experiments.create_experiment(
                transaction,
                namespace=namespace_of(given.namespace),
                name=given.display_name,
                description=given.description,
                now_us=self._clock.now_us(),
            )
        return _shown(made)

    def _get(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            return _shown(experiments.get_experiment(transaction, call.path["experiment"]))

    def _list(self, call: Call) -> Answer:
        table = tables.experiments
        where = [table.c.namespace == call.namespace()]
        with self._database.read() as transaction:
            page = read_page(transaction, experiments.LISTING, list(table.c), call.asked(), where=where)
        shown = [_shown(record_of(row, Experiment)) for row in page.rows]
        return filled({"experiments": shown, "total_size": page.total, "next_page_token": page.next_token})

    def _archive(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            experiments.archive_experiment(transaction, call.path["experiment"], now_us=self._clock.now_us())
        return {}

    def _unarchive(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            experiments.unarchive_experiment(transaction, call.path["experiment"])
        return {}

    def _delete(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            experiments.delete_experiment(transaction, call.path["experiment"])
        return {}


def _shown(experiment: Experiment) -> Answer:
    return filled(
        {
            "experiment_id": experiment.id,
            "display_name": experiment.name,
            "description": experiment.description,
            "namespace": experiment.namespace,
            "storage_state": experiment.storage_state,
            "created_at": to_text(experiment.created_us),
            "last_run_created_at": to_text(experiment.last_run_us or 0),
        }
    )
