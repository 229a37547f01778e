"""What a product owner promises of a loop: the objectives of a Loop, the indicators that they may name, and their targets.

An indicator is one of

- of the service, counted by the wall clock: `availability` (requests not answered with 5xx), `latency` (requests answered `below` a time),
  `latency_p50_ms`, `latency_p95_ms`, `latency_p99_ms`; `data_freshness` (time since the last window with data closed);
- of quality, counted in event time, one occurrence for each window: a metric (`accuracy`), an estimate of one before its labels are there
  (`estimated_accuracy`), a monitor's verdict (`drift`), any measurement (`monitor/metric`, `monitor/metric/feature or slice`),
  `model_freshness` (age of what the answering version was trained on), `label_lag`, `fairness_gap`;
- of the loop itself: `decision_time` (from an alarm to the decision that it led to) and `promotion_error` (alpha that rollouts have spent).

That a latency's 99th percentile is at most 50 ms is the same as that 99 % of requests take at most 50 ms: that is what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.clock import SECOND
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json
from goldenloop.standards.documents import near_miss

Operator = Literal["lte", "gte", "lt", "gt"]
IndicatorKind = Literal[
    "availability",
    "latency",
    "measurement",
    "verdict",
    "dataFreshness",
    "modelFreshness",
    "decisionTime",
    "promotionError",
    "query",
]

WINDOWS_TO_MEET = 0.95  # share of occurrences that must meet a bound, where an objective does not say
# The bounds of the histogram of latencies (goldenloop.serving.metrics.BUCKETS), in seconds: only there can requests be counted.
LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MONITORS = (
    *("schema", "missing", "ranges", "categories", "freshness", "volume", "drift", "multivariateDrift", "skew"),
    *("predictionDrift", "calibration", "performance", "estimatedPerformance", "conceptDrift", "outliers", "adversarial"),
    *("fairness", "robustness", "attributionDrift", "service", "custom"),
)  # fmt: skip
_DURATIONS = {"data_freshness": "dataFreshness", "model_freshness": "modelFreshness", "decision_time": "decisionTime"}
_SHORT = {"fairness_gap": ("fairness", "gap"), "label_lag": ("freshness", "label_lag_seconds")}
_PERCENTILE = re.compile(r"latency_p(\d\d(?:\.\d+)?)_ms")
_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TARGET = re.compile(r"(>=|<=)\s+(\S+?)\s*(%?)")


class Alert(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One burn-rate alert: it fires where the budget goes `factor` times faster than evenly over both times."""

    factor: Annotated[float, Meta(gt=0)]
    long: str
    short: str
    severity: Literal["page", "ticket"] = "page"


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One promise of the product owner: an indicator, a target such as `>= 0.80`, and the window over which it counts.

    `share` is the part of the occurrences that must meet the target; `slice` the length of a slice where time is counted in slices.
    """

    indicator: str
    target: str
    window: str = "28d"
    share: Annotated[float, Meta(gt=0, lt=1)] | None = None
    below: str | None = None
    budgeting: Literal["occurrences", "timeslices", "ratioTimeslices"] = "occurrences"
    slice: str = "5m"
    alerts: tuple[Alert, ...] | Literal["auto"] = "auto"
    on_spent: Literal["nothing", "freeze", "fallBack"] | dict[str, Json] = "nothing"


class Indicator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is counted. `op` and `bound` say what an occurrence must meet to be good; durations are seconds."""

    kind: IndicatorKind
    monitor: str = ""
    metric: str = ""
    part: str = ""  # a feature or a slice
    op: Operator | None = None
    bound: float | None = None
    query: str = ""
    note: str = ""

    @property
    def is_of_the_service(self) -> bool:
        """Whether the wall clock counts, and not the loop's own time."""
        return self.kind in ("availability", "latency", "dataFreshness")

    @property
    def text(self) -> str:
        """What a person calls it."""
        if self.kind == "measurement":
            return "/".join(each for each in (self.monitor, self.metric, self.part) if each)
        if self.kind == "verdict":
            return self.monitor
        if self.kind == "latency":
            return f"latency below {1000 * (self.bound or 0):g} ms"
        return {
            "dataFreshness": "data freshness",
            "modelFreshness": "model freshness",
            "decisionTime": "time from an alarm to a decision",
            "promotionError": "promotion error",
        }.get(self.kind, self.kind)

    def meets(self, value: float) -> bool:
        """Whether a value meets the bound; NaN meets none."""
        bound = self.bound if self.bound is not None else float("nan")
        match self.op:
            case "gte":
                return value >= bound
            case "gt":
                return value > bound
            case "lte":
                return value <= bound
            case "lt":
                return value < bound
        return False


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """An objective of a Loop, read: what is counted, and which share of it must be good."""

    indicator: Indicator
    target: float


