"""What control remembers of a loop between two looks. Each record is written in the transaction of what it led to."""

from __future__ import annotations

import msgspec

from goldenloop.core.json import JsonObject
from goldenloop.core.signatures import Task
from goldenloop.monitors.windows import Grid, WindowSize
from goldenloop.rollouts.decide import RolloutState
from goldenloop.stats.detection import WindowScorer


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was inferred, or given, and why."""

    value: str
    why: str


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A cause that waits for its run. The key is the cause's identity: one cause, one run."""

    key: str
    text: str
    evidence: JsonObject
    at_us: int


class LoopMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Where a loop stands. Moments are event times; `tick_us` is the last moment at which everything due had been decided."""

    uid: str  # of the Loop resource: another resource of the same name begins anew
    task: Task
    metric: str
    label: str
    timestamp: str
    data_schema: JsonObject
    choices: dict[str, Choice]
    size: WindowSize
    grid: Grid | None = None
    closed: int = 0  # windows before this one are closed
    judged: int = 0  # windows before this one have had their labels counted
    tick_us: int | None = None
    trained_until_us: int | None = None
    fired_us: tuple[int, ...] = ()
    refused_us: int | None = None
    rollouts: int = 0
    alarm: Alarm | None = None
    unmet: Alarm | None = (
        None  # the last cause that came to nothing; it holds again after the back-off if the loss is still high
    )
    setbacks: int = 0
    failed: str = ""  # why the last run came to nothing


class MonitorMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The running detectors, and the loss that is expected of each version that may answer."""

    drift: WindowScorer
    answers: WindowScorer
    loss: WindowScorer
    expected_loss: dict[str, float]
    recent: tuple[float, ...] = ()  # excess losses of the last windows
    loss_scale: float = (
        1.0  # turns an absolute error into a loss; the first version's, so that versions stay comparable
    )


class RolloutMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout that is under way."""

    name: str
    state: RolloutState
    next_check: int  # an event time, or a number of rows where windows are counted in rows
    alpha: float
