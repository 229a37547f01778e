"""The part of a Loop that says when it trains anew: what a run costs, what a wrong answer costs, and other reasons that a team may have.

```yaml
retrain:
  price: 2.50                           # auto (default), machine time such as 20m, or money
  value: 0.05                           # what one wrong answer costs, in the same unit
  triggers:
    - {metric: accuracy, below: 0.8, for: 2, clear: 0.02}
    - {labels: 20000}
    - {staleness: 30d}
    - {schedule: "0 3 * * 1"}
```
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.schedules import Schedule, check_schedule, six_fields

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Reason = Literal["cost", "alarm"]
_KINDS = ("metric", "labels", "staleness", "schedule")


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A record of a document: frozen, camel case on the wire, no unknown fields."""


class RetrainTrigger(_Spec, frozen=True, kw_only=True):
    """One more reason to train: exactly one of `metric`, `labels`, `staleness` and `schedule`.

    A metric fires when it was `below` or `above` a bound `for` so many windows in a row, and then not again before it came back by `clear`
    (hysteresis). `labels`: so many new ones since the last training. `staleness`: so long since. `schedule`: five fields of crontab, UTC.
    All are looked at on event time, whenever the labels of a window are due.
    """

    metric: str | None = None
    below: float | None = None
    above: float | None = None
    for_: Positive = msgspec.field(default=1, name="for")
    clear: Annotated[float, Meta(ge=0)] = 0.0
    labels: Positive | None = None
    staleness: str | None = None
    schedule: str | None = None

    @property
    def kind(self) -> str:
        """Which of the four it is."""
        return next(name for name in _KINDS if getattr(self, name) is not None)

    @property
    def cron(self) -> Schedule:
        """The schedule that is meant. Raises InvalidSpecError."""
        assert self.schedule is not None
        return Schedule(cron=six_fields(self.schedule, where="schedule", seconds_first=False))


class Retrain(_Spec, frozen=True, kw_only=True):
    """When a trigger may start a run. `falseAlarmWindows` is promise P1: at most one false alarm in so many windows.

    `price` is what a run costs and `value` what one wrong answer costs (regression: an error of one, in the unit of the label), both in
    money or both in machine time. With `auto` a run has to save what is answered wrong in one usual window, or in as many as it takes.
    """

    false_alarm_windows: Annotated[int, Meta(ge=2)] = 1000
    reasons: tuple[Reason, ...] = ("cost", "alarm")  # which of the loop's own reasons start runs
    price: Literal["auto"] | str | float = "auto"
    value: Literal["auto"] | str | float = "auto"
    triggers: tuple[RetrainTrigger, ...] = ()
    cooldown: str = "1h"
    max_runs_per_day: Positive = 4
    min_new_labels: NonNegative = 500
    dry_run: bool = False  # everything is decided and told, and nothing is started
    suspend: bool = False  # causes are noted, and nothing is started


def check_retrain(retrain: Retrain) -> None:
    """Raise InvalidSpecError for what the types cannot say."""
    parse_duration(retrain.cooldown, where="spec.retrain.cooldown")
    _check_price(retrain)
    for index, trigger in enumerate(retrain.triggers):
        _check_trigger(trigger, f"spec.retrain.triggers[{index}]")


def _check_price(retrain: Retrain) -> None:
    price, value = retrain.price, retrain.value
    for name, given in (("price", price), ("value", value)):
        where = f"spec.retrain.{name}"
        amount = given if isinstance(given, float) else 1 if given == "auto" else parse_duration(given, where=where)
        if not amount > 0:
            raise InvalidSpecError("must be more than nothing", where=where, mend="Write 2.5 or 20m, for example.")
    if isinstance(price, float) and not isinstance(value, float):
        raise InvalidSpecError(
            "a price in money says nothing without the money that a wrong answer costs",
            where="spec.retrain.value",
            mend="Give value too, such as 0.05, or give the price as machine time: 20m.",
        )
    if isinstance(value, float) and not isinstance(price, float):
        raise InvalidSpecError(
            "the value is money and the price is not", where="spec.retrain.price", mend="Give both in one unit."
        )


def _check_trigger(trigger: RetrainTrigger, where: str) -> None:
    given = [name for name in _KINDS if getattr(trigger, name) is not None]
    if len(given) != 1:
        raise InvalidSpecError(
            f"a trigger has one of {', '.join(_KINDS)}; this one has {' and '.join(given) or 'none'}",
            where=where,
            mend="Write one trigger for each reason.",
        )
    bounds = [bound for bound in (trigger.below, trigger.above) if bound is not None]
    if len(bounds) != (1 if trigger.metric is not None else 0):
        raise InvalidSpecError(
            "a metric is held against one bound, below or above; nothing else has one",
            where=where,
            mend="Write {metric: accuracy, below: 0.8}.",
        )
    if trigger.staleness is not None and parse_duration(trigger.staleness, where=f"{where}.staleness") <= 0:
        raise InvalidSpecError(
            "must be longer than nothing", where=f"{where}.staleness", mend="Write 30d, for example."
        )
    if trigger.schedule is not None:
        check_schedule(trigger.cron, where=f"{where}.schedule")
