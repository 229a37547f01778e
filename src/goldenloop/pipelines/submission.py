"""From what somebody asks for (a pipeline, parameters, an experiment) to a run, in one transaction.

The API, recurring runs and triggers all start runs here. A run of the catalog's pipeline keeps a copy of the version that it was
made of; where only a pipeline is named, the newest version at that moment.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import update

from goldenloop.core.errors import ConflictError, InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.catalog import get_pipeline, get_version, newest_version
from goldenloop.pipelines.experiments import ARCHIVED, default_experiment, get_experiment
from goldenloop.pipelines.runs import RunRequest, insert_run
from goldenloop.standards.kfp_packages import Package
from goldenloop.store.database import Transaction
from goldenloop.store.tables import experiments, runs


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Which pipeline: one of the catalog (a version, or the newest of a pipeline), or a package as it stands."""

    pipeline_id: str | None = None
    version_id: str | None = None
    package: Package | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is asked for. `cause_key` names its cause: one cause starts one run. Without an experiment it goes to the
    default one of its pipeline's namespace; `namespace` is that of a run whose pipeline is none of the catalog.
    """

    namespace: str
    name: str
    source: Source
    parameters: JsonObject = {}
    experiment_id: str | None = None
    description: str = ""
    settings: JsonObject = {}
    cause: JsonObject = {}
    cause_key: str | None = None
    started_by: str | None = None
    scheduled_us: int | None = None


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline that a source means at this moment."""

    package: Package
    namespace: str | None = None
    pipeline_id: str | None = None
    version_id: str | None = None


def resolve(transaction: Transaction, source: Source) -> Resolved:
    """Look a source up. Raises NotFoundError, InvalidSpecError where it names nothing."""
    if source.package is not None:
        return Resolved(package=source.package)
    if source.version_id:
        version = get_version(transaction, source.version_id, pipeline_id=source.pipeline_id)
    elif source.pipeline_id:
        version = newest_version(transaction, source.pipeline_id)
    else:
        raise InvalidSpecError(
            "no pipeline is named",
            where="pipeline_spec",
            mend="Give pipeline_spec, or pipeline_version_reference with a pipeline_id.",
        )
    namespace = get_pipeline(transaction, version.pipeline_id).namespace
    return Resolved(
        package=version.package, namespace=namespace, pipeline_id=version.pipeline_id, version_id=version.id
    )


def submit(transaction: Transaction, submission: Submission, *, now_us: int) -> str | None:
    """Make the run and return its id, or None where its cause has one already.

    Raises NotFoundError for a pipeline or an experiment that is not there, ConflictError for an archived experiment,
    InvalidSpecError for a pipeline that cannot run here and for parameters that do not fit it.
    """
    found = resolve(transaction, submission.source)
    namespace = found.namespace or submission.namespace
    namespace, experiment_id = _place(transaction, submission.experiment_id, namespace, now_us)
    request = RunRequest(
        namespace=namespace,
        name=submission.name,
        pipeline=found.package.pipeline,
        platform=found.package.platform,
        parameters=submission.parameters,
        cause=submission.cause,
        cause_key=submission.cause_key,
    )
    run_id = insert_run(transaction, request, now_us=now_us)
    if run_id is None:
        return None
    known = {
        "experiment_id": experiment_id,
        "pipeline_id": found.pipeline_id,
        "version_id": found.version_id,
        "started_by": submission.started_by,
        "description": submission.description,
        "scheduled_us": submission.scheduled_us,
        "settings": {**submission.settings, "pipeline_name": _name(found.package)},
        "settled": True,  # nothing follows from a run that no loop asked for
    }
    transaction.execute(update(runs).where(runs.c.id == run_id).values(**known))
    transaction.execute(update(experiments).where(experiments.c.id == experiment_id).values(last_run_us=now_us))
    return run_id


def _name(package: Package) -> str:
    """What the pipeline is called in its specification."""
    info = package.pipeline.get("pipelineInfo")
    return str(info.get("name", "")) if isinstance(info, dict) else ""


def _place(transaction: Transaction, experiment_id: str | None, namespace: str, now_us: int) -> tuple[str, str]:
    """The namespace and the experiment of a run: an experiment that is named says which namespace."""
    named = get_experiment(transaction, experiment_id) if experiment_id else None
    experiment = named or default_experiment(transaction, namespace, now_us=now_us)
    if experiment.storage_state == ARCHIVED:
        raise ConflictError(
            f"experiment {experiment.name!r} is archived",
            where="experiment_id",
            mend="Take it out of the archive, or name another one.",
        )
    return experiment.namespace, experiment.id
