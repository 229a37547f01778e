"""Records of the payload log as Arrow tables, and back: one row for each predicted row, one for each label.

Rules. A table of predictions holds one service and one list of columns. Its own columns come first (`PREDICTION_FIELDS`), then the
features, numbers before texts; a feature with the name of a column of ours gets an underscore at its end. A missing number is null.
`position` is where the record ended in its segment: a reader that had read so far goes on behind it. Turned back, records are equal to
what they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, TypeAlias, TypedDict

import numpy as np
import pyarrow as pa

from goldenloop.payloads.records import Answer, Label, Prediction, Value

Placed: TypeAlias = tuple[int, Prediction]  # where the record ended in its segment, and the record
_Cells: TypeAlias = dict[str, list[Any]]  # columns by name; what is in each its schema tells


class _Said(TypedDict):
    """What one version said of one row, as a cell of `others` has it."""

    version: str
    answer: str | None
    value: float | None
    probabilities: Sequence[float] | None
    failure: str | None
    scored_us: int | None


_TIME = pa.timestamp("us", tz="UTC")
_PROBABILITIES = pa.list_(pa.float64())
_OTHER = pa.struct(
    [
        ("version", pa.string()),
        ("answer", pa.string()),
        ("value", pa.float64()),
        ("probabilities", _PROBABILITIES),
        ("failure", pa.string()),
        ("scored_us", pa.int64()),
    ]
)
PREDICTION_FIELDS = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int32()),
        ("alias", pa.string()),
        ("event_at", _TIME),
        ("received_at", _TIME),
        ("version", pa.string()),  # whose answer went out
        ("reason", pa.string()),  # why that one
        ("answer", pa.string()),  # a classifier's; null where the answer is a number, or there is none
        ("value", pa.float64()),  # a regressor's
        ("probabilities", _PROBABILITIES),
        ("failure", pa.string()),  # why there is no answer
        ("others", pa.list_(_OTHER)),  # what the other versions said
        ("unit", pa.string()),
        ("latency_us", pa.int64()),
        ("scored_us", pa.int64()),
        ("position", pa.int64()),
    ]
)
LABEL_FIELDS = pa.schema(
    [
        ("prediction", pa.string()),  # an id of ours or a client's
        ("row", pa.int32()),
        ("label", pa.string()),
        ("value", pa.float64()),  # where the label is a number
        ("type", pa.string()),
        ("observed_at", _TIME),
        ("received_at", _TIME),
        ("position", pa.int64()),
    ]
)


def feature_names(names: Sequence[str]) -> list[str]:
    """The names of features as columns of a table."""
    taken = set(PREDICTION_FIELDS.names) | {"namespace", "loop", "date"}
    found = []
    for name in names:
        while name in taken:
            name += "_"
        taken.add(name)
        found.append(name)
    return found


def prediction_table(placed: Sequence[Placed]) -> pa.Table:
    """The rows of these records, in their order; at least one record, all of one service and with the same columns."""
    records = [record for _, record in placed]
    counts = [record.rows for record in records]
    total = sum(counts)

    def each(values: Sequence[object], kind: pa.DataType) -> pa.Array:
        return pa.array(chain.from_iterable([value] * count for value, count in zip(values, counts, strict=True)), kind)

    answers = [_answers(record) for record in records]
    main = list(chain.from_iterable(answers))
    others = list(chain.from_iterable(_others(record) for record in records))
    columns: list[pa.Array] = [
        each([record.id for record in records], pa.string()),
        pa.array(chain.from_iterable(range(count) for count in counts), pa.int32()),
        each([record.alias for record in records], pa.string()),
        each([record.event_us for record in records], _TIME),
        each([record.arrival_us for record in records], _TIME),
        each([record.version for record in records], pa.string()),
        each([record.reason for record in records], pa.string()),
        pa.array([_text(answer) for answer in main], pa.string()),
        pa.array([_number(answer) for answer in main], pa.float64()),
        pa.array([None if answer is None else answer[1] for answer in main], _PROBABILITIES),
        each([record.failures.get(record.version) for record in records], pa.string()),
        pa.array(others, pa.list_(_OTHER)),
        each([record.unit for record in records], pa.string()),
        each([record.latency_us for record in records], pa.int64()),
        each([record.scored_us.get(record.version) for record in records], pa.int64()),
        each([position for position, _ in placed], pa.int64()),
    ]
    numbers = np.frombuffer(b"".join([record.numbers for record in records]), dtype="<f8").reshape(total, -1)
    columns += [pa.array(np.ascontiguousarray(column), from_pandas=True) for column in numbers.T]
    names = records[0].names
    width = len(names) - numbers.shape[1]
    texts = list(chain.from_iterable(record.texts for record in records))
    columns += [pa.array(texts[place::width], pa.string()) for place in range(width)]
    fields = [
        *PREDICTION_FIELDS,
        *(pa.field(n, c.type) for n, c in zip(feature_names(names), columns[len(PREDICTION_FIELDS) :], strict=True)),
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def predictions_of(table: pa.Table, *, namespace: str, service: str, columns: str) -> Iterator[Placed]:
    """The records of which these are the rows. The rows of a record stand together and in their order."""
    if table.num_rows == 0:
        return
    own = {name: _plain(table[name]) for name in PREDICTION_FIELDS.names}
    features = table.columns[len(PREDICTION_FIELDS) :]
    numeric = [column for column in features if pa.types.is_float64(column.type)]
    textual = [column.to_pylist() for column in features if not pa.types.is_float64(column.type)]
    matrix = np.empty((table.num_rows, len(numeric)), dtype="<f8")
    for place, column in enumerate(numeric):
        matrix[:, place] = column.fill_null(np.nan).to_numpy()
    row = np.asarray(own["row"])
    starts = [*np.flatnonzero(row == 0).tolist(), table.num_rows]
    for start, end in pairwise(starts):
        version = own["version"][start]
        answers, failures, scored = _said(own, version, start, end)
        yield (
            own["position"][start],
            Prediction(
                id=own["id"][start],
                alias=own["alias"][start],
                namespace=namespace,
                service=service,
                arrival_us=own["received_at"][start],
                event_us=own["event_at"][start],
                columns=columns,
                rows=end - start,
                numbers=matrix[start:end].tobytes(),
                texts=tuple(texts[place] for place in range(start, end) for texts in textual),
                version=version,
                reason=own["reason"][start],
                answers=answers,
                failures=failures,
                latency_us=own["latency_us"][start],
                unit=own["unit"][start],
                scored_us=scored,
            ),
        )


def label_table(placed: Sequence[tuple[int, Label]]) -> pa.Table:
    """The labels as rows, in their order."""
    labels = [label for _, label in placed]
    return pa.Table.from_arrays(
        [
            pa.array([label.prediction for label in labels], pa.string()),
            pa.array([label.row for label in labels], pa.int32()),
            pa.array([_label_text(label.label) for label in labels], pa.string()),
            pa.array(
                [float(label.label) if isinstance(label.label, int | float) else None for label in labels], pa.float64()
            ),
            pa.array([type(label.label).__name__ for label in labels], pa.string()),
            pa.array([label.observed_us for label in labels], _TIME),
            pa.array([label.arrival_us for label in labels], _TIME),
            pa.array([position for position, _ in placed], pa.int64()),
        ],
        schema=LABEL_FIELDS,
    )


def labels_of(table: pa.Table) -> Iterator[tuple[int, Label]]:
    """The labels of which these are the rows."""
    own = {name: _plain(table[name]) for name in LABEL_FIELDS.names}
    for place in range(table.num_rows):
        yield (
            own["position"][place],
            Label(
                prediction=own["prediction"][place],
                row=own["row"][place],
                label=_label_value(own["type"][place], own["label"][place], own["value"][place]),
                observed_us=own["observed_at"][place],
                arrival_us=own["received_at"][place],
            ),
        )


def _answers(record: Prediction) -> Sequence[Answer | None]:
    return record.answers.get(record.version) or (None,) * record.rows


def _others(record: Prediction) -> Iterator[list[_Said]]:
    """For each row what every other version said of it."""
    versions = [
        version
        for version in dict.fromkeys((*record.answers, *record.failures, *record.scored_us))
        if version != record.version
    ]
    for place in range(record.rows):
        said: list[_Said] = []
        for version in versions:
            given = record.answers.get(version)
            answer = None if given is None else given[place]
            said.append(
                {
                    "version": version,
                    "answer": _text(answer),
                    "value": _number(answer),
                    "probabilities": None if answer is None else answer[1],
                    "failure": record.failures.get(version),
                    "scored_us": record.scored_us.get(version),
                }
            )
        yield said


def _said(
    own: _Cells, version: str, start: int, end: int
) -> tuple[dict[str, tuple[Answer, ...]], dict[str, str], dict[str, int]]:
    """What all versions answered, which failed, and how long each took, of the rows of one record."""
    rows: dict[str, list[_Said]] = {
        version: [
            _Said(
                version=version,
                answer=own["answer"][place],
                value=own["value"][place],
                probabilities=own["probabilities"][place],
                failure=own["failure"][place],
                scored_us=own["scored_us"][place],
            )
            for place in range(start, end)
        ]
    }
    for place in range(start, end):
        for other in own["others"][place]:
            rows.setdefault(other["version"], []).append(other)
    answers: dict[str, tuple[Answer, ...]] = {}
    failures: dict[str, str] = {}
    scored: dict[str, int] = {}
    for name, said in rows.items():
        first = said[0]
        if first["probabilities"] is not None:
            answers[name] = tuple(_answer(each) for each in said)
        if first["failure"] is not None:
            failures[name] = first["failure"]
        if first["scored_us"] is not None:
            scored[name] = first["scored_us"]
    return answers, failures, scored


def _answer(said: _Said) -> Answer:
    value = said["value"] if said["answer"] is None else said["answer"]
    assert value is not None  # one of the two is there where there are probabilities, be it none
    return value, tuple(said["probabilities"] or ())


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """The values as Python has them; moments as microseconds."""
    values: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _text(answer: Answer | None) -> str | None:
    return answer[0] if answer is not None and isinstance(answer[0], str) else None


def _number(answer: Answer | None) -> float | None:
    return None if answer is None or isinstance(answer[0], str) else answer[0]


def _label_text(label: Value) -> str | None:
    if isinstance(label, bool):
        return "true" if label else "false"
    return None if label is None else str(label)


def _label_value(kind: str, text: str | None, value: float | None) -> Value:
    if kind == "bool":
        return text == "true"
    if kind == "int" and text is not None:
        return int(text)  # exact, where a float would not be
    return value if kind == "float" else text
