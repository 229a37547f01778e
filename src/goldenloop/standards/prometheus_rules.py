"""Recording and alerting rules for Prometheus, of objectives, under the names of Sloth: dashboards made for those work on these.

The rules stand on the platform's own metrics: availability and latency on the counters of inference (8000), everything that is counted in
windows on `goldenloop_objective_error` of control (8080), which is 1 while the newest occurrence missed its target and 0 while it met it.
So Prometheus counts quality by the wall clock, where the platform itself counts it in the loop's own time.

Where nothing is asked there is no ratio: a rate of nothing is left out instead of being "not a number", which would spoil every sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, WEEK
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.alerting import BurnAlert
from goldenloop.standards.openslo import ServiceLevel

ALERT = "GoldenloopErrorBudgetBurn"
_BASE = 5 * MINUTE  # the rate from which that of the whole window is averaged
_UNITS = (("w", WEEK, True), ("d", DAY, False), ("h", HOUR, False), ("m", MINUTE, False), ("s", SECOND, False))


def prometheus_duration(length_us: int) -> str:
    """A duration as Prometheus prints it.

    >>> prometheus_duration(28 * DAY), prometheus_duration(30 * DAY), prometheus_duration(90 * MINUTE)
    ('4w', '30d', '1h30m')
    """
    parts, rest = [], length_us
    for unit, size, only_whole in _UNITS:
        if rest == 0 or (only_whole and rest % size):
            continue
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def rules_of(levels: Sequence[tuple[str, ServiceLevel]], *, version: str) -> JsonObject:
    """A file of rules for these objectives, each with its namespace. What has no rate (promotion error) has no rules."""
    groups: list[Json] = []
    for namespace, level in levels:
        if level.indicator.kind == "promotionError" or (level.indicator.kind == "query" and not level.indicator.query):
            continue
        labels = _labels(namespace, level)
        identity = labels["sloth_id"]
        groups += [
            {"name": f"sloth-slo-sli-recordings-{identity}", "rules": _recordings(namespace, level, labels)},
            {"name": f"sloth-slo-meta-recordings-{identity}", "rules": _about(level, labels, version)},
        ]
        if level.alerts:
            groups.append({"name": f"sloth-slo-alerts-{identity}", "rules": _alerts(namespace, level, labels)})
    return {"groups": groups}


def error_ratio(namespace: str, level: ServiceLevel, window: str) -> str:
    """The share of bad occurrences over a time, in PromQL."""
    if level.counting.method == "Occurrences":
        return _events(namespace, level, window)
    assert level.counting.slice_us is not None
    length = prometheus_duration(level.counting.slice_us)
    of_slice = f"({_events(namespace, level, length)})"
    if level.counting.method == "Timeslices":
        allowed = 1.0 - (1.0 if level.counting.slice_target is None else level.counting.slice_target)
        of_slice = f"({of_slice} > bool {_number(allowed)})"
    return f"avg_over_time({of_slice}[{window}:{length}])"


def _events(namespace: str, level: ServiceLevel, window: str) -> str:
    indicator = level.indicator
    service = f'namespace="{namespace}",service="{level.service}"'
    match indicator.kind:
        case "availability":
            failed = f'sum(rate(goldenloop_requests_total{{{service},code=~"5.."}}[{window}]))'
            return f"({failed} or vector(0)) / (sum(rate(goldenloop_requests_total{{{service}}}[{window}])) > 0)"
        case "latency":
            bound = f'le="{(indicator.bound or 0.0)!r}"'
            within = f"sum(rate(goldenloop_request_seconds_bucket{{{service},{bound}}}[{window}]))"
            return f"1 - ({within} / (sum(rate(goldenloop_request_seconds_count{{{service}}}[{window}])) > 0))"
        case "query":
            return indicator.query.replace("{{.window}}", window).replace("{{ .window }}", window)
    return f'max(avg_over_time(goldenloop_objective_error{{namespace="{namespace}",slo="{level.name}"}}[{window}]))'


def _labels(namespace: str, level: ServiceLevel) -> dict[str, str]:
    """The labels by which Sloth tells objectives apart. The namespace is a part of the id where it is not the usual one."""
    prefix = "" if namespace == "default" else f"{namespace}-"
    return {
        "sloth_id": f"{prefix}{level.service}-{level.name}",
        "sloth_service": level.service,
        "sloth_slo": level.name,
    }


def _selector(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def _recordings(namespace: str, level: ServiceLevel, labels: dict[str, str]) -> list[Json]:
    lengths = {_BASE, *(length for alert in level.alerts for length in (alert.long_us, alert.short_us))} - {
        level.window_us
    }
    made: list[Json] = []
    for length in sorted(lengths):
        window = prometheus_duration(length)
        made.append(
            {
                "record": f"slo:sli_error:ratio_rate{window}",
                "expr": error_ratio(namespace, level, window),
                "labels": {**labels, "sloth_window": window},
            }
        )
    window, base = prometheus_duration(level.window_us), f"slo:sli_error:ratio_rate5m{_selector(labels)}"
    made.append(
        {
            "record": f"slo:sli_error:ratio_rate{window}",
            "expr": f"sum_over_time({base}[{window}]) / ignoring (sloth_window) count_over_time({base}[{window}])",
            "labels": {**labels, "sloth_window": window},
        }
    )
    return made


def _about(level: ServiceLevel, labels: dict[str, str], version: str) -> list[Json]:
    """What the objective is, and how fast its budget goes."""
    chosen, window = _selector(labels), prometheus_duration(level.window_us)
    match = "on(sloth_id, sloth_slo, sloth_service) group_left"
    named: Json = dict(labels)
    info: JsonObject = {
        **labels,
        "sloth_mode": "goldenloop",
        "sloth_spec": "openslo/v1",
        "sloth_version": version,
        "sloth_objective": f"{100 * level.target:.10g}",
    }
    return [
        {"record": "slo:objective:ratio", "expr": f"vector({_number(level.target)})", "labels": named},
        {"record": "slo:error_budget:ratio", "expr": f"vector({_number(1 - level.target)})", "labels": named},
        {"record": "slo:time_period:days", "expr": f"vector({_number(level.window_us / DAY)})", "labels": named},
        {
            "record": "slo:current_burn_rate:ratio",
            "expr": f"slo:sli_error:ratio_rate5m{chosen} / {match} slo:error_budget:ratio{chosen}",
            "labels": named,
        },
        {
            "record": "slo:period_burn_rate:ratio",
            "expr": f"slo:sli_error:ratio_rate{window}{chosen} / {match} slo:error_budget:ratio{chosen}",
            "labels": named,
        },
        {
            "record": "slo:period_error_budget_remaining:ratio",
            "expr": f"1 - slo:period_burn_rate:ratio{chosen}",
            "labels": named,
        },
        {"record": "sloth_slo_info", "expr": "vector(1)", "labels": info},
    ]


def _alerts(namespace: str, level: ServiceLevel, labels: dict[str, str]) -> list[Json]:
    made: list[Json] = []
    for severity in ("page", "ticket"):
        mine = [alert for alert in level.alerts if alert.severity == severity]
        if not mine:
            continue
        summary = f"{level.description or level.indicator.text}: the error budget of {level.service} goes too fast"
        made.append(
            {
                "alert": ALERT,
                "expr": "\nor\n".join(_burns(alert, level, labels) for alert in mine),
                "labels": {
                    **labels,
                    "severity": severity,
                    "sloth_severity": severity,
                    "namespace": namespace,
                    "loop": level.service,
                },
                "annotations": {
                    "summary": summary,
                    "description": "; ".join(alert.text(level.target) for alert in mine),
                },
            }
        )
    return made


def _burns(alert: BurnAlert, level: ServiceLevel, labels: dict[str, str]) -> str:
    most = f"({_number(alert.factor)} * {_number(1 - level.target)})"
    chosen = _selector(labels)
    both = [
        f"max(slo:sli_error:ratio_rate{prometheus_duration(length)}{chosen} > {most}) without (sloth_window)"
        for length in (alert.long_us, alert.short_us)
    ]
    return f"(\n  {both[0]}\n  and\n  {both[1]}\n)"


def _number(value: float) -> str:
    return f"{value:.12g}"
