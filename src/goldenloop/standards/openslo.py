"""OpenSLO v1, kind SLO: the form into which a Loop's objectives are compiled.

Only ratio and threshold objectives over an occurrences budget are written; what comes in is checked for the same fields.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.loop import Objective, parse_target

GROUP = "openslo"
VERSION = "v1"
WINDOWS_TO_MEET = 0.95  # share of windows that must meet an objective of a Loop


class TimeWindow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    duration: str
    is_rolling: bool = True


class SloObjective(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    target: Annotated[float, Meta(gt=0, le=1)] | None = None
    target_percent: Annotated[float, Meta(gt=0, le=100)] | None = None
    op: Literal["lte", "gte", "lt", "gt"] | None = None
    value: float | None = None
    display_name: str | None = None


class SloSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    service: str
    budgeting_method: Literal["Occurrences", "Timeslices", "RatioTimeslices"]
    objectives: Annotated[tuple[SloObjective, ...], Meta(min_length=1)]
    time_window: tuple[TimeWindow, ...] = ()
    indicator: JsonObject | None = None
    indicator_ref: str | None = None
    description: str = ""
    alert_policies: list[Json] = []


def from_objective(loop: str, objective: Objective) -> JsonObject:
    """The spec of the SLO that says the same as a Loop's objective: every window's measurement meets the target."""
    operator, value = parse_target(objective.target)
    return {
        "service": loop,
        "description": f"{objective.indicator} {objective.target} over {objective.window}",
        "budgetingMethod": "Occurrences",
        "indicator": {
            "metadata": {"name": objective.indicator.replace("_", "-")},
            "spec": {
                "thresholdMetric": {
                    "metricSource": {
                        "type": "Prometheus",
                        "spec": {"query": f'goldenloop_measurement{{loop="{loop}",metric="{objective.indicator}"}}'},
                    }
                }
            },
        },
        "objectives": [{"op": "gte" if operator == ">=" else "lte", "value": value, "target": WINDOWS_TO_MEET}],
        "timeWindow": [{"duration": objective.window, "isRolling": True}],
    }
