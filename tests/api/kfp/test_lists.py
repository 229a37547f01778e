"""Every list of KFP's API: its fields, its pages, its errors; and the form of errors."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldenloop.api.kfp.artifacts import ARROWS, ARTIFACTS
from goldenloop.api.kfp.errors import STATUS
from goldenloop.control.platform import Platform
from goldenloop.core import errors
from goldenloop.core.clock import SECOND
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.pipelines import catalog, experiments, recurring, run_records
from goldenloop.pipelines.experiments import create_experiment
from goldenloop.store.paging import Listing

LISTS = {
    "/experiments": experiments.LISTING,
    "/pipelines": catalog.PIPELINES,
    "/runs": run_records.LISTING,
    "/recurringruns": recurring.LISTING,
    "/artifacts": ARTIFACTS,
    "/artifact_tasks": ARROWS,
}
OPERATIONS = ["EQUALS", "NOT_EQUALS", "GREATER_THAN", "GREATER_THAN_EQUALS", "LESS_THAN", "LESS_THAN_EQUALS"]


def ask(path: str, **asked: object) -> dict[str, object]:
    return {**asked, **({"run_ids": "none"} if path == "/artifact_tasks" else {})}


@pytest.mark.parametrize(("path", "listing"), LISTS.items())
def test_every_field_can_be_filtered_and_sorted_by(api: httpx.Client, path: str, listing: Listing) -> None:
    for key in listing.fields:
        moment = {"timestampValue": "2026-01-31T09:30:00Z"} if key in listing.moments else {"stringValue": "x"}
        predicates: list[JsonObject] = [{"operation": each, "key": key, **moment} for each in OPERATIONS]
        if key not in listing.moments:
            predicates.append({"operation": "IS_SUBSTRING", "key": key, "stringValue": "x%_"})
            predicates.append({"operation": "IN", "key": key, "stringValues": {"values": ["x"]}})
        for predicate in predicates:
            text = json.dumps({"predicates": [predicate]})
            answer = api.get(path, params=ask(path, filter=text, sort_by=f"{key} desc"))
            assert answer.status_code == 200, (predicate, answer.text)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "asked",
    [
        {"filter": "nonsense"},
        {"filter": '{"predicates": [{"operation": 1, "key": "nothing", "stringValue": "x"}]}'},
        {"filter": '{"predicates": [{"operation": 1, "key": "created_at", "stringValue": "x"}]}'},
        {"sort_by": "nothing"},
        {"sort_by": "created_at up"},
        {"page_size": "-1"},
        {"page_size": "many"},
        {"page_token": "nonsense"},
    ],
)
def test_what_cannot_be_asked_is_refused(api: httpx.Client, path: str, asked: dict[str, str]) -> None:
    answer = api.get(path, params=ask(path, **asked))
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error", "code", "message", "details"}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(1, 7),
    st.booleans(),
    st.sampled_from(["created_at", "display_name", "last_run_created_at"]),
    st.lists(st.integers(0, 99), max_size=10),
)
def test_pages_show_everything_once_whatever_comes_in_between(
    api: httpx.Client, platform: Platform, size: int, descending: bool, key: str, later: list[int]
) -> None:
    team = f"paged-{uuid7()}"

    def make(*numbers: int) -> None:
        with platform.database.write() as transaction:
            for number in numbers:
                # Many at one moment: the id decides then.
                name, moment = f"e{number:03d}-{uuid7()}", number // 4 * SECOND
                create_experiment(transaction, namespace=team, name=name, description="", now_us=moment)

    make(*range(100, 0, -7))
    asked = {"namespace": team, "page_size": size, "sort_by": f"{key} {'desc' if descending else 'asc'}"}
    present = api.get("/experiments", params={**asked, "page_size": 1000}).json()["experiments"]
    seen: list[JsonObject] = []
    token, more = "", list(later)
    while True:
        page = api.get("/experiments", params={**asked, "page_token": token}).json()
        assert len(page["experiments"]) <= size
        seen += page["experiments"]
        token = page.get("next_page_token", "")
        if not token:
            break
        make(*(more.pop() for _ in more[:1]))
    names = [each["display_name"] for each in seen]
    assert len(names) == len(set(names))
    before = {each["display_name"] for each in present}
    assert [name for name in names if name in before] == [each["display_name"] for each in present]
    if key != "last_run_created_at":
        assert [each[key] for each in seen] == sorted((each[key] for each in seen), reverse=descending)


def test_a_token_goes_with_its_question(api: httpx.Client, namespace: str) -> None:
    for name in "abc":
        api.post("/experiments", json={"display_name": name, "namespace": namespace})
    first = api.get("/experiments", params={"namespace": namespace, "page_size": 2, "sort_by": "display_name desc"})
    token = first.json()["next_page_token"]
    alone = api.get("/experiments", params={"namespace": namespace, "page_token": token}).json()
    assert [each["display_name"] for each in alone["experiments"]] == ["a"]
    other = {"namespace": namespace, "page_token": token, "sort_by": "created_at"}
    assert api.get("/experiments", params=other).status_code == 400


def test_a_filter_that_was_encoded_twice_is_read(api: httpx.Client, namespace: str) -> None:
    api.post("/experiments", json={"display_name": "a b", "namespace": namespace})
    text = "%7B%22predicates%22%3A%5B%7B%22operation%22%3A1%2C%22key%22%3A%22name%22%2C%22stringValue%22%3A%22a%20b%22%7D%5D%7D"
    assert api.get("/experiments", params={"namespace": namespace, "filter": text}).json()["total_size"] == 1


def test_errors_have_one_form_also_where_there_is_nothing(api: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("PUT", "/runs", 405),
        ("GET", "/runs/none", 404),
        ("POST", "/runs/none:retry", 404),
        ("GET", "/experiments/%00", 400),
        ("GET", "/artifacts/none", 404),
        ("GET", "/runs/none/tasks", 404),
        ("GET", "/artifact_tasks", 400),
    ):
        answer = api.request(method, path)
        assert answer.status_code == status, path
        assert set(answer.json()) == {"error", "code", "message", "details"}
    for content in (b"not json", b"[]", b"\xff", b""):
        assert api.post("/experiments", content=content).status_code == 400


def test_the_table_of_errors_is_complete() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GoldenloopError)]
    assert {kind for kind, _, _ in STATUS} == set(kinds)
