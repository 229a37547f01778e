"""The loop's own time: what is due, and deciding it.

Event time is cut by ticks, moments at which something is due: a window closes, the labels of a window are due, a rollout looks at its
evidence. Everything a tick decides is decided on what was known at that moment, whatever came since, so a fast replay, a slow one and a
backtest of the same rows decide the same. A tick is one transaction: with all that it led to, or not at all.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import insert

from goldenloop.control.memory import Alarm, LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT, RolloutProgress
from goldenloop.control.view import LoopView, window_length_us
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import DAY
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors.analyst import QualityFacts, Span, Summary, WindowFacts
from goldenloop.monitors.windows import Grid
from goldenloop.registry.versions import ModelVersion
from goldenloop.stats.detection import Judgement, WindowScorer
from goldenloop.store import memories
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tables import decisions, measurements
from goldenloop.triggers import decide as triggers

RECENT_WINDOWS = 2  # over which a loss that was not met counts as still high
_UPPER_QUARTILE = 0.674  # of a normal distribution, in standard deviations
NAMED_FEATURES = 3


class Ticks:
    """Decides what is due in one loop. Made anew for each look."""

    def __init__(self, world: World, view: LoopView, memory: LoopMemory) -> None:
        self._world = world
        self._view = view
        self._memory = memory

    def next_tick(self, summary: Summary, rollout: RolloutMemory | None) -> int | None:
        """The next moment at which something is due; None where windows count rows and too few are there."""
        memory, grid = self._memory, self._memory.grid
        if grid is None:
            return None
        delay = self._view.label_delay_us
        moments: list[int] = []
        if (end := self._end_us(grid, memory.closed, summary)) is not None:
            moments.append(end)
        if memory.judged < memory.closed and (end := self._end_us(grid, memory.judged, summary)) is not None:
            moments.append(end + delay)
        if rollout is not None and (check := self._check_us(grid, rollout, summary)) is not None:
            moments.append(check)
        return min(moments, default=None)

    def hold_from(self, summary: Summary, rollout: RolloutMemory | None, held_us: int | None) -> int | None:
        """From which event time on a replay's requests wait: the next tick.

        Where windows count rows the next tick's time is not known before its last row is there, so requests are let through in
        shrinking portions: half of what is missing at the pace so far, and at the end one request at a time.
        """
        grid = self._memory.grid
        assert grid is not None
        if grid.size_us is not None:
            return self.next_tick(summary, rollout)
        assert grid.rows is not None
        next_rows = (self._memory.closed + 1) * grid.rows
        if rollout is not None:
            next_rows = min(next_rows, rollout.next_check)
        at_us = max(moment for moment in (grid.origin_us, summary.watermark_us, held_us) if moment is not None)
        known = self.next_tick(summary, rollout)
        missing = next_rows - summary.rows
        pace_us = (at_us - grid.origin_us) // summary.rows if summary.rows else 0
        portion = at_us + max(1, (missing // 2) * pace_us if missing > 2 else 1)
        return portion if known is None else min(portion, known)

    def decide(self, tick_us: int, summary: Summary, champion: ModelVersion, reference: str) -> None:
        """Decide everything that is due at this moment, and keep it."""
        world, view = self._world, self._view
        now_us = world.clock.now_us()
        with world.database.write() as transaction:
            monitors = memories.recall(transaction, view.namespace, view.name, MONITORS, MonitorMemory)
            rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
            assert monitors is not None
            story = Storyteller(transaction, view.namespace, view.name, tick_us, now_us)
            monitors = self._close_windows(story, summary, monitors, champion, reference, tick_us)
            judged = self._memory.judged
            monitors = self._judge_windows(story, summary, monitors, champion, tick_us)
            memories.remember(transaction, view.namespace, view.name, MONITORS, monitors)
            if rollout is not None:
                progress = RolloutProgress(world, view, story)
                self._memory = progress.check(self._memory, rollout, summary, tick_us)
            if self._memory.judged > judged:  # between two windows nothing is learned about a cause
                self._consider_trigger(story, tick_us)
            self._memory = msgspec.structs.replace(self._memory, tick_us=tick_us)
            memories.remember(transaction, view.namespace, view.name, MEMORY, self._memory)

    # windows

    def _close_windows(
        self,
        story: Storyteller,
        summary: Summary,
        monitors: MonitorMemory,
        champion: ModelVersion,
        reference: str,
        tick_us: int,
    ) -> MonitorMemory:
        grid = self._memory.grid
        assert grid is not None
        while (end := self._end_us(grid, self._memory.closed, summary)) is not None and end <= tick_us:
            index = self._memory.closed
            span = self._span(grid, index, end, as_of_us=tick_us)
            facts = self._world.analyst.window(span, champion.name, reference, champion.signature)
            monitors = self._measure_window(story, monitors, champion, index, span, facts)
            self._memory = msgspec.structs.replace(self._memory, closed=index + 1)
        return monitors

    def _measure_window(
        self,
        story: Storyteller,
        monitors: MonitorMemory,
        champion: ModelVersion,
        index: int,
        span: Span,
        facts: WindowFacts,
    ) -> MonitorMemory:
        write = _Measurements(story.transaction, self._view, champion.name, index, span, facts.rows)
        drift, answers = monitors.drift, monitors.answers
        watched = self._view.monitors
        if "drift" in watched:
            drift = self._measure_drift(story, write, drift, index, facts, watched["drift"])
        if facts.answer_score is not None and "predictionDrift" in watched:
            judged, answers = answers.judge(facts.answer_score)
            write.judged("predictionDrift", judged)
            self._tell_judgement(story, "predictionDrift", "the answers", index, judged, [])
        if "service" in watched:
            self._measure_service(write, facts)
        write.keep()
        return msgspec.structs.replace(monitors, drift=drift, answers=answers)

    def _measure_drift(
        self,
        story: Storyteller,
        write: _Measurements,
        scorer: WindowScorer,
        index: int,
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
        self._tell_judgement(story, "drift", "the data", index, judged, leading[:NAMED_FEATURES])
        return scorer

    def _measure_service(self, write: _Measurements, facts: WindowFacts) -> None:
        failed = facts.failed / facts.rows if facts.rows else None
        write.add("service", "failed_share", failed, None, Verdict.PASS if facts.rows else Verdict.INCONCLUSIVE)
        write.add(
            "service",
            "latency_p99_ms",
            facts.latency_p99_ms,
            None,
            Verdict.PASS if facts.rows else Verdict.INCONCLUSIVE,
        )

    def _judge_windows(
        self,
        story: Storyteller,
        summary: Summary,
        monitors: MonitorMemory,
        champion: ModelVersion,
        tick_us: int,
    ) -> MonitorMemory:
        grid, delay = self._memory.grid, self._view.label_delay_us
        assert grid is not None
        while self._memory.judged < self._memory.closed:
            index = self._memory.judged
            end = self._end_us(grid, index, summary)
            if end is None or end + delay > tick_us:
                break
            span = self._span(grid, index, end, as_of_us=tick_us)
            facts = self._world.analyst.quality(
                span, champion.name, self._memory.task, monitors.expected_loss, monitors.loss_scale, self._memory.metric
            )
            monitors = self._measure_quality(story, monitors, champion, index, span, facts, tick_us)
            self._memory = msgspec.structs.replace(self._memory, judged=index + 1)
        return monitors

    def _measure_quality(
        self,
        story: Storyteller,
        monitors: MonitorMemory,
        champion: ModelVersion,
        index: int,
        span: Span,
        facts: QualityFacts,
        tick_us: int,
    ) -> MonitorMemory:
        if "performance" not in self._view.monitors:
            return monitors
        write = _Measurements(story.transaction, self._view, champion.name, index, span, facts.labelled)
        if facts.residual is None:
            note = f"{facts.labelled} of {facts.rows} rows have a label"
            write.add("performance", self._memory.metric, None, None, Verdict.INCONCLUSIVE, note=note)
            write.keep()
            return monitors
        for name, value in facts.metrics.items():
            write.add("performance", name, value, None, Verdict.PASS)
        if facts.low is not None:
            write.add("performance", f"{self._memory.metric}_low", facts.low, None, Verdict.PASS)
            write.add("performance", f"{self._memory.metric}_high", facts.high, None, Verdict.PASS)
        judged, loss = monitors.loss.judge(facts.residual)
        write.judged("performance", judged)
        write.add("performance", "excess_loss", facts.residual, None, Verdict.FAIL if judged.alarm else Verdict.PASS)
        write.keep()
        self._tell_judgement(story, "performance", "the loss", index, judged, [])
        monitors = msgspec.structs.replace(
            monitors, loss=loss, recent=(*monitors.recent, facts.residual)[-RECENT_WINDOWS:]
        )
        self._note_cause(monitors, champion, index, facts, judged, tick_us)
        return monitors

    def _note_cause(
        self,
        monitors: MonitorMemory,
        champion: ModelVersion,
        index: int,
        facts: QualityFacts,
        judged: Judgement,
        tick_us: int,
    ) -> None:
        """An alarm is a cause; so is one that came to nothing, after its back-off, if the loss is still high."""
        memory = self._memory
        if memory.alarm is not None:
            return
        shown = facts.metrics.get(memory.metric)
        found = f"; {memory.metric} is {shown:.3f}" if shown is not None else ""
        evidence: JsonObject = {
            "monitor": "performance",
            "window": index,
            "excessLoss": facts.residual,
            "statistic": judged.statistic,
            "threshold": judged.threshold,
            "version": champion.name,
        }
        if judged.alarm:
            text = (
                f"version {champion.name} loses {facts.residual:.3f} a row more than expected in window {index}{found}"
            )
            key = f"{self._view.uid}/{champion.name}/loss/{index}"
            cause = Alarm(key=key, text=text, evidence=evidence, at_us=tick_us)
            self._memory = msgspec.structs.replace(memory, alarm=cause)
            return
        unmet, refused_us = memory.unmet, memory.refused_us
        if unmet is None or refused_us is None or not self._has_backed_off(refused_us, tick_us):
            return
        scorer, mean = monitors.loss, sum(monitors.recent) / len(monitors.recent)
        if mean > scorer.location + _UPPER_QUARTILE * scorer.scale:
            text = f"version {champion.name} still loses {mean:.3f} a row more than expected in window {index}{found}"
            key = f"{unmet.key.partition('/again/')[0]}/again/{memory.setbacks}"
            cause = Alarm(key=key, text=text, evidence=evidence, at_us=tick_us)
            self._memory = msgspec.structs.replace(memory, alarm=cause, unmet=None)
        else:
            self._memory = msgspec.structs.replace(memory, unmet=None, setbacks=0)

    def _has_backed_off(self, refused_us: int, now_us: int) -> bool:
        size = self._memory.grid.size_us if self._memory.grid is not None else None
        policy = self._view.trigger_policy(window_length_us(size))
        return now_us - refused_us >= triggers.back_off(policy, self._memory.setbacks)

    def _tell_judgement(
        self, story: Storyteller, monitor: str, what: str, index: int, judged: Judgement, features: list[str]
    ) -> None:
        named = f" ({', '.join(features)})" if features else ""
        facts = {
            "monitor": monitor,
            "window": index,
            "features": features,
            "value": judged.statistic,
            "threshold": judged.threshold,
        }
        if judged.alarm:
            text = f"{what}{named} changed: statistic {judged.statistic:.0f} passed {judged.threshold:.0f} in window {index}"
            story.tell("Alarm", text, **facts)
        elif judged.promise and judged.p <= 0.01:
            story.tell(
                "Warning", f"{what}{named} in window {index} is unlike the reference (p = {judged.p:.3f})", **facts
            )

    # trigger

    def _consider_trigger(self, story: Storyteller, tick_us: int) -> None:
        memory, view = self._memory, self._view
        alarm = memory.alarm
        if alarm is None:
            return
        rollout = memories.recall(story.transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
        trained_until = memory.trained_until_us if memory.trained_until_us is not None else 0
        size = memory.grid.size_us if memory.grid is not None else None
        situation = triggers.Situation(
            now_us=tick_us,
            busy_with=f"the rollout of version {rollout.state.challenger}" if rollout is not None else "",
            new_labels=self._world.analyst.new_labels(view.namespace, view.name, trained_until, tick_us),
            fired_us=memory.fired_us,
            refused_us=memory.refused_us,
            setbacks=memory.setbacks,
            suspended=view.spec.retrain.suspend,
        )
        decision = triggers.decide(view.trigger_policy(window_length_us(size)), situation, alarm.text)
        fired = isinstance(decision, triggers.Fire)
        inserted = story.transaction.execute(
            insert_ignoring(story.transaction, decisions).values(
                namespace=view.namespace,
                loop=view.name,
                cause_key=alarm.key,
                fired=fired,
                reason=decision.reason,
                evidence={"kind": "loss", "text": alarm.text, **alarm.evidence},
                settled=not fired,
                event_us=tick_us,
                created_us=story.now_us,
            )
        )
        if inserted.rowcount == 0:
            return
        if not fired:
            story.tell("NotTriggered", f"{alarm.text}, but {decision.reason}", window=alarm.evidence["window"])
            return
        story.tell("Trigger", f"retraining, because {alarm.text}", cause=alarm.key, **alarm.evidence)
        kept = tuple(moment for moment in memory.fired_us if tick_us - moment < 2 * DAY)
        self._memory = msgspec.structs.replace(memory, alarm=None, unmet=alarm, fired_us=(*kept, tick_us))

    # where windows lie

    def _end_us(self, grid: Grid, index: int, summary: Summary) -> int | None:
        if grid.size_us is not None:
            return grid.start_us(index + 1)
        assert grid.rows is not None
        last = (index + 1) * grid.rows
        if summary.rows < last:
            return None
        return self._world.analyst.event_time_at(self._view.namespace, self._view.name, last - 1) + 1

    def _span(self, grid: Grid, index: int, end_us: int, *, as_of_us: int) -> Span:
        namespace, name = self._view.namespace, self._view.name
        if grid.size_us is not None:
            return Span(
                namespace=namespace, service=name, start_us=grid.start_us(index), end_us=end_us, as_of_us=as_of_us
            )
        assert grid.rows is not None
        first = index * grid.rows
        return Span(
            namespace=namespace,
            service=name,
            start_us=self._world.analyst.event_time_at(namespace, name, first),
            end_us=end_us,
            as_of_us=as_of_us,
            places=(first, first + grid.rows),
        )

    def _check_us(self, grid: Grid, rollout: RolloutMemory, summary: Summary) -> int | None:
        if grid.size_us is not None:
            return rollout.next_check
        # Rows may stop coming: then time alone ends the rollout.
        end_us = rollout.state.started_us + self._view.terms(rollout.alpha).max_duration_us
        if summary.rows < rollout.next_check:
            return end_us
        last_us = self._world.analyst.event_time_at(self._view.namespace, self._view.name, rollout.next_check - 1)
        return min(end_us, last_us + 1)


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
