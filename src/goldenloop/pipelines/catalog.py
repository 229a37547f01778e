"""The catalog: pipelines by name, and their versions. Each function works inside its caller's transaction.

A version never changes what it runs; only what it is called and how it is tagged. Runs that were made of a version keep a copy, so
deleting it takes nothing from them.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, select, update

from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.core.ids import is_uuid, uuid7
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.experiments import check_display_name
from goldenloop.standards.kfp_packages import Package
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.store.database import Transaction, insert_ignoring, record_of
from goldenloop.store.paging import Listing
from goldenloop.store.tables import pipeline_versions, pipelines

Tags = dict[str, str]

PIPELINES = Listing(
    identity=pipelines.c.id,
    fields={
        "pipeline_id": pipelines.c.id,
        "id": pipelines.c.id,
        "name": pipelines.c.name,
        "display_name": pipelines.c.display_name,
        "description": pipelines.c.description,
        "namespace": pipelines.c.namespace,
        "created_at": pipelines.c.created_us,
    },
    moments=frozenset({"created_at"}),
    documents={"tags": pipelines.c.tags},
)
VERSIONS = Listing(
    identity=pipeline_versions.c.id,
    fields={
        "pipeline_version_id": pipeline_versions.c.id,
        "id": pipeline_versions.c.id,
        "pipeline_id": pipeline_versions.c.pipeline_id,
        "name": pipeline_versions.c.name,
        "display_name": pipeline_versions.c.display_name,
        "description": pipeline_versions.c.description,
        "created_at": pipeline_versions.c.created_us,
    },
    moments=frozenset({"created_at"}),
    documents={"tags": pipeline_versions.c.tags},
)


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What people call a pipeline or a version. Without a name of its own to show, it shows its name."""

    name: str
    display_name: str = ""
    description: str = ""
    tags: Tags = {}

    @property
    def shown(self) -> str:
        return self.display_name or self.name


class CatalogPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `pipelines`."""

    id: str
    namespace: str
    name: str
    display_name: str
    description: str
    tags: Tags
    created_us: int


class CatalogVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `pipeline_versions`."""

    id: str
    pipeline_id: str
    name: str
    display_name: str
    description: str
    spec: JsonObject
    platform: JsonObject | None
    code_source_url: str
    package_url: str
    tags: Tags
    created_us: int

    @property
    def package(self) -> Package:
        return Package(pipeline=self.spec, platform=self.platform)


def create_pipeline(transaction: Transaction, label: Label, *, namespace: str, now_us: int) -> CatalogPipeline:
    """Make a pipeline without versions. Raises InvalidSpecError, ConflictError for a name that is taken."""
    _check_label(label, "pipeline")
    made = CatalogPipeline(
        id=uuid7(),
        namespace=namespace,
        name=label.name,
        display_name=label.shown,
        description=label.description,
        tags=label.tags,
        created_us=now_us,
    )
    if transaction.execute(insert_ignoring(transaction, pipelines).values(**msgspec.to_builtins(made))).rowcount == 0:
        raise ConflictError(
            f"there is a pipeline {label.name!r} in {namespace!r} already",
            where="pipeline.name",
            mend="Upload a new version of it, or choose another name.",
        )
    return made


def create_version(
    transaction: Transaction,
    pipeline_id: str,
    label: Label,
    package: Package,
    *,
    code_source_url: str = "",
    package_url: str = "",
    now_us: int,
) -> CatalogVersion:
    """Add a version to a pipeline. Raises NotFoundError, InvalidSpecError, ConflictError for a name that is taken in it."""
    get_pipeline(transaction, pipeline_id)
    _check_label(label, "pipeline_version")
    read_pipeline(package.pipeline)
    made = CatalogVersion(
        id=uuid7(),
        pipeline_id=pipeline_id,
        name=label.name,
        display_name=label.shown,
        description=label.description,
        spec=package.pipeline,
        platform=package.platform,
        code_source_url=code_source_url,
        package_url=package_url,
        tags=label.tags,
        created_us=now_us,
    )
    values = msgspec.to_builtins(made)
    if transaction.execute(insert_ignoring(transaction, pipeline_versions).values(**values)).rowcount == 0:
        raise ConflictError(
            f"the pipeline has a version {label.name!r} already",
            where="pipeline_version.name",
            mend="Choose another name for this version.",
        )
    return made


