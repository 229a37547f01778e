"""Scoring whole tables with a served form: for evaluation and for traces, in processes that serve nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import Answer
from goldenloop.standards.tabular import Batch, Layout

if TYPE_CHECKING:
    import pyarrow

_ROWS_AT_ONCE = 4096


class TableModel(Protocol):
    """A version that scores tables in this process: a graph (`serving.models`), or the saved object (`serving.unconverted`)."""

    signature: Signature
    layout: Layout

    def predict(self, columns: Mapping[str, NDArray[np.generic]], rows: int) -> tuple[Answer, ...]:
        """Score columns by name."""
        ...

    def score(self, batch: Batch) -> tuple[Answer, ...]:
        """Score rows that are laid out as `layout` has them."""
        ...


def score_table(model: TableModel, table: pyarrow.Table) -> tuple[Answer, ...]:
    """Return one answer a row; columns that the model does not take are left out.

    Raises InvalidSpecError for a missing column or one of a wrong type, UnavailableError when the model fails.
    """
    batch = batch_of_table(model.layout, table)
    answers: list[Answer] = []
    for start in range(0, batch.rows, _ROWS_AT_ONCE):
        end = min(start + _ROWS_AT_ONCE, batch.rows)
        answers += model.score(Batch(end - start, batch.numbers[start:end], batch.texts[start:end]))
    return tuple(answers)


def batch_of_table(layout: Layout, table: pyarrow.Table) -> Batch:
    """Return the rows of a table as the layout has them. Raises InvalidSpecError."""
    layout.check_names(table.column_names, where="table", also=frozenset(table.column_names))
    if table.num_rows == 0:
        return Batch(
            0, np.empty((0, len(layout.number_names))), np.empty((0, len(layout.category_names)), dtype=object)
        )
    return layout.from_columns({name: _array(table, name) for name in layout.names}, where="table")


def _array(table: pyarrow.Table, name: str) -> NDArray[np.generic]:
    import pyarrow

    column = table.column(name)
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pyarrow.types.is_decimal(kind):
        column = column.cast(pyarrow.float64())
        kind = column.type
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        values: NDArray[np.generic] = column.to_numpy().astype(np.float64)  # nulls become NaN
        return values
    if not (
        pyarrow.types.is_boolean(kind)
        or pyarrow.types.is_string(kind)
        or pyarrow.types.is_large_string(kind)
        or kind == pyarrow.null()
    ):
        raise InvalidSpecError(
            f"column {name!r} is of type {kind}", where="table", mend="Give numbers, texts or truths."
        )
    made = np.empty(len(column), dtype=object)
    made[:] = column.to_pylist()
    return made
