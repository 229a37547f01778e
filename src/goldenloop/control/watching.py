"""Which monitors a loop has, what begins with a version, and how all of them together keep promise P1.

**How the promise holds for the whole loop.** A loop promises at most one false alarm in N windows
(`retrain.falseAlarmWindows`) while nothing changes. Each promised monitor feeds its own detector
(goldenloop.stats.detection) with one score a window, and a detector whose threshold is s * N alarms falsely at most once
in s * N windows on average. The shares 1/s of all promised monitors add up to one (`SHARES`: the loss, which retrains,
has a half, the others a sixth each), so their false alarms, added up, stay at or below one in N windows. No independence
between them is needed: expectations add up whatever depends on what. The shares are the same whether or not all of them
are chosen; leaving one out only makes the loop calmer. A broken schema alarms too, but on a fact (a column is not
there), never on chance, so it takes no part of the budget.

Everything else warns. The p-value of a promised monitor's window warns at one window in a hundred; the monitors that are
not promised share another hundredth among them: each test gets its part (`Asked.significance`), and so does each
learned threshold, which is the tail of the value's own past. A warning is told when it begins, not on every window for
which it lasts. No warning starts anything.
"""

from __future__ import annotations

import msgspec
import numpy as np

from goldenloop.control.memory import MonitorMemory
from goldenloop.control.view import LoopView
from goldenloop.core.phases import Verdict
from goldenloop.monitors.catalogue import CATALOGUE
from goldenloop.monitors.catalogue.base import Asked
from goldenloop.monitors.findings import Chosen, Finding
from goldenloop.monitors.reference import Reference
from goldenloop.standards.loop import NamedMonitor
from goldenloop.stats.detection import WindowScorer
from goldenloop.stats.thresholds import LearnedThreshold

SHARES = {"performance": 2, "drift": 6, "predictionDrift": 6, "multivariateDrift": 6}
FAST_TRACK = 0.01  # the share of windows that may warn falsely, for each promised monitor and for all others together
MOST_BROKEN = 100  # spans with a broken schema that are remembered apart; beyond it the oldest two are joined into one


_VALUES_KEPT = 150  # of each learned threshold; a tail needs 50


def watched(view: LoopView, chosen: tuple[Chosen, ...]) -> tuple[NamedMonitor, ...]:
    """The monitors of a loop: what its spec lists, and what `auto` chose where it says so and the list does not say otherwise.

    Before the first version nothing is chosen yet; `auto` then means what it takes whatever the data are.
    """
    listed = view.spec.monitors if isinstance(view.spec.monitors, tuple) else (view.spec.monitors,)
    given = [each for each in listed if isinstance(each, NamedMonitor)]
    taken: list[NamedMonitor] = []
    if "auto" in listed:
        named = {each.type for each in given if each.type != "custom"}
        known = {each.monitor: each.chosen for each in chosen}
        taken = [
            NamedMonitor(type=monitor.name)
            for name, monitor in CATALOGUE.items()
            if name not in named and known.get(name, monitor.essential)
        ]
    return (*taken, *(each for each in given if each.enabled))


def explained(view: LoopView, chosen: tuple[Chosen, ...]) -> tuple[Chosen, ...]:
    """Every monitor, whether the loop has it, and why."""
    has = {each.name: each for each in watched(view, chosen)}
    reasons = {each.monitor: each.why for each in chosen}
    listed = view.spec.monitors if isinstance(view.spec.monitors, tuple) else (view.spec.monitors,)
    given = {each.name for each in listed if isinstance(each, NamedMonitor)}
    found = []
    for name in CATALOGUE if "auto" in listed else ():
        why = "given" if name in given else f"auto: {reasons.get(name, 'the first version will say')}"
        found.append(Chosen(monitor=name, chosen=name in has, why=why))
    shown = {each.monitor for each in found}
    return (*found, *(Chosen(monitor=name, chosen=True, why="given") for name in has if name not in shown))


def asked(view: LoopView, monitors: MonitorMemory) -> tuple[Asked, ...]:
    """What the analyst is asked to measure."""
    named = watched(view, monitors.chosen)
    warning = sum(each.type not in SHARES for each in named)
    return tuple(Asked(settings=each, significance=FAST_TRACK / max(warning, 1)) for each in named)