def get_pipeline(transaction: Transaction, identity: str) -> CatalogPipeline:
    """The pipeline with this id. Raises NotFoundError."""
    row = transaction.execute(select(pipelines).where(pipelines.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no pipeline {identity}", mend="List the pipelines for their ids.")
    return record_of(row, CatalogPipeline)


def pipeline_named(transaction: Transaction, namespace: str, name: str) -> CatalogPipeline:
    """The pipeline of this name. Raises NotFoundError."""
    query = select(pipelines).where(pipelines.c.namespace == namespace, pipelines.c.name == name)
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(
            f"there is no pipeline {name!r} in {namespace!r}", mend="Upload it first: kfp.Client().upload_pipeline(…)."
        )
    return record_of(row, CatalogPipeline)


def find_pipeline(transaction: Transaction, namespace: str, reference: str) -> CatalogPipeline:
    """The pipeline with this id or name. Raises NotFoundError."""
    if is_uuid(reference):
        return get_pipeline(transaction, reference)
    return pipeline_named(transaction, namespace, reference)


def get_version(transaction: Transaction, identity: str, *, pipeline_id: str | None = None) -> CatalogVersion:
    """The version with this id; of this pipeline, where one is named. Raises NotFoundError."""
    query = select(pipeline_versions).where(pipeline_versions.c.id == identity)
    if pipeline_id:
        query = query.where(pipeline_versions.c.pipeline_id == pipeline_id)
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no pipeline version {identity}", mend="List the versions of the pipeline.")
    return record_of(row, CatalogVersion)


def newest_version(transaction: Transaction, pipeline_id: str) -> CatalogVersion:
    """The version that was made last. Raises NotFoundError."""
    get_pipeline(transaction, pipeline_id)
    query = (
        select(pipeline_versions)
        .where(pipeline_versions.c.pipeline_id == pipeline_id)
        .order_by(pipeline_versions.c.created_us.desc(), pipeline_versions.c.id.desc())
        .limit(1)
    )
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(f"pipeline {pipeline_id} has no version", mend="Upload one.")
    return record_of(row, CatalogVersion)


def version_named(transaction: Transaction, pipeline_id: str, name: str) -> CatalogVersion:
    """The version of this name, or shown under it. Raises NotFoundError."""
    query = (
        select(pipeline_versions)
        .where(
            pipeline_versions.c.pipeline_id == pipeline_id,
            (pipeline_versions.c.name == name) | (pipeline_versions.c.display_name == name),
        )
        .order_by(pipeline_versions.c.created_us.desc(), pipeline_versions.c.id.desc())
    )
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(f"the pipeline has no version {name!r}", mend="List the versions of the pipeline.")
    return record_of(row, CatalogVersion)


def rename_pipeline(transaction: Transaction, identity: str, label: Label) -> CatalogPipeline:
    """Change what a pipeline is shown as, and its tags; an empty text leaves the old. Raises NotFoundError."""
    current = get_pipeline(transaction, identity)
    changes = {"display_name": label.display_name or current.display_name, "tags": label.tags or current.tags}
    transaction.execute(update(pipelines).where(pipelines.c.id == identity).values(**changes))
    return get_pipeline(transaction, identity)


def rename_version(transaction: Transaction, pipeline_id: str, identity: str, label: Label) -> CatalogVersion:
    """Change what a version is shown as, and its tags; an empty text leaves the old. Raises NotFoundError."""
    current = get_version(transaction, identity, pipeline_id=pipeline_id)
    changes = {"display_name": label.display_name or current.display_name, "tags": label.tags or current.tags}
    transaction.execute(update(pipeline_versions).where(pipeline_versions.c.id == identity).values(**changes))
    return get_version(transaction, identity)


def delete_pipeline(transaction: Transaction, identity: str, *, cascade: bool) -> None:
    """Delete a pipeline. Raises NotFoundError, InvalidSpecError where it has versions and `cascade` was not asked for."""
    get_pipeline(transaction, identity)
    held = select(pipeline_versions.c.id).where(pipeline_versions.c.pipeline_id == identity).limit(1)
    if not cascade and transaction.scalar(held) is not None:
        raise InvalidSpecError(
            "the pipeline has versions", where="pipeline_id", mend="Delete them first, or give cascade=true."
        )
    transaction.execute(delete(pipelines).where(pipelines.c.id == identity))


def delete_version(transaction: Transaction, pipeline_id: str, identity: str) -> None:
    """Delete a version; runs that were made of it keep their copy. Raises NotFoundError."""
    get_version(transaction, identity, pipeline_id=pipeline_id)
    transaction.execute(delete(pipeline_versions).where(pipeline_versions.c.id == identity))


def _check_label(label: Label, where: str) -> None:
    check_display_name(label.name, where=f"{where}.name")
    check_display_name(label.shown, where=f"{where}.display_name")
