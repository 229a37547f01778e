"""What control asks of its jobs, and what they answer. Light to import: control reads these records and never does the work itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.control.memory import Choice
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import Signature, Task
from goldenloop.features.schema import Schema
from goldenloop.monitors.windows import WindowSize
from goldenloop.payloads.records import Value
from goldenloop.stats.attributions import Attribution


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """What to prepare. `schema` is that of the first run, None for the first run itself; `logged` are labelled rows from the log."""

    source: str | None
    label: str
    timestamp: str | None
    subject: str | None
    protected: tuple[str, ...]
    task: Literal["auto", "classification", "regression"]
    metric: str
    window: str
    windows_size: int | str
    schema: Schema | None
    logged: str | None
    until_us: int | None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What was prepared: files in the job's folder, what the columns mean and why, and the content's identity."""

    schema: Schema
    task: Task
    metric: str
    label: str
    timestamp: str
    choices: dict[str, Choice]
    size: WindowSize
    data: str
    evaluation: str
    history: str | None
    data_version: JsonObject
    trained_until_us: int | None


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """What to assess. `champion` is the folder of the served form that answers now, None where none does."""

    model: str
    data: str
    evaluation: str
    history: str | None
    schema: Schema
    size: WindowSize
    span_us: int | None  # the loop's data window, None for all of the past
    champion: str | None
    margin: float
    protected: tuple[str, ...]


class Assessed(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict and what it rests on. `folder` is the served form; `digest` that of its model."""

    verdict: Verdict
    reason: str
    evidence: JsonObject
    folder: str
    digest: str
    signature: Signature
    conversion: JsonObject
    metrics: JsonObject
    expected_loss: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What to explain: a row as it was logged, and the answer that went out."""

    folder: str
    row: dict[str, Value]
    answer: str | float


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """Contributions, largest first, to the score of the answer that was given: its probability, or the value.

    They add up to `score` less `usual`, the mean over the background rows.
    """

    attributions: tuple[Attribution, ...]
    score: float
    usual: float
    of: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stream (Parquet), where it goes live, and how the loop cuts time. `estimator` is a file of the loop's own first run."""

    stream: str
    estimator: str
    first_version: str  # the folder of its served form
    schema: Schema
    metric: str
    live_from_us: int
    window_us: int
    span_us: int | None
    delay_us: int
