"""When a challenger gets a share, the traffic, or nothing.

Both versions score every request, so their losses are compared in pairs. Two bets run (goldenloop.stats.betting): one gains when the
challenger's mean loss is lower (benefit), one when it is higher (harm). By Ville's inequality a bet of a challenger that is no better
ever exceeds 1/alpha with probability at most alpha, however often one looks; that bounds wrong promotions.

Shares are earned: of n steps, step i needs i/n of the logarithm of that bound, so a challenger that is no better gets a share of i/n
with probability at most alpha**(i/n), and all of the traffic with at most alpha. One step at a time, so that each share is lived
with before the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from goldenloop.core.phases import RolloutPhase
from goldenloop.stats.betting import MeanEvidence


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a rollout: its evidence so far, and up to which event time requests have been counted."""

    champion: str
    challenger: str
    started_us: int
    counted_until_us: int
    step: int  # 0 is shadow; i is the i-th share
    benefit: MeanEvidence
    harm: MeanEvidence
    labelled: int = 0
    missing: int = 0
    skipped: int = 0  # missing labels that the loop says to ignore
    history: tuple[dict[str, float | int | str], ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rollout is held to. Shares are percents in rising order; durations in microseconds of event time."""

    shares: tuple[float, ...]
    alpha: float  # this rollout's part
    harm_alpha: float
    max_duration_us: int

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


Decision: TypeAlias = Wait | Advance | Promote | RollBack | GiveUp


def decide(state: RolloutState, terms: Terms, *, now_us: int) -> Decision:
    """Decide on what is counted. No labels means no evidence, and no evidence never promotes (P3)."""
    benefit, harm = state.benefit.log_evidence, state.harm.log_evidence
    seen = f"after {state.labelled} labelled requests"
    if harm >= terms.harm_threshold:
        return RollBack(f"the challenger loses more: evidence e^{harm:.1f} passed e^{terms.harm_threshold:.1f} {seen}")
    steps = len(terms.shares)
    earned = earned_steps(benefit, terms)
    if steps == 0 or state.step >= steps - 1:
        if benefit >= terms.threshold:
            return Promote(f"the challenger loses less: evidence e^{benefit:.1f} passed e^{terms.threshold:.1f} {seen}")
    elif earned > state.step:
        share = terms.shares[state.step]
        need = terms.threshold * (state.step + 1) / steps
        return Advance(
            state.step + 1, share, f"evidence e^{benefit:.1f} passed e^{need:.1f} {seen}: {share:g} % of the traffic"
        )
    if now_us - state.started_us >= terms.max_duration_us:
        return GiveUp(
            f"no decision in time: evidence e^{benefit:.1f} of e^{terms.threshold:.1f} {seen}; the champion stays"
        )
    return Wait(f"evidence e^{benefit:.1f} of e^{terms.threshold:.1f} {seen}")


def earned_steps(log_benefit: float, terms: Terms) -> int:
    """How many of the steps this evidence has earned."""
    steps = len(terms.shares)
    if steps == 0:
        return 0
    return max(0, min(steps, math.floor(log_benefit / terms.threshold * steps + 1e-12)))


def phase_of(state: RolloutState) -> RolloutPhase:
    """The phase of a rollout that goes on."""
    return RolloutPhase.SHADOW if state.step == 0 else RolloutPhase.CANARY
