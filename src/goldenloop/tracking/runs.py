"""Runs of training code: who, when, how it went, and what was logged in it. A deleted run keeps what it has, and can be restored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Row, Select, bindparam, insert, select, tuple_, update

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.standards.mlflow.filters import Entity, Vocabulary
from goldenloop.standards.mlflow.limits import (
    LONGEST_PARAM,
    LONGEST_TAG,
    check_integer,
    check_key,
    check_length,
)
from goldenloop.store.database import Transaction
from goldenloop.store.tracking_tables import tracked_latest_metrics, tracked_metrics, tracked_runs
from goldenloop.tracking.experiments import ACTIVE, View, active_experiment, new_id
from goldenloop.tracking.names import random_name
from goldenloop.tracking.searching import Question, Searchable, search
from goldenloop.tracking.values import (
    RUN,
    Metric,
    Pairs,
    delete_tag,
    latest_metrics,
    log_metrics,
    log_params,
    params_of,
    set_tags,
    tags_of,
)

STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
_NAME_TAG, _USER_TAG = "mlflow.runName", "mlflow.user"
_table = tracked_runs

HistoryPlace: TypeAlias = tuple[int, int, float, bool]  # time, step, value (0 for none), and whether it is no number


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `tracked_runs`."""

    id: str
    experiment_id: int
    name: str
    user: str
    status: str
    lifecycle: str
    start_ms: int
    end_ms: int | None
    artifact_uri: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run with what counts of what was logged in it."""

    info: RunInfo
    metrics: list[Metric]
    params: Pairs
    tags: Pairs


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a new run. Without a name it gets one."""

    experiment_id: int
    name: str = ""
    user: str = ""
    start_ms: int
    tags: Pairs = {}


SEARCHABLE = Searchable(
    vocabulary=Vocabulary(
        texts=frozenset({"run_id", "run_name", "user_id", "status", "artifact_uri"}),
        numbers=frozenset({"start_time", "end_time"}),
        entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG, Entity.DATASET}),
        renamed={
            "created": "start_time", "Created": "start_time", "run name": "run_name", "Run name": "run_name", "Run Name": "run_name",
        },
    ),
    attributes={
        "run_id": _table.c.id,
        "run_name": _table.c.name,
        "user_id": _table.c.user,
        "status": _table.c.status,
        "artifact_uri": _table.c.artifact_uri,
        "start_time": _table.c.start_ms,
        "end_time": _table.c.end_ms,
    },
    tag_kind=RUN,
    owner=_table.c.id,
    default=((_table.c.start_ms, True), (_table.c.id, True)),
    metrics=tracked_latest_metrics,
    measured="run_id",
    run=_table.c.id,
    largest_page=50_000,
)  # fmt: skip
_INFO: Select[tuple[object, ...]] = select(*(_table.c[name] for name in RunInfo.__struct_fields__))
_ONE = _INFO.where(_table.c.id == bindparam("run_id"))  # made once: making a statement costs more than asking it


def create_run(transaction: Transaction, new: NewRun) -> Run:
    """Begin a run. Raises NotFoundError, InvalidSpecError."""
    experiment = active_experiment(transaction, new.experiment_id)
    name = new.name or new.tags.get(_NAME_TAG, "") or random_name()
    if new.name and new.tags.get(_NAME_TAG, new.name) != new.name:
        raise InvalidSpecError(
            f"the run is called {new.name[:100]!r} and in the tag {_NAME_TAG} otherwise",
            where="run_name",
            mend="Give one.",
        )
    tags = {**new.tags, _NAME_TAG: name}
    check_values({}, tags)
    check_integer(new.start_ms, where="start_time")
    identity = new_id()
    info = RunInfo(
        id=identity,
        experiment_id=experiment.id,
        name=name,
        user=(new.user or new.tags.get(_USER_TAG, ""))[:256],
        status="RUNNING",
        lifecycle=ACTIVE,
        start_ms=new.start_ms,
        end_ms=None,
        artifact_uri=f"{experiment.artifact_location.rstrip('/')}/{identity}/artifacts",
    )
    transaction.execute(insert(_table).values(**msgspec.structs.asdict(info)))
    set_tags(transaction, RUN, identity, tags)
    return Run(info=info, metrics=[], params={}, tags=tags)


def get_info(transaction: Transaction, run_id: str) -> RunInfo:
    """The run itself, deleted or not. Raises NotFoundError."""
    row = transaction.execute(_ONE, {"run_id": run_id}).first()
    if row is None:
        raise NotFoundError(f"there is no run {run_id[:100]!r}", where="run_id", mend="Search the runs.")
    return _info(row)


def active_run(transaction: Transaction, run_id: str) -> RunInfo:
    """The run, to be written in. Raises NotFoundError, InvalidSpecError for a deleted one."""
    info = get_info(transaction, run_id)
    if info.lifecycle != ACTIVE:
        raise InvalidSpecError(f"the run {run_id} is deleted", where="run_id", mend="Restore it first.")
    return info


def get_run(transaction: Transaction, run_id: str) -> Run:
    """The run with its values. Raises NotFoundError."""
    return with_values(transaction, [get_info(transaction, run_id)])[0]


