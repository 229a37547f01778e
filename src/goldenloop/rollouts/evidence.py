"""What is known of a rollout: bets on the losses of both versions, and guards that any one of which may roll it back.

Everything here is an e-process: it may be looked at as often as one likes. Losses count only when the label window of their request has
closed, in request order. What needs no label (failures, durations) counts at once.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.arms import Centre, paired_by_turns, signed_losses
from goldenloop.stats.betting import MeanEvidence

Values = NDArray[np.float64]
GuardKind = Literal["errors", "latency", "slice"]
MissingRule = Literal["auto", "ignore", "againstChallenger"]
QUANTILES = {"latency p50": 0.5, "latency p99": 0.99}
FEWEST_TIMES = 50  # durations of the champion before one is held against the challenger
FLOOR_US = 1_000.0  # a millisecond more is no harm, however many times the champion's it is
SELECTIVE = math.log(40.0)  # log evidence, either way, at which labels are taken not to be missing at random


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in which the challenger must not be worse. It rolls back when `harm` reaches `threshold` (natural logarithms)."""

    kind: GuardKind
    name: str  # "errors", "latency p99", "sex=female"
    harm: MeanEvidence
    threshold: float
    mark: float | None = None  # of a latency: the champion's quantile, in µs, from the rows before

    @property
    def has_fired(self) -> bool:
        return self.harm.log_evidence >= self.threshold

    @property
    def holds(self) -> bool:
        """Whether it stands in the way of a promotion: half of the evidence that rolls back."""
        return self.harm.log_evidence >= self.threshold / 2.0


AnalysisPhase = Literal["Running", "Successful", "Failed", "Error", "Inconclusive"]


class MetricState(msgspec.Struct, frozen=True, kw_only=True):
    """How one metric of an analysis stands. `next_us` is the wall-clock moment of its next measurement."""

    name: str
    next_us: int
    phase: AnalysisPhase = "Running"
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    errors_in_a_row: int = 0
    message: str = ""


class AnalysisState(msgspec.Struct, frozen=True, kw_only=True):
    """How an analysis of a person's own stands; phases are named as Argo names them."""

    name: str
    phase: AnalysisPhase = "Running"
    message: str = ""
    metrics: tuple[MetricState, ...] = ()
    is_endless: bool = False  # it measures for as long as the rollout goes on, so nothing waits for its end

    @property
    def holds(self) -> bool:
        """Whether it stands in the way of a promotion."""
        has_begun = all(metric.successful for metric in self.metrics) and bool(self.metrics)
        return self.phase != "Successful" and not (self.is_endless and self.phase == "Running" and has_begun)


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
    skipped: int = 0  # missing labels that were left out
    history: tuple[dict[str, float | int | str], ...] = ()
    is_split: bool = (
        False  # each request is answered and judged by one version only, because predictions change the outcome
    )
    centre: Centre = Centre()
    missing_centre: Centre = Centre()
    missing_rule: MissingRule = "ignore"
    bounded: MeanEvidence | None = None  # benefit, with each missing label counted against the challenger
    selective: tuple[MeanEvidence, ...] = ()  # that labels are missing more often one way, or the other
    superior: MeanEvidence | None = None  # where a margin is tolerated: evidence that none of it is used
    non_inferior: MeanEvidence | None = None  # what decides when time is up, where the Loop says so
    guards: tuple[Guard, ...] = ()
    slices_chosen: bool = False
    values_seen: dict[str, dict[str, int]] = {}  # rows of each value of a column, until the slices are chosen
    watched_until_us: int = 0  # failures and durations have been counted up to here
    failures: int = 0  # of the challenger alone
    analyses: tuple[AnalysisState, ...] = ()
    asks: str = ""  # why a person is asked, empty where nobody is

    @property
    def is_selective(self) -> bool:
        """Whether labels were found to be missing in a way that depends on how the versions differ."""
        return any(evidence.log_evidence >= SELECTIVE for evidence in self.selective)

    @property
    def promoting(self) -> MeanEvidence:
        """The evidence that a promotion rests on."""
        counts_missing = self.missing_rule == "againstChallenger" or (self.missing_rule == "auto" and self.is_selective)
        return self.bounded if counts_missing and self.bounded is not None else self.benefit

    @property
    def difference(self) -> float | None:
        """Champion's mean loss less challenger's, over the labelled rows."""
        mean = self.harm.mean
        return None if mean is None else -mean * (2.0 if self.is_split else 1.0)


def bet_against(tolerated: float, *, is_split: bool) -> MeanEvidence:
    """A bet against "the difference of mean losses is at most `tolerated`". Rows that are dealt out show half of a difference."""
    return MeanEvidence.against(tolerated / 2.0 if is_split else tolerated, low=-1.0, high=1.0)


def with_differences(
    state: RolloutState, differences: Values, *, bounded: Values, directions: NDArray[np.int64]
) -> RolloutState:
    """The state after rows that both versions scored.

    `differences` are of the rows with a label, `bounded` of all, with the worst for the challenger where there is none; `directions` says
    of each row on which the two differ which way (2 or 0), and whether its label is missing (1 more).
    """
    state = _selective_with(state, paired_by_turns(directions >= 2, directions % 2 == 1))
    return _with(state, differences, bounded)


