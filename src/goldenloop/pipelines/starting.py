"""Starting a step: its inputs are looked up, and it is noted as running, or as done where nothing has to be run for it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sqlalchemy.engine import RowMapping

from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.artifact_records import artifact_record, draw_arrows, find_artifact
from goldenloop.pipelines.book import StoreBook
from goldenloop.pipelines.caching import cache_key, find_cached
from goldenloop.pipelines.importing import read_import
from goldenloop.pipelines.launching import Flight
from goldenloop.pipelines.nodes import Kind, Node
from goldenloop.pipelines.plan import Plan
from goldenloop.pipelines.stand_ins import CREATE_VOLUME, DELETE_VOLUME, Cupboard, StandIns
from goldenloop.pipelines.step_files import InputArtifact, StepFiles
from goldenloop.pipelines.tree import Tree
from goldenloop.pipelines.values import Values
from goldenloop.standards.kubernetes_platform import KubernetesPlatform, read_platform
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Transaction
from goldenloop.store.tables import artifacts

_JOB_NAME = 40  # characters of a pipeline's name in the name of a job


class OpenRun(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run does not change while it goes on, and the tree that does."""

    id: str
    namespace: str
    pipeline: str  # its name
    caching: bool
    platform: KubernetesPlatform
    tree: Tree


def load_run(row: RowMapping, book: StoreBook, *, folder: Path) -> OpenRun:
    """A run from its row. Raises InvalidSpecError for a specification that this version of the program cannot read."""
    pipeline = read_pipeline(row["pipeline"]["pipeline_spec"])
    created = to_text(row["created_us"])
    facts = {
        "pipeline_job_name": row["name"],
        "pipeline_job_resource_name": f"{pipeline.name[:_JOB_NAME]}-{row['id'][-5:]}",
        "pipeline_job_uuid": row["id"],
        "pipeline_job_create_time_utc": created,
        "pipeline_job_schedule_time_utc": created,
        "pipeline_root": str(folder),
        "workspace_path": str(folder / "workspace"),
    }
    inputs = Values(row["parameters"], {name: (given["artifact_id"],) for name, given in row["inputs"].items()})
    return OpenRun(
        id=row["id"],
        namespace=row["namespace"],
        pipeline=pipeline.name,
        caching=row["pipeline"]["caching"],
        platform=read_platform(row["pipeline"]["platform_spec"]),
        tree=Tree(row["id"], Plan(pipeline), inputs, facts, book),
    )