def search_runs(
    transaction: Transaction, experiment_ids: Sequence[int], question: Question, view: View
) -> tuple[list[Run], str]:
    """A page of the runs of these experiments, newest first unless the question says otherwise. Raises InvalidSpecError."""
    # One value alone is compared as such: then the index gives the order as well, and a page needs no sorting.
    mine, stages = _table.c.experiment_id, view.lifecycles
    where: list[ColumnElement[bool]] = [
        mine == experiment_ids[0] if len(experiment_ids) == 1 else mine.in_(experiment_ids),
        _table.c.lifecycle == stages[0] if len(stages) == 1 else _table.c.lifecycle.in_(stages),
    ]
    scope = f"{view} {sorted(experiment_ids)}"
    found = search(transaction, SEARCHABLE, _INFO, question, where=where, scope=scope)
    return with_values(transaction, [_info(row) for row in found.rows]), found.next_token


def update_run(
    transaction: Transaction, run_id: str, *, status: str | None, end_ms: int | None, name: str | None
) -> RunInfo:
    """Change how it stands, when it ended and what it is called, as far as given. Raises NotFoundError, InvalidSpecError."""
    active_run(transaction, run_id)
    changes: dict[str, object] = {}
    if status is not None:
        if status not in STATUSES:
            raise InvalidSpecError(f"{status!r} is no status", where="status", mend=f"There are {', '.join(STATUSES)}.")
        changes["status"] = status
    if end_ms is not None:
        check_integer(end_ms, where="end_time")
        changes["end_ms"] = end_ms
    if name:
        check_values({}, {_NAME_TAG: name})
        changes["name"] = name
        set_tags(transaction, RUN, run_id, {_NAME_TAG: name})
    if changes:
        transaction.execute(update(_table).where(_table.c.id == run_id).values(**changes))
    return get_info(transaction, run_id)


def move_run(transaction: Transaction, run_id: str, lifecycle: str) -> None:
    """Delete a run, or restore it. Done twice it is done once. Raises NotFoundError."""
    get_info(transaction, run_id)
    transaction.execute(update(_table).where(_table.c.id == run_id).values(lifecycle=lifecycle))


def log_values(
    transaction: Transaction,
    run_id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Pairs | None = None,
    tags: Pairs | None = None,
) -> None:
    """Keep all of it or, where one thing is wrong, nothing. Raises NotFoundError, InvalidSpecError."""
    check_values(params or {}, tags or {})
    for metric in metrics:
        check_key(metric.key, where="metrics", what="metric")
        check_integer(metric.timestamp_ms, where=metric.key)
        check_integer(metric.step, where=metric.key)
    active_run(transaction, run_id)
    log_params(transaction, run_id, params or {})
    log_metrics(transaction, run_id, metrics)
    set_tags(transaction, RUN, run_id, tags or {})
    if tags and tags.get(_NAME_TAG):
        transaction.execute(update(_table).where(_table.c.id == run_id).values(name=tags[_NAME_TAG]))


def untag_run(transaction: Transaction, run_id: str, key: str) -> None:
    """Delete a tag. Raises NotFoundError, InvalidSpecError."""
    active_run(transaction, run_id)
    delete_tag(transaction, RUN, run_id, key)


def metric_history(
    transaction: Transaction, run_id: str, key: str, *, size: int | None = None, after: HistoryPlace | None = None
) -> list[Metric]:
    """All values of a metric by time and step, or so many of them after a place. Raises NotFoundError."""
    get_info(transaction, run_id)
    table = tracked_metrics
    order = (table.c.timestamp_ms, table.c.step, table.c.value, table.c.is_nan)
    query = select(*order).where(table.c.run_id == run_id, table.c.key == key).order_by(*order)
    if after is not None:
        query = query.where(tuple_(*order) > tuple_(*after))
    if size is not None:
        query = query.limit(size)
    return [
        Metric(key=key, value=math.nan if is_nan else value, timestamp_ms=timestamp_ms, step=step)
        for timestamp_ms, step, value, is_nan in transaction.execute(query)
    ]


def check_values(params: Pairs, tags: Pairs) -> None:
    """Refuse names and values past MLflow's limits. Raises InvalidSpecError."""
    for key, value in params.items():
        check_key(key, where="params", what="param")
        check_length(value, LONGEST_PARAM, where=f"params.{key}")
    for key, value in tags.items():
        check_key(key, where="tags", what="tag")
        check_length(value, LONGEST_TAG, where=f"tags.{key}")


def with_values(transaction: Transaction, infos: Sequence[RunInfo]) -> list[Run]:
    """The runs with their values, in as many statements for a thousand as for one."""
    ids = [info.id for info in infos]
    metrics, params = latest_metrics(transaction, ids), params_of(transaction, ids)
    tags = tags_of(transaction, RUN, ids)
    return [
        Run(info=info, metrics=metrics.get(info.id, []), params=params.get(info.id, {}), tags=tags.get(info.id, {}))
        for info in infos
    ]


def _info(row: Row[tuple[object, ...]]) -> RunInfo:
    # The columns come in the order of the fields; a search adds what it sorted by.
    return msgspec.convert(dict(zip(RunInfo.__struct_fields__, row, strict=False)), RunInfo)
