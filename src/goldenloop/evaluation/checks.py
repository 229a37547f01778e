"""What is looked at besides the comparison with the champion: the record of one check, and what all of them mean for the verdict.

A check has a mode (`goldenloop.standards.evaluation`) and gives a verdict with a sentence and its evidence. One that raises is an error,
never a pass. A check for which there is nothing to look at, such as fairness where no column is protected, says so and decides nothing.

For a version that the gate would let through, blocking checks decide: where one fails, the version fails; where one is inconclusive or
an error, so is the version. No evidence is never success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import ColumnKind, Task
from goldenloop.evaluation.gate import Evidence
from goldenloop.standards.evaluation import Mode
from goldenloop.stats.losses import Values

Columns = Mapping[str, Values]
Predict = Callable[[dict[str, Values]], Evidence]  # answers to rows that are columns by name


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check: `applies` is false where there was nothing to look at, and then the verdict is no evidence of anything."""

    name: str
    mode: Mode
    verdict: Verdict
    reason: str
    applies: bool = True
    evidence: JsonObject = {}

    @property
    def blocks(self) -> bool:
        """Whether it keeps the version from being blessed."""
        return self.mode == "block" and self.applies and self.verdict is not Verdict.PASS


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found, before its mode is known."""

    verdict: Verdict
    reason: str
    applies: bool = True
    evidence: JsonObject = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What checks look at: the labelled evaluation rows, in the order of time, and what the models answered to them.

    `columns` are the model's inputs, `protected` the columns whose groups are to be treated alike. `losses` are in [0, 1], one a row.
    """

    task: Task
    label: str  # the name of its column
    labels: Values
    columns: Columns
    kinds: Mapping[str, ColumnKind]
    protected: Columns
    challenger: Evidence
    losses: NDArray[np.float64]
    champion_losses: NDArray[np.float64] | None
    classes: tuple[str, ...]
    scale: float  # regression: the error that costs 1
    predict: Predict

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.labels)

    def places(self, most: int) -> NDArray[np.int64]:
        """At most so many rows, spread evenly over time."""
        return np.unique(np.linspace(0, max(0, self.rows - 1), num=min(most, self.rows)).astype(np.int64))

    def taken(self, places: NDArray[np.int64]) -> dict[str, Values]:
        """The inputs of these rows."""
        return {name: np.asarray(values)[places] for name, values in self.columns.items()}


def nothing(reason: str) -> Finding:
    """There is nothing to look at, and why."""
    return Finding(verdict=Verdict.INCONCLUSIVE, reason=reason, applies=False)


def carried_out(name: str, mode: Mode, look: Callable[[], Finding]) -> Check | None:
    """The check, None where it is off. What it raises is its verdict: an error, with the message."""
    if mode == "off":
        return None
    try:
        found = look()
    except GoldenloopError as error:
        found = Finding(verdict=Verdict.ERROR, reason=f"it could not be carried out: {error}")
    except Exception as error:  # whatever a model does with rows it has never seen
        said = f"{type(error).__name__}: {str(error)[:300]}"
        found = Finding(verdict=Verdict.ERROR, reason=f"it could not be carried out: {said}")
    return Check(
        name=name,
        mode=mode,
        verdict=found.verdict,
        reason=found.reason,
        applies=found.applies,
        evidence=found.evidence,
    )


def concluded(verdict: Verdict, reason: str, checks: Iterable[Check]) -> tuple[Verdict, str]:
    """The verdict on a version after its checks: what the gate refuses stays refused, what it lets through the checks may still stop."""
    if verdict is not Verdict.PASS:
        return verdict, reason
    stopping = [check for check in checks if check.blocks]
    failed = [check for check in stopping if check.verdict is Verdict.FAIL]
    if failed:
        return Verdict.FAIL, "; ".join(f"{check.name}: {check.reason}" for check in failed)
    if stopping:
        said = "; ".join(f"{check.name}: {check.reason}" for check in stopping)
        return Verdict.INCONCLUSIVE, f"a check that has to pass came to nothing: {said}"
    return verdict, reason
