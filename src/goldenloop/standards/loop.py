"""The resources that are ours: Loop, Monitor, Trigger and Rollout, `goldenloop.dev/v1alpha1`.

Strict: an unknown field is an error. All but `data` may be left out; `json_schema` publishes every default.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.evaluation import EvaluationSpec, check_evaluation
from goldenloop.standards.notify import Channel, check_notify
from goldenloop.standards.objectives import Objective
from goldenloop.standards.openslo import check_loop_objectives
from goldenloop.standards.retraining import Retrain, check_retrain
from goldenloop.standards.rollout import RolloutPolicy, check_rollout

GROUP = "goldenloop.dev"
VERSION = "v1alpha1"

NonNegative = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Percent = Annotated[float, Meta(gt=0, le=100)]
Auto = Literal["auto"]
MonitorType = Literal[
    "schema",
    "missing",
    "ranges",
    "categories",
    "freshness",
    "volume",
    "drift",
    "multivariateDrift",
    "skew",
    "predictionDrift",
    "calibration",
    "performance",
    "estimatedPerformance",
    "conceptDrift",
    "outliers",
    "adversarial",
    "fairness",
    "robustness",
    "attributionDrift",
    "service",
    "custom",
]


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
    """When a label is due, what a missing one means, and whether predictions change what happens.

    `missing`: a label that has not come when it was due is left out of a comparison (`ignore`: for where you know that which labels are
    missing has nothing to do with which version is right), counts against the challenger as far as it can (`againstChallenger`: the
    promise holds whatever is missing), or is left out for as long as the labels that are missing do not depend on how the two versions
    differ, and counts against the challenger as soon as they are seen to (`auto`).
    """

    delay: str = "0s"
    feedback: bool = False
    missing: Literal["auto", "againstChallenger", "ignore"] = "auto"


class Windows(_Spec, frozen=True, kw_only=True):
    """The unit of monitoring: `auto`, a number of rows, or a duration."""

    size: Positive | str = "auto"


class NamedMonitor(_Spec, frozen=True, kw_only=True):
    """One monitor, chosen by a person instead of by `auto`, or one of `auto`'s choices changed.

    `threshold` is what its leading value is held against: a number, or `learned` from the value's own past; left out, the monitor has
    its own way. `source` is the class of a custom monitor (`FILE.py:CLASS`); `apply` reads the file into `code`, all that the server takes.
    """

    type: MonitorType
    enabled: bool = True
    features: tuple[str, ...] = ()
    threshold: float | Literal["learned"] | None = None
    minimum_group_size: Annotated[int, Meta(ge=2)] = 30
    favourable: str = ""  # the class that is good for whom it is given to; the second of two classes if left out
    source: str = ""
    code: str = ""

    @property
    def name(self) -> str:
        """What tells it from the other monitors of its loop: the type, or the class of a custom one."""
        return self.type if self.type != "custom" else f"custom {self.source.rpartition(':')[2]}"


class LoopSpec(_Spec, frozen=True, kw_only=True):
    """One model's whole loop."""

    data: Data
    description: str = ""  # what the model is for; the card of each version shows it
    intended_use: str = ""
    limits: str = ""  # what it must not be used for
    pipeline: PipelineSource | Auto = "auto"
    serving: Serving = Serving()
    monitors: tuple[NamedMonitor | Auto, ...] | Auto = "auto"
    task: Literal["auto", "classification", "regression"] = "auto"
    metric: str = "auto"
    labels: Labels = Labels()
    windows: Windows = Windows()
    replay: bool = False
    retrain: Retrain = Retrain()
    evaluation: EvaluationSpec = EvaluationSpec()
    approval: Literal["none", "required"] = (
        "none"  # whether a person has to let a version through that the gate let through
    )
    rollout: RolloutPolicy = RolloutPolicy()
    objectives: tuple[Objective, ...] = ()
    notify: tuple[Channel, ...] = ()


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
    check_evaluation(spec.evaluation)
    parse_duration(spec.labels.delay, where="spec.labels.delay")
    check_retrain(spec.retrain)
    check_rollout(spec.rollout, feedback=spec.labels.feedback)
    check_notify(spec.notify)
    if spec.data.window != "all":
        _positive(spec.data.window, "spec.data.window")
    if isinstance(spec.windows.size, str) and spec.windows.size != "auto":
        _positive(spec.windows.size, "spec.windows.size")
    _check_monitors(spec)
    cadence = spec.windows.size if isinstance(spec.windows.size, str) and spec.windows.size != "auto" else None
    check_loop_objectives(spec.objectives, cadence_us=None if cadence is None else parse_duration(cadence))


_NOT_WATCHED: dict[str, str] = {
    "adversarial": "adversarial inputs are not watched",
    "attributionDrift": "drift of attributions is not watched",
}


def _check_monitors(spec: LoopSpec) -> None:
    seen: set[str] = set()
    for index, monitor in enumerate(spec.monitors if isinstance(spec.monitors, tuple) else ()):
        if not isinstance(monitor, NamedMonitor):
            continue
        where = f"spec.monitors[{index}]"
        if monitor.name in seen:
            raise InvalidSpecError(f"{monitor.name!r} is there twice", where=where, mend="Keep one of the two.")
        seen.add(monitor.name)
        if monitor.type in _NOT_WATCHED and monitor.enabled:
            raise InvalidSpecError(
                f"{_NOT_WATCHED[monitor.type]} in loops yet", where=f"{where}.type", mend="Leave it out."
            )
        file, _, name = monitor.source.rpartition(":")
        if monitor.type == "custom" and not (file and name.isidentifier()):
            raise InvalidSpecError(
                f"{monitor.source!r} names no class" if monitor.source else "there is no source",
                where=f"{where}.source",
                mend="Write FILE.py:CLASS, a class that derives from goldenloop.monitors.catalogue.base.Monitor.",
            )


def json_schema() -> JsonObject:
    """The JSON schema of the spec of a Loop, with every default."""
    schema: JsonObject = msgspec.json.schema(LoopSpec)
    return schema


def _positive(text: str, where: str) -> None:
    if parse_duration(text, where=where) <= 0:
        raise InvalidSpecError("must be longer than nothing", where=where, mend="Write 1d, for example.")
