"""Objectives of a Loop and OpenSLO documents: read into one form, refused where nothing could come of them."""

from __future__ import annotations

import pytest

from goldenloop.core.clock import DAY, HOUR, MINUTE
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.serving.metrics import BUCKETS
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec, MonitorType, check_loop
from goldenloop.standards.objectives import LATENCY_BOUNDS, MONITORS, Objective, read_objective
from goldenloop.standards.openslo import ServiceLevel, from_objective, read_slo, slo_name


def compiled(**objective: object) -> ServiceLevel:
    """What a Loop's objective becomes, by way of the SLO that it writes."""
    (level,) = read_slo("x", from_objective("loan", convert(objective, Objective)))
    return level


def ours(name: str, **more: object) -> JsonObject:
    return {"metricSource": {"type": "goldenloop", "spec": {"indicator": name, **more}}}


def slo(**change: object) -> JsonObject:
    """A document's spec that is right, changed."""
    return {
        "service": "loan",
        "budgetingMethod": "Occurrences",
        "indicator": {"metadata": {"name": "a"}, "spec": {"thresholdMetric": ours("performance/accuracy")}},
        "objectives": [{"op": "gte", "value": 0.8, "target": 0.95}],
        "timeWindow": [{"duration": "28d", "isRolling": True}],
        **change,
    }


def alert(threshold: float, lookback: str = "1h", after: str = "5m") -> list[JsonObject]:
    burn = {"kind": "burnrate", "op": "gt", "threshold": threshold, "lookbackWindow": lookback, "alertAfter": after}
    condition = {"kind": "AlertCondition", "metadata": {"name": "c"}, "spec": {"severity": "page", "condition": burn}}
    return [{"kind": "AlertPolicy", "metadata": {"name": "p"}, "spec": {"conditions": [condition]}}]


@pytest.mark.parametrize(
    ("indicator", "target", "kind", "text", "share", "bound"),
    [
        ("accuracy", ">= 0.80", "measurement", "performance/accuracy", 0.95, 0.8),
        ("estimated_accuracy", ">= 0.80", "measurement", "estimatedPerformance/accuracy", 0.95, 0.8),
        ("calibration/ece", "<= 0.05", "measurement", "calibration/ece", 0.95, 0.05),
        ("missing/share/income", "<= 0.05", "measurement", "missing/share/income", 0.95, 0.05),
        ("fairness/gap/sex=female", "<= 0.1", "measurement", "fairness/gap/sex=female", 0.95, 0.1),
        ("drift", ">= 0.99", "verdict", "drift", 0.99, None),
        ("availability", ">= 99.9 %", "availability", "availability", 0.999, None),
        ("latency_p99_ms", "<= 50", "latency", "latency below 50 ms", 0.99, 0.05),
        ("latency_p50_ms", "<= 5", "latency", "latency below 5 ms", 0.5, 0.005),
        ("model_freshness", "<= 30d", "modelFreshness", "model freshness", 0.95, 30 * 86_400),
        ("data_freshness", "<= 1h", "dataFreshness", "data freshness", 0.95, 3600),
        ("decision_time", "<= 7d", "decisionTime", "time from an alarm to a decision", 0.95, 7 * 86_400),
        ("promotion_error", "<= 0.04", "promotionError", "promotion error", 0.95, 0.04),
    ],
)
def test_an_objective_is_written_as_openslo_and_read_back(
    indicator: str, target: str, kind: str, text: str, share: float, bound: float | None
) -> None:
    level = compiled(indicator=indicator, target=target)
    assert (level.indicator.kind, level.indicator.text) == (kind, text)
    assert (level.target, level.indicator.bound) == (pytest.approx(share), bound)
    assert (level.service, level.window_us) == ("loan", 28 * DAY)


def test_a_latency_between_two_bounds_is_counted_at_the_lower_one_and_says_so() -> None:
    objective = convert({"indicator": "latency", "below": "70ms", "target": ">= 99 %"}, Objective)
    assert read_objective(objective).indicator.bound == 0.05
    assert "counted at 50 ms" in str(from_objective("loan", objective)["description"])


def test_the_bounds_of_latency_and_the_monitors_are_those_of_the_house() -> None:
    assert LATENCY_BOUNDS == BUCKETS
    assert set(MONITORS) == set(MonitorType.__args__)


def test_slices_of_time_are_written_and_read_back() -> None:
    level = compiled(indicator="availability", target=">= 0.99", budgeting="timeslices", slice="10m")
    assert (level.counting.method, level.counting.slice_us, level.counting.slice_target) == (
        "Timeslices",
        10 * MINUTE,
        0.99,
    )
    assert compiled(indicator="availability", target=">= 0.99", budgeting="ratioTimeslices").counting.method == (
        "RatioTimeslices"
    )


