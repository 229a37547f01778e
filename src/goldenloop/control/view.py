"""One loop as reconcilers see it: its resource, read, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass

from goldenloop.core.clock import DAY, WEEK
from goldenloop.core.durations import parse_duration
from goldenloop.core.json import JsonObject
from goldenloop.rollouts.decide import Terms
from goldenloop.standards import kubernetes
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec
from goldenloop.store.resources import metadata_of
from goldenloop.triggers.decide import Policy

LOOP = kubernetes.kind_named("loops")
CHECKS_PER_WINDOW = 8  # how often a rollout looks at its evidence
# A false rollback has the loop's alpha as its bound in each rollout: half of it for the loss, a quarter each for what needs no label and
# for the slices.
LOSS_PART, UNLABELLED_PART, SLICES_PART = 0.5, 0.25, 0.25
SHORTEST_AUTO_US, LONGEST_AUTO_US = WEEK, 8 * WEEK  # of `maxDuration: auto`


@dataclass(frozen=True, slots=True)
class LoopView:
    """A Loop resource, read."""

    document: JsonObject
    namespace: str
    name: str
    uid: str
    generation: int
    spec: LoopSpec

    @classmethod
    def of(cls, document: JsonObject) -> LoopView:
        metadata = metadata_of(document)
        return cls(
            document=document,
            namespace=str(metadata["namespace"]),
            name=str(metadata["name"]),
            uid=str(metadata["uid"]),
            generation=int(str(metadata["generation"])),
            spec=convert(document["spec"], LoopSpec, where="spec"),
        )

    @property
    def label_delay_us(self) -> int:
        return parse_duration(self.spec.labels.delay)

    def trigger_policy(self, window_us: int) -> Policy:
        """What holds the trigger back. After a run that came to nothing, two windows pass before the next."""
        retrain = self.spec.retrain
        return Policy(
            cooldown_us=parse_duration(retrain.cooldown),
            max_runs_per_day=retrain.max_runs_per_day,
            min_new_labels=retrain.min_new_labels,
            back_off_us=2 * window_us,
        )

    def terms(self, alpha: float) -> Terms:
        """What a rollout is held to, with its part of the loop's alpha."""
        policy = self.spec.rollout
        is_auto = policy.max_duration == "auto"
        delay_us = self.label_delay_us
        return Terms(
            shares=policy.steps,
            alpha=alpha,
            harm_alpha=policy.alpha * LOSS_PART,
            max_duration_us=(SHORTEST_AUTO_US if is_auto else parse_duration(policy.max_duration)) + delay_us,
            patience_us=LONGEST_AUTO_US + delay_us if is_auto else None,
            label_delay_us=delay_us,
            on_inconclusive=policy.on_inconclusive,
        )


def window_length_us(size_us: int | None) -> int:
    """The length of a window for back-offs; a day where windows are counted in rows."""
    return size_us if size_us is not None else DAY
