"""Checks of a data set before anything is learned from it: against its schema, against what serving sees, against the span before.

What is wrong with single values is certain and is reported as it is. Whether two data sets differ is a question of chance, so a column
counts as different only where both hold: the difference is significant (p-values of all columns together adjusted by Holm, so one false
report in any column with probability at most `alpha` where rows are independent), and it is large enough to matter
(`least_distance`). Without the first, small samples alarm by habit; without the second, large ones alarm for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from goldenloop.components.tables import DataSchema, Expectation
from goldenloop.core.errors import InvalidSpecError
from goldenloop.features.schema import columns_for, texts
from goldenloop.features.statistics import family_of
from goldenloop.stats.intervals import holm
from goldenloop.stats.losses import Values
from goldenloop.stats.profiles import CategoryProfile, Kind, Profile, count, distances, drift_scores
from goldenloop.stats.special import normal_tail

_MOST_SHOWN = 5  # values named in a report
_MISSING = " (missing)"  # the pseudo-column that holds whether a number is missing

AnomalyKind = Literal["no rows", "column", "type", "missing values", "range", "vocabulary", "skew", "drift"]


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a column. `rows` is in how many rows, 0 where that means nothing."""

    column: str
    kind: AnomalyKind
    text: str
    rows: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How far a column is from a reference. `distance`, 0..1: Kolmogorov-Smirnov for numbers, else Jensen-Shannon beyond what
    chance alone gives; `p` is Holm's.
    """

    column: str
    distance: float
    p: float
    differs: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found, and what was compared."""

    rows: int
    anomalies: tuple[Anomaly, ...]
    serving: tuple[Comparison, ...] = ()
    previous: tuple[Comparison, ...] = ()


def check(
    table: pa.Table,
    schema: DataSchema,
    *,
    serving: pa.Table | None = None,
    previous: pa.Table | None = None,
    alpha: float = 0.01,
    least_distance: float = 0.1,
) -> Report:
    """Return what is wrong with a data set. `serving` are rows as a model gets them (labels are not asked for), `previous` is the
    span of data before this one. Cost: a sort per column. Raises InvalidSpecError for limits that are not between 0 and 1.
    """
    for name, value in (("alpha", alpha), ("least_distance", least_distance)):
        if not 0.0 < value < 1.0:
            raise InvalidSpecError(f"{value} is not between 0 and 1", where=name, mend="Give a share.")
    if table.num_rows == 0:
        nothing = Anomaly(column="", kind="no rows", text="the data has no rows")
        return Report(rows=0, anomalies=(nothing,))
    found = [anomaly for expected in schema.expectations for anomaly in _against(expected, table)]
    compared: dict[str, tuple[Comparison, ...]] = {}
    for kind, other, what in (("skew", serving, "what serving sees"), ("drift", previous, "the span before")):
        if other is None:
            continue
        rows = compare(other, table, schema, alpha=alpha, least_distance=least_distance)
        compared[kind] = rows
        lost = sorted({column.name for column in schema.inputs} - set(other.column_names))
        if kind == "skew" and lost:
            found += [Anomaly(column=name, kind="skew", text="what serving sees does not have it") for name in lost]
        for row in rows:
            if row.differs:
                text = f"it differs from {what} by {row.distance:.3f} (p = {row.p:.2g})"
                found.append(Anomaly(column=row.column, kind="skew" if kind == "skew" else "drift", text=text))
    return Report(
        rows=table.num_rows,
        anomalies=tuple(found),
        serving=compared.get("skew", ()),
        previous=compared.get("drift", ()),
    )


