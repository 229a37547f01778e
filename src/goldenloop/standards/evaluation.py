"""The part of a Loop that says how a version is judged before it meets traffic: `spec.evaluation`.

Each check has a mode. `block`: a version for which it fails, or cannot be carried out, is not blessed. `warn`: what it finds stands in the
record and on the card. `off`: it is not carried out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json

Mode = Literal["block", "warn", "off"]
Share = Annotated[float, Meta(ge=0, le=1)]
Rows = Annotated[int, Meta(ge=2)]
PositiveNumber = Annotated[float, Meta(gt=0)]


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A record of a document: frozen, camel case on the wire, no unknown fields."""


class SliceCheck(_Spec, frozen=True, kw_only=True):
    """Parts of the evaluation set that are searched for: one or two conditions on columns. `alpha` is the chance that an equal challenger
    is refused for any of them.
    """

    mode: Mode = "block"
    min_rows: Annotated[int, Meta(ge=10)] = 30
    alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01


class CalibrationCheck(_Spec, frozen=True, kw_only=True):
    """Whether probabilities come true. It fails where the expected calibration error is above `maxError` and is not due to chance."""

    mode: Mode = "warn"
    max_error: Share = 0.05


class FairnessCheck(_Spec, frozen=True, kw_only=True):
    """The gap between the groups of protected columns and of their intersections, in points of share. It fails where the interval of the
    largest gap lies above `maxGap`, and is inconclusive where only the estimate does.

    For a classifier `metric` says what is compared: answers `favourable` (by default the last class) among rows that deserve it and
    among those that do not (equalizedOdds), among the deserving only (equalOpportunity), or among all rows (demographicParity).
    For values the mean loss is compared.
    """

    mode: Mode = "warn"
    max_gap: Share = 0.1
    metric: Literal["equalizedOdds", "equalOpportunity", "demographicParity"] = "equalizedOdds"
    favourable: str | None = None
    min_rows: Rows = 30  # of a group


class RobustnessCheck(_Spec, frozen=True, kw_only=True):
    """How many answers the noise of the data itself changes. Of values, a change by more than a tenth of their spread counts."""

    mode: Mode = "warn"
    max_changed: Share = 0.1


class ServingCheck(_Spec, frozen=True, kw_only=True):
    """What an answer may cost, measured through the code that serves, with one thread. Without limits it is measured and shown."""

    mode: Mode = "block"
    latency_p50_ms: PositiveNumber | None = None
    latency_p99_ms: PositiveNumber | None = None
    batch_p99_ms: PositiveNumber | None = None  # a request of 100 rows
    size_mb: PositiveNumber | None = None


class LeakageCheck(_Spec, frozen=True, kw_only=True):
    """Signs that the evaluation is too easy: a column that alone tells the label, evaluation rows that were trained on, a wrong order of
    time. `maxSingle` bounds AUC or R² of one column alone.
    """

    mode: Mode = "warn"
    max_single: Share = 0.995
    max_duplicates: Share = 0.01


class LabelCheck(_Spec, frozen=True, kw_only=True):
    """Labels that contradict each other: equal rows with different answers. No model can be right on more than one of them."""

    mode: Mode = "warn"
    max_contradictions: Share = 0.1


class Direction(_Spec, frozen=True, kw_only=True):
    """`column` is changed by `change` (a number that is added, or "+10%"), and the answer must not move the other way.

    For a classifier the probability of the class `of` is looked at, by default its last one.
    """

    column: str
    change: float | str
    expect: Literal["up", "down"]
    of: str | None = None


class Minimum(_Spec, frozen=True, kw_only=True):
    """`rows` with their labels, or the evaluation rows `where` columns have these values, on which `metric` is at least `atLeast`
    (or at most `atMost`).
    """

    rows: tuple[dict[str, Json], ...] = ()
    where: dict[str, str | float | bool] = {}
    metric: str = "auto"
    at_least: float | None = None
    at_most: float | None = None


class BehaviourTest(_Spec, frozen=True, kw_only=True):
    """What a person expects of every version: one of invariance, direction and minimum.

    `invariance` names columns and the values among which the answer must not differ. Invariance and direction hold where they hold on a
    share of at least `atLeast` of up to `rows` evaluation rows; `tolerance` is a change of the value, or of the probability, that counts
    as none.
    """

    name: str
    invariance: dict[str, tuple[Json, ...]] = {}
    direction: Direction | None = None
    minimum: Minimum | None = None
    rows: Annotated[int, Meta(ge=1, le=10_000)] = 500
    at_least: Share = 0.99
    tolerance: Annotated[float, Meta(ge=0)] = 0.0
    mode: Mode = "block"


class EvaluationSpec(_Spec, frozen=True, kw_only=True):
    """How a version is judged, beside the comparison with the trivial baseline and the champion, which always blocks."""

    slices: SliceCheck = SliceCheck()
    calibration: CalibrationCheck = CalibrationCheck()
    fairness: FairnessCheck = FairnessCheck()
    robustness: RobustnessCheck = RobustnessCheck()
    serving: ServingCheck = ServingCheck()
    leakage: LeakageCheck = LeakageCheck()
    labels: LabelCheck = LabelCheck()
    behaviour: tuple[BehaviourTest, ...] = ()


def check_evaluation(spec: EvaluationSpec) -> None:
    """Raise InvalidSpecError for what the types cannot say."""
    names: set[str] = set()
    for index, test in enumerate(spec.behaviour):
        where = f"spec.evaluation.behaviour[{index}]"
        if test.name in names or not test.name.strip():
            raise InvalidSpecError(
                f"{test.name!r} is not a name of its own", where=f"{where}.name", mend="Give each test another name."
            )
        names.add(test.name)
        asked = (bool(test.invariance), test.direction is not None, test.minimum is not None)
        if sum(asked) != 1:
            raise InvalidSpecError(
                "a test asks for one thing", where=where, mend="Write one of invariance, direction and minimum."
            )
        _check_invariance(test, where)
        if test.direction is not None:
            change_of(test.direction.change, where=f"{where}.direction.change")
        if test.minimum is not None:
            _check_minimum(test.minimum, f"{where}.minimum")


def change_of(change: float | str, *, where: str = "") -> tuple[float, bool]:
    """A change as a number, and whether it is a share of the value. Raises InvalidSpecError.

    >>> change_of("+10%"), change_of(-2)
    ((0.1, True), (-2.0, False))
    """
    relative = isinstance(change, str) and change.strip().endswith("%")
    text = change.strip().removesuffix("%") if isinstance(change, str) else change
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number != number or number == 0.0 or abs(number) == float("inf"):
        raise InvalidSpecError(f"{change!r} is not a change", where=where, mend="Write 5, -5, or '+10%'.")
    return (number / 100.0, True) if relative else (number, False)


def _check_invariance(test: BehaviourTest, where: str) -> None:
    for column, values in test.invariance.items():
        if len(values) < 2:
            raise InvalidSpecError(
                f"{len(values)} values of {column!r} leave nothing to compare",
                where=f"{where}.invariance.{column}",
                mend="Give at least two values.",
            )


def _check_minimum(minimum: Minimum, where: str) -> None:
    if bool(minimum.rows) == bool(minimum.where):
        raise InvalidSpecError(
            "it must say which rows", where=where, mend="Give rows (with their labels), or where: {column: value}."
        )
    if (minimum.at_least is None) == (minimum.at_most is None):
        raise InvalidSpecError("it must give one bound", where=where, mend="Give atLeast or atMost.")
