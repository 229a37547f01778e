"""Business metrics over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

PATH = "/goldenloop/v1alpha1/namespaces/default/loops/business/metrics"
LOOPS = "/apis/goldenloop.dev/v1alpha1/namespaces/default/loops"


@pytest.fixture
def loop(http: httpx.Client) -> Iterator[None]:
    document = {
        "apiVersion": "goldenloop.dev/v1alpha1",
        "kind": "Loop",
        "metadata": {"name": "business"},
        "spec": {"data": {"source": "/data/loans.parquet", "label": "repaid"}},
    }
    assert http.post(LOOPS, json=document).status_code == 201
    yield
    http.delete(f"{LOOPS}/business")


@pytest.mark.usefixtures("loop")
def test_values_are_taken_and_wrong_ones_named(http: httpx.Client) -> None:
    taken = http.post(
        PATH, json=[{"name": "revenue", "value": 12.5}, {"name": "orders", "value": 3, "at": "2026-01-31T09:30:00Z"}]
    )
    assert (taken.status_code, taken.json()) == (202, {"kept": 2, "late": 0})
    for wrong, named in (
        ([{"name": "revenue"}], "value"),
        ([{"name": "a b", "value": 1}], "name"),
        ([{"name": "revenue", "value": "much"}], "value"),
        ([], "length"),
        ({"name": "revenue", "value": 1}, "array"),
    ):
        answer = http.post(PATH, json=wrong)
        assert answer.status_code == 422
        assert named in answer.json()["message"]


def test_a_loop_that_is_not_there_is_said(http: httpx.Client) -> None:
    assert http.post(PATH, json=[{"name": "revenue", "value": 1}]).status_code == 404
