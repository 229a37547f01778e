"""KFP's recurring runs as records: a pipeline, what it is given, and a schedule. Each function works inside its caller's transaction.

What makes their runs is `goldenloop.control.schedules`. Deleting a recurring run leaves the runs that it made.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, func, select, update

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.experiments import check_display_name, default_experiment, get_experiment
from goldenloop.pipelines.runs import UNFINISHED, checked_parameters
from goldenloop.pipelines.submission import Source, resolve
from goldenloop.standards.kfp_packages import Package
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.standards.schedules import Schedule, check_schedule, next_slot
from goldenloop.store.database import Transaction, record_of
from goldenloop.store.paging import Listing
from goldenloop.store.tables import recurring_runs, runs

MOST_CONCURRENT = 10

LISTING = Listing(
    identity=recurring_runs.c.id,
    fields={
        "recurring_run_id": recurring_runs.c.id,
        "id": recurring_runs.c.id,
        "display_name": recurring_runs.c.name,
        "name": recurring_runs.c.name,
        "description": recurring_runs.c.description,
        "namespace": recurring_runs.c.namespace,
        "experiment_id": recurring_runs.c.experiment_id,
        "pipeline_id": recurring_runs.c.pipeline_id,
        "pipeline_version_id": recurring_runs.c.version_id,
        "created_at": recurring_runs.c.created_us,
        "updated_at": recurring_runs.c.updated_us,
    },
    moments=frozenset({"created_at", "updated_at"}),
)


class RecurringRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A recurring run that is asked for. Without an experiment it goes to the default one of its namespace."""

    namespace: str
    name: str
    source: Source
    schedule: Schedule
    description: str = ""
    experiment_id: str | None = None
    parameters: JsonObject = {}
    settings: JsonObject = {}
    catch_up: bool = True
    max_concurrency: int = 1
    enabled: bool = True


class RecurringRun(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `recurring_runs`."""

    id: str
    namespace: str
    name: str
    description: str
    experiment_id: str
    pipeline_id: str | None
    version_id: str | None
    spec: JsonObject | None
    platform: JsonObject | None
    parameters: JsonObject
    settings: JsonObject | None
    schedule: Schedule
    catch_up: bool
    max_concurrency: int
    enabled: bool
    started: int
    last_slot_us: int | None
    next_slot_us: int | None
    error: str | None
    created_us: int
    updated_us: int

    @property
    def source(self) -> Source:
        if self.spec is not None:
            return Source(package=Package(pipeline=self.spec, platform=self.platform))
        return Source(pipeline_id=self.pipeline_id, version_id=self.version_id)

    def slot(self, *, now_us: int) -> int | None:
        """The slot that is taken next, None where the schedule has ended."""
        return next_slot(
            self.schedule,
            last_us=self.last_slot_us,
            created_us=self.created_us,
            now_us=now_us,
            catch_up=self.catch_up,
        )


def create_recurring_run(transaction: Transaction, request: RecurringRequest, *, now_us: int) -> RecurringRun:
    """Keep a recurring run. Raises InvalidSpecError for a schedule, a pipeline or parameters that cannot be, NotFoundError."""
    check_display_name(request.name, where="recurring_run.display_name")
    check_schedule(request.schedule, where="recurring_run.trigger")
    if not 1 <= request.max_concurrency <= MOST_CONCURRENT:
        raise InvalidSpecError(
            f"{request.max_concurrency} runs at a time",
            where="recurring_run.max_concurrency",
            mend=f"Give 1 to {MOST_CONCURRENT}.",
        )
    found = resolve(transaction, request.source)
    checked_parameters(read_pipeline(found.package.pipeline).root, request.parameters)
    if request.experiment_id:
        experiment = get_experiment(transaction, request.experiment_id)
    else:
        experiment = default_experiment(transaction, request.namespace, now_us=now_us)
    inline = request.source.package
    made = RecurringRun(
        id=uuid7(),
        namespace=experiment.namespace,
        name=request.name,
        description=request.description,
        experiment_id=experiment.id,
        pipeline_id=None if inline is not None else found.pipeline_id,
        version_id=request.source.version_id,
        spec=None if inline is None else inline.pipeline,
        platform=None if inline is None else inline.platform,
        parameters=request.parameters,
        settings=request.settings,
        schedule=request.schedule,
        catch_up=request.catch_up,
        max_concurrency=request.max_concurrency,
        enabled=request.enabled,
        started=0,
        last_slot_us=None,
        next_slot_us=next_slot(request.schedule, last_us=None, created_us=now_us, now_us=now_us),
        error=None,
        created_us=now_us,
        updated_us=now_us,
    )
    transaction.execute(recurring_runs.insert().values(**msgspec.to_builtins(made)))
    return made


def get_recurring_run(transaction: Transaction, identity: str) -> RecurringRun:
    """The recurring run with this id. Raises NotFoundError."""
    row = transaction.execute(select(recurring_runs).where(recurring_runs.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no recurring run {identity}", mend="List the recurring runs for their ids.")
    return record_of(row, RecurringRun)


def switch(transaction: Transaction, identity: str, *, enabled: bool, now_us: int) -> None:
    """Enable or disable a recurring run. What it missed meanwhile it catches up on, if it does. Raises NotFoundError."""
    get_recurring_run(transaction, identity)
    changes = {"enabled": enabled, "updated_us": now_us}
    transaction.execute(update(recurring_runs).where(recurring_runs.c.id == identity).values(**changes))


def delete_recurring_run(transaction: Transaction, identity: str) -> None:
    """Delete a recurring run; the runs that it made stay. Raises NotFoundError."""
    get_recurring_run(transaction, identity)
    transaction.execute(delete(recurring_runs).where(recurring_runs.c.id == identity))


def due(transaction: Transaction, *, now_us: int, limit: int) -> list[RecurringRun]:
    """Enabled recurring runs whose next slot has come and that have room for one more run, the longest waiting first."""
    going_on = (
        select(func.count())
        .where(runs.c.started_by == recurring_runs.c.id, runs.c.state.in_(UNFINISHED))
        .scalar_subquery()
    )
    query = (
        select(recurring_runs)
        .where(recurring_runs.c.enabled, recurring_runs.c.next_slot_us <= now_us)
        .where(going_on < recurring_runs.c.max_concurrency)
        .order_by(recurring_runs.c.next_slot_us, recurring_runs.c.id)
        .limit(limit)
    )
    return [record_of(row, RecurringRun) for row in transaction.execute(query)]


def take_slot(
    transaction: Transaction, recurring: RecurringRun, slot_us: int, *, started: bool, error: str | None
) -> RecurringRun:
    """Write down that a slot was taken, whether a run came of it, and return the record as it is now."""
    taken = msgspec.structs.replace(
        recurring, last_slot_us=slot_us, started=recurring.started + int(started), error=error
    )
    # What is due is looked up by this; whether it is caught up on is decided when it is.
    following = next_slot(taken.schedule, last_us=slot_us, created_us=taken.created_us, now_us=slot_us)
    taken = msgspec.structs.replace(taken, next_slot_us=following)
    changes = {
        "last_slot_us": taken.last_slot_us,
        "next_slot_us": taken.next_slot_us,
        "started": taken.started,
        "error": taken.error,
    }
    transaction.execute(update(recurring_runs).where(recurring_runs.c.id == taken.id).values(**changes))
    return taken
