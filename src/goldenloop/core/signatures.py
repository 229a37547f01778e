"""What a model takes and gives: the contract between training, serving, monitors and traces."""

from __future__ import annotations

from typing import Literal

import msgspec

ColumnKind = Literal["number", "category"]
Task = Literal["classification", "regression"]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a model, by name. A `category` travels as text; a `number` as a 64-bit float, NaN where missing."""

    name: str
    kind: ColumnKind


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs in the model's order, the task, and for a classifier its classes in the order of its probabilities.

    Classes are kept as text; `class_kind` says how they are written on the wire.
    """

    inputs: tuple[Column, ...]
    task: Task
    classes: tuple[str, ...] = ()
    class_kind: Literal["text", "integer", "number", "boolean"] = "text"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return tuple(column.name for column in self.inputs)


def as_text(value: str | float | bool) -> str:
    """Return how a category or a class is written: text as it is, truths as true and false, whole numbers without a point.

    >>> as_text(1.0), as_text(1), as_text(True), as_text(0.5), as_text("UP")
    ('1', '1', 'true', '0.5', 'UP')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
