"""Searches: the filter language against values, orders, and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

NewRun = Callable[..., str]


@pytest.fixture
def three(mlflow: Any, new_run: NewRun) -> dict[str, str]:
    """Three runs: `a` with loss 0.1, `b` with loss 0.5, `c` with none that is a number."""
    made = {}
    for name, loss, rate, team in (("a", 0.1, "1e-3", "Red"), ("b", 0.5, "1e-2", "blue"), ("c", "NaN", "10%", "")):
        run = new_run(run_name=name)
        made[run] = name
        mlflow.ok("POST", "runs/log-metric", run_id=run, key="val loss", value=loss, timestamp=1)
        mlflow.ok("POST", "runs/log-parameter", run_id=run, key="rate", value=rate)
        if team:
            mlflow.ok("POST", "runs/set-tag", run_id=run, key="team", value=team)
    return made


def names(mlflow: Any, experiment: str, three: dict[str, str], **message: object) -> str:
    found = mlflow.ok("POST", "runs/search", experiment_ids=[experiment], **message)["runs"]
    return "".join(three[each["info"]["run_id"]] for each in found)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "cba"),
        ("metrics.`val loss` < 0.3", "a"),
        ('metrics."val loss" != 0.1', "b"),
        ("metrics.missing > 0", ""),
        ("params.rate = '1e-2'", "b"),
        ("params.rate LIKE '1e-_'", "ba"),
        ("params.rate LIKE '%\\%'", ""),
        ("param.rate = '10%' AND tags.team IS NULL", "c"),
        ("tags.team = 'red'", ""),
        ("tags.team LIKE 'r%'", ""),
        ("tags.team ILIKE 'r%'", "a"),
        ("tags.team != 'Red'", "b"),
        ("tags.team IN ('Red', 'blue')", "ba"),
        ("tags.team IS NOT NULL AND attributes.run_name != 'a'", "b"),
        ("run_name IN ('a', 'c')", "ca"),
        ("run_name NOT IN ('a', 'c')", "b"),
        ("status = 'RUNNING' and start_time > 1000", "cb"),
        ("tags.team = 'it''s'", ""),
    ],
)
def test_a_filter_finds_what_fits(
    mlflow: Any, experiment: str, three: dict[str, str], filter: str, expected: str
) -> None:
    assert names(mlflow, experiment, three, filter=filter) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["metrics.`val loss` ASC"], "abc"),  # what is no number comes last, either way
        (["metrics.`val loss` DESC"], "bac"),
        (["tags.team"], "abc"),
        (["params.rate DESC"], "abc"),
        (["start_time ASC"], "abc"),
        (["attributes.run_name desc"], "cba"),
        (["end_time", "run_name"], "abc"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_orders_hold_across_pages(
    mlflow: Any, experiment: str, three: dict[str, str], order: list[str], expected: str, size: int
) -> None:
    token, found = "", ""
    for _ in range(4):
        message = {"experiment_ids": [experiment], "order_by": order, "max_results": size, "page_token": token}
        page = mlflow.ok("POST", "runs/search", **message)
        found += "".join(three[each["info"]["run_id"]] for each in page["runs"])
        token = page.get("next_page_token", "")
        if not token:
            break
    assert found == expected


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"filter": "metrics.a > 1 OR metrics.b > 1"}, "no OR"),
        ({"filter": "metrics.a > 'x'"}, "number"),
        ({"filter": "tags.a > 'x'"}, "cannot be compared"),
        ({"filter": "status = FINISHED"}, "quotes"),
        ({"filter": "stats = 'FINISHED'"}, "Did you mean 'status'"),
        ({"filter": "tags.a = 'x'; DROP TABLE tracked_runs"}, "AND"),
        ({"filter": "tags.a = 'x' --"}, "AND"),
        ({"filter": "tags.a = 'x"}, "quotes"),
        ({"filter": "models.a = 1"}, "nothing called"),
        ({"filter": "a" * 20_001}, "longer"),
        ({"order_by": ["metrics.a", "metrics.a DESC"]}, "twice"),
        ({"order_by": ["metrics.a SIDEWAYS"]}, "not a field"),
        ({"max_results": 0}, "max_results"),
        ({"max_results": 50_001}, "max_results"),
        ({"page_token": "guess"}, "page token"),
        ({"run_view_type": "SOME"}, "SOME"),
    ],
)
def test_what_cannot_be_read_is_said(mlflow: Any, experiment: str, message: dict[str, object], told: str) -> None:
    status, code, said = mlflow.refused("POST", "runs/search", experiment_ids=[experiment], **message)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert told in said


@pytest.mark.parametrize("value", ["' OR '1'='1", "'; DROP TABLE tracked_runs; --", "%", "\\"])
def test_values_stay_values(mlflow: Any, experiment: str, three: dict[str, str], value: str) -> None:
    quoted = value.replace("'", "''")
    for filter in (f"tags.team = '{quoted}'", f"params.`rate{value.replace('`', '')}` = 'x'"):
        assert names(mlflow, experiment, three, filter=filter) == ""
    assert names(mlflow, experiment, three) == "cba"


def test_a_token_belongs_to_its_search(mlflow: Any, experiment: str, three: dict[str, str]) -> None:
    assert three
    token = mlflow.ok("POST", "runs/search", experiment_ids=[experiment], max_results=1)["next_page_token"]
    refused = mlflow.refused(
        "POST", "runs/search", experiment_ids=[experiment], max_results=1, page_token=token, filter="metrics.a > 1"
    )
    assert "page token" in refused[2]


def test_a_new_run_does_not_shift_the_pages(
    mlflow: Any, experiment: str, three: dict[str, str], new_run: NewRun
) -> None:
    page = mlflow.ok("POST", "runs/search", experiment_ids=[experiment], max_results=2)
    new_run()
    rest = mlflow.ok(
        "POST", "runs/search", experiment_ids=[experiment], max_results=2, page_token=page["next_page_token"]
    )
    assert [three[each["info"]["run_id"]] for each in rest["runs"]] == ["a"]


def test_experiments_are_found_by_name_and_tag(mlflow: Any, experiment: str, name: str) -> None:
    mlflow.ok("POST", "experiments/set-experiment-tag", experiment_id=experiment, key="owner", value="Ann")
    for filter in (f"name = '{name}'", f"name ILIKE '{name.upper()}' AND tags.owner = 'Ann'"):
        found = mlflow.ok("POST", "experiments/search", filter=filter, max_results=10)["experiments"]
        assert [each["experiment_id"] for each in found] == [experiment]
        assert found[0]["tags"] == [{"key": "owner", "value": "Ann"}]