class Starter:
    """Starts the steps of one engine. `folder` is where runs have theirs."""

    def __init__(self, kept: Artifacts, book: StoreBook, cupboard: Cupboard, *, folder: Path) -> None:
        self._kept = kept
        self._book = book
        self._cupboard = cupboard
        self._folder = folder

    def start(self, transaction: Transaction, run: OpenRun, node: Node) -> Flight | None:
        """Return the flight of a step that is now noted as running; None where it ended at once."""
        try:
            inputs = run.tree.inputs_of(node)
            if node.kind is Kind.IMPORTER:
                return self._start_import(transaction, run, node, inputs)
            assert node.component.container is not None
            if node.component.container.image in (CREATE_VOLUME, DELETE_VOLUME):
                self._change_volume(transaction, run, node, inputs)
                return None
            return self._start_container(transaction, run, node, inputs)
        except GoldenloopError as error:
            run.tree.fail(node, str(error))
            return None

    def succeed(
        self,
        transaction: Transaction,
        tree: Tree,
        node: Node,
        outputs: Values,
        *,
        read: dict[str, list[str]],
        cached_from: str | None = None,
    ) -> None:
        """Note that a step ended well, with the arrows of lineage."""
        self._book.flush()  # the task is there before the arrows to it
        draw_arrows(transaction, node.id, read=read, written=outputs.artifacts)
        tree.succeed(node, outputs, cached_from=cached_from)

    def files(self, run_id: str, path: str, attempt: int) -> StepFiles:
        """The files of an attempt at a task."""
        return StepFiles(self._folder / run_id / StepFiles.folder_name(path), attempt)

    def _start_container(self, transaction: Transaction, run: OpenRun, node: Node, inputs: Values) -> Flight | None:
        stand_ins = self._stand_ins(run, node)
        found = self._book.artifact_rows(identity for ids in inputs.artifacts.values() for identity in ids)
        given = {port: tuple(_input_artifact(found[one]) for one in ids) for port, ids in inputs.artifacts.items()}
        if not (run.caching and node.task.caching):
            run.tree.start(node, inputs)
            return self._flight(run, node, inputs, given=given, stand_ins=stand_ins)
        settings = (*sorted(stand_ins.environment.values()), *sorted(stand_ins.mounts.values()))
        key = cache_key(node, inputs, found, pipeline=run.pipeline, settings=settings)
        run.tree.start(node, inputs, cache_key=key)
        self._book.flush()  # so that what ended a moment ago is found
        hit = find_cached(transaction, self._kept, run.namespace, key)
        if hit is None:
            return self._flight(run, node, inputs, given=given, stand_ins=stand_ins)
        origin, outputs = hit
        read = {port: list(ids) for port, ids in inputs.artifacts.items()}
        self.succeed(transaction, run.tree, node, outputs, read=read, cached_from=origin)
        return None

    def _start_import(self, transaction: Transaction, run: OpenRun, node: Node, inputs: Values) -> Flight | None:
        importer = node.component.importer
        assert importer is not None
        wanted = read_import(node, inputs, run.tree.facts_of(node))
        run.tree.start(node, inputs)
        identity: str | None = None
        if not importer.reimport:
            properties = wanted.metadata
            identity = find_artifact(
                transaction, kind=wanted.type, name=wanted.port, uri=wanted.uri, properties=properties
            )
        if identity is None and wanted.is_elsewhere:
            return msgspec.structs.replace(self._flight(run, node, inputs), wanted=wanted)
        if identity is None:
            record = artifact_record(wanted.type, wanted.port, wanted.uri, wanted.metadata, now_us=self._book.now_us())
            transaction.execute(artifacts.insert().values(**record))
            identity = str(record["id"])
        self.succeed(transaction, run.tree, node, Values(artifacts={wanted.port: (identity,)}), read={})
        return None

    def _change_volume(self, transaction: Transaction, run: OpenRun, node: Node, inputs: Values) -> None:
        assert node.component.container is not None
        given: JsonObject = {}
        if node.component.container.image == CREATE_VOLUME:
            job = run.tree.facts["pipeline_job_resource_name"]
            given["name"] = self._cupboard.create_volume(inputs.parameters, job=job, where=node.path)
        else:
            self._cupboard.delete_volume(str(inputs.parameters.get("pvc_name", "")), where=node.path)
        run.tree.start(node, inputs)
        self.succeed(transaction, run.tree, node, Values(given), read={})

    def _stand_ins(self, run: OpenRun, node: Node) -> StandIns:
        settings = run.platform.executors.get(node.component.executor)
        if settings is None:
            return StandIns()
        pod = f"{run.tree.facts['pipeline_job_resource_name']}-{node.task.name}"
        around = run.tree.around(node)
        return self._cupboard.resolve(settings, around, pod=pod, namespace=run.namespace, where=node.path)

    def _flight(
        self,
        run: OpenRun,
        node: Node,
        inputs: Values,
        *,
        given: dict[str, tuple[InputArtifact, ...]] | None = None,
        stand_ins: StandIns | None = None,
    ) -> Flight:
        return Flight(
            request_id=f"{node.id}/{uuid7()}",
            run_id=run.id,
            task_id=node.id,
            name=node.path,
            component=node.component,
            files=self.files(run.id, node.path, node.attempt + 1),
            parameters=inputs.parameters,
            inputs=given or {},
            facts=run.tree.facts_of(node),
            stand_ins=stand_ins or StandIns(),
        )


def _input_artifact(row: RowMapping) -> InputArtifact:
    return InputArtifact(
        id=row["id"],
        name=row["name"],
        type=row["type"],
        path=row["uri"],
        digest=row["digest"],
        metadata=row["properties"],
    )
