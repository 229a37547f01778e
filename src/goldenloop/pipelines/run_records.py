"""What people do with runs beside starting them: find them, put them away, bring them back, delete them, try them again.

A deleted run is hidden at once and removed a little later (`purge`), when none of its steps can still report anything.
"""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.engine import RowMapping

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError, RefusedError
from goldenloop.core.phases import RunState
from goldenloop.pipelines.experiments import ARCHIVED, AVAILABLE, DELETED, Experiment, get_experiment
from goldenloop.pipelines.retries import restart_run
from goldenloop.pipelines.runs import UNFINISHED, cancel_run
from goldenloop.store.database import Transaction
from goldenloop.store.paging import Listing
from goldenloop.store.tables import runs

PURGE_AFTER_US = 60 * SECOND  # a step's processes are ended long before
PURGED_AT_ONCE = 50

LISTING = Listing(
    identity=runs.c.id,
    fields={
        "run_id": runs.c.id,
        "id": runs.c.id,
        "display_name": runs.c.name,
        "name": runs.c.name,
        "description": runs.c.description,
        "namespace": runs.c.namespace,
        "experiment_id": runs.c.experiment_id,
        "pipeline_id": runs.c.pipeline_id,
        "pipeline_version_id": runs.c.version_id,
        "recurring_run_id": runs.c.started_by,
        "state": runs.c.state,
        "status": runs.c.state,
        "storage_state": runs.c.storage_state,
        "created_at": runs.c.created_us,
        "scheduled_at": runs.c.scheduled_us,
        "finished_at": runs.c.finished_us,
    },
    moments=frozenset({"created_at", "scheduled_at", "finished_at"}),
)
SHOWN = runs.c.storage_state != DELETED
_RETRIED = (RunState.FAILED.value, RunState.CANCELED.value)


def get_run(transaction: Transaction, run_id: str) -> RowMapping:
    """The row of a run. Raises NotFoundError, also for one that was deleted."""
    row = transaction.execute(select(runs).where(runs.c.id == run_id, SHOWN)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}", mend="List the runs for their ids.")
    return row


def archive_run(transaction: Transaction, run_id: str) -> None:
    """Put a run away; it goes on if it was going on. Raises NotFoundError."""
    get_run(transaction, run_id)
    transaction.execute(update(runs).where(runs.c.id == run_id).values(storage_state=ARCHIVED))


def unarchive_run(transaction: Transaction, run_id: str) -> None:
    """Bring a run back. Raises NotFoundError, InvalidSpecError while its experiment is archived."""
    experiment_id = get_run(transaction, run_id)["experiment_id"]
    experiment = _experiment(transaction, experiment_id)
    if experiment is not None and experiment.storage_state == ARCHIVED:
        raise InvalidSpecError(
            f"its experiment {experiment.name!r} is archived", where="run_id", mend="Take the experiment out first."
        )
    transaction.execute(update(runs).where(runs.c.id == run_id).values(storage_state=AVAILABLE))


def delete_run(transaction: Transaction, run_id: str, *, now_us: int) -> None:
    """Hide a run for good, ending it if it goes on. Raises NotFoundError, RefusedError for a run of a loop."""
    row = get_run(transaction, run_id)
    if row["loop"] is not None:
        raise RefusedError(
            f"the run belongs to Loop {row['loop']!r}, whose versions were made by it",
            mend="Archive it instead; deleting the Loop leaves its history on record.",
        )
    cancel_run(transaction, run_id, now_us=now_us)
    # Its cause stays known, so that a cause that comes again does not start a second run.
    transaction.execute(update(runs).where(runs.c.id == run_id).values(storage_state=DELETED))


def purge(transaction: Transaction, *, now_us: int) -> list[str]:
    """Remove runs that were deleted and ended a while ago; return their ids, whose folders may go."""
    # A schedule and a trigger remember their causes themselves; who else names a cause relies on the row.
    forgettable = runs.c.cause_key.is_(None) | runs.c.started_by.is_not(None)
    ended = runs.c.finished_us < now_us - PURGE_AFTER_US
    query = select(runs.c.id).where(runs.c.storage_state == DELETED, ended, forgettable).limit(PURGED_AT_ONCE)
    gone = list(transaction.execute(query).scalars())
    if gone:
        transaction.execute(delete(runs).where(runs.c.id.in_(gone)))
    return gone


def retry_run(transaction: Transaction, run_id: str) -> None:
    """Let a run that failed or was canceled go on from its last finished step: what did not succeed is tried again.

    Raises NotFoundError, InvalidSpecError for a run that succeeded, ConflictError for one that goes on.
    """
    state = get_run(transaction, run_id)["state"]
    if state in UNFINISHED:
        raise ConflictError("the run is going on", where="run_id", mend="Terminate it first, or wait for its end.")
    if state not in _RETRIED:
        raise InvalidSpecError(f"the run has {state.lower()}", where="run_id", mend="Start a new run.")
    restart_run(transaction, run_id)


def _experiment(transaction: Transaction, identity: str | None) -> Experiment | None:
    """The experiment of a run, None where it has none or it was deleted."""
    try:
        return get_experiment(transaction, identity) if identity else None
    except NotFoundError:
        return None
