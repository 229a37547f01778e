"""Rows of a table as a model takes them: numbers in one matrix, categories in another, whatever form they came in.

Rules. A missing number is NaN, a missing category None. A category that the model has never seen is passed on as it is. Infinite numbers
are refused. A column that is not there is an error, as is one that no version of the service knows; both name the nearest known one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Signature, as_text

Numbers: TypeAlias = NDArray[np.float64]
Texts: TypeAlias = NDArray[np.object_]
Value: TypeAlias = float | int | str | bool | None

_NUMBER_TYPES = frozenset({float, int, bool, type(None)})
_FEW = 64
_NOTHING_KNOWN: frozenset[str] = frozenset()


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Some rows. Both matrices have `rows` rows; their columns are the number and the category columns in the signature's order."""

    rows: int
    numbers: Numbers
    texts: Texts

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """Return the rows of all batches, one after the other; they must be of one signature."""
        numbers = np.concatenate([batch.numbers for batch in batches])
        if batches[0].texts.shape[1]:
            return Batch(len(numbers), numbers, np.concatenate([batch.texts for batch in batches]))
        return Batch(len(numbers), numbers, np.empty((len(numbers), 0), dtype=object))


class Layout:
    """Where each column of a signature lies in a batch."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.names = signature.names
        self.width = len(self.names)
        self.number_names = tuple(column.name for column in signature.inputs if column.kind == "number")
        self.category_names = tuple(column.name for column in signature.inputs if column.kind == "category")
        self.is_all_numbers = not self.category_names
        self.logged = self.number_names + self.category_names  # as the payload log has them
        self._known = frozenset(self.names)
        # Rows in the signature's order from numbers beside texts: a place in (numbers + texts) for each column.
        places = {name: place for place, name in enumerate(self.logged)}
        self._order = [places[name] for name in self.names]
        self._kinds = {column.name: column.kind for column in signature.inputs}

    def values(self, batch: Batch) -> tuple[tuple[Value, ...], ...]:
        """Return the rows in the signature's order."""
        if self.is_all_numbers:
            return tuple(map(tuple, batch.numbers.tolist()))
        order = self._order
        return tuple(
            tuple([(numbers + texts)[place] for place in order])
            for numbers, texts in zip(batch.numbers.tolist(), batch.texts.tolist(), strict=True)
        )

    def columns(self, batch: Batch) -> dict[str, Numbers | Texts]:
        """Return the columns by name."""
        by_name: dict[str, Numbers | Texts] = {}
        for place, name in enumerate(self.number_names):
            by_name[name] = batch.numbers[:, place]
        for place, name in enumerate(self.category_names):
            by_name[name] = batch.texts[:, place]
        return {name: by_name[name] for name in self.names}

    def from_matrix(self, matrix: NDArray[np.generic], *, where: str) -> Batch:
        """Return the batch of a matrix [n, k] whose columns are in the signature's order."""
        if self.is_all_numbers and matrix.dtype.kind in "fiub":
            numbers = _finite(matrix.astype(np.float64, copy=False), self.names, where)
            return Batch(len(numbers), numbers, np.empty((len(numbers), 0), dtype=object))
        return self.from_columns({name: matrix[:, place] for place, name in enumerate(self.names)}, where=where)

    def from_numbers(self, rows: Sequence[Sequence[float]], *, where: str) -> Batch:
        """Return the batch of rows of as many numbers as there are columns; all columns must be numbers."""
        numbers = _finite(np.array(rows, dtype=np.float64), self.names, where)
        return Batch(len(rows), numbers, np.empty((len(rows), 0), dtype=object))

    def from_columns(
        self, given: Mapping[str, NDArray[np.generic]], *, where: str, also: frozenset[str] = _NOTHING_KNOWN
    ) -> Batch:
        """Return the batch of one-dimensional arrays by name; `also` names columns that may be there and are left out."""
        self.check_names(given.keys(), where=where, also=also)
        lengths = {len(given[name]) for name in self.names}
        if len(lengths) != 1:
            first = self.names[0]
            other = next(name for name in self.names if len(given[name]) != len(given[first]))
            raise InvalidSpecError(
                f"column {first!r} has {len(given[first])} rows and column {other!r} has {len(given[other])}",
                where=where,
                mend="Send as many values for each column.",
            )
        rows = lengths.pop()
        numbers = np.empty((rows, len(self.number_names)), dtype=np.float64)
        for place, name in enumerate(self.number_names):
            numbers[:, place] = _numbers_of(given[name], name, where)
        texts = np.empty((rows, len(self.category_names)), dtype=object)
        for place, name in enumerate(self.category_names):
            texts[:, place] = _texts_of(given[name], name, where)
        return Batch(rows, _finite(numbers, self.number_names, where), texts)

    def from_rows(self, given: Sequence[object], *, where: str, also: frozenset[str] = _NOTHING_KNOWN) -> Batch:
        """Return the batch of rows that are lists in the signature's order, or objects by column name, or bare values of one column."""
        if isinstance(given[0], Mapping):
            self.check_names(given[0].keys(), where=f"{where}[0]", also=also)
        rows = [self._row(row, f"{where}[{place}]", also) for place, row in enumerate(given)]
        columns = {}
        for name, values in zip(self.names, zip(*rows, strict=True), strict=True):
            column = np.empty(len(values), dtype=object)
            column[:] = values
            columns[name] = column
        return self.from_columns(columns, where=where)

    def check_names(self, given: Iterable[str], *, where: str, also: frozenset[str] = _NOTHING_KNOWN) -> None:
        """Raise InvalidSpecError unless exactly the signature's columns are there, besides those in `also`."""
        present = set(given)
        if present == self._known:
            return
        unknown = sorted(present - self._known - also)
        missing = [name for name in self.names if name not in present]
        if unknown:
            near = difflib.get_close_matches(unknown[0], missing or self.names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The model takes {_listed(self.names)}."
            raise InvalidSpecError(f"there is no column {unknown[0]!r}", where=where, mend=hint)
        if missing:
            raise InvalidSpecError(
                f"column {missing[0]!r} is missing" + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
                where=where,
                mend=f"The model takes {_listed(self.names)}; send null where a value is not known.",
            )

    def _row(self, row: object, where: str, also: frozenset[str]) -> Sequence[object]:
        if isinstance(row, list):
            if len(row) != self.width:
                raise InvalidSpecError(
                    f"the row has {len(row)} values, the model takes {self.width}",
                    where=where,
                    mend=f"Send {_listed(self.names)}, in this order.",
                )
            return row
        if isinstance(row, dict):
            if row.keys() != self._known:
                self.check_names(row.keys(), where=where, also=also)
            return [row[name] for name in self.names]
        if self.width == 1:
            return [row]
        raise InvalidSpecError(
            f"the row is {_called(row)}", where=where, mend=f"Send a list or an object with {_listed(self.names)}."
        )


def _numbers_of(given: NDArray[np.generic], name: str, where: str) -> Numbers:
    if given.dtype.kind in "fiub":
        return given.astype(np.float64)
    values = given.tolist()
    if not _NUMBER_TYPES.issuperset(map(type, values)):
        wrong = next(value for value in values if type(value) not in _NUMBER_TYPES)
        raise InvalidSpecError(
            f"column {name!r} holds numbers, not {_called(wrong)}",
            where=where,
            mend="Send a number, or null where it is not known.",
        )
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise InvalidSpecError(
            f"column {name!r} holds a number that is too large", where=where, mend="Send at most 1e308."
        ) from error


def _texts_of(given: NDArray[np.generic], name: str, where: str) -> Texts:
    texts = np.empty(len(given), dtype=object)
    for place, value in enumerate(given.tolist()):
        if isinstance(value, str) or value is None:
            texts[place] = value
        elif isinstance(value, bool | int | float):
            texts[place] = None if value != value else as_text(value)
        else:
            raise InvalidSpecError(
                f"column {name!r} holds a category, not {_called(value)}",
                where=where,
                mend="Send a text, or null where it is not known.",
            )
    return texts


def _finite(numbers: Numbers, names: Sequence[str], where: str) -> Numbers:
    # The quickest look at all of them; for a few, Python is quicker than NumPy.
    if math.isfinite(sum(numbers.ravel().tolist()) if numbers.size <= _FEW else np.add.reduce(numbers, axis=None)):
        return numbers
    infinite = np.isinf(numbers)
    if infinite.any():
        name = names[int(np.argmax(infinite.any(axis=0)))]
        raise InvalidSpecError(
            f"column {name!r} holds an infinite number", where=where, mend="Send null where a value is not known."
        )
    return numbers


def _called(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, bool | int | float):
        return f"the value {value}"
    kinds = {list: "a list", dict: "an object", type(None): "null", bytes: "raw bytes"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{len(names)} columns ({shown}{', …' if len(names) > 12 else ''})"