def first_watch(view: LoopView, version: str, reference: Reference) -> MonitorMemory:
    """What the monitors of a loop begin with: the reference of its first version."""
    promised = float(view.spec.retrain.false_alarm_windows)
    scores = {"drift": reference.features.windows, "predictionDrift": reference.answers.windows, **reference.scores}
    detectors = {
        name: WindowScorer.of(scores.get(name, ()), windows_per_false_alarm=promised * share)
        for name, share in SHARES.items()
        if name != "performance"
    }
    return MonitorMemory(
        detectors=detectors,
        loss=WindowScorer.of(reference.loss_windows, windows_per_false_alarm=promised * SHARES["performance"]),
        expected_loss={version: reference.expected_loss},
        loss_scale=reference.loss_scale,
        learned={name: _begun(values) for name, values in reference.scores.items() if "/" in name},
        chosen=reference.chosen,
    )


def next_watch(monitors: MonitorMemory, version: str, reference: Reference) -> MonitorMemory:
    """The monitors of a new champion: what is usual moves, how much it scatters is remembered."""
    scores = {"drift": reference.features.windows, "predictionDrift": reference.answers.windows, **reference.scores}
    detectors = {}
    for name, detector in monitors.detectors.items():
        begun = scores.get(name, ())
        detectors[name] = (detector.relocate(float(np.mean(begun))) if begun else detector).restart()
    return msgspec.structs.replace(
        monitors,
        detectors=detectors,
        loss=monitors.loss.restart(),
        recent=(),
        expected_loss={**monitors.expected_loss, version: reference.expected_loss},
        chosen=reference.chosen or monitors.chosen,
    )


def learn(monitors: MonitorMemory, finding: Finding, *, among: int, at_us: int) -> tuple[Finding, MonitorMemory]:
    """The finding judged by the value's own past, and the memory that has taken it in: a lasting change becomes normal."""
    if not finding.learned:
        return finding, monitors
    name = f"{finding.monitor}/{finding.metric}"
    if finding.value is None:
        return finding, monitors
    past = msgspec.structs.replace(
        monitors.learned.get(name, LearnedThreshold(method="tail")),
        rate=FAST_TRACK / max(among, 1),
        side=finding.learned,
    )
    limits = past.judge(finding.value, at_us=at_us)
    if limits.outside is not None:
        verdict = Verdict.FAIL if limits.outside else Verdict.PASS
    else:
        verdict = Verdict.FAIL if finding.verdict is Verdict.FAIL else Verdict.INCONCLUSIVE
    is_low = limits.high is None or (limits.low is not None and finding.value < limits.low)
    judged = msgspec.structs.replace(
        finding,
        verdict=verdict,
        threshold=limits.low if is_low else limits.high,
        note="; ".join(part for part in (limits.note, finding.note) if part),
    )
    return judged, msgspec.structs.replace(monitors, learned={**monitors.learned, name: _grown(past, finding.value)})


def _begun(values: tuple[float, ...]) -> LearnedThreshold:
    threshold = LearnedThreshold(method="tail")
    for value in values:
        threshold = _grown(threshold, value)
    return threshold


def _grown(threshold: LearnedThreshold, value: float) -> LearnedThreshold:
    """Tails need neither times nor more digits than these; a memory is written with every tick."""
    grown = threshold.update(float(f"{value:.6g}"), at_us=0)
    return msgspec.structs.replace(grown, values=grown.values[-_VALUES_KEPT:], times_us=grown.times_us[-_VALUES_KEPT:])


def with_broken(monitors: MonitorMemory, start_us: int, end_us: int) -> MonitorMemory:
    """The memory of one more span whose rows must not be trained on."""
    spans = list(monitors.broken)
    if spans and spans[-1][1] >= start_us:
        spans[-1] = (spans[-1][0], end_us)
    else:
        spans.append((start_us, end_us))
    if len(spans) > MOST_BROKEN:
        spans[:2] = [(spans[0][0], spans[1][1])]
    return msgspec.structs.replace(monitors, broken=tuple(spans))
