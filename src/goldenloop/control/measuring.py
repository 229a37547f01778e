"""What is measured of a window, when it closes and again when its labels are due. Nothing here starts anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from sqlalchemy import insert

from goldenloop.control import business
from goldenloop.control.memory import LoopMemory, MonitorMemory
from goldenloop.control.view import LoopView
from goldenloop.control.watching import FAST_TRACK, SHARES, asked, learn, with_broken
from goldenloop.control.world import Storyteller, World
from goldenloop.core.phases import Verdict
from goldenloop.monitors.analyst import QualityFacts, QualityQuestion, Span
from goldenloop.monitors.catalogue import CATALOGUE
from goldenloop.monitors.findings import Finding, Flag
from goldenloop.registry.versions import ModelVersion
from goldenloop.stats.detection import Judgement
from goldenloop.store.database import Transaction
from goldenloop.store.tables import flagged_rows, measurements

RECENT_WINDOWS = 2  # over which a loss that was not met counts as still high
NAMED_FEATURES = 3
_LONGEST_NAME = 253  # of a feature or a slice, as the database keeps it


@dataclass(frozen=True, slots=True)
class JudgedLoss:
    """What a window's labels said of the champion's loss."""

    window: int
    facts: QualityFacts
    judgement: Judgement


class Measuring:
    """Measures windows of one loop at one tick, and tells what stands out."""

    def __init__(
        self,
        world: World,
        view: LoopView,
        story: Storyteller,
        memory: LoopMemory,
        *,
        champion: ModelVersion,
        reference: str,
    ) -> None:
        self._world = world
        self._view = view
        self._story = story
        self._memory = memory
        self._champion = champion
        self._reference = reference

    def closed(self, monitors: MonitorMemory, window: int, span: Span) -> MonitorMemory:
        """Measure what a window that has closed shows without labels.

        A window whose schema is broken feeds no detector: what comes of half-read rows is not drift.
        """
        facts = self._world.analyst.window(
            span, self._champion.name, self._reference, self._champion.signature, asked(self._view, monitors)
        )
        write = self._measurements(window, span, facts.rows)
        monitors = self._keep_findings(write, monitors, window, facts.findings)
        write.flag(facts.flags)
        if facts.broken:
            monitors = self._break(write, monitors, window, span, facts.broken, facts.scores)
        else:
            detectors = dict(monitors.detectors)
            for name, score in facts.scores.items():
                if name not in detectors:
                    continue
                judged, detectors[name] = detectors[name].judge(score)
                write.judged(name, judged)
                self._tell_judgement(name, window, judged, _leading(facts.findings, name))
            monitors = msgspec.structs.replace(monitors, detectors=detectors)
        write.keep()
        return monitors

    def labelled(self, monitors: MonitorMemory, window: int, span: Span) -> tuple[MonitorMemory, JudgedLoss | None]:
        """Measure what a window shows once its labels are due; None where they say too little, or nobody asks."""
        named = asked(self._view, monitors)
        question = QualityQuestion(
            champion=self._champion.name,
            reference=self._reference,
            signature=self._champion.signature,
            expected=monitors.expected_loss,
            scale=monitors.loss_scale,
            metric=self._memory.metric,
            asked=named,
        )
        facts = self._world.analyst.quality(span, question)
        write = self._measurements(window, span, facts.labelled)
        transaction, view = self._story.transaction, self._view
        known = business.known_names(monitors.learned)
        posted = business.judge_values(transaction, view.namespace, view.name, span, known)
        monitors = self._keep_findings(write, monitors, window, (*facts.findings, *posted))
        is_broken = any(start <= span.start_us < end for start, end in monitors.broken)
        if all(each.settings.type != "performance" for each in named):
            write.keep()
            return monitors, None
        if facts.residual is None or is_broken:
            note = "the schema is broken" if is_broken else f"{facts.labelled} of {facts.rows} rows have a label"
            write.add(_inconclusive("performance", "statistic", note))
            write.keep()
            return monitors, None
        judged, loss = monitors.loss.judge(facts.residual)
        write.judged("performance", judged)
        write.add(
            Finding(
                monitor="performance",
                metric="excess_loss",
                value=facts.residual,
                verdict=Verdict.FAIL if judged.alarm else Verdict.PASS,
            )
        )
        write.keep()
        self._tell_judgement("performance", window, judged, [])
        monitors = msgspec.structs.replace(
            monitors, loss=loss, recent=(*monitors.recent, facts.residual)[-RECENT_WINDOWS:]
        )
        return monitors, JudgedLoss(window=window, facts=facts, judgement=judged)

    def _measurements(self, window: int, span: Span, rows: int) -> _Measurements:
        return _Measurements(self._story.transaction, self._view, self._champion.name, window, span, rows)

    def _keep_findings(
        self, write: _Measurements, monitors: MonitorMemory, window: int, findings: Iterable[Finding]
    ) -> MonitorMemory:
        """Write what was found, and tell of monitors that begin to fail."""
        failing: dict[str, list[Finding]] = {}
        measured: set[str] = set()
        among = sum(each.settings.type not in SHARES for each in asked(self._view, monitors))
        for found in findings:
            finding, monitors = learn(monitors, found, among=among, at_us=write.start_us)
            write.add(finding)
            name = _told_as(finding)
            measured.add(name)
            if finding.verdict is Verdict.FAIL:
                failing.setdefault(name, []).append(finding)
        for name, failed in failing.items():
            if name not in monitors.failing and name != "schema":
                self._tell_findings(name, window, failed)
        still = {name for name in monitors.failing if name not in measured} | failing.keys()
        return msgspec.structs.replace(monitors, failing=tuple(sorted(still)))

    def _tell_findings(self, name: str, window: int, failed: list[Finding]) -> None:
        overall = next((each for each in failed if not each.feature and not each.slice), None)
        if overall is None:
            return  # single features fail by chance now and then; they are shown, and told of only with their monitor
        features = [each.feature for each in failed if each.feature][:NAMED_FEATURES]
        named = f" ({', '.join(features)})" if features else ""
        shown = "" if overall.value is None else f"{overall.metric} is {overall.value:.4g}"
        against = "" if overall.threshold is None else f", against {overall.threshold:.4g}"
        self._story.tell(
            "Warning",
            f"{_what(name)}{named} in window {window}: {shown}{against}{f' ({overall.note})' if overall.note else ''}",
            monitor=name,
            window=window,
            features=features,
            value=overall.value,
            threshold=overall.threshold,
        )

    def _break(
        self,
        write: _Measurements,
        monitors: MonitorMemory,
        window: int,
        span: Span,
        why: str,
        scores: dict[str, float],
    ) -> MonitorMemory:
        """A broken schema: an alarm when it begins, and rows that nothing is trained on for as long as it lasts."""
        for name in scores:
            write.add(_inconclusive(name, "statistic", "the schema is broken"))
        is_new = not monitors.broken or monitors.broken[-1][1] < span.start_us
        if is_new:
            features = [part.partition(":")[0] for part in why.split("; ")]
            self._story.tell(
                "Alarm",
                f"the schema is broken in window {window}: {why}; its rows are not trained on",
                monitor="schema",
                window=window,
                features=features,
                value=float(len(features)),
                threshold=None,
            )
        return with_broken(monitors, span.start_us, span.end_us)

    def _tell_judgement(self, monitor: str, window: int, judged: Judgement, features: list[str]) -> None:
        named = f" ({', '.join(features)})" if features else ""
        what = _what(monitor)
        facts = {
            "monitor": monitor,
            "window": window,
            "features": features,
            "value": judged.statistic,
            "threshold": judged.threshold,
        }
        if judged.alarm:
            text = f"{what}{named} changed: statistic {judged.statistic:.0f} passed {judged.threshold:.0f} in window {window}"
            self._story.tell("Alarm", text, **facts)
        elif judged.promise and judged.p <= FAST_TRACK:
            self._story.tell(
                "Warning", f"{what}{named} in window {window} is unlike the reference (p = {judged.p:.3f})", **facts
            )


class _Measurements:
    """Writes the measurements of one window."""

    def __init__(
        self, transaction: Transaction, view: LoopView, version: str, window: int, span: Span, rows: int
    ) -> None:
        self._transaction = transaction
        self._rows: dict[tuple[str, str, str, str], dict[str, object]] = {}
        self._flags: list[dict[str, object]] = []
        self.start_us = span.start_us
        place = {"namespace": view.namespace, "loop": view.name, "version": version, "window": window}
        self._place = place
        self._common = {**place, "start_us": span.start_us, "end_us": span.end_us, "rows": rows}

    def add(self, finding: Finding) -> None:
        """Add one; a second of the same name is left out."""
        feature, part = finding.feature[:_LONGEST_NAME], finding.slice[:_LONGEST_NAME]
        key = (finding.monitor, finding.metric, feature, part)
        self._rows.setdefault(
            key,
            {
                **self._common,
                "monitor": finding.monitor,
                "metric": finding.metric,
                "feature": feature,
                "slice": part,
                "value": finding.value,
                "low": finding.low,
                "high": finding.high,
                "threshold": finding.threshold,
                "verdict": finding.verdict.value,
                "note": finding.note,
            },
        )

    def judged(self, monitor: str, judged: Judgement) -> None:
        """The detector's statistic; before there is a promise, the verdict is inconclusive and says what is missing."""
        note = "" if judged.promise else f"no promise yet: {judged.windows_needed} more reference windows are needed"
        verdict = Verdict.FAIL if judged.alarm else Verdict.PASS if judged.promise else Verdict.INCONCLUSIVE
        self.add(
            Finding(
                monitor=monitor,
                metric="statistic",
                value=judged.statistic,
                threshold=judged.threshold,
                verdict=verdict,
                note=note,
            )
        )

    def flag(self, flags: Iterable[Flag]) -> None:
        """Add rows that stand out."""
        self._flags += [{**self._place, **msgspec.structs.asdict(flag)} for flag in flags]

    def keep(self) -> None:
        """Write what was added."""
        if self._rows:
            self._transaction.execute(insert(measurements), list(self._rows.values()))
        if self._flags:
            self._transaction.execute(insert(flagged_rows), self._flags)


def _leading(findings: Iterable[Finding], monitor: str) -> list[str]:
    """The features that moved most."""
    scores = {each.feature: each.value for each in findings if each.monitor == monitor and each.metric == "score"}
    return sorted(
        (name for name, value in scores.items() if value is not None), key=lambda name: -(scores[name] or 0.0)
    )[:NAMED_FEATURES]


def _told_as(finding: Finding) -> str:
    """The name under which a warning is told once: the monitor's; for a custom one its own, for a business metric the metric's."""
    if finding.monitor == business.MONITOR:
        return f"{business.MONITOR} {finding.metric}"
    return finding.monitor if finding.monitor != "custom" else f"custom {finding.metric.partition('.')[0]}"


def _what(monitor: str) -> str:
    known = CATALOGUE.get(monitor)
    return known.changed if known is not None else monitor


def _inconclusive(monitor: str, metric: str, note: str) -> Finding:
    return Finding(monitor=monitor, metric=metric, value=None, verdict=Verdict.INCONCLUSIVE, note=note)
