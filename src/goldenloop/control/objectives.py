"""How a service stands to its objectives: attainment, error budget, alerts; what is told, shown, and done when a budget is spent.

All SLOs, those that a Loop wrote and those of a person, pass through one compiled form. What the wall clock counts is judged once a minute
(goldenloop.control.objective_keeping); what a loop's windows count is judged at its ticks, so that a replay decides what the recorded time
would have decided. Transitions are read off the status that was there before: each is told once, whenever control is killed.
"""

from __future__ import annotations

from dataclasses import dataclass

from goldenloop.control.indicators import Unmeasured, alpha_spent, points_of, why_unmeasured
from goldenloop.control.view import LoopView
from goldenloop.control.world import Storyteller
from goldenloop.core.durations import format_duration
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.standards.alerting import BurnAlert
from goldenloop.standards.kubernetes import condition, conditions_of, kind_named, set_condition
from goldenloop.standards.openslo import ServiceLevel, read_slo, slo_name
from goldenloop.stats.budgets import Budget, budget, burn_rate
from goldenloop.store import resources
from goldenloop.store.database import Transaction

SLO = kind_named("slos")


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert, and whether it fires."""

    alert: BurnAlert
    fires: bool
    long_burn: float | None
    short_burn: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an objective stands."""

    level: ServiceLevel
    budget: Budget
    firing: tuple[Firing, ...]
    unmeasured: Unmeasured | None
    last_error: float | None = None  # the bad share of the newest occurrence

    @property
    def is_spent(self) -> bool:
        """Whether the error budget is used up. Nothing counted is nothing spent."""
        return self.budget.remaining is not None and self.budget.remaining <= 0

    @property
    def verdict(self) -> Verdict:
        """Whether the objective is met so far."""
        if self.budget.ratio is None:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS if self.budget.ratio >= self.level.target else Verdict.FAIL

    @property
    def state(self) -> str:
        """One word: Unknown, Spent, Burning (an alert fires), Missed (so far), Met."""
        if self.budget.ratio is None:
            return "Unknown"
        if self.is_spent:
            return "Spent"
        if any(each.fires for each in self.firing):
            return "Burning"
        return "Met" if self.verdict is Verdict.PASS else "Missed"

    @property
    def text(self) -> str:
        """A sentence on where it stands."""
        if self.unmeasured is not None:
            return self.unmeasured.message
        ratio, remaining = self.budget.ratio or 0.0, self.budget.remaining or 0.0
        if self.level.indicator.kind == "promotionError":
            return (
                f"rollouts have spent {1 - ratio:.4f} of the {1 - self.level.target:g} that may be: {_left(remaining)}"
            )
        return (
            f"{100 * ratio:.4g} % good of {self.budget.total:.10g} ({100 * self.level.target:.6g} % are promised over"
            f" {format_duration(self.level.window_us)}): {_left(remaining)}"
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """An objective whose error budget is spent, and whether that is news."""

    level: ServiceLevel
    is_new: bool


def stand(
    transaction: Transaction, namespace: str, uid: str, level: ServiceLevel, *, now_us: int, from_us: int | None = None
) -> Standing:
    """Where an objective stands at `now_us`, in the clock of its indicator; on what was counted from a moment on, where one is given."""
    if level.indicator.kind == "promotionError":
        return _promotions(transaction, namespace, level)
    points = points_of(transaction, namespace, uid, level, now_us=now_us, from_us=from_us)
    left = budget(points, level.counting, target=level.target, window_us=level.window_us, now_us=now_us)
    cadence_us = None if level.indicator.is_of_the_service else points.cadence_us
    firing = []
    for written in level.alerts:
        alert = written.fitted(cadence_us, level.window_us)
        burn = {
            length: burn_rate(points, level.counting, target=level.target, lookback_us=length, now_us=now_us)
            for length in (alert.long_us, alert.short_us)
        }
        long_burn, short_burn = burn[alert.long_us], burn[alert.short_us]
        firing.append(Firing(alert, alert.fires(long_burn, short_burn), long_burn, short_burn))
    unmeasured = why_unmeasured(transaction, namespace, level) if left.ratio is None else None
    last = None if points.total.size == 0 or points.total[-1] <= 0 else 1.0 - float(points.good[-1] / points.total[-1])
    return Standing(level, left, tuple(firing), unmeasured, last)


def judge_slo(
    transaction: Transaction, document: JsonObject, story: Storyteller, *, event_us: int | None, at: str
) -> tuple[Spent, ...]:
    """Judge an SLO, show where it stands and tell what changed; return the objectives whose budget is spent.

    `event_us` is the time of the loop that it is about, None where there is none yet; `story` carries the wall clock's time.
    """
    metadata, name = resources.metadata_of(document), str(resources.metadata_of(document)["name"])
    namespace, uid = str(metadata["namespace"]), str(metadata["uid"])
    standings = []
    for level in read_slo(name, document["spec"]):
        now_us = story.now_us if level.indicator.is_of_the_service else event_us
        standings.append(stand(transaction, namespace, uid, level, now_us=0 if now_us is None else now_us))
    old = document.get("status")
    before = {str(each.get("name")): each for each in _shown(old)}
    spent = []
    for standing in standings:
        was = before.get(standing.level.name, {})
        if standing.is_spent:
            spent.append(Spent(standing.level, was.get("state") != "Spent"))
        _tell(story, standing, was)
    status = _status(standings, before, at=at)
    status["observedGeneration"] = metadata["generation"]
    conditions = conditions_of(old)
    for each in _conditions(standings, at):
        conditions = set_condition(conditions, each)
    status["conditions"] = list(conditions)
    if status != old:
        resources.set_status(transaction, SLO, namespace, name, status)
    return tuple(spent)


def frozen_by(transaction: Transaction, view: LoopView, *, event_us: int, now_us: int) -> str:
    """Why nothing is promoted in this loop at this moment: an objective that freezes has spent its budget. "" where none has."""
    for index, objective in enumerate(view.spec.objectives):
        if objective.on_spent != "freeze":
            continue
        document = resources.find(transaction, SLO, view.namespace, slo_name(view.name, index, objective))
        if document is None:
            continue
        metadata = resources.metadata_of(document)
        for level in read_slo(str(metadata["name"]), document["spec"]):
            moment = now_us if level.indicator.is_of_the_service else event_us
            standing = stand(transaction, view.namespace, str(metadata["uid"]), level, now_us=moment)
            if standing.is_spent:
                return f"promotions are frozen: the error budget of {objective.indicator} {objective.target} is spent"
    return ""


def _promotions(transaction: Transaction, namespace: str, level: ServiceLevel) -> Standing:
    """The promotion-error budget: what rollouts have spent of the bound."""
    bound = level.indicator.bound or 1.0
    spent = alpha_spent(transaction, namespace, level.service)
    shown = ServiceLevel(
        name=level.name,
        service=level.service,
        indicator=level.indicator,
        target=1.0 - bound,
        counting=level.counting,
        window_us=level.window_us,
        alerts=(),
        description=level.description,
    )
    left = Budget(good=1.0 - spent, total=1.0, ratio=1.0 - spent, remaining=1.0 - spent / bound)
    return Standing(shown, left, (), None)


def _tell(story: Storyteller, standing: Standing, was: JsonObject) -> None:
    """Tell what changed since the status before."""
    name, state = standing.level.name, standing.state
    facts = {"slo": name, "remaining": standing.budget.remaining, "attainment": standing.budget.ratio}
    promised = standing.level.description or standing.level.indicator.text
    if state == "Spent" and was.get("state") != "Spent":
        story.tell("BudgetSpent", f"{promised}: the error budget is spent; {standing.text}", **facts)
    elif was.get("state") == "Spent" and state not in ("Spent", "Unknown"):
        story.tell("BudgetLeft", f"{promised}: there is error budget again; {standing.text}", **facts)
    fired = {str(each.get("text")) for each in _items(was.get("alerts")) if each.get("firing")}
    for each in standing.firing:
        text = each.alert.text(standing.level.target)
        if each.fires and text not in fired:
            burn = min(each.long_burn or 0.0, each.short_burn or 0.0)
            story.tell(
                "BurnRate",
                f"{promised}: the error budget goes {burn:.3g} times faster than evenly ({each.alert.severity})",
                **facts,
                severity=each.alert.severity,
                burn=burn,
                factor=each.alert.factor,
            )


def _status(standings: list[Standing], before: dict[str, JsonObject], *, at: str) -> JsonObject:
    shown: list[Json] = []
    for standing in standings:
        was = before.get(standing.level.name, {})
        same = was.get("state") == standing.state
        shown.append(
            {
                "name": standing.level.name,
                "indicator": standing.level.indicator.text,
                "promise": standing.level.description or standing.level.indicator.text,
                "target": standing.level.target,
                "window": format_duration(standing.level.window_us),
                "good": standing.budget.good,
                "total": standing.budget.total,
                "attainment": standing.budget.ratio,
                "budgetRemaining": standing.budget.remaining,
                "lastError": standing.last_error,
                "state": standing.state,
                "since": was.get("since", at) if same else at,
                "verdict": standing.verdict.value,
                "text": standing.text,
                "note": standing.level.indicator.note,
                "alerts": [
                    {
                        "text": each.alert.text(standing.level.target),
                        "severity": each.alert.severity,
                        "factor": each.alert.factor,
                        "burnRate": each.long_burn,
                        "firing": each.fires,
                    }
                    for each in standing.firing
                ],
            }
        )
    worst = min(standings, key=lambda each: 2.0 if each.budget.remaining is None else each.budget.remaining)
    verdicts = {each.verdict for each in standings}
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    return {
        "objectives": shown,
        "attainment": worst.budget.ratio,
        "budgetRemaining": worst.budget.remaining,
        "verdict": next(each.value for each in order if each in verdicts),
    }


def _conditions(standings: list[Standing], at: str) -> list[JsonObject]:
    """Whether it is met, whether there is budget left, whether it is measured at all."""
    unmeasured = [each for each in standings if each.unmeasured is not None]
    missed = [each for each in standings if each.verdict is Verdict.FAIL]
    spent = [each for each in standings if each.is_spent]
    unknown = len(unmeasured) == len(standings)
    first = (missed or standings)[0]
    made = [
        condition(
            "Met",
            None if unknown else not missed,
            "NotMeasured" if unknown else "Missed" if missed else "Met",
            first.text,
            at=at,
        ),
        condition(
            "BudgetLeft",
            None if unknown else not spent,
            "NotMeasured" if unknown else "Spent" if spent else "Left",
            (spent or standings)[0].text,
            at=at,
        ),
    ]
    if unmeasured:
        reason = unmeasured[0].unmeasured
        assert reason is not None
        made.append(condition("Measured", False, reason.reason, reason.message, at=at))
    else:
        made.append(condition("Measured", True, "Measured", "what it names is measured", at=at))
    return made


def _shown(status: Json) -> list[JsonObject]:
    return _items(status.get("objectives")) if isinstance(status, dict) else []


def _items(value: Json) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _left(remaining: float) -> str:
    return f"{100 * remaining:.3g} % of the error budget is left" if remaining > 0 else "the error budget is spent"