def compare(
    reference: pa.Table, current: pa.Table, schema: DataSchema, *, alpha: float, least_distance: float
) -> tuple[Comparison, ...]:
    """Compare the inputs that both data sets have; see the module for when a column differs. No rows give no comparison."""
    both = tuple(
        column
        for column in schema.inputs
        if all(_fits(table, column.name, column.kind) for table in (reference, current))
    )
    if not both or reference.num_rows == 0 or current.num_rows == 0:
        return ()
    narrowed = msgspec.structs.replace(schema, columns=both)
    arrays = [_with_missing(columns_for(table, narrowed)) for table in (reference, current)]
    kinds: dict[str, Kind] = {column.name: "number" if column.kind == "number" else "category" for column in both}
    kinds |= {name: "category" for name in arrays[0] if name.endswith(_MISSING)}
    profile = Profile.of(arrays[0], kinds)
    counted = count(profile, arrays[1])
    scores, far = drift_scores(profile, counted), distances(profile, counted)
    sizes: dict[str, float] = {}
    chances: dict[str, float] = {}
    for name, column in profile.columns.items():
        if isinstance(column, CategoryProfile):
            by_chance = (len(column.cells) - 1) / (8.0 * math.log(2.0)) * (1.0 / profile.rows + 1.0 / counted.rows)
            sizes[name] = math.sqrt(max(0.0, far[name].jensen_shannon ** 2 - by_chance))
            chances[name] = normal_tail(scores[name])
        else:
            sizes[name] = far[name].kolmogorov_smirnov or 0.0
            chances[name] = far[name].p_value
    adjusted = holm(chances)
    worst = [
        max(
            (name, name + _MISSING),
            key=lambda each: sizes.get(each, -1.0) if adjusted.get(each, 1.0) <= alpha else -1.0,
        )
        for name in (column.name for column in both)
    ]
    return tuple(
        Comparison(
            column=column.name,
            distance=sizes[shown],
            p=adjusted[shown],
            differs=adjusted[shown] <= alpha and sizes[shown] >= least_distance,
        )
        for column, shown in zip(both, worst, strict=True)
    )


def _against(expected: Expectation, table: pa.Table) -> Iterator[Anomaly]:
    """What is wrong with one column."""
    name = expected.name
    if name not in table.column_names:
        yield Anomaly(column=name, kind="column", text="it is missing")
        return
    column = table.column(name)
    family = family_of(column.type)
    if family != expected.family and "nothing" not in (family, expected.family):
        yield Anomaly(column=name, kind="type", text=f"it holds {family}, {expected.family} is expected")
        return
    words = texts(column) if family == "text" else None
    numbers = _numbers(column) if family == "number" else None
    missing = np.asarray(column.is_null()) if words is None else words == ""
    if numbers is not None:
        missing = ~np.isfinite(numbers)
    absent = int(np.count_nonzero(missing))
    if absent / table.num_rows > expected.most_missing:
        share = f"{absent / table.num_rows:.1%} are missing, at most {expected.most_missing:.1%} are expected"
        yield Anomaly(column=name, kind="missing values", text=share, rows=absent)
    if numbers is not None:
        yield from _out_of_range(expected, numbers[~missing])
    if words is not None and expected.values:
        yield from _unknown(expected, words[~missing], table.num_rows)


def _out_of_range(expected: Expectation, numbers: npt.NDArray[np.float64]) -> Iterator[Anomaly]:
    for limit, outside, sign in (
        (expected.minimum, numbers < (expected.minimum if expected.minimum is not None else -np.inf), "below"),
        (expected.maximum, numbers > (expected.maximum if expected.maximum is not None else np.inf), "above"),
    ):
        rows = int(np.count_nonzero(outside))
        if rows and limit is not None:
            extreme = float(numbers.min() if sign == "below" else numbers.max())
            text = f"{rows} values lie {sign} {limit:g}, the farthest is {extreme:g}"
            yield Anomaly(column=expected.name, kind="range", text=text, rows=rows)


def _unknown(expected: Expectation, words: Values, all_rows: int) -> Iterator[Anomaly]:
    strange = ~np.isin(words.astype(str), np.array(expected.values, dtype=str))
    rows = int(np.count_nonzero(strange))
    if rows / all_rows > expected.most_unknown:
        named = sorted(set(words[strange].tolist()))
        shown = ", ".join(map(repr, named[:_MOST_SHOWN])) + (" …" if len(named) > _MOST_SHOWN else "")
        text = f"{rows} values are not in the vocabulary: {shown}"
        yield Anomaly(column=expected.name, kind="vocabulary", text=text, rows=rows)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _fits(table: pa.Table, name: str, kind: str) -> bool:
    """Whether a table has the column, as something the schema's kind can be read from."""
    if name not in table.column_names:
        return False
    family = family_of(table.column(name).type)
    return family in ("number", "nothing") if kind == "number" else family in ("text", "number", "nothing")


def _with_missing(arrays: dict[str, Values]) -> dict[str, Values]:
    """The columns, and beside each number column whether it is missing."""
    marks = {
        name + _MISSING: np.where(np.isnan(values.astype(np.float64)), "yes", "no").astype(object)
        for name, values in arrays.items()
        if values.dtype.kind == "f"
    }
    return {**arrays, **marks}
