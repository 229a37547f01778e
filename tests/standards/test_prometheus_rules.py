"""Rules for Prometheus: names that Sloth's dashboards ask for, and alerts that fire when they should and not when they should not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.support.prometheus_tools import needs_promtool, promtool

from goldenloop.standards.documents import convert
from goldenloop.standards.objectives import Objective
from goldenloop.standards.openslo import ServiceLevel, from_objective, read_slo
from goldenloop.standards.prometheus_rules import ALERT, error_ratio, rules_of

OBJECTIVES = [
    {"indicator": "availability", "target": ">= 99.9 %"},
    {"indicator": "latency_p99_ms", "target": "<= 50", "window": "30d"},
    {"indicator": "accuracy", "target": ">= 0.8", "window": "28d"},
    {"indicator": "drift", "target": ">= 0.5", "window": "1d"},
    {"indicator": "availability", "target": ">= 99 %", "budgeting": "timeslices", "slice": "10m"},
    {"indicator": "availability", "target": ">= 99 %", "budgeting": "ratioTimeslices", "slice": "10m"},
    {"indicator": "promotion_error", "target": "<= 0.04"},
]


def level(number: int) -> ServiceLevel:
    objective = convert(OBJECTIVES[number], Objective)
    return read_slo(f"loan-{number}", from_objective("loan", objective))[0]


def written(tmp_path: Path, *numbers: int) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules_of([("default", level(number)) for number in numbers], version="x")))
    return path


@needs_promtool
def test_promtool_takes_the_rules_of_every_kind_of_objective(tmp_path: Path) -> None:
    """Linted too: no rule twice."""
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", written(tmp_path, *range(len(OBJECTIVES))))
    assert "SUCCESS" in said


def test_the_names_are_those_that_dashboards_of_sloth_ask_for() -> None:
    groups = rules_of([("default", level(0)), ("team", level(0))], version="x")["groups"]
    assert isinstance(groups, list)
    records = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}  # type: ignore[index, call-overload, union-attr]
    assert records >= {
        *(f"slo:sli_error:ratio_rate{window}" for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "4w")),
        *("slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days", "slo:current_burn_rate:ratio"),
        *("slo:period_burn_rate:ratio", "slo:period_error_budget_remaining:ratio", "sloth_slo_info"),
    }
    names = [group["name"] for group in groups]  # type: ignore[index, call-overload]
    assert names[0] == "sloth-slo-sli-recordings-loan-loan-0"
    assert names[3] == "sloth-slo-sli-recordings-team-loan-loan-0", "another namespace is another id"
    assert rules_of([("default", level(6))], version="x") == {"groups": []}, "what has no rate has no rules"


@needs_promtool
def test_an_outage_pages_few_failures_make_a_ticket_and_none_are_quiet(tmp_path: Path) -> None:
    """99.9 % over 28 days: 13.44 times the budget is 1.344 % of failures, over an hour and over five minutes."""
    rules = written(tmp_path, 0)
    labels = 'namespace="default",service="loan",model_version="1"'
    sloth = {"sloth_id": "loan-loan-0", "sloth_service": "loan", "sloth_slo": "loan-0"}
    groups = rules_of([("default", level(0))], version="x")["groups"]
    annotations = {rule["labels"]["severity"]: rule["annotations"] for rule in groups[2]["rules"]}  # type: ignore[index, call-overload, union-attr]
    name = '{sloth_id="loan-loan-0", sloth_service="loan", sloth_slo="loan-0"}'

    def case(failing: int, *severities: str) -> dict[str, object]:
        """`failing` of 1000 requests a minute fail, from the start; alerts of these severities fire."""
        expected = [
            {
                "exp_labels": {
                    **sloth,
                    "severity": severity,
                    "sloth_severity": severity,
                    "namespace": "default",
                    "loop": "loan",
                },
                "exp_annotations": annotations[severity],
            }
            for severity in severities
        ]
        burning = "{" + ", ".join(f'{key}="{value}"' for key, value in {**sloth, "sloth_window": "5m"}.items()) + "}"
        return {
            "interval": "1m",
            "input_series": [
                {"series": f'goldenloop_requests_total{{{labels},code="200"}}', "values": f"0+{1000 - failing}x90"},
                {"series": f'goldenloop_requests_total{{{labels},code="500"}}', "values": f"0+{failing}x90"},
            ],
            "promql_expr_test": [
                {
                    "expr": f"round(slo:current_burn_rate:ratio{name}, 0.01)",
                    "eval_time": "80m",
                    "exp_samples": [{"labels": burning, "value": failing}],
                },
                {
                    "expr": f"slo:error_budget:ratio{name}",
                    "eval_time": "80m",
                    "exp_samples": [{"labels": f"slo:error_budget:ratio{name}", "value": 0.001}],
                },
            ],
            "alert_rule_test": [{"eval_time": "80m", "alertname": ALERT, "exp_alerts": expected}],
        }

    tests = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [case(14, "page", "ticket"), case(4, "ticket"), case(0)],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(tests))
    assert "SUCCESS" in promtool("test", "rules", path)


@needs_promtool
@pytest.mark.parametrize("number", range(6), ids=lambda number: f"{number}-{OBJECTIVES[number]['indicator']}")
def test_every_alert_that_is_written_fires_on_total_failure(tmp_path: Path, number: int) -> None:
    """However low the target: each alert alone, with all of its budget going."""
    one, window = level(number), 6
    assert one.alerts
    fast = read_slo(
        one.name,
        from_objective("loan", convert({**OBJECTIVES[number], "alerts": [_scaled(one)]}, Objective)),
    )[0]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(rules_of([("default", fast)], version="x")))
    service = 'namespace="default",service="loan",model_version="1"'
    tests = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f'goldenloop_requests_total{{{service},code="500"}}', "values": f"0+100x{60 * window}"},
                    {"series": f"goldenloop_request_seconds_count{{{service}}}", "values": f"0+100x{60 * window}"},
                    {
                        "series": f'goldenloop_request_seconds_bucket{{{service},le="0.05"}}',
                        "values": f"0x{60 * window}",
                    },
                    {
                        "series": f'goldenloop_objective_error{{namespace="default",service="loan",slo="loan-{number}"}}',
                        "values": f"1x{60 * window}",
                    },
                ],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{ALERT}",alertstate="firing"}})',
                        "eval_time": "5h",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(tests))
    assert "SUCCESS" in promtool("test", "rules", path)


def _scaled(one: ServiceLevel) -> dict[str, object]:
    """The first alert of an objective, with times that a test of a few hours covers."""
    return {"factor": one.alerts[0].factor, "long": "2h", "short": "20m"}


def test_slices_are_asked_for_slice_by_slice() -> None:
    assert error_ratio("default", level(4), "1h").endswith("> bool 0.01)[1h:10m])")
    assert error_ratio("default", level(5), "1h").endswith(")[1h:10m])")
