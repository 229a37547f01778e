"""What control remembers of a loop between two looks. Each record is written in the transaction of what it led to."""

from __future__ import annotations

import msgspec

from goldenloop.core.json import JsonObject
from goldenloop.core.signatures import Task
from goldenloop.monitors.findings import Chosen
from goldenloop.monitors.windows import Grid, WindowSize
from goldenloop.rollouts.evidence import RolloutState
from goldenloop.stats.detection import WindowScorer
from goldenloop.stats.spending import ErrorBudget
from goldenloop.stats.thresholds import LearnedThreshold
from goldenloop.triggers.conditions import Held
from goldenloop.triggers.costs import Costs


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
    kind: str = "loss"  # "loss": an alarm under the promise; "cost"; or the kind of a trigger that a person wrote


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
    budget: ErrorBudget | None = None  # what is left of the loop's alpha; none before its first rollout
    margin_used: float = 0.0  # of the loss that may be lost over the loop's life
    costs: Costs | None = None  # none before the labels of the first window are due
    held: dict[str, Held] = {}  # what is remembered of the metric triggers, by their place in the Loop


class MonitorMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The running detectors, and the loss that is expected of each version that may answer.

    `detectors` are those under the promise besides the loss, by monitor. `failing` are the monitors whose warning has been told and lasts.
    `broken` are spans of event time (start ≤ t < end) whose rows have a broken schema: nothing is trained on them.
    """

    detectors: dict[str, WindowScorer]
    loss: WindowScorer
    expected_loss: dict[str, float]
    recent: tuple[float, ...] = ()  # excess losses of the last windows
    loss_scale: float = (
        1.0  # turns an absolute error into a loss; the first version's, so that versions stay comparable
    )
    learned: dict[str, LearnedThreshold] = {}  # by `monitor/metric`
    chosen: tuple[Chosen, ...] = ()  # what `auto` made of the data
    failing: tuple[str, ...] = ()
    broken: tuple[tuple[int, int], ...] = ()


class RolloutMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout that is under way."""

    name: str
    state: RolloutState
    next_check: int  # an event time, or a number of rows where windows are counted in rows
    alpha: float
    margin: float = 0.0  # its part of the loss that is tolerated
    slice_columns: tuple[str, ...] = ()
