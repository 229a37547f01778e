"""From logged rows to the columns that monitors look at, whatever the rows hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.signatures import Signature, as_text
from goldenloop.monitors.catalogue.base import Window
from goldenloop.monitors.reference import Columns
from goldenloop.payloads.ledger import Rows
from goldenloop.payloads.records import Answer, Value


def window_of(
    rows: Rows, champion: str, signature: Signature, *, start_us: int, end_us: int, loss_scale: float = 1.0
) -> Window:
    """The rows as a window, with the answers that decisions rest on."""
    columns, absent, unreadable = read_columns(rows.columns, len(rows), signature)
    return Window(
        start_us=start_us,
        end_us=end_us,
        signature=signature,
        event_us=rows.event_us,
        columns=columns,
        answers=judged(rows, champion)[0],
        labels=rows.labels,
        delivered=given(rows),
        loss_scale=loss_scale,
        ids=rows.ids,
        places=rows.places,
        latency_ms=rows.latency_us / 1_000,
        failed=int(rows.failed.sum()),
        absent=absent,
        unreadable=unreadable,
    )


def judged(rows: Rows, champion: str) -> tuple[list[Answer | None], list[str]]:
    """The answers that decisions rest on, and whose they are: the champion's own where it scored the row, else the one that went out.

    The champion scores every request, also those that a challenger answers, so that nothing depends on how requests were routed.
    """
    own = rows.answers.get(champion, [None] * len(rows))
    answers = [mine if mine is not None else other for mine, other in zip(own, given(rows), strict=True)]
    versions = [champion if mine is not None else version for mine, version in zip(own, rows.answered_by, strict=True)]
    return answers, versions


def given(rows: Rows) -> list[Answer | None]:
    """The answers that went out."""
    return [
        rows.answers[version][place] if version in rows.answers else None
        for place, version in enumerate(rows.answered_by)
    ]


def read_columns(
    logged: dict[str, list[Value]], rows: int, signature: Signature
) -> tuple[Columns, tuple[str, ...], dict[str, int]]:
    """The inputs as arrays, those that no row had, and how many values of each were of another type.

    Numbers are float64 with NaN, categories text with "" where missing. What is no number counts as missing in a column of numbers.
    """
    columns: Columns = {}
    absent: list[str] = []
    unreadable: dict[str, int] = {}
    nothing: list[Value] = [None] * rows
    for column in signature.inputs:
        values = logged.get(column.name)
        if values is None:
            values = nothing
            if rows:
                absent.append(column.name)
        if column.kind == "category":
            columns[column.name] = _texts(values)
            continue
        try:
            columns[column.name] = np.array(values, dtype=np.float64)  # None becomes NaN
        except (TypeError, ValueError, OverflowError):
            columns[column.name], unreadable[column.name] = _readable(values)
    return columns, tuple(absent), unreadable


def _texts(values: Sequence[Value]) -> NDArray[np.object_]:
    made = np.empty(len(values), dtype=object)
    made[:] = [
        value if isinstance(value, str) else "" if value is None or value != value else as_text(value)
        for value in values
    ]
    return made


def _readable(values: Sequence[Value]) -> tuple[NDArray[np.float64], int]:
    """The numbers among the values, NaN for the others, and how many of these are not simply missing."""
    made = np.full(len(values), np.nan)
    wrong = 0
    for place, value in enumerate(values):
        if value is None:
            continue
        try:
            made[place] = float(value)
        except (TypeError, ValueError, OverflowError):
            wrong += 1
    return made, wrong
