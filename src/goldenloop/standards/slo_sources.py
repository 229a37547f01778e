"""Where an SLO's numbers come from: the metric sources of OpenSLO, read into indicators and written from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from goldenloop.core.clock import SECOND
from goldenloop.core.durations import format_duration, parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.documents import convert
from goldenloop.standards.objectives import Indicator, Objective, Operator, latency_indicator, read_objective

SOURCE = "goldenloop"  # the type of a metric source that the platform itself counts
_NOT_OURS = "its query is Prometheus' to answer: goldenloop export prometheus"
_RATIOS = ("availability", "latency", "verdict")  # what they count is good or bad by itself
_DURATIONS = ("data_freshness", "model_freshness", "decision_time", "label_lag")


class MetricSource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    spec: JsonObject
    type: str = ""
    metric_source_ref: str = ""


class Metric(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metric_source: MetricSource


class RatioMetric(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    counter: bool = True
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric | None = None
    raw: Metric | None = None
    raw_type: Literal["success", "failure"] | None = None


class IndicatorSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    threshold_metric: Metric | None = None
    ratio_metric: RatioMetric | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value of a threshold metric is held against, as the objective says."""

    op: Operator | None
    value: float | None


def read_indicator(document: JsonObject | None, bound: Bound, *, where: str, place: str) -> Indicator:
    if document is None:
        return Indicator(kind="query", note="it has no indicator, so nothing is counted")
    spec = convert(document.get("spec", {}), IndicatorSpec, where=f"{where}.spec")
    if (spec.threshold_metric is None) == (spec.ratio_metric is None):
        raise InvalidSpecError(
            "one of thresholdMetric and ratioMetric is to be given",
            where=f"{where}.spec",
            mend="See the OpenSLO specification.",
        )
    if spec.threshold_metric is not None:
        source, path = spec.threshold_metric.metric_source, f"{where}.spec.thresholdMetric.metricSource"
        if bound.op is None or bound.value is None:
            raise InvalidSpecError(
                "a threshold metric needs op and value", where=place, mend="Write op: gte and value: 0.8, for example."
            )
        if source.type != SOURCE:
            operator = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}[bound.op]
            query = f"avg_over_time((({_query(source, path)}) {operator} bool {bound.value:.17g})[{{{{.window}}}}:])"
            return Indicator(kind="query", query=f"1 - ({query})", note=_NOT_OURS)
        found = _named(source, bound, path)
        if found.kind in _RATIOS:
            raise InvalidSpecError(
                f"{found.text} is a ratio",
                where=path,
                mend="Write it as ratioMetric, with it as good and no op and value.",
            )
        return found
    assert spec.ratio_metric is not None
    return _of_ratio(spec.ratio_metric, bound, f"{where}.spec.ratioMetric")


def _of_ratio(ratio: RatioMetric, bound: Bound, path: str) -> Indicator:
    if ratio.raw is not None:
        share = _query(ratio.raw.metric_source, f"{path}.raw.metricSource")
        return Indicator(kind="query", query=share if ratio.raw_type == "failure" else f"1 - ({share})", note=_NOT_OURS)
    part = ratio.good if ratio.good is not None else ratio.bad
    if part is None or ratio.total is None:
        raise InvalidSpecError(
            "a ratio has total, and good or bad",
            where=path,
            mend="Write good: {metricSource: …}, total: {metricSource: …}.",
        )
    side = "good" if ratio.good is not None else "bad"
    if part.metric_source.type == SOURCE:
        if side == "bad":
            raise InvalidSpecError("the platform counts what is good", where=f"{path}.bad", mend="Write it as good.")
        found = _named(part.metric_source, bound, f"{path}.good.metricSource")
        if found.kind not in _RATIOS:
            raise InvalidSpecError(
                f"{found.text} is a value", where=path, mend="Write it as thresholdMetric, with op and value."
            )
        return found
    counted = _query(part.metric_source, f"{path}.{side}.metricSource")
    share = f"({counted}) / ({_query(ratio.total.metric_source, f'{path}.total.metricSource')})"
    return Indicator(kind="query", query=share if side == "bad" else f"1 - ({share})", note=_NOT_OURS)


def _query(source: MetricSource, where: str) -> str:
    """The query of a source of Prometheus; `{{.window}}` in it stands for the time that is looked at, as Sloth has it."""
    if source.type.lower() != "prometheus":
        raise InvalidSpecError(
            f"sources of type {source.type or source.metric_source_ref or 'nothing'!r} are not read",
            where=where,
            mend="Use type goldenloop, which the platform counts, or Prometheus, which is exported.",
        )
    query = source.spec.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InvalidSpecError("there is no query", where=f"{where}.spec.query", mend="Write the query in PromQL.")
    return query


def _named(source: MetricSource, bound: Bound, where: str) -> Indicator:
    """The indicator that a source of ours names."""
    name = source.spec.get("indicator")
    if not isinstance(name, str):
        raise InvalidSpecError(
            "no indicator is named",
            where=f"{where}.spec.indicator",
            mend="Write availability, or performance/accuracy.",
        )
    if name == "latency":
        below = source.spec.get("below")
        if not isinstance(below, str):
            raise InvalidSpecError("how fast is not said", where=f"{where}.spec.below", mend="Write below: 50ms.")
        return latency_indicator(
            parse_duration(below, where=f"{where}.spec.below") / SECOND, where=f"{where}.spec.below"
        )
    if bound.op is None or bound.value is None:
        target = ">= 0.5"  # only what is counted is read from it
    elif name in _DURATIONS:
        target = f"<= {bound.value:.6f}s"
    else:
        target = f"{'>=' if bound.op in ('gte', 'gt') else '<='} {bound.value!r}"
    found = read_objective(Objective(indicator=name, target=target), where=f"{where}.spec").indicator
    return found if bound.op is None else msgspec.structs.replace(found, op=bound.op)


def source_of(indicator: Indicator) -> JsonObject:
    names = {
        "dataFreshness": "data_freshness",
        "modelFreshness": "model_freshness",
        "decisionTime": "decision_time",
        "promotionError": "promotion_error",
    }
    if indicator.kind == "latency":
        return {"indicator": "latency", "below": format_duration(round((indicator.bound or 0) * SECOND))}
    if indicator.kind == "measurement":
        return {"indicator": "/".join(each for each in (indicator.monitor, indicator.metric, indicator.part) if each)}
    return {
        "indicator": indicator.monitor if indicator.kind == "verdict" else names.get(indicator.kind, indicator.kind)
    }
