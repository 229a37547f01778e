"""What is measured of a window, when it closes and again when its labels are due. Nothing here starts anything."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import insert

from goldenloop.control.memory import LoopMemory, MonitorMemory
from goldenloop.control.view import LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.phases import Verdict
from goldenloop.monitors.analyst import QualityFacts, Span, WindowFacts
from goldenloop.registry.versions import ModelVersion
from goldenloop.stats.detection import Judgement, WindowScorer
from goldenloop.store.database import Transaction
from goldenloop.store.tables import measurements

RECENT_WINDOWS = 2  # over which a loss that was not met counts as still high
NAMED_FEATURES = 3


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
        """Measure what a window that has closed shows without labels."""
        facts = self._world.analyst.window(span, self._champion.name, self._reference, self._champion.signature)
        write = self._measurements(window, span, facts.rows)
        drift, answers = monitors.drift, monitors.answers
        watched = self._view.monitors
        if "drift" in watched:
            drift = self._measure_drift(write, drift, window, facts, watched["drift"])
        if facts.answer_score is not None and "predictionDrift" in watched:
            judged, answers = answers.judge(facts.answer_score)
            write.judged("predictionDrift", judged)
            self._tell_judgement("predictionDrift", "the answers", window, judged, [])
        if "service" in watched:
            self._measure_service(write, facts)
        write.keep()
        return msgspec.structs.replace(monitors, drift=drift, answers=answers)

    def labelled(self, monitors: MonitorMemory, window: int, span: Span) -> tuple[MonitorMemory, JudgedLoss | None]:
        """Measure what a window shows once its labels are due; None where they say too little, or nobody asks."""
        facts = self._world.analyst.quality(
            span,
            self._champion.name,
            self._memory.task,
            monitors.expected_loss,
            monitors.loss_scale,
            self._memory.metric,
        )
        if "performance" not in self._view.monitors:
            return monitors, None
        write = self._measurements(window, span, facts.labelled)
        if facts.residual is None:
            note = f"{facts.labelled} of {facts.rows} rows have a label"
            write.add("performance", self._memory.metric, None, None, Verdict.INCONCLUSIVE, note=note)
            write.keep()
            return monitors, None
        for name, value in facts.metrics.items():
            write.add("performance", name, value, None, Verdict.PASS)
        if facts.low is not None:
            write.add("performance", f"{self._memory.metric}_low", facts.low, None, Verdict.PASS)
            write.add("performance", f"{self._memory.metric}_high", facts.high, None, Verdict.PASS)
        judged, loss = monitors.loss.judge(facts.residual)
        write.judged("performance", judged)
        write.add("performance", "excess_loss", facts.residual, None, Verdict.FAIL if judged.alarm else Verdict.PASS)
        write.keep()
        self._tell_judgement("performance", "the loss", window, judged, [])
        monitors = msgspec.structs.replace(
            monitors, loss=loss, recent=(*monitors.recent, facts.residual)[-RECENT_WINDOWS:]
        )
        return monitors, JudgedLoss(window=window, facts=facts, judgement=judged)

    def _measurements(self, window: int, span: Span, rows: int) -> _Measurements:
        return _Measurements(self._story.transaction, self._view, self._champion.name, window, span, rows)

    def _measure_drift(
        self,
        write: _Measurements,
        scorer: WindowScorer,
        window: int,
        facts: WindowFacts,
        named: tuple[str, ...],
    ) -> WindowScorer:
        """The window's statistic, and the score and the missing share of each column."""
        for feature, share in facts.missing.items():
            write.add("drift", "missing", share, None, Verdict.PASS, feature=feature)
        if facts.score is None:
            write.add("drift", "statistic", None, None, Verdict.INCONCLUSIVE, note=facts.note)
            return scorer
        judged, scorer = scorer.judge(facts.score)
        write.judged("drift", judged)
        scores = {name: score for name, score in facts.columns.items() if not named or name in named}
        leading = sorted(scores, key=lambda name: -scores[name])
        for feature in leading:
            write.add("drift", "score", scores[feature], None, Verdict.PASS, feature=feature)
        self._tell_judgement("drift", "the data", window, judged, leading[:NAMED_FEATURES])
        return scorer

    def _measure_service(self, write: _Measurements, facts: WindowFacts) -> None:
        failed = facts.failed / facts.rows if facts.rows else None
        verdict = Verdict.PASS if facts.rows else Verdict.INCONCLUSIVE
        write.add("service", "failed_share", failed, None, verdict)
        write.add("service", "latency_p99_ms", facts.latency_p99_ms, None, verdict)

    def _tell_judgement(self, monitor: str, what: str, window: int, judged: Judgement, features: list[str]) -> None:
        named = f" ({', '.join(features)})" if features else ""
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
        elif judged.promise and judged.p <= 0.01:
            self._story.tell(
                "Warning", f"{what}{named} in window {window} is unlike the reference (p = {judged.p:.3f})", **facts
            )


class _Measurements:
    """Writes the measurements of one window."""

    def __init__(
        self, transaction: Transaction, view: LoopView, version: str, window: int, span: Span, rows: int
    ) -> None:
        self._transaction = transaction
        self._rows: list[dict[str, object]] = []
        self._common = {
            "namespace": view.namespace,
            "loop": view.name,
            "version": version,
            "window": window,
            "start_us": span.start_us,
            "end_us": span.end_us,
            "rows": rows,
        }

    def add(
        self,
        monitor: str,
        metric: str,
        value: float | None,
        threshold: float | None,
        verdict: Verdict,
        *,
        feature: str = "",
        note: str = "",
    ) -> None:
        values = {
            **self._common,
            "monitor": monitor,
            "metric": metric,
            "value": value,
            "threshold": threshold,
            "verdict": verdict.value,
            "feature": feature,
            "note": note,
        }
        self._rows.append(values)

    def judged(self, monitor: str, judged: Judgement) -> None:
        """The detector's statistic; before there is a promise, the verdict is inconclusive and says what is missing."""
        note = "" if judged.promise else f"no promise yet: {judged.windows_needed} more reference windows are needed"
        verdict = Verdict.FAIL if judged.alarm else Verdict.PASS if judged.promise else Verdict.INCONCLUSIVE
        self.add(monitor, "statistic", judged.statistic, judged.threshold, verdict, note=note)

    def keep(self) -> None:
        """Write what was added."""
        if self._rows:
            self._transaction.execute(insert(measurements), self._rows)
