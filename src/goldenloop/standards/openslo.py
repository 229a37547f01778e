"""OpenSLO v1, kind SLO: what comes in, what a Loop's objectives become, and the one form into which both are compiled.

Accepted: ratio and threshold metrics, all three budgeting methods, one rolling time window, alert policies written inline with burn-rate
conditions. An indicator whose source is of type `goldenloop` is counted by the platform:

    metricSource: {type: goldenloop, spec: {indicator: availability}}
    metricSource: {type: goldenloop, spec: {indicator: performance/accuracy}}

One of type Prometheus is exported with the rules for Prometheus, and nobody here evaluates it. What is not accepted is refused by name:
references to other documents (`indicatorRef`, `alertPolicyRef`), calendar windows, composite objectives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from goldenloop.core.durations import format_duration, parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.alerting import BurnAlert, check_alert, default_alerts
from goldenloop.standards.documents import convert
from goldenloop.standards.objectives import Indicator, Objective, Operator, check_objectives, read_objective
from goldenloop.standards.slo_sources import SOURCE, Bound, read_indicator, source_of
from goldenloop.stats.budgets import Counting, Method

GROUP = "openslo"
VERSION = "v1"
_LONGEST_NAME = 63
_METHODS: dict[str, Method] = {
    "occurrences": "Occurrences",
    "timeslices": "Timeslices",
    "ratioTimeslices": "RatioTimeslices",
}


class TimeWindow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    duration: str
    is_rolling: bool = True
    calendar: JsonObject | None = None


class SloObjective(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    target: float | None = None
    target_percent: float | None = None
    op: Operator | None = None
    value: float | None = None
    display_name: str | None = None
    time_slice_target: Annotated[float, Meta(gt=0, le=1)] | None = None
    time_slice_window: str | None = None
    composite_weight: float | None = None
    indicator: JsonObject | None = None
    indicator_ref: str | None = None


class SloSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    service: str
    budgeting_method: Method
    objectives: Annotated[tuple[SloObjective, ...], Meta(min_length=1)]
    time_window: tuple[TimeWindow, ...] = ()
    indicator: JsonObject | None = None
    indicator_ref: str | None = None
    description: str = ""
    alert_policies: list[Json] = []


class ServiceLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One objective, compiled: what is counted, how, which share must be good over which time, and what alerts there are."""

    name: str
    service: str
    indicator: Indicator
    target: float
    counting: Counting
    window_us: int
    alerts: tuple[BurnAlert, ...]
    description: str = ""


class _Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    kind: str
    threshold: float
    lookback_window: str
    alert_after: str = "5m"
    op: str = "gt"


class _AlertCondition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    condition: _Condition
    severity: str = "page"


def slo_name(loop: str, index: int, objective: Objective) -> str:
    """The name of the SLO that an objective becomes.

    >>> slo_name("loan", 1, Objective(indicator="performance/accuracy", target=">= 0.8"))
    'loan-performance-accuracy-1'
    """
    part = _plain(objective.indicator)
    return f"{loop}-{part}"[: _LONGEST_NAME - len(str(index)) - 1].rstrip("-.") + f"-{index}"


def from_objective(loop: str, objective: Objective, *, cadence_us: int | None = None) -> JsonObject:
    """The spec of the SLO that says the same as a Loop's objective."""
    promise = read_objective(objective, where="objective")
    indicator = promise.indicator
    entry: JsonObject = {"target": promise.target}
    if indicator.kind not in ("availability", "latency", "verdict"):
        entry |= {"op": indicator.op, "value": indicator.bound}
    if objective.budgeting != "occurrences":
        entry |= {"timeSliceWindow": objective.slice}
        if objective.budgeting == "timeslices":
            entry |= {"timeSliceTarget": promise.target}
    source: JsonObject = {"type": SOURCE, "spec": source_of(indicator)}
    alerts = alerts_of(objective, promise.target, cadence_us=None if indicator.is_of_the_service else cadence_us)
    metric: JsonObject = {"metricSource": source}
    note = f" ({indicator.note})" if indicator.note else ""
    is_ratio = indicator.kind in ("availability", "latency", "verdict")
    ratio: JsonObject = {"counter": True, "good": metric, "total": {"metricSource": {"type": SOURCE, "spec": {}}}}
    return {
        "service": loop,
        "description": f"{objective.indicator} {objective.target} over {objective.window}{note}",
        "budgetingMethod": _METHODS[objective.budgeting],
        "indicator": {
            "metadata": {"name": _plain(objective.indicator)},
            "spec": {"ratioMetric": ratio} if is_ratio else {"thresholdMetric": metric},
        },
        "objectives": [entry],
        "timeWindow": [{"duration": objective.window, "isRolling": True}],
        "alertPolicies": [
            _policy(f"{_plain(objective.indicator)}-{number}", alert) for number, alert in enumerate(alerts)
        ],
    }


