"""The loop's own time: what is due, and deciding it.

Event time is cut by ticks, moments at which something is due: a window closes, the labels of a window are due, a rollout looks at its
evidence. Everything a tick decides is decided on what was known at that moment, whatever came since, so a fast replay, a slow one and a
backtest of the same rows decide the same. A tick is one transaction: with all that it led to, or not at all.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from goldenloop.control import causing, costing
from goldenloop.control.measuring import Measuring
from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.objective_keeping import judge_at_tick
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT, RolloutProgress
from goldenloop.control.view import LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.monitors.analyst import Span, Summary
from goldenloop.monitors.windows import Grid
from goldenloop.registry.versions import ModelVersion
from goldenloop.store import memories


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
        shrinking portions: half of what is missing at the pace so far, and at the end one request at a time. Where the sender said what
        it will send, they wait at the tick itself.
        """
        grid = self._memory.grid
        assert grid is not None
        if grid.size_us is not None:
            return self.next_tick(summary, rollout)
        assert grid.rows is not None
        next_rows = (self._memory.closed + 1) * grid.rows
        if rollout is not None:
            next_rows = min(next_rows, rollout.next_check)
        known = self.next_tick(summary, rollout)
        foreseen = self._world.foresee(self._view.namespace, self._view.name, next_rows - 1)
        if foreseen is not None:
            return foreseen + 1 if known is None else min(foreseen + 1, known)
        at_us = max(moment for moment in (grid.origin_us, summary.watermark_us, held_us) if moment is not None)
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
            measuring = Measuring(world, view, story, self._memory, champion=champion, reference=reference)
            closed = self._memory.closed
            monitors = self._close_windows(measuring, summary, monitors, tick_us)
            judged = self._memory.judged
            self._memory = costing.begun(view, self._memory, Path(reference))
            monitors = self._judge_windows(measuring, summary, monitors, champion.name, story)
            memories.remember(transaction, view.namespace, view.name, MONITORS, monitors)
            if rollout is not None:
                progress = RolloutProgress(world, view, story)
                self._memory = progress.check(self._memory, rollout, summary, tick_us)
            if self._memory.judged > judged or self._memory.closed > closed:
                self._memory = judge_at_tick(world, view, self._memory, story)
            if self._memory.judged > judged:  # between two windows nothing is learned about a cause
                self._memory = causing.considered(world, view, self._memory, story, tick_us)
            self._memory = msgspec.structs.replace(self._memory, tick_us=tick_us)
            memories.remember(transaction, view.namespace, view.name, MEMORY, self._memory)

    # windows

    def _close_windows(
        self, measuring: Measuring, summary: Summary, monitors: MonitorMemory, tick_us: int
    ) -> MonitorMemory:
        grid = self._memory.grid
        assert grid is not None
        while (end := self._end_us(grid, self._memory.closed, summary)) is not None and end <= tick_us:
            index = self._memory.closed
            monitors = measuring.closed(monitors, index, self._span(grid, index, end, as_of_us=tick_us))
            self._memory = msgspec.structs.replace(self._memory, closed=index + 1)
        return monitors

    def _judge_windows(
        self, measuring: Measuring, summary: Summary, monitors: MonitorMemory, version: str, story: Storyteller
    ) -> MonitorMemory:
        tick_us = story.event_us
        grid, delay = self._memory.grid, self._view.label_delay_us
        assert grid is not None
        while self._memory.judged < self._memory.closed:
            index = self._memory.judged
            end = self._end_us(grid, index, summary)
            if end is None or end + delay > tick_us:
                break
            span = self._span(grid, index, end, as_of_us=tick_us)
            monitors, found = measuring.labelled(monitors, index, span)
            seen = causing.Seen(window=index, span=span, version=version, found=found)
            self._memory = causing.noted(self._world, self._view, self._memory, monitors, seen, story)
            self._memory = msgspec.structs.replace(self._memory, judged=index + 1)
        return monitors

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
        terms = self._view.terms(rollout.alpha)
        end_us = rollout.state.started_us + terms.max_duration_us
        if terms.patience_us is not None and self._memory.tick_us is not None and self._memory.tick_us >= end_us:
            end_us = rollout.state.started_us + terms.patience_us
        if summary.rows < rollout.next_check:
            return None if rollout.state.asks else end_us
        last_us = self._world.analyst.event_time_at(self._view.namespace, self._view.name, rollout.next_check - 1)
        return last_us + 1 if rollout.state.asks else min(end_us, last_us + 1)
