"""How a Loop says that challengers earn their traffic: `spec.rollout`."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError

Percent = Annotated[float, Meta(gt=0, le=100)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A record of a document: frozen, camel case on the wire, no unknown fields."""


class Guardrails(_Spec, frozen=True, kw_only=True):
    """In what else a challenger must not be worse: each is tested at any time, and any one rolls back.

    `errors`: by how much its share of failures may exceed the champion's. `latency`: how many times as long as the champion's its median
    and 99th percentile may be (0: not tested; a millisecond more is never harm). `slices`: columns whose values are groups in which it may
    lose at most `sliceMargin` more; `auto` takes the protected columns and those in which the evaluation found a difference.
    """

    errors: Share = 0.01
    latency: Annotated[float, Meta(ge=0)] = 1.5
    slices: tuple[str, ...] | Literal["auto"] = "auto"
    slice_margin: Share = 0.05
    max_slices: Annotated[int, Meta(ge=1, le=20)] = 20


class AnalysisArgument(_Spec, frozen=True, kw_only=True):
    """One argument of an AnalysisTemplate."""

    name: str
    value: str


class AnalysisUse(_Spec, frozen=True, kw_only=True):
    """An AnalysisTemplate that guards a rollout, and what it is given."""

    template_name: str
    args: tuple[AnalysisArgument, ...] = ()


class RolloutPolicy(_Spec, frozen=True, kw_only=True):
    """How a challenger earns the traffic. `alpha` is promise P2, for the whole life of the loop.

    `margin` is the loss that is tolerated over the whole life, measured from the first golden version: a rollout may use half of what is
    left of it. `maxDuration` counts from when the first labels are due; `auto` is a week, and up to eight while a decision is in sight.
    `onInconclusive`: the champion stays (`keep`), a challenger that is proved not to be worse by more than the margin is taken
    (`nonInferior`), or a person decides (`ask`).
    """

    strategy: Literal["canary", "blueGreen", "abn"] = "canary"
    shadow: bool = True
    canary: tuple[Percent, ...] = (5.0, 25.0, 50.0, 100.0)
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    margin: Share = 0.0
    max_duration: str = "auto"
    on_inconclusive: Literal["keep", "nonInferior", "ask"] = "keep"
    guardrails: Guardrails = Guardrails()
    analysis: tuple[AnalysisUse, ...] = ()

    @property
    def steps(self) -> tuple[float, ...]:
        """The shares that are really taken: none between nothing and all where colours are swapped."""
        return () if self.strategy == "blueGreen" else self.canary


def check_rollout(policy: RolloutPolicy, *, feedback: bool) -> None:
    """Raise InvalidSpecError for steps that do not rise or cannot be compared, and outcomes that cannot come."""
    where = "spec.rollout.canary"
    steps = policy.steps
    if policy.max_duration != "auto" and parse_duration(policy.max_duration, where="spec.rollout.maxDuration") <= 0:
        raise InvalidSpecError(
            "must be longer than nothing", where="spec.rollout.maxDuration", mend="Write 1d, for example."
        )
    if policy.strategy == "abn":
        raise InvalidSpecError(
            "several challengers at once are not compared",
            where="spec.rollout.strategy",
            mend="A loop tries one challenger after the other; write canary or blueGreen.",
        )
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InvalidSpecError(
            "the steps do not rise", where=where, mend="Write them in rising order, as [5, 25, 50, 100]."
        )
    if steps and steps[-1] != 100:
        raise InvalidSpecError("the last step is not 100", where=where, mend="End with 100: all of the traffic.")
    if not policy.shadow and not feedback and (not steps or steps[0] >= 100):
        raise InvalidSpecError(
            "without a shadow the first step would give all of the traffic to a version with no evidence",
            where=where,
            mend="Begin with a smaller step, or leave shadow: true.",
        )
    if policy.on_inconclusive == "nonInferior" and policy.margin == 0:
        raise InvalidSpecError(
            "not worse by more than nothing is what a promotion proves anyway",
            where="spec.rollout.onInconclusive",
            mend="Write a margin, as margin: 0.01, or keep.",
        )
    if not feedback:
        return
    if policy.strategy == "blueGreen" or len(steps) < 2:
        raise InvalidSpecError(
            "predictions change what happens (labels.feedback), so versions are compared on requests that are dealt out between them",
            where="spec.rollout.strategy" if policy.strategy == "blueGreen" else where,
            mend="Write strategy: canary with a step of at most 50, as [5, 25, 50, 100].",
        )
    if steps[-2] > 50:
        raise InvalidSpecError(
            f"a share of {steps[-2]:g} % leaves no baseline of the same size (labels.feedback)",
            where=where,
            mend="Let no step but the last be above 50.",
        )
