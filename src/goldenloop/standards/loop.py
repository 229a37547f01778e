"""The resources that are ours: Loop, Monitor, Trigger and Rollout, `goldenloop.dev/v1alpha1`.

Strict: an unknown field is an error. All but `data` may be left out; `json_schema` publishes every default.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

GROUP = "goldenloop.dev"
VERSION = "v1alpha1"

NonNegative = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Percent = Annotated[float, Meta(gt=0, le=100)]
Auto = Literal["auto"]
MonitorType = Literal["drift", "predictionDrift", "performance", "service"]


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A record of a document: frozen, camel case on the wire, no unknown fields."""


class PipelineSource(_Spec, frozen=True, kw_only=True):
    """A pipeline: `source` as the person wrote it (`file.py:function` or a file of compiled IR), and what the CLI compiled from it.

    The server only ever takes `ir`; it never imports a person's file.
    """

    source: str = ""
    ir: JsonObject | None = None
    platform: JsonObject | None = None
    code: JsonObject = {}
    parameters: dict[str, Json] = {}


class Data(_Spec, frozen=True, kw_only=True):
    """Where the training rows come from and what the columns mean. `window` is `all` or a duration: how much of the past is used."""

    source: str | None = None
    label: str | Auto = "auto"
    timestamp: str | None = None
    subject: str | None = None
    protected: tuple[str, ...] = ()
    window: str = "all"


class Serving(_Spec, frozen=True, kw_only=True):
    """KServe's predictor fields that a loop passes on."""

    min_replicas: NonNegative = 1
    max_replicas: NonNegative | None = None
    payload_mode: Literal["interval", "durable", "async"] = "interval"


class Labels(_Spec, frozen=True, kw_only=True):
    """When a label is due, what a missing one means, and whether predictions change what happens."""

    delay: str = "0s"
    feedback: bool = False
    missing: Literal["againstChallenger", "ignore"] = "againstChallenger"


class Windows(_Spec, frozen=True, kw_only=True):
    """The unit of monitoring: `auto`, a number of rows, or a duration."""

    size: Positive | str = "auto"


class Retrain(_Spec, frozen=True, kw_only=True):
    """When a trigger may start a run. `falseAlarmWindows` is promise P1: at most one false alarm in so many windows."""

    false_alarm_windows: Annotated[int, Meta(ge=2)] = 1000
    cooldown: str = "1h"
    max_runs_per_day: Positive = 4
    min_new_labels: NonNegative = 500
    suspend: bool = False  # causes are noted, and nothing is started


class RolloutPolicy(_Spec, frozen=True, kw_only=True):
    """How a challenger earns the traffic. `alpha` is promise P2, for the whole life of the loop; `margin` the loss that is tolerated."""

    shadow: bool = True
    canary: tuple[Percent, ...] = (5.0, 25.0, 50.0, 100.0)
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    margin: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    max_duration: str = "7d"


class Objective(_Spec, frozen=True, kw_only=True):
    """One promise of the product owner: an indicator, a target such as `>= 0.80`, and the window over which it counts."""

    indicator: str
    target: str
    window: str = "28d"


class NamedMonitor(_Spec, frozen=True, kw_only=True):
    """One monitor, chosen by a person instead of by `auto`."""

    type: MonitorType
    features: tuple[str, ...] = ()


class LoopSpec(_Spec, frozen=True, kw_only=True):
    """One model's whole loop."""

    data: Data
    pipeline: PipelineSource | Auto = "auto"
    serving: Serving = Serving()
    monitors: tuple[NamedMonitor, ...] | Auto = "auto"
    task: Literal["auto", "classification", "regression"] = "auto"
    metric: str = "auto"
    labels: Labels = Labels()
    windows: Windows = Windows()
    replay: bool = False
    retrain: Retrain = Retrain()
    rollout: RolloutPolicy = RolloutPolicy()
    objectives: tuple[Objective, ...] = ()


class MonitorSpec(_Spec, frozen=True, kw_only=True):
    """What is measured on each window of a service's payloads."""

    service: str
    monitors: tuple[NamedMonitor, ...]
    windows: Windows = Windows()
    false_alarm_windows: Positive = 1000


class TriggerSpec(_Spec, frozen=True, kw_only=True):
    """What starts a run of a loop's pipeline, and what holds it back."""

    loop: str
    retrain: Retrain = Retrain()


class RolloutSpec(_Spec, frozen=True, kw_only=True):
    """A challenger on its way to the traffic of a service."""

    service: str
    champion: str
    challenger: str
    policy: RolloutPolicy = RolloutPolicy()
    alpha: Annotated[float, Meta(gt=0, lt=1)]  # this rollout's part of the loop's alpha
    started: str  # event time


def check_loop(spec: LoopSpec) -> None:
    """Raise InvalidSpecError for what the types cannot say: durations, steps that do not rise, targets that cannot be read."""
    parse_duration(spec.labels.delay, where="spec.labels.delay")
    parse_duration(spec.retrain.cooldown, where="spec.retrain.cooldown")
    _positive(spec.rollout.max_duration, "spec.rollout.maxDuration")
    if spec.data.window != "all":
        _positive(spec.data.window, "spec.data.window")
    if isinstance(spec.windows.size, str) and spec.windows.size != "auto":
        _positive(spec.windows.size, "spec.windows.size")
    steps = spec.rollout.canary
    if spec.labels.feedback:
        raise InvalidSpecError(
            "a loop whose predictions change what happens needs an unpaired test, which is not there yet",
            where="spec.labels.feedback",
            mend="Leave it out where the label does not depend on the answer.",
        )
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InvalidSpecError(
            "the steps do not rise",
            where="spec.rollout.canary",
            mend="Write them in rising order, as [5, 25, 50, 100].",
        )
    if steps and steps[-1] != 100:
        raise InvalidSpecError(
            "the last step is not 100", where="spec.rollout.canary", mend="End with 100: all of the traffic."
        )
    if not spec.rollout.shadow and steps and steps[0] >= 100:
        raise InvalidSpecError(
            "without a shadow the first step would give all of the traffic to a version with no evidence",
            where="spec.rollout.canary",
            mend="Begin with a smaller step, or leave shadow: true.",
        )
    for index, objective in enumerate(spec.objectives):
        parse_target(objective.target, where=f"spec.objectives[{index}].target")
        _positive(objective.window, f"spec.objectives[{index}].window")


def parse_target(text: str, *, where: str = "") -> tuple[Literal[">=", "<="], float]:
    """Split a target.

    >>> parse_target(">= 0.80")
    ('>=', 0.8)
    """
    operator, _, number = text.strip().partition(" ")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if operator == ">=" and value == value:
        return ">=", value
    if operator == "<=" and value == value:
        return "<=", value
    raise InvalidSpecError(f"{text!r} is not a target", where=where, mend="Write '>= 0.80' or '<= 50'.")


def json_schema() -> JsonObject:
    """The JSON schema of the spec of a Loop, with every default."""
    schema: JsonObject = msgspec.json.schema(LoopSpec)
    return schema


def _positive(text: str, where: str) -> None:
    if parse_duration(text, where=where) <= 0:
        raise InvalidSpecError("must be longer than nothing", where=where, mend="Write 1d, for example.")
