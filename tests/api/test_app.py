"""Who may call, paths that lead nowhere, health, metrics, pages, and the table from error to status code."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from goldenloop.api.errors import STATUS, status_of
from goldenloop.api.metrics import FEATURES_SHOWN
from goldenloop.control.platform import Platform
from goldenloop.core import errors
from goldenloop.core.errors import GoldenloopError
from goldenloop.store.tables import measurements


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost", "[::1]:{port}", "LOCALHOST"])
def test_this_machine_may_call_by_any_of_its_names(http: httpx.Client, host: str) -> None:
    name = host.format(port=http.base_url.port)
    assert http.get("/version", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "[", ""]
)
def test_another_host_is_refused(http: httpx.Client, host: str) -> None:
    answer = http.get("/apis", headers={"host": host})
    assert answer.status_code == 403, answer.text
    assert answer.json()["reason"] == "Forbidden"
    assert "127.0.0.1" in answer.json()["message"]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://[", "https://127.0.0.1"]
)
def test_another_origin_is_refused_also_for_writing(http: httpx.Client, origin: str) -> None:
    for answer in (
        http.get("/apis", headers={"origin": origin}),
        http.post("/goldenloop/v1alpha1/runs", json={}, headers={"origin": origin}),
    ):
        assert answer.status_code == 403
        assert "are not taken" in answer.json()["message"]


def test_the_own_origin_is_taken(http: httpx.Client, address: str) -> None:
    assert http.get("/apis", headers={"origin": address}).status_code == 200


def test_a_path_that_leads_nowhere_is_not_found(http: httpx.Client) -> None:
    for path in ("/nowhere", "/apis/goldenloop.dev/v1alpha1/namespaces/a/lops", "/goldenloop/v1alpha1/nothing"):
        answer = http.get(path)
        assert answer.status_code == 404
        assert (answer.json()["kind"], answer.json()["reason"]) == ("Status", "NotFound")
    answer = http.delete("/healthz")
    assert answer.status_code == 405
    assert (answer.json()["kind"], answer.json()["reason"]) == ("Status", "MethodNotAllowed")


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/%2e%2e/%2e%2e/pyproject.toml", "/..%2f..%2f__init__.py"])
def test_pages_come_from_their_folder_alone(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_the_page_is_served_with_its_policy(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_health_says_what_is_up(http: httpx.Client) -> None:
    answer = http.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"live": True, "ready": True, "workers": 0, "generation": answer.json()["generation"]}
    assert http.get("/version").json()["gitVersion"].startswith("v1.")


def families(http: httpx.Client) -> dict[str, list[tuple[dict[str, str], float]]]:
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.name.startswith("goldenloop_"), family.name
        assert family.documentation, family.name
        assert family.name not in found, "a family stands once"
        found[family.name] = [(sample.labels, sample.value) for sample in family.samples]
    return found


def test_metrics_show_the_last_window_and_no_unbounded_label(
    http: httpx.Client, platform: Platform, namespace: str
) -> None:
    def row(window: int, feature: str, value: float | None, monitor: str = "drift") -> dict[str, object]:
        named = {"namespace": namespace, "loop": "loan", "monitor": monitor, "metric": "statistic", "version": "3"}
        span = {"window": window, "start_us": window, "end_us": window + 1, "rows": 200}
        return {**named, **span, "feature": feature, "value": value, "threshold": 2.5, "verdict": "pass", "note": ""}

    many = [row(7, f'feature {number} "\\\n', number / 10) for number in range(FEATURES_SHOWN + 20)]
    with platform.database.write() as transaction:
        transaction.execute(
            insert(measurements), [row(6, "", 9.0), row(7, "", 1.5), *many, row(2, "", None, "service")]
        )
    found = families(http)
    mine = [(labels, value) for labels, value in found["goldenloop_measurement"] if labels["namespace"] == namespace]
    assert [value for labels, value in mine if labels["feature"] == ""] == [1.5], (
        "only the last window, only what is known"
    )
    features = {labels["feature"]: value for labels, value in mine if labels["feature"]}
    assert len(features) == FEATURES_SHOWN + 1
    assert features["_other"] == 1.9, "the highest of the rest"
    assert {labels["service"] for labels, _ in mine} == {"loan"}
    assert {labels["model_version"] for labels, _ in mine} == {"3"}
    verdicts = {
        labels["monitor"]: labels["verdict"]
        for labels, _ in found["goldenloop_verdict"]
        if labels["namespace"] == namespace
    }
    assert verdicts == {"drift": "pass", "service": "pass"}
    assert [value for labels, value in found["goldenloop_windows"] if labels["namespace"] == namespace] == [8]
    assert found["goldenloop_workers"] == [({}, 0.0)]


def test_every_error_has_a_status() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GoldenloopError)]
    found = {kind: status_of(kind("x")) for kind in kinds}
    assert len(kinds) == len(STATUS)
    assert len({code for code, _ in found.values()}) == len(kinds), "each has one of its own"
    assert found[GoldenloopError] == (500, "InternalError")

    class Special(errors.ConflictError):
        """A subclass answers as what it is one of."""

    assert status_of(Special("x")) == (409, "Conflict")
