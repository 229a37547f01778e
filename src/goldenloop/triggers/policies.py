# ruff: noqa: ARG002 -- each policy is asked the same and uses what it needs
"""Policies of retraining, alone: each sees the losses of a window's rows and says at a window's beginning whether to train now.

What stands behind it swaps at once: the model that was trained answers from then on. So what is compared is the trigger, without the
caution of a rollout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.triggers import costs
from goldenloop.triggers.conditions import Crossing, Held, crossed
from goldenloop.triggers.detectors import Adwin, PageHinkley

Losses = NDArray[np.float64]
NAMES = ("loop", "cost", "never", "periodic:K", "adwin", "page-hinkley", "accuracy<X", "loss>X")


class Policy(Protocol):
    """What decides."""

    def see(self, losses: Losses, *, version: int, before: Losses | None) -> None:
        """A window's labels are due: the losses of its rows in their order. `before`: those that the version before would have had."""
        ...

    def is_due(self, window: int) -> bool:
        """Whether to train at the beginning of this window."""
        ...

    def trained(self) -> None:
        """It was done."""
        ...


@dataclass(slots=True)
class Periodic:
    """Trains at every k-th window; 0 is never."""

    every: int

    def see(self, losses: Losses, *, version: int, before: Losses | None) -> None:
        """It looks at nothing."""

    def is_due(self, window: int) -> bool:
        """Whether it is the window's turn."""
        return self.every > 0 and window % self.every == 0

    def trained(self) -> None:
        """It remembers nothing."""


@dataclass(slots=True)
class ByCost:
    """Trains when what was lost reaches the price; a run is on trial beside the version before it. See `goldenloop.triggers.costs`."""

    costs: costs.Costs
    price: Callable[[float], float]  # of a run, in window losses, where a usual window loses so much
    _due: bool = False
    _replaced: int = -1  # its windows whose labels come late say nothing about the run on trial
    _seen: int = 0

    def see(self, losses: Losses, *, version: int, before: Losses | None) -> None:
        """Weigh a window."""
        price = self.price(self.costs.level)
        if before is not None and self.costs.trial is not None and version != self._replaced:
            self.costs = costs.tried(self.costs, float(before.mean() - losses.mean()), price=price)
        self.costs = costs.observed(self.costs, float(losses.mean()), version=str(version))
        self._due = costs.weighed(self.costs, self.price(self.costs.level)).due
        self._seen = version

    def is_due(self, window: int) -> bool:
        """Whether the sum has reached the price."""
        return self._due

    def trained(self) -> None:
        """The run begins its trial, and the one before ends its own."""
        ended = costs.ended(self.costs, price=self.price(self.costs.level))
        self.costs = msgspec.structs.replace(costs.paid(ended), trial=costs.Trial())
        self._due, self._replaced = False, self._seen


@dataclass(slots=True)
class ByDetector:
    """Trains at the first window after a detector has seen the loss rise; the detector begins anew with each model."""

    make: Callable[[], Adwin | PageHinkley]
    _detector: Adwin | PageHinkley = field(init=False)
    _due: bool = False

    def __post_init__(self) -> None:
        self._detector = self.make()

    def see(self, losses: Losses, *, version: int, before: Losses | None) -> None:
        """Row by row, as the detector was meant."""
        detector = self._detector
        for loss in losses.tolist():
            usual = detector.mean if isinstance(detector, Adwin) else 0.0
            changed = detector.update(loss)
            rose = not isinstance(detector, Adwin) or detector.mean > usual
            self._due = self._due or (changed and rose)

    def is_due(self, window: int) -> bool:
        """Whether it has risen since the last training."""
        return self._due

    def trained(self) -> None:
        """What was seen was of another model."""
        self._detector, self._due = self.make(), False


@dataclass(slots=True)
class ByThreshold:
    """Trains after each window whose mean loss is above a bound."""

    crossing: Crossing
    _due: bool = False

    def see(self, losses: Losses, *, version: int, before: Losses | None) -> None:
        """Hold the window's mean against the bound."""
        self._due, _ = crossed(self.crossing, Held(), float(losses.mean()))

    def is_due(self, window: int) -> bool:
        """Whether the last window was beyond it."""
        return self._due

    def trained(self) -> None:
        """The next window has to say so again."""
        self._due = False


def policy_named(text: str, *, known: costs.Costs, price: Callable[[float], float]) -> Policy:
    """The policy of this name: one of `NAMES`, except for `loop`. Raises InvalidSpecError."""
    name, _, argument = text.partition(":")
    match name:
        case "never" if not argument:
            return Periodic(0)
        case "periodic" if argument.isdigit() and int(argument) > 0:
            return Periodic(int(argument))
        case "cost" if not argument:
            return ByCost(known, price)
        case "adwin" if not argument:
            return ByDetector(Adwin)
        case "page-hinkley" if not argument:
            return ByDetector(PageHinkley)
    for prefix, sign in (("accuracy<", -1.0), ("loss>", 1.0)):
        if text.startswith(prefix):
            bound = _number(text.removeprefix(prefix))
            return ByThreshold(Crossing(above=bound if sign > 0 else 1.0 - bound))
    raise InvalidSpecError(f"{text!r} is no policy", where="--policy", mend=f"Give one of {', '.join(NAMES)}.")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidSpecError(f"{text!r} is not a number", where="--policy", mend="Write accuracy<0.8.") from None


@dataclass(frozen=True, slots=True)
class Windows:
    """A stream as policies see it. `losses(version, window)` are those of a model's answers to a window's labelled rows, in their order.

    Version 0 is the first one; `train(window)` makes version `window` of what is known at the beginning of that window, and says whether
    there was enough. `due(window)` says how many windows have their labels at the beginning of that window.
    """

    count: int
    losses: Callable[[int, int], Losses]
    train: Callable[[int], bool]
    due: Callable[[int], int]


def simulate(policy: Policy, windows: Windows) -> list[int]:
    """The version that answers each window: 0, or the window at whose beginning it was trained."""
    answering: list[int] = []
    current, seen = 0, 0
    earlier: dict[int, int] = {}  # the version that each one replaced
    for window in range(windows.count):
        for judged in range(seen, min(windows.due(window), window)):
            version = answering[judged]
            losses = windows.losses(version, judged)
            if len(losses):
                before = windows.losses(earlier[version], judged) if version in earlier else None
                policy.see(losses, version=version, before=before)
            seen = judged + 1
        if window > 0 and policy.is_due(window) and windows.train(window):
            earlier[window], current = current, window
            policy.trained()
        answering.append(current)
    return answering
