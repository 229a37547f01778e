"""KFP's experiments: names under which runs are grouped. Each function works inside its caller's transaction.

An archived experiment takes its runs with it and switches off its recurring runs; what is taken out of the archive again comes
alone, as in KFP. Deleting one leaves its runs.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, select, update

from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.store.database import Transaction, insert_ignoring, record_of
from goldenloop.store.paging import Listing
from goldenloop.store.tables import experiments, recurring_runs, runs

AVAILABLE, ARCHIVED = "AVAILABLE", "ARCHIVED"
DELETED = "DELETED"  # of runs only: no longer shown, and soon gone
DEFAULT_NAME = "Default"
LONGEST_NAME = 253

LISTING = Listing(
    identity=experiments.c.id,
    fields={
        "experiment_id": experiments.c.id,
        "id": experiments.c.id,
        "display_name": experiments.c.name,
        "name": experiments.c.name,
        "description": experiments.c.description,
        "namespace": experiments.c.namespace,
        "storage_state": experiments.c.storage_state,
        "created_at": experiments.c.created_us,
        "last_run_created_at": experiments.c.last_run_us,
    },
    moments=frozenset({"created_at", "last_run_created_at"}),
)


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `experiments`."""

    id: str
    namespace: str
    name: str
    description: str
    storage_state: str
    created_us: int
    last_run_us: int | None


def create_experiment(
    transaction: Transaction, *, namespace: str, name: str, description: str, now_us: int
) -> Experiment:
    """Make an experiment. Raises InvalidSpecError for a name that cannot be one, ConflictError for one that is taken."""
    check_display_name(name, where="experiment.display_name")
    made = Experiment(
        id=uuid7(),
        namespace=namespace,
        name=name,
        description=description,
        storage_state=AVAILABLE,
        created_us=now_us,
        last_run_us=None,
    )
    if transaction.execute(insert_ignoring(transaction, experiments).values(**msgspec.to_builtins(made))).rowcount == 0:
        raise ConflictError(
            f"there is an experiment {name!r} in {namespace!r} already",
            where="experiment.display_name",
            mend="Get it by its name, or choose another one.",
        )
    return made


def get_experiment(transaction: Transaction, identity: str) -> Experiment:
    """The experiment with this id. Raises NotFoundError."""
    row = transaction.execute(select(experiments).where(experiments.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no experiment {identity}", mend="List the experiments for their ids.")
    return record_of(row, Experiment)


def default_experiment(transaction: Transaction, namespace: str, *, now_us: int) -> Experiment:
    """The experiment of runs that name none; made when it is first needed."""
    return named_experiment(transaction, namespace, DEFAULT_NAME, now_us=now_us)


def named_experiment(transaction: Transaction, namespace: str, name: str, *, now_us: int) -> Experiment:
    """The experiment of this name, made if it is not there."""
    query = select(experiments).where(experiments.c.namespace == namespace, experiments.c.name == name)
    row = transaction.execute(query).first()
    if row is not None:
        return record_of(row, Experiment)
    return create_experiment(transaction, namespace=namespace, name=name, description="", now_us=now_us)


def archive_experiment(transaction: Transaction, identity: str, *, now_us: int) -> None:
    """Archive an experiment with its runs, and switch off its recurring runs. Raises NotFoundError."""
    get_experiment(transaction, identity)
    transaction.execute(update(experiments).where(experiments.c.id == identity).values(storage_state=ARCHIVED))
    mine = (runs.c.experiment_id == identity, runs.c.storage_state == AVAILABLE)
    transaction.execute(update(runs).where(*mine).values(storage_state=ARCHIVED))
    schedules = (recurring_runs.c.experiment_id == identity, recurring_runs.c.enabled)
    transaction.execute(update(recurring_runs).where(*schedules).values(enabled=False, updated_us=now_us))


def unarchive_experiment(transaction: Transaction, identity: str) -> None:
    """Take an experiment out of the archive. Raises NotFoundError."""
    get_experiment(transaction, identity)
    transaction.execute(update(experiments).where(experiments.c.id == identity).values(storage_state=AVAILABLE))


def delete_experiment(transaction: Transaction, identity: str) -> None:
    """Delete an experiment; its runs stay. Raises NotFoundError, InvalidSpecError for the default one."""
    if get_experiment(transaction, identity).name == DEFAULT_NAME:
        raise InvalidSpecError(
            "the default experiment cannot be deleted",
            where="experiment_id",
            mend="Archive or delete its runs instead.",
        )
    transaction.execute(delete(experiments).where(experiments.c.id == identity))


def check_display_name(name: str, *, where: str) -> None:
    """Raise InvalidSpecError for a name that is empty, blank or too long."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise InvalidSpecError(
            f"{name[:40]!r} is not a name", where=where, mend=f"Give a text of 1 to {LONGEST_NAME} characters."
        )
