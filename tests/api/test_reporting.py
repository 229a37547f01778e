"""The report of a loop: what was measured and what happened, as JSON and as a page that nothing can be smuggled into."""

from __future__ import annotations

import re

import httpx
import pytest
from sqlalchemy import insert

from goldenloop.control.platform import Platform
from goldenloop.control.view import LOOP
from goldenloop.core.clock import DAY
from goldenloop.lineage.timeline import Happening, tell
from goldenloop.store import resources
from goldenloop.store.tables import measurements, runs

OURS = "/goldenloop/v1alpha1"
NASTY = "<script>alert(1)</script>"
WINDOWS = 40


def measured(namespace: str, window: int, monitor: str, metric: str, **given: object) -> dict[str, object]:
    return {
        "namespace": namespace, "loop": "loan", "monitor": monitor, "metric": metric, "feature": "", "slice": "", "version": "1",
        "window": window, "start_us": window * DAY, "end_us": (window + 1) * DAY, "rows": 200, "value": None, "low": None,
        "high": None, "threshold": None, "verdict": "pass", "note": "", **given,
    }  # fmt: skip


@pytest.fixture
def report(platform: Platform, namespace: str) -> str:
    """The address of the report of a loop with forty windows of a day."""
    rows = []
    for window in range(WINDOWS):
        rows.append(measured(namespace, window, "drift", "statistic", value=float(window), threshold=30.0))
        if window < WINDOWS - 2:  # labels are due later
            rows.append(measured(namespace, window, "performance", "accuracy", value=0.8, low=0.7, high=0.9))
    last = WINDOWS - 1
    rows += [
        measured(namespace, last, "drift", "score", feature=NASTY, value=9.0, verdict="fail"),
        measured(namespace, last, "fairness", "demographic_parity", verdict="inconclusive", note="two members"),
        measured(namespace, last, "fairness", "demographic_parity", slice="sex=female", value=0.1, low=0.0, high=0.2),
        measured(namespace, last, "service", "errors", value=0.3, threshold=0.01, verdict="fail"),
    ]
    with platform.database.write() as transaction:
        document = {"metadata": {"name": "loan"}, "spec": {"data": {"source": "x.csv"}}}
        resources.create(transaction, LOOP, namespace, document, now_us=DAY)
        transaction.execute(insert(measurements), rows)
        for kind, window in (("Alarm", 2), ("Alarm", 35), ("Warning", 36), ("Promoted", 37)):
            facts = {"window": window, "features": [NASTY, "age"] if kind != "Promoted" else []}
            line = Happening(
                namespace=namespace, loop="loan", kind=kind, text=f"{kind} of {NASTY}", facts=facts,
                event_us=(window + 1) * DAY, created_us=DAY,
            )  # fmt: skip
            tell(transaction, line)
        for number, window in enumerate((1, 36)):
            run = {
                "id": f"{namespace[:20]}-run-{number}", "namespace": namespace, "name": "loan", "loop": "loan",
                "cause": {"text": f"alarm {NASTY}"}, "state": "SUCCEEDED", "pipeline": {}, "parameters": {}, "inputs": {},
                "code": {}, "event_us": (window + 1) * DAY, "created_us": number, "started_us": 0, "finished_us": 5_000_000,
            }  # fmt: skip
            transaction.execute(insert(runs).values(**run))
    return f"{OURS}/namespaces/{namespace}/loops/loan/report"


def test_it_says_what_was_measured_and_what_happened_in_the_time_that_is_asked_for(
    http: httpx.Client, report: str
) -> None:
    shown = http.get(report, params={"since": "10d"}).json()
    assert shown["windows"] == 10
    assert (shown["counts"], shown["runCount"], shown["runSeconds"]) == (
        {"Alarm": 1, "Promoted": 1, "Warning": 1},
        1,
        5.0,
    )
    assert shown["namedFeatures"] == [[NASTY, 2], ["age", 2]]
    assert [each["monitor"] for each in shown["monitors"]] == ["service", "fairness", "drift", "performance"]
    by_name = {each["monitor"]: each for each in shown["monitors"]}
    assert by_name["performance"]["window"] == WINDOWS - 3  # the last whose labels were due
    assert by_name["drift"]["verdict"] == "pass"  # a single feature is no verdict on all
    assert {each["slice"] for each in by_name["fairness"]["findings"]} == {"", "sex=female"}
    assert (len(shown["quality"]), shown["quality"][0]["low"]) == (8, 0.7)
    assert [(each["monitor"], len(each["points"])) for each in shown["trends"]] == [("drift", 10)]
    whole = http.get(report, params={"since": "8w"}).json()
    assert (whole["windows"], whole["counts"]["Alarm"], whole["runCount"]) == (WINDOWS, 2, 2)


def test_a_browser_gets_a_page_that_runs_and_loads_nothing(http: httpx.Client, report: str) -> None:
    answer = http.get(report, headers={"accept": "text/html"})
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=", answer.text)
    assert answer.text.count("<svg") == 2
    for title in ("Fairness", "Service", "Alarms and warnings", "What the loop did", "Runs and what they cost"):
        assert f"<h2>{title}</h2>" in answer.text
    assert "sex=female" in answer.text
    assert http.get(report, params={"format": "html"}).text == answer.text


def test_a_loop_that_has_measured_nothing(http: httpx.Client, platform: Platform, namespace: str) -> None:
    with platform.database.write() as transaction:
        document = {"metadata": {"name": "young"}, "spec": {"data": {"source": "x.csv"}}}
        resources.create(transaction, LOOP, namespace, document, now_us=DAY)
    address = f"{OURS}/namespaces/{namespace}/loops/young/report"
    assert http.get(address).json()["end"] is None
    assert "Nothing has been measured yet" in http.get(address, params={"format": "html"}).text


def test_wrong_questions_get_clear_answers(http: httpx.Client, report: str, namespace: str) -> None:
    assert http.get(f"{OURS}/namespaces/{namespace}/loops/none/report").status_code == 404
    for wrong in ({"since": "soon"}, {"format": "pdf"}):
        answer = http.get(report, params=wrong)
        assert answer.status_code in (400, 422)
        assert next(iter(wrong.values())) in answer.text
