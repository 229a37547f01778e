"""When a challenger gets a share, the traffic, or nothing.

Two bets on the losses run (goldenloop.stats.betting): one gains when the challenger's mean loss is lower (benefit), one when it is higher
(harm). By Ville's inequality a bet of a challenger that is no better ever exceeds 1/alpha with probability at most alpha, however often one
looks; that bounds wrong promotions. All guards must pass as well, and any one of them may roll back.

Shares are earned: of n steps, step i needs i/n of the logarithm of that bound, so a challenger that is no better gets a share of i/n
with probability at most alpha**(i/n), and all of the traffic with at most alpha. One step at a time, so that each share is lived
with before the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from goldenloop.core.phases import RolloutPhase
from goldenloop.rollouts.evidence import RolloutState
from goldenloop.stats.betting import expected_count

LABELS_TO_SEE_NOTHING = 500  # with fewer, even a difference of five points may not show yet
OnInconclusive: TypeAlias = Literal["keep", "nonInferior", "ask"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rollout is held to. Shares are percents in rising order; durations in microseconds of event time, from its beginning."""

    shares: tuple[float, ...]
    alpha: float  # this rollout's part
    harm_alpha: float
    max_duration_us: int
    patience_us: int | None = None  # up to here it goes on beyond `max_duration_us` while a decision is in sight
    label_delay_us: int = 0
    on_inconclusive: OnInconclusive = "keep"

    @property
    def threshold(self) -> float:
        """The log evidence at which the challenger takes the traffic."""
        return -math.log(self.alpha)

    @property
    def harm_threshold(self) -> float:
        """The log evidence at which it is rolled back."""
        return -math.log(self.harm_alpha)


@dataclass(frozen=True, slots=True)
class Wait:
    reason: str


@dataclass(frozen=True, slots=True)
class Advance:
    """Take the next share."""

    step: int
    share: float
    reason: str


@dataclass(frozen=True, slots=True)
class Promote:
    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Time is up without a decision; the champion stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Time is up without a decision; a person is asked. Evidence goes on being counted and may still decide."""

    reason: str


Decision: TypeAlias = Wait | Advance | Promote | RollBack | GiveUp | Ask


def decide(state: RolloutState, terms: Terms, *, now_us: int) -> Decision:
    """Decide on what is counted. No labels means no evidence, and no evidence never promotes (P3)."""
    seen = f"after {state.labelled} labelled requests"
    if (why := _harm(state, terms, seen)) is not None:
        return RollBack(why)
    for analysis in state.analyses:
        if analysis.phase == "Error":
            return GiveUp(f"the analysis {analysis.name} cannot be made: {analysis.message}; the champion stays")
    benefit = state.promoting.log_evidence
    held = _held(state)
    steps = len(terms.shares)
    if steps == 0 or state.step >= steps - 1:
        if benefit >= terms.threshold and not held:
            return Promote(f"the challenger loses less: evidence e^{benefit:.1f} passed e^{terms.threshold:.1f} {seen}")
    elif earned_steps(benefit, terms) > state.step and not held:
        share = terms.shares[state.step]
        need = terms.threshold * (state.step + 1) / steps
        return Advance(
            state.step + 1, share, f"evidence e^{benefit:.1f} passed e^{need:.1f} {seen}: {share:g} % of the traffic"
        )
    stands = f"evidence e^{benefit:.1f} of e^{terms.threshold:.1f} {seen}{held}"
    if time_is_up(state, terms, now_us=now_us):
        return _without_decision(state, terms, stands, held=bool(held))
    return Wait(stands)


def earned_steps(log_benefit: float, terms: Terms) -> int:
    """How many of the steps this evidence has earned."""
    steps = len(terms.shares)
    if steps == 0:
        return 0
    return max(0, min(steps, math.floor(log_benefit / terms.threshold * steps + 1e-12)))


def phase_of(state: RolloutState) -> RolloutPhase:
    """The phase of a rollout that goes on."""
    return RolloutPhase.SHADOW if state.step == 0 else RolloutPhase.CANARY


def time_is_up(state: RolloutState, terms: Terms, *, now_us: int) -> bool:
    """Whether a rollout has had its time. With patience it goes on while labels come that are too few to say that nothing is in sight, and
    then while, at the rate so far, a decision is.
    """
    passed_us = now_us - state.started_us
    if passed_us < terms.max_duration_us:
        return False
    if terms.patience_us is None or passed_us >= terms.patience_us or state.labelled == 0:
        return True
    if state.labelled < LABELS_TO_SEE_NOTHING:
        return False
    left_us = time_to_decision_us(state, terms)
    return left_us is None or passed_us + left_us > terms.patience_us


def labels_to_decision(state: RolloutState, terms: Terms) -> float | None:
    """About how many more labels until a promotion or a rollback, whichever is nearer; None where none is in sight."""
    promoted = expected_count(state.promoting, terms.threshold)
    rolled_back = expected_count(state.harm, terms.harm_threshold)
    return min((left for left in (promoted, rolled_back) if left is not None), default=None)


def time_to_decision_us(state: RolloutState, terms: Terms) -> int | None:
    """About how much event time until a decision at the rate of labels so far; None where none is in sight."""
    left = labels_to_decision(state, terms)
    counted_us = state.counted_until_us - state.started_us
    if left is None or state.labelled == 0 or counted_us <= 0:
        return None
    return round(left * counted_us / state.labelled)


def _harm(state: RolloutState, terms: Terms, seen: str) -> str | None:
    """Why it is rolled back, if it is."""
    harm = state.harm.log_evidence
    if harm >= terms.harm_threshold:
        return f"the challenger loses more: evidence e^{harm:.1f} passed e^{terms.harm_threshold:.1f} {seen}"
    for guard in state.guards:
        if guard.has_fired:
            return (
                f"{_FIRED[guard.kind].format(name=guard.name)}: evidence e^{guard.harm.log_evidence:.1f} passed "
                f"e^{guard.threshold:.1f} after {guard.harm.count} requests"
            )
    for analysis in state.analyses:
        if analysis.phase == "Failed":
            return f"the analysis {analysis.name} failed: {analysis.message}"
    return None


_FIRED = {
    "errors": "the challenger fails oftener than the champion",
    "latency": "the challenger is slower ({name})",
    "slice": "the challenger loses more where {name}",
}


def _held(state: RolloutState) -> str:
    """What stands in the way of more traffic, as the end of a sentence; empty where nothing does."""
    open_questions = [guard.name for guard in state.guards if guard.holds]
    open_questions += [f"analysis {each.name} ({each.phase})" for each in state.analyses if each.holds]
    return f"; held by {', '.join(open_questions)}" if open_questions else ""


def _without_decision(state: RolloutState, terms: Terms, stands: str, *, held: bool) -> Decision:
    if terms.on_inconclusive == "ask":
        return Ask(f"no decision in time: {stands}; promote or roll back by hand")
    enough = state.non_inferior
    may = terms.on_inconclusive == "nonInferior" and not held and not state.is_selective
    if may and enough is not None and enough.log_evidence >= terms.threshold:
        return Promote(
            f"time is up and the challenger is not worse by more than the margin: evidence "
            f"e^{enough.log_evidence:.1f} passed e^{terms.threshold:.1f} after {state.labelled} labelled requests"
        )
    return GiveUp(f"no decision in time: {stands}; the champion stays")
