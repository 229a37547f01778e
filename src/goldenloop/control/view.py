"""One loop as reconcilers see it: its resource, read, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from goldenloop.core.clock import DAY
from goldenloop.core.durations import parse_duration
from goldenloop.core.json import JsonObject
from goldenloop.rollouts.decide import Terms
from goldenloop.standards import kubernetes
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec, MonitorType
from goldenloop.store.resources import metadata_of
from goldenloop.triggers.decide import Policy

LOOP = kubernetes.kind_named("loops")
MONITOR_TYPES: tuple[MonitorType, ...] = get_args(MonitorType)
CHECKS_PER_WINDOW = 4  # how often a rollout looks at its evidence


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
    def monitors(self) -> dict[MonitorType, tuple[str, ...]]:
        """What is watched, and for drift the columns that count; none named are all. `auto` watches everything there is."""
        chosen = self.spec.monitors
        if not isinstance(chosen, tuple):
            return dict.fromkeys(MONITOR_TYPES, ())
        return {monitor.type: monitor.features for monitor in chosen}

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
        return Terms(
            shares=policy.canary,
            alpha=alpha,
            harm_alpha=policy.alpha,
            max_duration_us=parse_duration(policy.max_duration),
        )


def window_length_us(size_us: int | None) -> int:
    """The length of a window for back-offs; a day where windows are counted in rows."""
    return size_us if size_us is not None else DAY