def test_alerts_that_a_person_wrote_pass_through() -> None:
    written = {"factor": 3, "long": "2h", "short": "10m", "severity": "ticket"}
    level = compiled(indicator="availability", target=">= 0.99", alerts=[written])
    (made,) = level.alerts
    assert (made.factor, made.long_us, made.short_us, made.severity) == (3, 2 * HOUR, 10 * MINUTE, "ticket")


@pytest.mark.parametrize(
    ("objective", "where", "said"),
    [
        ({"indicator": "accuracy", "target": "good"}, "target", "not a target"),
        ({"indicator": "availability", "target": ">= 120 %"}, "target", "not between 0 and 100"),
        ({"indicator": "availability", "target": ">= 100 %"}, "target", "leaves no error budget"),
        ({"indicator": "availability", "target": "<= 0.99"}, "target", "from below"),
        ({"indicator": "availability", "target": ">= 0.99", "share": 0.9}, "share", "the target says it"),
        ({"indicator": "latency_p99_ms", "target": ">= 50"}, "target", "stay below"),
        ({"indicator": "latency_p99_ms", "target": "<= 60000"}, "target", "counted from 0.5 ms to 10 s"),
        ({"indicator": "latency", "target": ">= 0.99"}, "below", "how fast"),
        ({"indicator": "accuracy", "target": ">= 0.9", "below": "50ms"}, "below", "no time below"),
        ({"indicator": "model_freshness", "target": "<= 30"}, "target", "not a duration"),
        ({"indicator": "model_freshness", "target": "<= 0s"}, "target", "in no time"),
        ({"indicator": "promotion_error", "target": "<= 2"}, "target", "no bound on an error rate"),
        ({"indicator": "drfit/statistic", "target": "<= 1"}, "indicator", "no monitor 'drfit'"),
        ({"indicator": "drift/", "target": "<= 1"}, "indicator", "names no metric"),
        ({"indicator": "my metric", "target": "<= 1"}, "indicator", "no indicator"),
        ({"indicator": "accuracy", "target": ">= 0.9", "window": "0s"}, "window", "longer than nothing"),
        ({"indicator": "accuracy", "target": ">= 0.9", "slice": "0s"}, "slice", "longer than nothing"),
        ({"indicator": "accuracy", "target": ">= 0.9", "onSpent": {"fixedAnswer": 1}}, "onSpent", "fixed answer"),
        ({"indicator": "accuracy", "target": ">= 0.9", "onSpent": {"page": 1}}, "onSpent", "not known"),
        (
            {"indicator": "accuracy", "target": ">= 0.9", "alerts": [{"factor": 30, "long": "1h", "short": "5m"}]},
            "alerts[0]",
            "can never fire",
        ),
    ],
)
def test_an_objective_that_cannot_be_is_refused(objective: JsonObject, where: str, said: str) -> None:
    spec = convert({"data": {}, "objectives": [objective]}, LoopSpec)
    with pytest.raises(InvalidSpecError, match=said) as caught:
        check_loop(spec)
    assert caught.value.where == f"spec.objectives[0].{where}"
    assert caught.value.mend


def test_targets_that_contradict_each_other_are_refused() -> None:
    both = [{"indicator": "accuracy", "target": ">= 0.9"}, {"indicator": "performance/accuracy", "target": "<= 0.8"}]
    with pytest.raises(InvalidSpecError, match=r"at least 0.9 and at most 0.8, as objective 1 wants it"):
        check_loop(convert({"data": {}, "objectives": both}, LoopSpec))
    check_loop(convert({"data": {}, "objectives": [both[0], {**both[1], "target": "<= 0.99"}]}, LoopSpec))


