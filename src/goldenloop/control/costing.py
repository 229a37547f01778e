"""What a loop's going on costs, and what a run of it would: `goldenloop.triggers.costs` on what the loop has measured and recorded."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import select

from goldenloop.control.measuring import JudgedLoss
from goldenloop.control.memory import LoopMemory, MonitorMemory
from goldenloop.control.view import LoopView
from goldenloop.core.durations import format_duration, parse_duration
from goldenloop.core.phases import RunState
from goldenloop.monitors.analyst import Span
from goldenloop.monitors.reference import Reference
from goldenloop.standards.retraining import Retrain
from goldenloop.store.database import Transaction
from goldenloop.store.tables import runs
from goldenloop.triggers import costs

_DURATIONS_REMEMBERED = 10  # the latest runs


@dataclass(frozen=True, slots=True)
class Price:
    """What a run costs, in window losses, and how that came about."""

    amount: float
    why: str


def begun(view: LoopView, memory: LoopMemory, reference: Path) -> LoopMemory:
    """The loop with what its first reference says of the usual loss; nothing changes where that is known."""
    if memory.costs is not None:
        return memory
    known = msgspec.json.decode(reference.read_bytes(), type=Reference)
    losses = [known.usual_loss + difference for difference in known.loss_windows]
    promised = float(view.spec.retrain.false_alarm_windows)
    found = costs.Costs.of(losses, expected=known.expected_loss, windows_per_false_alarm=promised)
    return msgspec.structs.replace(memory, costs=found)


def counted(memory: LoopMemory, monitors: MonitorMemory, version: str, found: JudgedLoss) -> LoopMemory:
    """The loop after one more window whose labels are there."""
    residual = found.facts.residual
    if memory.costs is None or residual is None:
        return memory
    loss = residual + monitors.expected_loss.get(version, 0.0)
    return msgspec.structs.replace(memory, costs=costs.observed(memory.costs, loss, version=version))


def price_of(
    transaction: Transaction, view: LoopView, memory: LoopMemory, monitors: MonitorMemory, *, span: Span, rows: int
) -> Price:
    """What a run costs now. `rows` is the size of a window.

    Machine time without a value is held against what is answered wrong meanwhile: a run that takes as long as three windows has to save
    what three usual windows lose, and one that takes less than a window still has to save what one loses. Durations count as whole
    windows, so that a machine that is a little slower decides the same.
    """
    assert memory.costs is not None
    return priced(
        view.spec.retrain,
        usual=memory.costs.level,
        window_us=max(1, span.end_us - span.start_us),
        rows=max(1, rows),
        scale=monitors.loss_scale,
        duration_us=_usual_duration_us(transaction, view),
    )


def priced(retrain: Retrain, *, usual: float, window_us: int, rows: float, scale: float, duration_us: int) -> Price:
    """What a run costs where a usual window loses `usual`, lasts `window_us` and has `rows`, and a run takes `duration_us`.

    A unit of loss is a wrong answer; of a regression it is an error as large as `scale`.
    """
    if isinstance(retrain.price, float):
        assert isinstance(retrain.value, float)  # `check_retrain` saw to it
        wrong = retrain.price / (retrain.value * scale)
        return Price(wrong / rows, f"{retrain.price:g} in money, as much as {wrong:.0f} wrong answers cost")
    price_us = duration_us if retrain.price == "auto" else parse_duration(retrain.price, where="spec.retrain.price")
    if isinstance(retrain.value, str) and retrain.value != "auto":
        wrong = price_us / (parse_duration(retrain.value, where="spec.retrain.value") * scale)
        why = f"{format_duration(price_us)} of machine time, as much as {wrong:.0f} wrong answers cost"
        return Price(wrong / rows, why)
    if retrain.price != "auto":
        return Price(usual * price_us / window_us, f"what is usually lost in {retrain.price}")
    windows = max(1, -(-price_us // window_us))
    return Price(usual * windows, f"what is usually lost in {windows} window{'s' if windows > 1 else ''}")


def _usual_duration_us(transaction: Transaction, view: LoopView) -> int:
    """How long this loop's runs take: the median of the latest ones; 0 where none has ended."""
    query = (
        select(runs.c.started_us, runs.c.finished_us)
        .where(
            runs.c.namespace == view.namespace,
            runs.c.loop == view.name,
            runs.c.state == RunState.SUCCEEDED.value,
            runs.c.started_us.is_not(None),
            runs.c.finished_us.is_not(None),
        )
        .order_by(runs.c.finished_us.desc())
        .limit(_DURATIONS_REMEMBERED)
    )
    durations = [row.finished_us - row.started_us for row in transaction.execute(query)]
    return round(statistics.median(durations)) if durations else 0
