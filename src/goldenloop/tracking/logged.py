"""Logged models: what a run saved as a model, with an id, files, params and the metrics that were measured of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Row, Select, exists, insert, or_, select, update

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.standards.mlflow.filters import Entity, Vocabulary
from goldenloop.standards.mlflow.limits import LONGEST_TEXT, check_length
from goldenloop.store.database import Transaction
from goldenloop.store.tracking_tables import logged_model_metrics, logged_models, registered_models, registered_versions
from goldenloop.tracking.experiments import ACTIVE, DELETED, active_experiment, new_id
from goldenloop.tracking.names import random_name
from goldenloop.tracking.runs import check_values, get_info
from goldenloop.tracking.searching import Question, Searchable, search
from goldenloop.tracking.values import (
    LOGGED_MODEL,
    Metric,
    Pairs,
    delete_tag,
    log_params,
    params_of,
    parts_of,
    set_tags,
    tags_of,
)

STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
_table = logged_models


class LoggedModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `logged_models`."""

    id: str
    experiment_id: int
    name: str
    artifact_uri: str
    status: str
    status_message: str
    model_type: str
    source_run_id: str | None
    lifecycle: str
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of a model, and the run that measured it."""

    run_id: str
    metric: Metric


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model with its values, and the versions that were registered of it, as (model, number)."""

    info: LoggedModelInfo
    params: Pairs
    tags: Pairs
    metrics: list[Measured]
    registrations: list[tuple[str, int]]


class NewLoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a new one."""

    experiment_id: int
    name: str = ""
    model_type: str = ""
    source_run_id: str | None = None
    params: Pairs = {}
    tags: Pairs = {}


SEARCHABLE = Searchable(
    vocabulary=Vocabulary(
        texts=frozenset({"model_id", "name", "model_type", "status", "source_run_id", "artifact_uri"}),
        numbers=frozenset({"creation_timestamp", "last_updated_timestamp", "experiment_id"}),
        entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG}),
        renamed={
            "creation_time": "creation_timestamp", "creation_timestamp_ms": "creation_timestamp",
            "last_updated_timestamp_ms": "last_updated_timestamp",
        },
    ),
    attributes={
        "model_id": _table.c.id,
        "name": _table.c.name,
        "model_type": _table.c.model_type,
        "status": _table.c.status,
        "source_run_id": _table.c.source_run_id,
        "artifact_uri": _table.c.artifact_uri,
        "creation_timestamp": _table.c.created_ms,
        "last_updated_timestamp": _table.c.updated_ms,
        "experiment_id": _table.c.experiment_id,
    },
    tag_kind=LOGGED_MODEL,
    owner=_table.c.id,
    default=((_table.c.created_ms, True), (_table.c.id, True)),
    metrics=logged_model_metrics,
    measured="model_id",
    largest_page=1_000,
)  # fmt: skip
_INFO: Select[tuple[object, ...]] = select(*(_table.c[name] for name in LoggedModelInfo.__struct_fields__))


def create_logged_model(transaction: Transaction, new: NewLoggedModel, *, now_ms: int) -> LoggedModel:
    """Begin a model whose files are still to come. Raises NotFoundError, InvalidSpecError."""
    experiment = active_experiment(transaction, new.experiment_id)
    if new.source_run_id:
        get_info(transaction, new.source_run_id)
    if any(sign in new.name for sign in "/:.%\"'"):
        raise InvalidSpecError(
            f"{new.name[:100]!r} cannot name a model", where="name", mend="Leave out / : . % and quotes."
        )
    check_length(new.name, 500, where="name")
    check_length(new.model_type, 500, where="model_type")
    check_values(new.params, new.tags)
    identity = f"m-{new_id()}"
    info = LoggedModelInfo(
        id=identity,
        experiment_id=experiment.id,
        name=new.name or random_name(),
        artifact_uri=f"{experiment.artifact_location.rstrip('/')}/models/{identity}/artifacts",
        status=STATUSES[0],
        status_message="",
        model_type=new.model_type,
        source_run_id=new.source_run_id or None,
        lifecycle=ACTIVE,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    transaction.execute(insert(_table).values(**msgspec.structs.asdict(info)))
    log_params(transaction, identity, new.params)
    set_tags(transaction, LOGGED_MODEL, identity, new.tags)
    return LoggedModel(info=info, params=new.params, tags=new.tags, metrics=[], registrations=[])


def get_logged_model(transaction: Transaction, model_id: str) -> LoggedModel:
    """The model with its values. Raises NotFoundError, also for a deleted one."""
    row = transaction.execute(_INFO.where(_table.c.id == model_id, _table.c.lifecycle == ACTIVE)).first()
    if row is None:
        raise NotFoundError(f"there is no logged model {model_id[:100]!r}", where="model_id", mend="Search the models.")
    return _with_values(transaction, [_info(row)])[0]


def finish_logged_model(transaction: Transaction, model_id: str, status: str, *, now_ms: int) -> LoggedModel:
    """Say how its upload ended. Raises NotFoundError, InvalidSpecError."""
    if status not in STATUSES:
        raise InvalidSpecError(f"{status!r} is no status", where="status", mend=f"There are {', '.join(STATUSES)}.")
    get_logged_model(transaction, model_id)
    transaction.execute(update(_table).where(_table.c.id == model_id).values(status=status, updated_ms=now_ms))
    return get_logged_model(transaction, model_id)


def delete_logged_model(transaction: Transaction, model_id: str, *, now_ms: int) -> None:
    """Delete a model; its files stay. Raises NotFoundError."""
    get_logged_model(transaction, model_id)
    transaction.execute(update(_table).where(_table.c.id == model_id).values(lifecycle=DELETED, updated_ms=now_ms))


def tag_logged_model(transaction: Transaction, model_id: str, tags: Pairs) -> LoggedModel:
    """Set tags. Raises NotFoundError, InvalidSpecError."""
    check_values({}, tags)
    get_logged_model(transaction, model_id)
    set_tags(transaction, LOGGED_MODEL, model_id, tags)
    return get_logged_model(transaction, model_id)


def untag_logged_model(transaction: Transaction, model_id: str, key: str) -> None:
    """Delete a tag. Raises NotFoundError."""
    get_logged_model(transaction, model_id)
    delete_tag(transaction, LOGGED_MODEL, model_id, key)


def log_model_params(transaction: Transaction, model_id: str, params: Pairs) -> None:
    """Keep params of a model. Raises NotFoundError, InvalidSpecError."""
    check_values(params, {})
    get_logged_model(transaction, model_id)
    log_params(transaction, model_id, params)


def search_logged_models(
    transaction: Transaction, experiment_ids: Sequence[int], question: Question, datasets: Sequence[tuple[str, str]]
) -> tuple[list[LoggedModel], str]:
    """A page of models, newest first; with datasets, given as (name, digest), only what was measured on one. Raises InvalidSpecError."""
    where = [_table.c.experiment_id.in_(experiment_ids), _table.c.lifecycle == ACTIVE]
    if datasets:
        metrics = logged_model_metrics.alias()
        on = []
        for name, digest in datasets:
            check_length(name, LONGEST_TEXT, where="datasets")
            on.append((metrics.c.dataset_name == name) & (metrics.c.dataset_digest == digest if digest else True))
        where.append(exists().where(metrics.c.model_id == _table.c.id, or_(*on)))
    scope = f"{sorted(experiment_ids)} {list(datasets)}"
    found = search(transaction, SEARCHABLE, _INFO, question, where=where, scope=scope)
    return _with_values(transaction, [_info(row) for row in found.rows]), found.next_token


def _with_values(transaction: Transaction, infos: Sequence[LoggedModelInfo]) -> list[LoggedModel]:
    ids = [info.id for info in infos]
    params, tags = params_of(transaction, ids), tags_of(transaction, LOGGED_MODEL, ids)
    metrics, registrations = _metrics_of(transaction, ids), _registrations_of(transaction, ids)
    return [
        LoggedModel(
            info=info,
            params=params[info.id],
            tags=tags[info.id],
            metrics=metrics[info.id],
            registrations=registrations[info.id],
        )
        for info in infos
    ]


def _metrics_of(transaction: Transaction, model_ids: Sequence[str]) -> dict[str, list[Measured]]:
    """The values that count: the newest of each key, dataset and run."""
    table = logged_model_metrics
    newest: dict[tuple[str, ...], tuple[str, Measured]] = {}
    for some in parts_of(model_ids):
        query = select(table).where(table.c.model_id.in_(some)).order_by(table.c.step, table.c.timestamp_ms)
        for row in transaction.execute(query):
            metric = Metric(
                key=row.key,
                value=math.nan if row.is_nan else row.value,
                timestamp_ms=row.timestamp_ms,
                step=row.step,
                model_id=row.model_id,
                dataset_name=row.dataset_name,
                dataset_digest=row.dataset_digest,
            )
            key = (row.model_id, row.key, row.dataset_name, row.dataset_digest, row.run_id)
            newest[key] = (row.model_id, Measured(row.run_id, metric))
    found: dict[str, list[Measured]] = defaultdict(list)
    for model_id, measured in newest.values():
        found[model_id].append(measured)
    return found


def _registrations_of(transaction: Transaction, model_ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    version = registered_versions
    for some in parts_of(model_ids):
        query = select(version.c.logged_model_id, registered_models.c.name, version.c.number)
        query = query.join(registered_models, registered_models.c.id == version.c.model_id)
        for model_id, name, number in transaction.execute(query.where(version.c.logged_model_id.in_(some))):
            found[model_id].append((name, number))
    return found


def _info(row: Row[tuple[object, ...]]) -> LoggedModelInfo:
    values = row._mapping
    return LoggedModelInfo(**{name: values[name] for name in LoggedModelInfo.__struct_fields__})
