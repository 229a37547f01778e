"""What a monitor is, and what it is given.

A monitor is one small class. In the assess job, where rows and model are at hand, `fit` makes what it will need of the reference; on each
window `measure` says what it finds. It holds no state: what is learned from window to window lives in detectors and learned thresholds
of control, which are fed with `Outcome.score` and with the values of findings that are `learned`.

Whatever a monitor raises becomes a finding with the verdict error (`goldenloop.monitors.catalogue.measure`), never an end of the window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Generic, Literal, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import Signature
from goldenloop.monitors.findings import Finding, Outcome
from goldenloop.monitors.reference import Columns, Reference, Windows, losses_of
from goldenloop.payloads.records import Answer, Value
from goldenloop.standards.loop import MonitorType, NamedMonitor
from goldenloop.stats.measured import Measured
from goldenloop.stats.profiles import Counts, Profile, count

FEWEST_ROWS = 20  # a window with fewer says nothing of distributions
Known = TypeVar("Known")
Scored = Callable[[Columns, int], Sequence[Answer]]  # the model itself: answers to so many rows of columns


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some rows as columns: those of a closed window, or those of the past that a reference is made of.

    `columns` are the inputs: numbers as float64 with NaN, categories as text with "" where missing. `answers` are the champion's, None
    where nobody answered; `delivered` are those that went out, also a challenger's. `labels` are None where none is known. `absent` are
    inputs that no row had; `unreadable` counts the values of an input that are of another type. What is only known of logged rows is
    empty for others.
    """

    start_us: int
    end_us: int
    signature: Signature
    event_us: NDArray[np.int64]
    columns: Columns
    answers: Sequence[Answer | None]
    labels: Sequence[Value]
    delivered: Sequence[Answer | None] = ()
    loss_scale: float = 1.0
    ids: Sequence[str] = ()
    places: Sequence[int] = ()
    latency_ms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    failed: int = 0
    absent: tuple[str, ...] = ()
    unreadable: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, rows: NDArray[np.int64]) -> Window:
        """Some of the rows, as a window of their own."""
        places = rows.tolist()
        times = self.event_us[rows]
        return replace(
            self,
            start_us=int(times.min()) if places else self.start_us,
            end_us=int(times.max()) + 1 if places else self.end_us,
            event_us=times,
            columns={name: values[rows] for name, values in self.columns.items()},
            answers=[self.answers[place] for place in places],
            labels=[self.labels[place] for place in places],
            delivered=[self.delivered[place] for place in places] if self.delivered else (),
            ids=[self.ids[place] for place in places] if self.ids else (),
            places=[self.places[place] for place in places] if self.places else (),
            latency_ms=self.latency_ms[rows] if len(self.latency_ms) else self.latency_ms,
        )

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Which rows have an answer."""
        return np.fromiter((answer is not None for answer in self.answers), dtype=bool, count=len(self))

    @cached_property
    def said(self) -> NDArray[np.object_]:
        """The answers alone: a class as text, or a number; None where nobody answered."""
        said = np.empty(len(self), dtype=object)
        said[:] = [None if answer is None else answer[0] for answer in self.answers]
        return said

    @cached_property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Rows by classes, NaN where nobody answered; None where the model gives none."""
        count = len(self.signature.classes)
        given = [answer[1] for answer in self.answers if answer is not None]
        if not count or not given or any(len(shares) != count for shares in given):
            return None
        table = np.full((len(self), count), np.nan)
        table[self.answered] = given
        return table

    @cached_property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label."""
        return np.fromiter((label is not None and label == label for label in self.labels), dtype=bool, count=len(self))

    @cached_property
    def truth(self) -> NDArray[np.object_]:
        """The labels, None where none is known."""
        truth = np.empty(len(self), dtype=object)
        truth[:] = list(self.labels)
        return truth

    @cached_property
    def _counted(self) -> dict[int, Counts]:
        return {}

    def counted(self, profile: Profile) -> Counts:
        """How many rows fall into each cell of a profile; counted once for all monitors that ask."""
        if id(profile) not in self._counted:
            self._counted[id(profile)] = count(profile, self.columns)
        return self._counted[id(profile)]

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """The loss of each row, in [0, 1]; NaN where there is no label."""
        return losses_of(self.signature.task, list(self.answers), list(self.labels), self.loss_scale)


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the assess job has at hand: the rows that windows are compared with, later rows that the model was not trained on, the model.

    `windows` are the row numbers of each reference window, oldest first. `sources` are the kinds of the inputs as they were inferred, with
    the reason. `first`: whether this is the loop's first version, whose reference begins everything.
    """

    training: Window
    evaluation: Window
    windows: Windows
    score: Scored
    protected: tuple[str, ...] = ()
    counts_rows: bool = False  # windows have a number of rows, not a duration
    first: bool = True

    @property
    def inputs(self) -> dict[str, Literal["number", "category"]]:
        """The kind of each input."""
        return {column.name: column.kind for column in self.training.signature.inputs}

    def reference_windows(self, most: int) -> list[Window]:
        """The latest reference windows, oldest first."""
        return [self.training.take(rows) for rows in self.windows[-most:]]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor as a loop asks for it. `significance`: the p-value below which a test of its may fail (`control.watching`)."""

    settings: NamedMonitor
    significance: float = 0.01


class Monitor(ABC, Generic[Known]):
    """One kind of thing that is watched. What it knows of the reference (`Known`) is a record that JSON can carry, or None."""

    name: ClassVar[MonitorType] = "custom"
    watches: ClassVar[str] = ""  # in a few words, for people
    changed: ClassVar[str] = ""  # what an alarm of it says has changed
    knows: ClassVar[type[msgspec.Struct] | None] = None
    needs_labels: ClassVar[bool] = False  # measured when labels are due, not when the window closes
    promised: ClassVar[bool] = False  # its score feeds a detector under promise P1
    essential: ClassVar[bool] = False  # `auto` takes it whatever the data are
    past_tells: ClassVar[bool] = True  # whether its values on the reference windows are like those of live ones
    fewest_rows: ClassVar[int] = FEWEST_ROWS

    def choose(self, past: Past) -> tuple[bool, str]:  # noqa: ARG002  # for those that look
        """Whether `auto` takes it for such data, and why."""
        return self.essential, "always"

    def fit(self, past: Past) -> Known | None:  # noqa: ARG002
        """What it needs to know of the reference; None where it needs nothing, or nothing can be known."""
        return None

    def known(self, reference: Reference) -> Known | None:
        """What `fit` made, as it was kept beside the version."""
        kept = reference.fitted.get(self.name)
        if kept is None or self.knows is None:
            return None
        return cast("Known", msgspec.convert(kept, self.knows))

    def reference_scores(self, known: Known) -> tuple[float, ...]:  # noqa: ARG002  # for those that are promised
        """What its detector begins with: the scores of the reference windows, oldest first."""
        return ()

    @abstractmethod
    def measure(self, window: Window, known: Known | None, asked: Asked) -> Outcome:
        """What this window shows."""

    def finding(
        self,
        metric: str,
        value: Measured | float | None,
        *,
        asked: Asked | None = None,
        leading: Literal["", "high", "low", "both"] = "",
        fails: bool | None = None,
        threshold: float | None = None,
        feature: str = "",
        slice: str = "",
        note: str = "",
    ) -> Finding:
        """A finding of this monitor.

        With `leading`, the side on which the value is strange, it is held against what `asked` says: a number, or the value's own past.
        Where that says nothing, `fails` decides, and where that is None too, the past. Without `leading` and `fails` it is only shown.
        """
        found = value if isinstance(value, Measured) else Measured(value=None if value is None else float(value))
        learned: Literal["", "high", "low", "both"] = ""
        if leading and asked is not None and not feature and not slice:
            given = asked.settings.threshold
            if isinstance(given, int | float):
                threshold, fails = float(given), _beyond(found.value, float(given), leading)
            elif given == "learned" or fails is None:
                learned, fails = leading, None
        verdict = Verdict.FAIL if fails else Verdict.PASS
        if found.value is None:
            verdict = Verdict.INCONCLUSIVE
        return Finding(
            monitor=self.name,
            metric=metric,
            value=found.value,
            low=found.low,
            high=found.high,
            threshold=threshold,
            verdict=verdict,
            feature=feature,
            slice=slice,
            note=note or found.note,
            learned=learned,
        )


def strange(found: Measured, asked: Asked, *, among: int = 1) -> bool:
    """Whether a test says so at the loop's significance, shared out among so many tests (Bonferroni)."""
    return found.p_value is not None and found.p_value <= asked.significance / max(among, 1)


def watched_inputs(columns: Columns, asked: Asked) -> dict[str, NDArray[np.generic]]:
    """The inputs that the monitor is asked to look at; none named are all."""
    named = asked.settings.features
    return {name: values for name, values in columns.items() if not named or name in named}


def missing(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which values of an input are missing."""
    absent: NDArray[np.bool_] = values == "" if values.dtype == object else np.isnan(values)
    return absent


def _beyond(value: float | None, threshold: float, side: str) -> bool:
    """Whether the value lies on the wrong side of a threshold that a person gave; for `both` the threshold is the least."""
    if value is None:
        return False
    return value > threshold if side == "high" else value < threshold
