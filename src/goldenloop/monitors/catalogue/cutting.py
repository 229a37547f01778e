"""How rows are cut into slices: by the values of a category, by the quarters that a number had in the reference."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.monitors.catalogue.base import Past
from goldenloop.monitors.reference import Columns

MISSING = "(missing)"
OTHER = "(other)"
_MOST_VALUES = 20  # of a category; rarer ones are pooled
_FEW_VALUES = 8  # a category with more is not cut unless somebody asks for it
_MOST_UNASKED = 4  # categories that are cut without being asked for


class Cuts(msgspec.Struct, frozen=True, kw_only=True):
    """Which columns cut: a category by its commonest values, a number at the limits between its quarters."""

    values: dict[str, tuple[str, ...]] = {}
    limits: dict[str, tuple[float, ...]] = {}

    @classmethod
    def of(cls, past: Past, declared: Collection[str], *, others: bool) -> Cuts:
        """The cuts by the declared inputs and, with `others`, by up to four categories of two to eight values."""
        values: dict[str, tuple[str, ...]] = {}
        limits: dict[str, tuple[float, ...]] = {}
        unasked = 0
        for name, kind in past.inputs.items():
            column = past.training.columns[name]
            if kind == "number":
                numbers = column.astype(np.float64)
                present = numbers[np.isfinite(numbers)]
                if name in declared and present.size and float(np.ptp(present)) > 0.0:
                    quarters = np.unique(np.quantile(present, (0.25, 0.5, 0.75), method="inverted_cdf"))
                    limits[name] = tuple(quarters.tolist())
                continue
            names, counts = np.unique(column[column != ""].astype(str), return_counts=True)
            wanted = others and 2 <= names.size <= _FEW_VALUES and unasked < _MOST_UNASKED
            if name in declared or wanted:
                ranked = names[np.argsort(-counts, kind="stable")]
                values[name] = tuple(ranked[:_MOST_VALUES].tolist())
                unasked += name not in declared
        return cls(values=values, limits=limits)

    def groups(self, columns: Columns, named: Collection[str] = ()) -> dict[str, NDArray[np.object_]]:
        """For each cutting column, or those of them that are named, the group of each row."""
        found: dict[str, NDArray[np.object_]] = {}
        for name, known in self.values.items():
            if name in columns and (not named or name in named):
                spelled = {value: value for value in known} | {"": MISSING}
                found[name] = _objects([spelled.get(str(value), OTHER) for value in columns[name].tolist()])
        for name, edges in self.limits.items():
            if name in columns and (not named or name in named):
                between = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
                names = _objects([f"<= {edges[0]:g}", *between, f"> {edges[-1]:g}", MISSING])
                numbers = columns[name].astype(np.float64)
                places = np.searchsorted(np.array(edges), numbers, side="left")
                found[name] = names[np.where(np.isnan(numbers), len(names) - 1, places)]
        return found


def _objects(values: list[str]) -> NDArray[np.object_]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