def check_loop_objectives(objectives: Sequence[Objective], *, cadence_us: int | None) -> None:
    """Raise InvalidSpecError for objectives of a Loop that cannot be. `cadence_us` is the length of its windows, where it is given."""
    check_objectives(objectives)
    for index, objective in enumerate(objectives):
        place = f"spec.objectives[{index}]"
        promise = read_objective(objective, where=place)
        event_us = None if promise.indicator.is_of_the_service else cadence_us
        alerts_of(objective, promise.target, cadence_us=event_us, where=place)


def alerts_of(objective: Objective, target: float, *, cadence_us: int | None, where: str = "") -> tuple[BurnAlert, ...]:
    """The alerts of an objective: those written, each proved able to fire or refused, or such as can."""
    window_us = parse_duration(objective.window)
    if objective.indicator == "promotion_error":
        return ()
    if objective.alerts == "auto":
        return default_alerts(target, window_us=window_us, cadence_us=cadence_us)
    made = []
    for index, written in enumerate(objective.alerts):
        place = f"{where}.alerts[{index}]"
        alert = BurnAlert(
            factor=written.factor,
            long_us=parse_duration(written.long, where=f"{place}.long"),
            short_us=parse_duration(written.short, where=f"{place}.short"),
            severity=written.severity,
        )
        check_alert(alert, target, window_us=window_us, cadence_us=cadence_us, where=place)
        made.append(alert)
    return tuple(made)


def compile_slo(name: str, spec: SloSpec, *, where: str = "spec") -> tuple[ServiceLevel, ...]:
    """The objectives of an SLO, compiled. Raises InvalidSpecError for what is not accepted, and for alerts that can never fire."""
    if spec.indicator_ref is not None:
        raise InvalidSpecError(
            "references to other documents are not followed",
            where=f"{where}.indicatorRef",
            mend="Write the indicator inline.",
        )
    window_us = _window(spec, where)
    compiled = []
    for index, objective in enumerate(spec.objectives):
        place = f"{where}.objectives[{index}]"
        if (
            objective.composite_weight is not None
            or objective.indicator is not None
            or objective.indicator_ref is not None
        ):
            raise InvalidSpecError(
                "composite objectives are not accepted", where=place, mend="Write an SLO for each indicator."
            )
        target = _target(objective, place)
        indicator = read_indicator(
            spec.indicator, Bound(objective.op, objective.value), where=f"{where}.indicator", place=place
        )
        counting = _counting(spec.budgeting_method, objective, place)
        alerts = _alerts(spec.alert_policies, target, window_us, f"{where}.alertPolicies")
        if not spec.alert_policies and indicator.kind != "promotionError":
            alerts = default_alerts(target, window_us=window_us)
        compiled.append(
            ServiceLevel(
                name=name if len(spec.objectives) == 1 else f"{name}-{_plain(objective.display_name or str(index))}",
                service=spec.service,
                indicator=indicator,
                target=target,
                counting=counting,
                window_us=window_us,
                alerts=alerts,
                description=spec.description,
            )
        )
    names = [each.name for each in compiled]
    if len(set(names)) != len(names):
        raise InvalidSpecError(
            "two objectives have one name", where=f"{where}.objectives", mend="Give each a displayName of its own."
        )
    return tuple(compiled)


def read_slo(name: str, spec: object, *, where: str = "spec") -> tuple[ServiceLevel, ...]:
    """The objectives of an SLO document. Raises InvalidSpecError."""
    return compile_slo(name, convert(spec, SloSpec, where=where), where=where)


def _target(objective: SloObjective, place: str) -> float:
    if (objective.target is None) == (objective.target_percent is None):
        raise InvalidSpecError(
            "one of target and targetPercent is to be given",
            where=place,
            mend="Write target: 0.99 or targetPercent: 99.",
        )
    field = "target" if objective.target is not None else "targetPercent"
    target = objective.target if objective.target is not None else (objective.target_percent or 0.0) / 100
    if target == 1:
        raise InvalidSpecError(
            "a target of 100 % leaves no error budget", where=f"{place}.{field}", mend="Write a target below 100 %."
        )
    if not 0 < target < 1:
        raise InvalidSpecError(
            f"a target of {100 * target:g} % is not between 0 and 100 %",
            where=f"{place}.{field}",
            mend="Write target as a share, 0.99, or targetPercent, 99.",
        )
    return target


