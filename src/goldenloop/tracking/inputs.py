"""What runs read and made: datasets, by name and digest, and logged models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from sqlalchemy import select

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.mlflow.limits import (
    LONGEST_PROFILE,
    LONGEST_SCHEMA,
    LONGEST_TEXT,
    check_integer,
    check_length,
)
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tracking_tables import run_models, tracked_datasets, tracked_inputs
from goldenloop.tracking.runs import active_run
from goldenloop.tracking.values import Pairs, parts_of

INPUT, OUTPUT = "INPUT", "OUTPUT"
_CONTEXT_TAG = "mlflow.data.context"
_LENGTHS = {
    "name": 500,
    "digest": 36,
    "source_type": 1_000,
    "source": LONGEST_TEXT,
    "schema": LONGEST_SCHEMA,
    "profile": LONGEST_PROFILE,
}


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Data as a client describes it."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class DatasetInput(msgspec.Struct, frozen=True, kw_only=True):
    """Data that a run read, and what for: a tag says the context."""

    dataset: Dataset
    tags: Pairs = {}


class RunModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model that a run read or made."""

    direction: str
    model_id: str
    step: int = 0


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that runs of an experiment read."""

    experiment_id: int
    name: str
    digest: str
    context: str | None


def log_inputs(transaction: Transaction, run_id: str, inputs: Sequence[DatasetInput]) -> None:
    """Keep what a run read. The same dataset again changes nothing. Raises NotFoundError, InvalidSpecError."""
    experiment_id = active_run(transaction, run_id).experiment_id
    for place, given in enumerate(inputs):
        where = f"datasets[{place}].dataset"
        if not given.dataset.name or not given.dataset.digest:
            raise InvalidSpecError("a dataset has a name and a digest", where=where, mend="Give both.")
        for name, limit in _LENGTHS.items():
            check_length(str(getattr(given.dataset, name)), limit, where=f"{where}.{name}")
        for key, value in given.tags.items():
            check_length(key, 255, where=f"datasets[{place}].tags")
            check_length(value, 500, where=f"datasets[{place}].tags.{key[:50]}")
    for given in inputs:
        values = {"experiment_id": experiment_id, **msgspec.structs.asdict(given.dataset)}
        transaction.execute(insert_ignoring(transaction, tracked_datasets).values(**values))
        table = tracked_datasets
        identity = select(table.c.id).where(
            table.c.experiment_id == experiment_id,
            table.c.name == given.dataset.name,
            table.c.digest == given.dataset.digest,
        )
        link = {
            "run_id": run_id,
            "dataset_id": transaction.execute(identity).scalar_one(),
            "context": given.tags.get(_CONTEXT_TAG),
            "tags": given.tags,
        }
        transaction.execute(insert_ignoring(transaction, tracked_inputs).values(**link))


def log_run_models(transaction: Transaction, run_id: str, models: Sequence[RunModel]) -> None:
    """Keep which logged models a run read or made. Raises NotFoundError, InvalidSpecError."""
    active_run(transaction, run_id)
    for model in models:
        check_length(model.model_id, 40, where="models.model_id")
        check_integer(model.step, where="models.step")
    rows = [{"run_id": run_id, **msgspec.structs.asdict(model)} for model in models]
    if rows:
        transaction.execute(insert_ignoring(transaction, run_models), rows)


def inputs_of(transaction: Transaction, run_ids: Sequence[str]) -> dict[str, list[DatasetInput]]:
    """What runs read, by run."""
    found: dict[str, list[DatasetInput]] = defaultdict(list)
    joined = tracked_inputs.join(tracked_datasets, tracked_datasets.c.id == tracked_inputs.c.dataset_id)
    columns = [tracked_datasets.c[name] for name in Dataset.__struct_fields__]
    for some in parts_of(run_ids):
        query = select(tracked_inputs.c.run_id, tracked_inputs.c.tags, *columns).select_from(joined)
        query = query.where(tracked_inputs.c.run_id.in_(some)).order_by(tracked_datasets.c.id)
        for run_id, tags, *values in transaction.execute(query):
            dataset = Dataset(**dict(zip(Dataset.__struct_fields__, values, strict=True)))
            found[run_id].append(DatasetInput(dataset=dataset, tags=tags))
    return found


def run_models_of(transaction: Transaction, run_ids: Sequence[str]) -> dict[str, list[RunModel]]:
    """Which logged models runs read and made, by run."""
    found: dict[str, list[RunModel]] = defaultdict(list)
    table = run_models
    for some in parts_of(run_ids):
        query = select(table.c.run_id, table.c.direction, table.c.model_id, table.c.step).where(
            table.c.run_id.in_(some)
        )
        for run_id, direction, model_id, step in transaction.execute(query.order_by(table.c.step, table.c.model_id)):
            found[run_id].append(RunModel(direction=direction, model_id=model_id, step=step))
    return found


def search_datasets(transaction: Transaction, experiment_ids: Sequence[int], *, limit: int) -> list[DatasetSummary]:
    """The datasets that runs of these experiments read, by name."""
    table = tracked_datasets
    query = (
        select(table.c.experiment_id, table.c.name, table.c.digest, tracked_inputs.c.context)
        .join(tracked_inputs, tracked_inputs.c.dataset_id == table.c.id)
        .where(table.c.experiment_id.in_(experiment_ids))
        .distinct()
        .order_by(table.c.name, table.c.digest)
        .limit(limit)
    )
    return [
        DatasetSummary(experiment_id=experiment_id, name=name, digest=digest, context=context)
        for experiment_id, name, digest, context in transaction.execute(query)
    ]