def read_objective(objective: Objective, *, where: str = "") -> Promise:
    """Read an objective. Raises InvalidSpecError for an indicator nobody knows, and for a target that cannot be one of it."""
    name = objective.indicator
    _check_spent(objective.on_spent, f"{where}.onSpent")
    if objective.below is not None and name != "latency":
        raise InvalidSpecError(
            f"{name!r} has no time below which it counts", where=f"{where}.below", mend="Write indicator: latency."
        )
    if name == "availability":
        return _ratio(objective, Indicator(kind="availability"), where)
    if name == "latency":
        if objective.below is None:
            raise InvalidSpecError(
                "how fast an answer is to be is not said",
                where=f"{where}.below",
                mend="Write, for example, {indicator: latency, below: 50ms, target: '>= 99 %'}.",
            )
        seconds = parse_duration(objective.below, where=f"{where}.below") / SECOND
        return _ratio(objective, latency_indicator(seconds, where=f"{where}.below"), where)
    if (found := _PERCENTILE.fullmatch(name)) is not None:
        operator, value = parse_target(objective.target, where=f"{where}.target")
        if operator != "<=":
            raise InvalidSpecError(
                "a latency is promised to stay below a time", where=f"{where}.target", mend=f"Write '<= {value:g}'."
            )
        _no_share(objective, where, "the percentile says it")
        indicator = latency_indicator(value / 1000, where=f"{where}.target")
        return Promise(indicator=indicator, target=float(found.group(1)) / 100)
    if name in _DURATIONS:
        kind: IndicatorKind = _DURATIONS[name]  # type: ignore[assignment]  # the names in the table are kinds
        bound = _duration_target(objective.target, f"{where}.target")
        return Promise(indicator=Indicator(kind=kind, op="lte", bound=bound), target=_share(objective))
    if name == "promotion_error":
        operator, value = parse_target(objective.target, where=f"{where}.target")
        if operator != "<=" or not 0 < value <= 1:
            raise InvalidSpecError(
                f"{objective.target!r} is no bound on an error rate", where=f"{where}.target", mend="Write '<= 0.05'."
            )
        _no_share(objective, where, "what rollouts have spent is one number")
        return Promise(indicator=Indicator(kind="promotionError", op="lte", bound=value), target=_share(objective))
    if name in MONITORS:
        return _ratio(objective, Indicator(kind="verdict", monitor=name), where)
    monitor, metric, part = _measurement(name, where)
    if metric == "label_lag_seconds" and monitor == "freshness":
        bound = _duration_target(objective.target, f"{where}.target")
        indicator = Indicator(kind="measurement", monitor=monitor, metric=metric, part=part, op="lte", bound=bound)
        return Promise(indicator=indicator, target=_share(objective))
    operator, value = parse_target(objective.target, where=f"{where}.target")
    return Promise(
        indicator=Indicator(
            kind="measurement",
            monitor=monitor,
            metric=metric,
            part=part,
            op="gte" if operator == ">=" else "lte",
            bound=value,
        ),
        target=_share(objective),
    )


def check_objectives(objectives: Sequence[Objective], *, where: str = "spec.objectives") -> None:
    """Raise InvalidSpecError for windows of nothing, and for targets that no value can meet together."""
    bounds: dict[str, list[tuple[int, Operator, float]]] = {}
    for index, objective in enumerate(objectives):
        place = f"{where}[{index}]"
        promise = read_objective(objective, where=place)
        for field, text in (("window", objective.window), ("slice", objective.slice)):
            if parse_duration(text, where=f"{place}.{field}") <= 0:
                raise InvalidSpecError(
                    "must be longer than nothing", where=f"{place}.{field}", mend="Write 28d, for example."
                )
        indicator = promise.indicator
        if indicator.kind == "latency" or indicator.op is None or indicator.bound is None:
            continue
        bounds.setdefault(f"{indicator.kind} {indicator.text}", []).append((index, indicator.op, indicator.bound))
    for entries in bounds.values():
        for index, operator, low in entries:
            for other, opposite, high in entries:
                if operator == "gte" and opposite == "lte" and low > high:
                    raise InvalidSpecError(
                        f"no value is at least {low:g} and at most {high:g}, as objective {other} wants it",
                        where=f"{where}[{index}].target",
                        mend="Keep the one that is meant.",
                    )


