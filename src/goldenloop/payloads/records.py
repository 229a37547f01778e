"""The records of the payload log, and their encoding: MessagePack arrays with a tag, so that a field may be added at the end."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Value: TypeAlias = float | int | str | bool | None

# One row's answer. A classifier gives the class as text and its probabilities in the order of the signature's classes; a regressor
# gives the value and no probabilities.
Answer: TypeAlias = tuple[str | float, tuple[float, ...]]


class Prediction(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """One request: what came, what every version that scored it said, and whose answer went out.

    `answers` maps a version to one answer a row; a version that failed is in `failures` with the reason instead. `rows` holds one
    tuple a row, in the order of `columns`.
    """

    id: str
    alias: str | None
    namespace: str
    service: str
    arrival_us: int
    event_us: int
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    version: str
    reason: str  # why this version: "champion", "canary", "sticky" or "asked"
    answers: dict[str, tuple[Answer, ...]]
    failures: dict[str, str]
    latency_us: int


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
