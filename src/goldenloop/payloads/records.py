"""The records of the payload log, and their encoding: MessagePack arrays with a tag, so that a field may be added at the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Value: TypeAlias = float | int | str | bool | None

# One row's answer. A classifier gives the class as text and its probabilities in the order of the signature's classes; a regressor
# gives the value and no probabilities.
Answer: TypeAlias = tuple[str | float, tuple[float, ...]]


class Prediction(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """One request with rows of a table: what came, what every version that scored it said, and whose answer went out.

    `columns` names those of numbers and then those of texts, as one text of JSON: the same in every record, it is read once. `numbers`
    are their values row by row, float64, little endian, NaN where one is missing: as they were scored, so that nothing is lost and writing
    costs what copying does. `texts` are the others row by row, None where missing. `answers` maps a version to one answer a row; a version
    that failed is in `failures` with the reason instead.
    """

    id: str
    alias: str | None
    namespace: str
    service: str
    arrival_us: int
    event_us: int
    columns: str
    rows: int
    numbers: bytes
    texts: tuple[str | None, ...]
    version: str
    # Why this version: "champion", "canary", "sticky", "baseline" (the champion, beside a canary of the same size), "fallback" (it was
    # the challenger's turn, and the champion answered in its place) or "asked".
    reason: str
    answers: dict[str, tuple[Answer, ...]]
    failures: dict[str, str]
    latency_us: int
    unit: str = (
        ""  # what answers were dealt out by: a digest of the route key; empty where each request stands for itself
    )
    scored_us: dict[str, int] = {}  # how long each version took, where several scored the request

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return names_of(self.columns)

    def values(self, place: int) -> tuple[Value, ...]:
        """One row's values, in the order of `names`."""
        width = len(self.texts) // self.rows
        return (*self.matrix()[place].tolist(), *self.texts[place * width : (place + 1) * width])

    def row(self, place: int) -> dict[str, Value]:
        """The values of one row by column."""
        return dict(zip(self.names, self.values(place), strict=True))

    def matrix(self) -> NDArray[np.float64]:
        """The numbers, [rows, number columns]."""
        return np.frombuffer(self.numbers, dtype="<f8").reshape(self.rows, -1)


def columns_of(names: Sequence[str]) -> str:
    """Names of columns as a record has them."""
    return msgspec.json.encode(names).decode()


@lru_cache(maxsize=1024)
def names_of(columns: str) -> tuple[str, ...]:
    """The names in a record's `columns`."""
    return msgspec.json.decode(columns, type=tuple[str, ...])


# A tensor as the log keeps it: name, datatype, shape, raw bytes as the Open Inference Protocol has them.
LoggedTensor: TypeAlias = tuple[str, str, tuple[int, ...], bytes]


class Exchange(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """One request to a model that takes no table: tensors (images, texts), or a document to a class of the user's own (JSON).

    `answers` maps a version to what it gave; a version that failed is in `failures` with the reason instead.
    """

    id: str
    alias: str | None
    namespace: str
    service: str
    arrival_us: int
    event_us: int
    request: tuple[LoggedTensor, ...] | bytes
    version: str
    reason: str  # as in Prediction
    answers: dict[str, tuple[LoggedTensor, ...] | bytes]
    failures: dict[str, str]
    latency_us: int


class Label(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """The truth about one row of one request, as it became known. `prediction` is our id or the client's alias."""

    prediction: str
    row: int
    label: Value
    observed_us: int | None
    arrival_us: int


Record: TypeAlias = Prediction | Label | Exchange