def latency_indicator(seconds: float, *, where: str) -> Indicator:
    """Requests answered within a time. Counted at the next bound of the histogram below it, so that none is called fast that is not."""
    bounds = [bound for bound in LATENCY_BOUNDS if bound <= seconds * (1 + 1e-9)]
    if not bounds or seconds > LATENCY_BOUNDS[-1]:
        raise InvalidSpecError(
            f"latencies are counted from {1000 * LATENCY_BOUNDS[0]:g} ms to {LATENCY_BOUNDS[-1]:g} s, not at {1000 * seconds:g} ms",
            where=where,
            mend=f"Take one of {', '.join(f'{1000 * bound:g}' for bound in LATENCY_BOUNDS)} ms.",
        )
    note = ""
    if bounds[-1] < seconds * (1 - 1e-9):
        note = f"counted at {1000 * bounds[-1]:g} ms, the next bound of the histogram below {1000 * seconds:g} ms"
    return Indicator(kind="latency", op="lte", bound=bounds[-1], note=note)


def parse_target(text: str, *, where: str = "") -> tuple[Literal[">=", "<="], float]:
    """Split a target; a percentage becomes a share.

    >>> parse_target(">= 0.80")
    ('>=', 0.8)
    >>> parse_target(">= 99.5 %")
    ('>=', 0.995)
    """
    found = _TARGET.fullmatch(text.strip())
    try:
        value = float(found.group(2)) if found is not None else float("nan")
    except ValueError:
        value = float("nan")
    if found is None or value != value or value in (float("inf"), float("-inf")):
        raise InvalidSpecError(f"{text!r} is not a target", where=where, mend="Write '>= 0.80' or '<= 50'.")
    return (">=" if found.group(1) == ">=" else "<="), round(value / 100, 12) if found.group(3) else value


def _measurement(name: str, where: str) -> tuple[str, str, str]:
    """Monitor, metric, and feature or slice."""
    if name in _SHORT:
        return (*_SHORT[name], "")
    monitor, slash, rest = name.partition("/")
    if slash:
        metric, _, part = rest.partition("/")
        if monitor not in MONITORS:
            raise InvalidSpecError(
                f"there is no monitor {monitor!r}",
                where=f"{where}.indicator",
                mend=near_miss(monitor, MONITORS) or f"Known: {', '.join(MONITORS)}.",
            )
        if not metric:
            raise InvalidSpecError(
                f"{name!r} names no metric", where=f"{where}.indicator", mend=f"Write {monitor}/METRIC."
            )
        return monitor, metric, part
    if not _METRIC.fullmatch(name):
        raise InvalidSpecError(
            f"{name!r} is no indicator",
            where=f"{where}.indicator",
            mend="Write availability, latency_p99_ms, a metric such as accuracy, or MONITOR/METRIC.",
        )
    if name.startswith("estimated_"):
        return "estimatedPerformance", name.removeprefix("estimated_"), ""
    return "performance", name, ""


def _ratio(objective: Objective, indicator: Indicator, where: str) -> Promise:
    """An objective whose target is the share itself."""
    operator, value = parse_target(objective.target, where=f"{where}.target")
    _no_share(objective, where, "the target says it")
    if operator != ">=":
        raise InvalidSpecError(
            "a share of what is good is promised from below", where=f"{where}.target", mend="Write '>= 0.99'."
        )
    if not 0 < value < 1:
        raise InvalidSpecError(
            f"a target of {100 * value:g} % {'leaves no error budget' if value == 1 else 'is not between 0 and 100 %'}",
            where=f"{where}.target",
            mend="Write a share below 1, as '>= 0.999', or a percentage, as '>= 99.9 %'.",
        )
    return Promise(indicator=indicator, target=value)


def _share(objective: Objective) -> float:
    return WINDOWS_TO_MEET if objective.share is None else objective.share


def _no_share(objective: Objective, where: str, why: str) -> None:
    if objective.share is not None:
        raise InvalidSpecError(
            f"this indicator takes no share: {why}", where=f"{where}.share", mend="Leave it out, and change the target."
        )


def _duration_target(text: str, where: str) -> float:
    """Seconds."""
    operator, _, length = text.strip().partition(" ")
    if operator != "<=":
        raise InvalidSpecError(f"{text!r} is not a longest time", where=where, mend="Write '<= 7d'.")
    seconds = parse_duration(length.strip(), where=where) / SECOND
    if seconds <= 0:
        raise InvalidSpecError("nothing happens in no time", where=where, mend="Write '<= 7d', for example.")
    return seconds


def _check_spent(policy: str | dict[str, Json], where: str) -> None:
    if isinstance(policy, str):
        return
    if set(policy) == {"fixedAnswer"}:
        raise InvalidSpecError(
            "a fixed answer is not given: what answers a request is always a version that was evaluated",
            where=where,
            mend="Write fallBack to return to the version that was golden before, or serve the fixed answer as a version.",
        )
    raise InvalidSpecError("is not known", where=where, mend="Write nothing, freeze or fallBack.")
