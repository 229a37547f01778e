"""The drift report: every column of one frame beside the same column of another, in one pass over each.

Columns are read in groups and rows in batches, and kept as grids and tallies of bounded size; so memory depends neither on the rows
nor on how many columns there are, and pieces could be counted anywhere and merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.features.frames import Frame, is_text
from goldenloop.stats.comparison import Comparison, compare_names, compare_numbers
from goldenloop.stats.grids import CELLS, NumberGrid, smallest_magnitude
from goldenloop.stats.intervals import holm
from goldenloop.stats.tallies import NameTally

Kind = Literal["number", "category", "empty", "other"]
Role = Literal["prediction", "label", "feature"]

_COLUMNS_AT_ONCE = 512
_FINE_COLUMNS = 128  # of a frame with more, grids are coarser, so that memory stays bounded
_COARSE_CELLS = 1 << 12
_VALUES_AT_ONCE = 1 << 21  # of a batch, over its columns
_MOST_ROWS_AT_ONCE = 1 << 16
_ROLES: tuple[Role, ...] = ("prediction", "label", "feature")


class ColumnReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A column and its verdict: fail where it has drifted, error where the sides cannot be compared, inconclusive without values."""

    column: str
    role: Role
    verdict: Verdict
    reason: str
    effect: float | None = None
    p: float | None = None
    adjusted_p: float | None = None  # Holm's, over all columns that were tested
    comparison: Comparison | None = None


class DriftReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was found, predictions first, then the label, then features: those that cannot be compared, then the largest effects."""

    reference: str
    current: str
    reference_rows: int
    current_rows: int
    alpha: float
    effect: float
    verdict: Verdict
    drifted: int
    compared: int
    columns: tuple[ColumnReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. A column has drifted where its adjusted p is below `alpha` and its effect is at least `effect`."""

    prediction: str | None = None
    label: str | None = None
    alpha: float = 0.05
    effect: float = 0.1

    def role_of(self, column: str) -> Role:
        """What a column is."""
        return "prediction" if column == self.prediction else "label" if column == self.label else "feature"


@dataclass(frozen=True, slots=True)
class _Pair:
    column: str
    comparison: Comparison | None
    verdict: Verdict = Verdict.PASS
    reason: str = ""


def report_drift(reference: Frame, current: Frame, question: Question) -> DriftReport:
    """Compare two frames. Raises InvalidSpecError for a prediction or label that neither has, and for no column at all."""
    for option, name in (("--prediction", question.prediction), ("--label", question.label)):
        if name is not None and name not in reference.schema.names and name not in current.schema.names:
            raise InvalidSpecError(f"neither frame has a column {name!r}", where=option, mend="Name one that is there.")
    if not 0.0 < question.alpha < 1.0 or not 0.0 <= question.effect <= 1.0:
        raise InvalidSpecError("alpha must be between 0 and 1, and effect from 0 to 1", where="--alpha, --effect")
    pairs, comparable = _sort_out(reference, current)
    cells = CELLS if len(comparable) <= _FINE_COLUMNS else _COARSE_CELLS
    for start in range(0, len(comparable), _COLUMNS_AT_ONCE):
        group = dict(list(comparable.items())[start : start + _COLUMNS_AT_ONCE])
        pairs += _compare(reference, current, group, cells=cells)
    if not pairs:
        raise InvalidSpecError("neither frame has a column", where=reference.location, mend="Give frames with columns.")
    columns = _judge(pairs, question)
    verdicts = [column.verdict for column in columns]
    compared = [column for column in columns if column.p is not None]
    return DriftReport(
        reference=reference.location,
        current=current.location,
        reference_rows=reference.rows,
        current_rows=current.rows,
        alpha=question.alpha,
        effect=question.effect,
        verdict=next((each for each in (Verdict.ERROR, Verdict.FAIL) if each in verdicts), None)
        or (Verdict.PASS if compared else Verdict.INCONCLUSIVE),
        drifted=verdicts.count(Verdict.FAIL),
        compared=len(compared),
        columns=columns,
    )


def _sort_out(reference: Frame, current: Frame) -> tuple[list[_Pair], dict[str, Kind]]:
    """Columns that cannot be compared, with the reason, and the kind of those that can."""
    pairs: list[_Pair] = []
    comparable: dict[str, Kind] = {}
    frames = (("reference", reference), ("current", current))
    sides = {side: dict(zip(frame.schema.names, frame.schema.types, strict=True)) for side, frame in frames}
    for name in dict.fromkeys(column for types in sides.values() for column in types):
        absent = [side for side, types in sides.items() if name not in types]
        if absent:
            pairs.append(_Pair(name, None, Verdict.ERROR, f"the {absent[0]} frame has no such column"))
            continue
        found = [types[name] for types in sides.values()]
        kinds = [_kind(kind) for kind in found]
        if "other" in kinds:
            why = f"{found[kinds.index('other')]} is neither numbers nor categories; it is not compared"
            pairs.append(_Pair(name, None, Verdict.INCONCLUSIVE, why))
        elif "empty" not in kinds and kinds[0] != kinds[1]:
            pairs.append(_Pair(name, None, Verdict.ERROR, f"its type changed from {found[0]} to {found[1]}"))
        else:
            comparable[name] = next((kind for kind in kinds if kind != "empty"), "category")
    return pairs, comparable


