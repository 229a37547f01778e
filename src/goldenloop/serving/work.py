"""What a version is given to score, in one of three forms, and how the work of several requests becomes one call and is taken apart again.

form      work                                    result
table     Batch: rows of the signature's columns  one Answer a row
tensors   TensorWork: arrays by name              arrays by name
code      CodeWork: a document and its headers    whatever the user's class gives
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from goldenloop.payloads.records import Answer
from goldenloop.standards.open_inference.tensors import Array
from goldenloop.standards.tabular import Batch

Arrays: TypeAlias = Mapping[str, Array]
Result: TypeAlias = "tuple[Answer, ...] | Arrays | Document"


class TensorWork(msgspec.Struct, frozen=True, eq=False):
    """Tensors by name. `rows` is the size of the first dimension, or 1 where the model does not count rows."""

    rows: int
    arrays: Arrays


class CodeWork(msgspec.Struct, frozen=True, eq=False):
    """What a class of the user's own is given: a V1 or V2 document with arrays in it, and the headers of the request."""

    rows: int
    protocol: Literal["v1", "v2"]
    document: Mapping[str, object]
    headers: Mapping[str, str]


class Document(msgspec.Struct, frozen=True, eq=False):
    """What a class of the user's own gave."""

    content: object


Work: TypeAlias = Batch | TensorWork | CodeWork


def joined(works: Sequence[Work]) -> Work:
    """Return the rows of all works, one after the other; they must be of one form and of the same names and types."""
    first = works[0]
    if len(works) == 1 or isinstance(first, CodeWork):
        return first
    if isinstance(first, Batch):
        return Batch.joined(works)  # type: ignore[arg-type]  # of one form
    arrays = {
        name: np.concatenate([work.arrays[name] for work in works])  # type: ignore[union-attr]  # of one form
        for name in first.arrays
    }
    return TensorWork(sum(work.rows for work in works), arrays)


def parts(result: Result, counts: Sequence[int]) -> list[Result]:
    """Take a result apart into those of `counts` rows each."""
    if len(counts) == 1 or isinstance(result, Document):
        return [result]
    made: list[Result] = []
    start = 0
    for count in counts:
        end = start + count
        if isinstance(result, tuple):
            made.append(result[start:end])
        else:
            made.append({name: array[start:end] for name, array in result.items()})
        start = end
    return made


def goes_together(one: Work, other: Work) -> bool:
    """Whether two works of one version may be scored in one call."""
    if isinstance(one, Batch):
        return True
    if isinstance(one, TensorWork) and isinstance(other, TensorWork):
        return one.arrays.keys() == other.arrays.keys() and all(
            array.ndim > 0
            and array.dtype == other.arrays[name].dtype
            and array.shape[1:] == other.arrays[name].shape[1:]
            for name, array in one.arrays.items()
        )
    return False