def test_an_alert_between_two_windows_is_refused() -> None:
    """Windows of a day are counted once a day: what looks back five minutes finds none."""
    burn = {"factor": 2, "long": "2d", "short": "5m"}
    spec = {
        "data": {},
        "windows": {"size": "1d"},
        "objectives": [{"indicator": "accuracy", "target": ">= 0.9", "alerts": [burn]}],
    }
    with pytest.raises(InvalidSpecError, match="windows of 1d are counted as they close"):
        check_loop(convert(spec, LoopSpec))
    check_loop(convert({**spec, "windows": {"size": "5m"}}, LoopSpec))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"objectives": []}, "spec.objectives"),
        ({"objectives": [{"target": 1.5, "op": "gte", "value": 1}]}, "spec.objectives[0].target"),
        ({"objectives": [{"targetPercent": 120, "op": "gte", "value": 1}]}, "spec.objectives[0].targetPercent"),
        ({"objectives": [{"target": 1.0, "op": "gte", "value": 1}]}, "spec.objectives[0].target"),
        ({"objectives": [{"op": "gte", "value": 1}]}, "spec.objectives[0]"),
        ({"objectives": [{"op": "eq"}]}, "spec.objectives[0].op"),
        ({"objectives": [{"target": 0.9}]}, "spec.objectives[0]"),
        ({"objectives": [{"target": 0.9, "op": "gte", "value": 1, "compositeWeight": 2}]}, "spec.objectives[0]"),
        ({"budgetingMethod": "Sometimes"}, "spec.budgetingMethod"),
        ({"budgetingMethod": "Timeslices"}, "spec.objectives[0].timeSliceWindow"),
        ({"service": 1}, "spec.service"),
        ({"indicatorRef": "elsewhere"}, "spec.indicatorRef"),
        ({"timeWindow": [{"duration": "0s"}]}, "spec.timeWindow[0].duration"),
        ({"timeWindow": [{"duration": "1M", "isRolling": False}]}, "spec.timeWindow[0]"),
        ({"timeWindow": [{"duration": "1d"}, {"duration": "2d"}]}, "spec.timeWindow"),
        ({"alertPolicies": ["elsewhere"]}, "spec.alertPolicies[0]"),
        ({"alertPolicies": alert(14.4)}, None),
        ({"alertPolicies": alert(20.0)}, "spec.alertPolicies[0].spec.conditions[0].spec.condition"),
        ({"alertPolicies": alert(2.0, lookback="60d")}, "spec.alertPolicies[0].spec.conditions[0].spec.condition"),
        ({"alertPolicies": alert(2.0, lookback="5m", after="1h")}, "spec.alertPolicies[0].spec.conditions[0].spec.condition"),
        ({"indicator": {"spec": {}}}, "spec.indicator.spec"),
        ({"indicator": {"spec": {"thresholdMetric": ours("availability")}}}, "spec.indicator.spec.thresholdMetric.metricSource"),
        ({"indicator": {"spec": {"thresholdMetric": {"metricSource": {"type": "Datadog", "spec": {}}}}}}, "spec.indicator.spec.thresholdMetric.metricSource"),  # noqa: E501
        ({"indicator": {"spec": {"ratioMetric": {"good": ours("availability")}}}}, "spec.indicator.spec.ratioMetric"),
    ],
)  # fmt: skip
def test_a_document_is_refused_with_its_path(change: JsonObject, place: str | None) -> None:
    if place is None:
        assert read_slo("x", slo(**change))[0].alerts[0].factor == 14.4
        return
    with pytest.raises(InvalidSpecError) as caught:
        read_slo("x", slo(**change))
    assert caught.value.where == place


def test_an_alert_of_14_times_never_fires_below_a_target_of_93_percent() -> None:
    refused = slo(objectives=[{"op": "gte", "value": 0.8, "target": 0.93}], alertPolicies=alert(14.4))
    with pytest.raises(
        InvalidSpecError, match="can never fire: with a target of 93 % total failure burns 14.3 times"
    ) as caught:
        read_slo("x", refused)
    assert "a target above 93.06 %" in caught.value.mend
    accepted = slo(objectives=[{"op": "gte", "value": 0.8, "target": 0.931}], alertPolicies=alert(14.4))
    assert read_slo("x", accepted)[0].alerts[0].failing_share(0.931) < 1


def test_a_document_may_have_several_objectives_and_a_source_of_prometheus() -> None:
    two = [{"targetPercent": 99, "displayName": "Fast enough"}, {"target": 0.9}]
    query = {"metricSource": {"type": "Prometheus", "spec": {"query": "sum(rate(errors[{{.window}}]))"}}}
    ratio = {"bad": query, "total": query}
    fast, plain = read_slo("x", slo(objectives=two, indicator={"spec": {"ratioMetric": ratio}}))
    assert (fast.name, plain.name) == ("x-fast-enough", "x-1")
    assert (fast.target, plain.target) == (0.99, 0.9)
    assert fast.indicator.kind == "query"
    assert fast.indicator.query == "(sum(rate(errors[{{.window}}]))) / (sum(rate(errors[{{.window}}])))"


def test_names_of_slos_are_names_of_resources() -> None:
    long = slo_name("l" * 50, 12, Objective(indicator="fairness/gap/Sex=Female,Age=old", target="<= 1"))
    assert len(long) <= 63
    assert long.endswith("-12")
    assert (
        slo_name("loan", 0, Objective(indicator="missing/share/Income", target="<= 1")) == "loan-missing-share-income-0"
    )
