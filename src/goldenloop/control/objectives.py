"""How a loop stands to its objectives: the share of windows whose measurement met the target, over the objective's own window."""

from __future__ import annotations

from sqlalchemy import select

from goldenloop.control.view import LoopView
from goldenloop.core.durations import parse_duration
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.standards.kubernetes import condition, conditions_of, kind_named, set_condition
from goldenloop.standards.loop import Objective, parse_target
from goldenloop.standards.openslo import WINDOWS_TO_MEET
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import measurements

SLO = kind_named("slos")


def slo_name(view: LoopView, index: int, objective: Objective) -> str:
    """The name of the SLO that an objective becomes."""
    return f"{view.name}-{objective.indicator.replace('_', '-').lower()}-{index}"


def show_objectives(transaction: Transaction, view: LoopView, *, now_us: int | None, at: str) -> None:
    """Write the status of the loop's SLOs. `now_us` is the loop's time, None before its first tick."""
    for index, objective in enumerate(view.spec.objectives):
        name = slo_name(view, index, objective)
        present = resources.find(transaction, SLO, view.namespace, name)
        if present is None:
            continue
        met, counted = (0, 0) if now_us is None else _windows(transaction, view, objective, now_us)
        if counted:
            holds: bool | None = met / counted >= WINDOWS_TO_MEET
            message = f"{met} of {counted} windows met {objective.indicator} {objective.target}"
        else:
            holds, message = None, f"nobody has measured {objective.indicator} yet"
        verdict = Verdict.INCONCLUSIVE if holds is None else Verdict.PASS if holds else Verdict.FAIL
        state = condition("Met", holds, "Measured" if counted else "NoMeasurement", message, at=at)
        status: JsonObject = {
            "windows": counted,
            "met": met,
            "attainment": met / counted if counted else None,
            "verdict": verdict.value,
            "conditions": list(set_condition(conditions_of(present.get("status")), state)),
        }
        resources.set_status(transaction, SLO, view.namespace, name, status)


def _windows(transaction: Transaction, view: LoopView, objective: Objective, now_us: int) -> tuple[int, int]:
    """How many windows met the target, of how many that were measured."""
    operator, target = parse_target(objective.target)
    query = select(measurements.c.value).where(
        measurements.c.namespace == view.namespace,
        measurements.c.loop == view.name,
        measurements.c.metric == objective.indicator,
        measurements.c.feature == "",
        measurements.c.value.is_not(None),
        measurements.c.end_us > now_us - parse_duration(objective.window),
    )
    values = [float(value) for value in transaction.execute(query).scalars()]
    met = sum(1 for value in values if (value >= target if operator == ">=" else value <= target))
    return met, len(values)
