"""The same on PostgreSQL: what is written and searched with SQL that differs between the two."""

from __future__ import annotations

import math

import pytest

from goldenloop.store.database import Database
from goldenloop.tracking.experiments import View, create_experiment, search_experiments
from goldenloop.tracking.models import (
    NewRegistration,
    create_model,
    create_version,
    search_models,
    set_alias,
    version_with_alias,
)
from goldenloop.tracking.runs import NewRun, create_run, get_run, log_values, metric_history, search_runs
from goldenloop.tracking.searching import Question
from goldenloop.tracking.values import Metric


@pytest.mark.process
def test_values_filters_orders_and_pages(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    database.migrate()
    with database.write() as transaction:
        experiment = create_experiment(transaction, "loans", location="", tags={"owner": "Ann"}, now_ms=1).id
        for number, loss in enumerate((0.5, math.nan, 0.1)):
            run = create_run(transaction, NewRun(experiment_id=experiment, name=f"r{number}", start_ms=number)).info.id
            metrics = [Metric(key="loss", value=loss, timestamp_ms=step, step=step) for step in range(3)]
            for _ in range(2):
                log_values(transaction, run, metrics=metrics, params={"rate": f"{number}%"}, tags={"team": "Red"})
    with database.read() as transaction:
        assert len(metric_history(transaction, run, "loss")) == 3
        assert [metric.value for metric in get_run(transaction, run).metrics] == [0.1]

        def names(filter: str = "", order: tuple[str, ...] = ()) -> list[str]:
            found, token = [], ""
            while True:
                question = Question(filter=filter, order_by=order, max_results=2, page_token=token)
                runs, token = search_runs(transaction, [experiment], question, View.ACTIVE_ONLY)
                found += [each.info.name for each in runs]
                if not token:
                    return found

        assert names() == ["r2", "r1", "r0"]
        assert names(order=("metrics.loss DESC",)) == ["r0", "r2", "r1"]
        assert names(order=("params.rate", "end_time DESC")) == ["r0", "r1", "r2"]
        assert names("metrics.loss < 0.3 AND tags.team LIKE 'R%' AND tags.none IS NULL") == ["r2"]
        assert names("tags.team LIKE 'r%'") == []
        assert names("tags.team ILIKE 'r%' AND params.rate IN ('0%', '1%')") == ["r1", "r0"]
        question = Question(filter="tags.owner = 'Ann'", max_results=5)
        assert [each.name for each in search_experiments(transaction, question, View.ALL)[0]] == ["loans"]
    with database.write() as transaction:
        create_model(transaction, "loan", tags={"a": "b"}, now_ms=1)
        create_version(transaction, "loan", NewRegistration(source="s3://bucket/x"), now_ms=1)
        set_alias(transaction, "loan", "best", 1)
        assert version_with_alias(transaction, "loan", "best").number == 1
        found, _ = search_models(transaction, Question(filter="tags.a = 'b'", max_results=5))
        assert [each.name for each in found] == ["loan"]
    database.close()
