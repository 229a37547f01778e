"""AnalysisTemplates as people have them: what is accepted means what Argo means by it, and the rest is refused by name."""

from __future__ import annotations

import pytest

from goldenloop.core.clock import MINUTE
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.analysis_template import Metric, Prometheus, Web, assess, check_template, pick, read_metrics

PROMETHEUS: JsonObject = {"prometheus": {"address": "http://127.0.0.1:9090", "query": "up"}}
RATE: JsonObject = {
    "args": [{"name": "service"}, {"name": "least", "value": "0.95"}],
    "metrics": [
        {
            "name": "success-rate",
            "interval": "5m",
            "count": 3,
            "failureLimit": 1,
            "successCondition": "result[0] >= {{args.least}}",
            "provider": {
                "prometheus": {
                    "address": "http://127.0.0.1:9090",
                    "query": 'sum(rate(requests_total{service="{{ args.service }}",code!~"5.*"}[5m]))',
                }
            },
        }
    ],
}


def metric(**fields: Json) -> JsonObject:
    return {"metrics": [{"name": "m", "provider": PROMETHEUS, **fields}]}


def test_a_template_is_read_with_its_arguments() -> None:
    check_template(RATE)
    (found,) = read_metrics(RATE, {"service": "loan"}, where="t")
    assert isinstance(found.provider, Prometheus)
    assert 'service="loan"' in found.provider.query
    assert (found.interval_us, found.count, found.failure_limit) == (5 * MINUTE, 3, 1)
    assert found.success == "result[0] >= 0.95"
    assert assess(found, [0.96]) == "Successful"
    assert assess(found, [0.94]) == "Failed"
    with pytest.raises(InvalidSpecError):
        assess(found, [])


def test_the_two_conditions_together_leave_room_for_neither() -> None:
    both = Metric(
        name="m",
        provider=Web(url="http://x"),
        success="result > 0.9",
        failure="result < 0.5",
    )
    assert [assess(both, value) for value in (0.95, 0.7, 0.1)] == ["Successful", "Inconclusive", "Failed"]
    only = Metric(name="m", provider=Web(url="http://x"), failure="result < 0.5")
    assert [assess(only, value) for value in (0.7, 0.1)] == ["Successful", "Failed"]
    assert assess(Metric(name="m", provider=Web(url="http://x")), "anything") == "Successful"


@pytest.mark.parametrize(
    ("condition", "result", "expected"),
    [
        ("len(result) > 0 && result[0] < 1.5", [1], "Successful"),
        ("len(result) == 0 || result[0] < 1.5", [], "Successful"),
        ("asFloat(result) >= 0.5", "0.7", "Successful"),
        ("result.ok && result.data.share >= 0.9", {"ok": True, "data": {"share": 0.8}}, "Failed"),
        ("result == 'any'", "any", "Successful"),
        ("!(result.count > 3)", {"count": 2}, "Successful"),
    ],
)
def test_conditions_of_argo(condition: str, result: Json, expected: str) -> None:
    (found,) = read_metrics(metric(successCondition=condition), {}, where="t")
    assert assess(found, result) == expected


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"metrics": []}, "measures nothing"),
        ({**metric(), "dryRun": []}, "'dryRun' is not supported"),
        ({"metrics": [{"name": "m", "provider": {"datadog": {}}}]}, "'datadog' is not supported"),
        ({"metrics": [{"name": "m", "provider": {"job": {}}}]}, "'job' is not supported"),
        (metric(consecutiveSuccessLimit=2), "'consecutiveSuccessLimit' is not supported"),
        (metric(successCondition="all(result, # > 1)"), "'all' is not understood"),
        (metric(successCondition="isNaN(result)"), "'isNaN' is not understood"),
        (metric(successCondition="result[0] > 1 and result[0] < 2"), "'and' is not understood"),
        (metric(successCondition="result >"), "is no expression"),
        (metric(count=5), "need an interval"),
        (metric(count=3, interval="1m", failureLimit=3), "could never say no"),
        (metric(interval="often"), "not a duration"),
        (metric(successCondition="result > {{args.nobody}}"), "no argument 'nobody'"),
        (
            {"metrics": [{"name": "m", "provider": {"web": {"url": "ftp://x"}}}]},
            "is no address",
        ),
        (
            {"metrics": [{"name": "m", "provider": {"web": {"url": "http://x", "insecure": True}}}]},
            "'insecure' is not supported",
        ),
        (
            {"metrics": [{"name": "m", "provider": {"web": {"url": "http://x", "jsonPath": "{$..deep}"}}}]},
            "more than names and places",
        ),
        (
            {"metrics": [{"name": "m", "provider": {"web": {"url": "http://x", "timeoutSeconds": 600}}}]},
            "no time to wait",
        ),
        ({"args": [{"name": "a", "valueFrom": {}}], **metric()}, "'valueFrom' is not supported"),
        ({"metrics": [*metric()["metrics"], *metric()["metrics"]]}, "two metrics have one name"),  # type: ignore[misc]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_refused_by_name(spec: JsonObject, named: str) -> None:
    with pytest.raises(InvalidSpecError, match=named):
        check_template(spec)


def test_arguments_that_are_missing_or_unknown_are_named() -> None:
    with pytest.raises(InvalidSpecError, match="'service' has no value"):
        read_metrics(RATE, {}, where="t")
    with pytest.raises(InvalidSpecError, match="no argument 'servce'"):
        read_metrics(RATE, {"servce": "x"}, where="t")


def test_a_path_picks_a_part() -> None:
    document: Json = {"data": {"values": [{"a-b": 1}]}}
    assert pick(document, "{$.data.values[0]['a-b']}", where="w") == 1
    assert pick(document, "data.values[0]", where="w") == {"a-b": 1}
    with pytest.raises(InvalidSpecError, match="nothing at"):
        pick(document, "{$.data.values[3]}", where="w")