def _window(spec: SloSpec, where: str) -> int:
    if len(spec.time_window) != 1:
        if not spec.time_window:
            return parse_duration("28d")
        raise InvalidSpecError("an SLO has one time window", where=f"{where}.timeWindow", mend="Leave one.")
    window = spec.time_window[0]
    place = f"{where}.timeWindow[0]"
    if window.calendar is not None or not window.is_rolling:
        raise InvalidSpecError(
            "calendar windows are not accepted",
            where=place,
            mend="Write a rolling one: {duration: 28d, isRolling: true}.",
        )
    length = parse_duration(window.duration, where=f"{place}.duration")
    if length <= 0:
        raise InvalidSpecError("must be longer than nothing", where=f"{place}.duration", mend="Write 28d, for example.")
    return length


def _counting(method: Method, objective: SloObjective, place: str) -> Counting:
    if method == "Occurrences":
        return Counting()
    if objective.time_slice_window is None:
        raise InvalidSpecError(
            f"{method} need the length of a slice", where=f"{place}.timeSliceWindow", mend="Write 5m, for example."
        )
    length = parse_duration(objective.time_slice_window, where=f"{place}.timeSliceWindow")
    if length <= 0:
        raise InvalidSpecError("must be longer than nothing", where=f"{place}.timeSliceWindow", mend="Write 5m.")
    if method == "Timeslices" and objective.time_slice_target is None:
        raise InvalidSpecError(
            "Timeslices need the share from which a slice is good", where=f"{place}.timeSliceTarget", mend="Write 0.99."
        )
    return Counting(method=method, slice_us=length, slice_target=objective.time_slice_target)


def _policy(name: str, alert: BurnAlert) -> JsonObject:
    """An alert policy as OpenSLO writes it. Its conditions all hold when it fires: the long and the short look back."""
    return {
        "kind": "AlertPolicy",
        "metadata": {"name": f"{name}-{alert.severity}"},
        "spec": {
            "conditions": [
                {
                    "kind": "AlertCondition",
                    "metadata": {"name": f"{name}-burn"},
                    "spec": {
                        "severity": alert.severity,
                        "condition": {
                            "kind": "burnrate",
                            "op": "gt",
                            "threshold": alert.factor,
                            "lookbackWindow": format_duration(alert.long_us),
                            "alertAfter": format_duration(alert.short_us),
                        },
                    },
                }
            ],
        },
    }


def _alerts(policies: list[Json], target: float, window_us: int, where: str) -> tuple[BurnAlert, ...]:
    made = []
    for index, policy in enumerate(policies):
        place = f"{where}[{index}]"
        spec = policy.get("spec") if isinstance(policy, dict) else None
        conditions = spec.get("conditions") if isinstance(spec, dict) else None
        if not isinstance(conditions, list) or not conditions:
            raise InvalidSpecError(
                "references to other documents are not followed",
                where=place,
                mend="Write the AlertPolicy inline, with its conditions.",
            )
        for number, written in enumerate(conditions):
            path = f"{place}.spec.conditions[{number}].spec"
            inner = written.get("spec") if isinstance(written, dict) else None
            if inner is None:
                raise InvalidSpecError("references are not followed", where=path, mend="Write the condition inline.")
            condition = convert(inner, _AlertCondition, where=path)
            burn = condition.condition
            if burn.kind != "burnrate" or burn.op not in ("gt", "gte"):
                raise InvalidSpecError(
                    f"conditions of kind {burn.kind!r} with {burn.op!r} are not accepted",
                    where=f"{path}.condition",
                    mend="Write kind: burnrate, op: gt.",
                )
            alert = BurnAlert(
                factor=burn.threshold,
                long_us=parse_duration(burn.lookback_window, where=f"{path}.condition.lookbackWindow"),
                short_us=parse_duration(burn.alert_after, where=f"{path}.condition.alertAfter"),
                severity="page" if condition.severity.lower() in ("page", "critical", "high") else "ticket",
            )
            check_alert(alert, target, window_us=window_us, where=f"{path}.condition")
            made.append(alert)
    return tuple(made)


def _plain(text: str) -> str:
    """Text as a part of a name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