def _kind(kind: pa.DataType) -> Kind:
    if is_text(kind) or pa.types.is_boolean(kind):
        return "category"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "empty" if pa.types.is_null(kind) else "other"


def _compare(reference: Frame, current: Frame, kinds: Mapping[str, Kind], *, cells: int) -> list[_Pair]:
    sample = reference.sample(list(kinds))
    tinies: dict[str, float] = {}
    pivots: dict[str, float] = {}
    for name, kind in kinds.items():
        if kind == "number":
            values = _numbers(sample.column(name).combine_chunks())
            finite = values[np.isfinite(values)]
            tinies[name], pivots[name] = smallest_magnitude(values), float(finite[0]) if finite.size else 0.0
    before: dict[str, NumberGrid | NameTally] = {
        name: NumberGrid(tiny=tinies[name], cells=cells, pivot=pivots[name]) if kind == "number" else NameTally()
        for name, kind in kinds.items()
    }
    _count(reference, before)
    after: dict[str, NumberGrid | NameTally] = {}
    for name, counted in before.items():
        if isinstance(counted, NumberGrid):
            bounds = (counted.low, counted.high) if counted.count else None
            after[name] = NumberGrid(tiny=counted.tiny, cells=cells, pivot=counted.pivot, bounds=bounds)
        else:
            after[name] = NameTally()
    _count(current, after)
    pairs = []
    for name, one in before.items():
        other = after[name]
        if isinstance(one, NumberGrid) and isinstance(other, NumberGrid):
            pairs.append(_Pair(name, compare_numbers(one, other)))
        elif isinstance(one, NameTally) and isinstance(other, NameTally):
            pairs.append(_Pair(name, compare_names(one, other)))
    return pairs


def _count(frame: Frame, counters: Mapping[str, NumberGrid | NameTally]) -> None:
    if not frame.rows:
        return
    rows = max(1, min(_MOST_ROWS_AT_ONCE, _VALUES_AT_ONCE // len(counters)))
    for batch in frame.batches(list(counters), rows=rows):
        for name, counter in counters.items():
            column = batch.column(name)
            if isinstance(counter, NumberGrid):
                counter.add(_numbers(column))
            else:
                _add_names(counter, column)


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    """The values as doubles, NaN where one is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type != pa.float64():
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _add_names(tally: NameTally, column: pa.Array) -> None:
    if pa.types.is_null(column.type):
        tally.missing += len(column)
        return
    if pa.types.is_boolean(column.type):
        yes = column.true_count
        tally.missing += column.null_count
        tally.add(["true", "false"], [yes, len(column) - column.null_count - yes])
        return
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    indices = encoded.indices
    if indices.null_count:
        tally.missing += indices.null_count
        indices = indices.drop_null()
    counts = np.bincount(indices.to_numpy(zero_copy_only=False), minlength=len(encoded.dictionary))
    used = np.flatnonzero(counts)
    names = compute.cast(encoded.dictionary.take(pa.array(used)), pa.large_string()).to_pylist()
    empty = [place for place, name in enumerate(names) if not name]  # texts that are empty are missing, as in training
    for place in reversed(empty):
        tally.missing += int(counts[used[place]])
        del names[place]
        used = np.delete(used, place)
    tally.add(names, counts[used].tolist())


def _judge(pairs: Sequence[_Pair], question: Question) -> tuple[ColumnReport, ...]:
    chances = {pair.column: pair.comparison.p for pair in pairs if pair.comparison is not None}
    tested = {name: p for name, p in chances.items() if p is not None}
    adjusted = holm(tested)
    columns = [_verdict(pair, adjusted.get(pair.column), question) for pair in pairs]
    order = (Verdict.ERROR, Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE)
    return tuple(
        sorted(columns, key=lambda each: (_ROLES.index(each.role), order.index(each.verdict), -(each.effect or 0.0)))
    )


def _verdict(pair: _Pair, adjusted: float | None, question: Question) -> ColumnReport:
    role, found = question.role_of(pair.column), pair.comparison
    if found is None:
        return ColumnReport(column=pair.column, role=role, verdict=pair.verdict, reason=pair.reason)
    if adjusted is None:
        verdict, reason = Verdict.INCONCLUSIVE, found.note or "nothing could be tested"
    else:
        certain, large = adjusted < question.alpha, found.effect >= question.effect
        verdict = Verdict.FAIL if certain and large else Verdict.PASS
        reason = (
            "it has drifted"
            if certain and large
            else "changed, but by little"
            if certain
            else "a change of this size comes by chance"
            if large
            else "no change seen"
        )
        reason = f"{reason}; {found.note}" if found.note else reason
    return ColumnReport(
        column=pair.column,
        role=role,
        verdict=verdict,
        reason=reason,
        effect=found.effect,
        p=found.p,
        adjusted_p=adjusted,
        comparison=found,
    )
