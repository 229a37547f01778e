"""What control asks of its jobs, and what they answer. Light to import: control reads these records and never does the work itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.control.memory import Choice
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.core.served import Form, Runtime
from goldenloop.core.signatures import Signature, Task
from goldenloop.features.schema import Schema
from goldenloop.monitors.windows import WindowSize
from goldenloop.payloads.records import Value
from goldenloop.standards.evaluation import EvaluationSpec
from goldenloop.standards.loop import NamedMonitor
from goldenloop.standards.retraining import Retrain


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
    judging: EvaluationSpec = EvaluationSpec()
    custom: tuple[NamedMonitor, ...] = ()  # the user's own monitors, which need a reference too


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


class Remaking(msgspec.Struct, frozen=True, kw_only=True):
    """A version and a model that is to be the same: `served` is the folder of the version's served form, `model` the file that the second
    run made; `data` and `evaluation` are the files that both runs were given.
    """

    served: str
    model: str
    data: str
    evaluation: str
    schema: Schema


class Remade(msgspec.Struct, frozen=True, kw_only=True):
    """How far the second model is the first. `columns` are the digests of the training columns as they lie there now.

    `rows` evaluation rows were answered by both, `alike` of them with the same class, or with the same number within `TOLERANCE`;
    `farthest` is the largest difference, of a probability or of a number in units of the labels' spread.
    """

    digest: str  # of the second model's served form
    columns: dict[str, str]
    rows: int
    alike: int
    farthest: float
    metrics: dict[str, float | None]
    metrics_before: dict[str, float | None]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stream (Parquet), and how the loop cuts it: windows begin at `starts_us`, whose last entry is the end of the last one.

    `estimator` is a file of the loop's own first run. `every` says at which windows the periodic policy retrains. `known_us` says for each
    row when its label became known, where that is not `delay_us` after it.
    """

    stream: str
    estimator: str
    first_version: str  # the folder of its served form
    schema: Schema
    metric: str
    starts_us: tuple[int, ...]
    policy: str = (
        ""  # one of `goldenloop.triggers.policies.NAMES`, tried beside the two, with an instant swap; "" is none
    )
    retrain: Retrain = Retrain()
    every: int = 1
    known_us: tuple[int, ...] | None = None
    span_us: int | None
    delay_us: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where files come from, and into which folder of the model they go; an empty one is the model's own."""

    uri: str
    folder: str = ""


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """A model to fetch, to recognise and to bring into a served form.

    `format` is what the user calls it ("sklearn"), None where it is to be found from the files. `volumes` is the folder in which each
    claim of `pvc://CLAIM/…` is a folder. `trusted` are SHA-256 digests of pickles that an operator accepts. `environment` holds the
    variables that reach the storage (AWS_*, …) and those that choose the class of a user's Python code (CLASS).
    """

    sources: tuple[Source, ...]
    format: str | None = None
    format_version: str | None = None
    volumes: str | None = None
    trusted: tuple[str, ...] = ()
    environment: dict[str, str] = {}


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What was made of it: `folder`, in the job's folder, is the served form (`goldenloop.core.served`), `digest` that of its model.

    `source` says what was fetched: files with their SHA-256 and sizes. `notes` are sentences for the user, such as why a model is not
    converted and how far the converted one was off.
    """

    folder: str
    digest: str
    form: Form
    runtime: Runtime
    format: str
    size_bytes: int
    source: JsonObject = {}
    notes: tuple[str, ...] = ()
