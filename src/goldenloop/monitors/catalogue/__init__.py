"""The catalogue: one table of all monitors, from which `auto` chooses, `describe` explains and the docs list.

`choose` and `fit` run in the assess job, `measure` in the monitor worker; whatever one monitor raises costs that monitor's findings only.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors.catalogue.base import Asked, Monitor, Past, Window
from goldenloop.monitors.catalogue.drift import DriftMonitor, PredictionDriftMonitor, SkewMonitor
from goldenloop.monitors.catalogue.estimated import ConceptDriftMonitor, EstimatedPerformanceMonitor
from goldenloop.monitors.catalogue.inputs import CategoriesMonitor, MissingMonitor, RangesMonitor, SchemaMonitor
from goldenloop.monitors.catalogue.quality import CalibrationMonitor, FairnessMonitor, PerformanceMonitor
from goldenloop.monitors.catalogue.rows import MultivariateDriftMonitor, OutliersMonitor, RobustnessMonitor
from goldenloop.monitors.catalogue.traffic import FreshnessMonitor, ServiceMonitor, VolumeMonitor
from goldenloop.monitors.findings import Chosen, Outcome, bounded, could_not
from goldenloop.monitors.reference import Reference
from goldenloop.standards.loop import NamedMonitor

CATALOGUE: dict[str, Monitor] = {  # type: ignore[type-arg]  # each knows a record of its own
    monitor.name: monitor
    for monitor in (
        SchemaMonitor(),
        MissingMonitor(),
        RangesMonitor(),
        CategoriesMonitor(),
        FreshnessMonitor(),
        VolumeMonitor(),
        DriftMonitor(),
        MultivariateDriftMonitor(),
        SkewMonitor(),
        PredictionDriftMonitor(),
        CalibrationMonitor(),
        PerformanceMonitor(),
        EstimatedPerformanceMonitor(),
        ConceptDriftMonitor(),
        FairnessMonitor(),
        OutliersMonitor(),
        RobustnessMonitor(),
        ServiceMonitor(),
    )
}
HISTORY_WINDOWS = 60  # reference windows that are measured, so that learned thresholds need not begin with nothing
_HISTORY_SIGNIFICANCE = 0.01


def choose(past: Past) -> tuple[Chosen, ...]:
    """What `auto` makes of these data: every monitor of the catalogue, taken or not, and why."""
    found = []
    for name, monitor in CATALOGUE.items():
        try:
            taken, why = monitor.choose(past)
        except Exception as error:  # one monitor's mistake is not the others'
            taken, why = False, _told(error)
        found.append(Chosen(monitor=name, chosen=taken, why=why))
    return tuple(found)


def fit(past: Past) -> tuple[dict[str, JsonObject], dict[str, tuple[float, ...]]]:
    """What each monitor needs to know of the reference, as JSON, and what promised detectors begin with.

    A monitor that cannot be fitted is left out, and says so on every window.
    """
    fitted: dict[str, JsonObject] = {}
    scores: dict[str, tuple[float, ...]] = {}
    for name, monitor in CATALOGUE.items():
        try:
            known = monitor.fit(past)
        except Exception:  # its windows will say that nothing was fitted
            continue
        if known is not None:
            fitted[name] = msgspec.to_builtins(known)
            if begun := monitor.reference_scores(known):
                scores[name] = begun
    return fitted, scores


def history(past: Past, reference: Reference) -> dict[str, tuple[float, ...]]:
    """What learned thresholds begin with: each learned value on the reference windows, by `monitor/metric`.

    Only of monitors whose values do not rest on answers: those to rows that the model was trained on are too good to learn from.
    """
    found: dict[str, list[float]] = {}
    windows = past.reference_windows(HISTORY_WINDOWS)
    for name, monitor in CATALOGUE.items():
        if monitor.needs_labels or not monitor.past_tells:
            continue
        settings = NamedMonitor(type=monitor.name, threshold="learned")
        for window in windows:
            outcome = measure(Asked(settings=settings, significance=_HISTORY_SIGNIFICANCE), window, reference)
            for finding in outcome.findings:
                if finding.learned and finding.value is not None and np.isfinite(finding.value):
                    found.setdefault(f"{name}/{finding.metric}", []).append(finding.value)
    return {name: tuple(values) for name, values in found.items()}


def measure(asked: Asked, window: Window, reference: Reference) -> Outcome:
    """What one monitor says of a window: whatever it raises becomes a finding with the verdict error."""
    monitor = CATALOGUE.get(asked.settings.type)
    if monitor is None:
        return could_not(asked.settings.type, "error", "there is no such monitor", verdict=Verdict.ERROR)
    if len(window) < monitor.fewest_rows:
        metric = "statistic" if monitor.promised else "rows"
        return could_not(monitor.name, metric, f"{len(window)} rows; fewer than {monitor.fewest_rows} say nothing")
    try:
        outcome = bounded(monitor.measure(window, monitor.known(reference), asked))
        return msgspec.structs.replace(outcome, monitor=asked.settings.name)
    except Exception as error:
        return could_not(monitor.name, "error", _told(error), verdict=Verdict.ERROR)


def measure_all(asked: Iterable[Asked], window: Window, reference: Reference, *, labelled: bool) -> list[Outcome]:
    """What the monitors say that are asked when a window closes, or when its labels are due."""
    with np.errstate(all="ignore"):
        return [
            measure(each, window, reference)
            for each in asked
            if (monitor := CATALOGUE.get(each.settings.type)) is not None and monitor.needs_labels is labelled
        ]


def watches(name: str) -> str:
    """What a monitor watches, in a few words."""
    monitor = CATALOGUE.get(name)
    return monitor.watches if monitor is not None else "what its class says"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