def with_turns(
    state: RolloutState,
    losses: Values,
    turns: NDArray[np.bool_],
    *,
    bounded_losses: Values,
    bounded_turns: NDArray[np.bool_],
    missing: NDArray[np.bool_],
) -> RolloutState:
    """The state after requests that were dealt out. `losses` are of those with a label; the others of all, as in `bounded_turns`."""
    values, centre = signed_losses(losses, turns, state.centre)
    bounded, _ = signed_losses(bounded_losses, bounded_turns, state.centre)
    apart, missing_centre = signed_losses(missing.astype(np.float64), bounded_turns, state.missing_centre)
    state = _selective_with(state, apart)
    state = msgspec.structs.replace(state, centre=centre, missing_centre=missing_centre)
    return _with(state, values, bounded)


def with_slices(state: RolloutState, values: dict[str, Values]) -> RolloutState:
    """The state after the rows of each slice: values as of the whole, by the name of the slice."""
    guards = tuple(
        msgspec.structs.replace(guard, harm=guard.harm.update(-values[guard.name]))
        if guard.kind == "slice" and guard.name in values
        else guard
        for guard in state.guards
    )
    return msgspec.structs.replace(state, guards=guards)


def with_failures(state: RolloutState, *, rows: int, challenger_alone: int, champion_alone: int) -> RolloutState:
    """The state after rows on which one of the two failed, or neither (or both)."""
    values = np.concatenate(
        [np.ones(challenger_alone), -np.ones(champion_alone), np.zeros(rows - challenger_alone - champion_alone)]
    )
    guards = tuple(
        msgspec.structs.replace(guard, harm=guard.harm.update(values)) if guard.kind == "errors" else guard
        for guard in state.guards
    )
    return msgspec.structs.replace(state, guards=guards, failures=state.failures + challenger_alone)


def with_times(state: RolloutState, champion_us: Values, challenger_us: Values, *, ratio: float) -> RolloutState:
    """The state after durations of both versions on the same requests.

    A guard on a quantile compares how often the challenger takes longer than `ratio` times a mark with how often the champion takes longer
    than the mark, the mark being the champion's own quantile on rows that came before: at the mark that is a comparison of the quantiles,
    and whatever the durations depend on, the null is that the first is no oftener than the second. (Quantiles by betting on indicators:
    Howard & Ramdas, "Sequential estimation of quantiles", Bernoulli 2022.)
    """
    if champion_us.size == 0:
        return state
    guards = []
    for guard in state.guards:
        if guard.kind == "latency":
            if guard.mark is not None:
                limit = max(ratio * guard.mark, guard.mark + FLOOR_US)
                late = (challenger_us > limit).astype(np.float64) - (champion_us > guard.mark)
                guard = msgspec.structs.replace(guard, harm=guard.harm.update(late))
            if champion_us.size >= FEWEST_TIMES:
                quantile = QUANTILES[guard.name]
                guard = msgspec.structs.replace(guard, mark=float(np.quantile(champion_us, quantile)))
        guards.append(guard)
    return msgspec.structs.replace(state, guards=tuple(guards))


def guards_of(*, alpha: float, errors: float, latency: float) -> tuple[Guard, ...]:
    """The guards that need no label, each with its part of `alpha`; `errors` is the share of failures that is tolerated beyond the
    champion's, and a `latency` of 0 means no guard on it.
    """
    made = [_guard("errors", "errors", tolerated=errors, alpha=alpha / 2)]
    if latency:
        made += [_guard("latency", name, tolerated=0.0, alpha=alpha / 2 / len(QUANTILES)) for name in QUANTILES]
    return tuple(made)


def slice_guards(names: list[str], *, alpha: float, margin: float, is_split: bool) -> tuple[Guard, ...]:
    """A guard for each slice, with an equal part of `alpha`; a slice may lose `margin`."""
    tolerated = margin / 2.0 if is_split else margin
    return tuple(_guard("slice", name, tolerated=tolerated, alpha=alpha / len(names)) for name in names)


def _guard(kind: GuardKind, name: str, *, tolerated: float, alpha: float) -> Guard:
    return Guard(
        kind=kind, name=name, harm=MeanEvidence.against(tolerated, low=-1.0, high=1.0), threshold=-math.log(alpha)
    )


def _selective_with(state: RolloutState, apart: Values) -> RolloutState:
    if not state.selective:
        return state
    one, other = state.selective
    return msgspec.structs.replace(state, selective=(one.update(apart), other.update(-apart)))


def _with(state: RolloutState, values: Values, bounded: Values) -> RolloutState:
    worst = bounded if state.missing_rule == "againstChallenger" else values
    return msgspec.structs.replace(
        state,
        benefit=state.benefit.update(values),
        harm=state.harm.update(-values),  # a label that did not come is no harm
        bounded=None if state.bounded is None else state.bounded.update(bounded),
        superior=None if state.superior is None else state.superior.update(worst),
        non_inferior=None if state.non_inferior is None else state.non_inferior.update(worst),
    )
