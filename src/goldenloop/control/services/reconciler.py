"""Brings every service that a person wrote from what is true now towards what its file says.

Level-based, like the ring that calls it: what it knows of a service is in the database, so it may be killed at any instruction. A look
at which nothing changed costs one small query. A failure of one service leaves the others, and what it answered by before, as they are.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from goldenloop.control.services.examining import Examiner, Places
from goldenloop.control.services.processes import Predictors
from goldenloop.control.services.publication import entry_of, graph_entry_of, served_digest
from goldenloop.control.services.records import Repository, ServiceMemory, version_name
from goldenloop.control.services.revisions import candidates, failed, follow, retried, roll_out, settle
from goldenloop.control.services.status import (
    Surroundings,
    graph_status,
    is_ready,
    service_status,
    trained_model_status,
)
from goldenloop.control.services.view import (
    INFERENCE_GRAPH,
    INFERENCE_SERVICE,
    TRAINED_MODEL,
    GraphView,
    Resource,
    ServedResource,
    ServiceView,
    TrainedModelView,
    fingerprints,
)
from goldenloop.control.world import World
from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import JsonObject
from goldenloop.core.routing import Graph, RoutingTable, Service
from goldenloop.standards.kubernetes import Kind
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction

MEMORY: Mapping[str, str] = {"InferenceService": "inference-service", "TrainedModel": "trained-model"}
REPOSITORY = "repository"
_KINDS = (INFERENCE_SERVICE, TRAINED_MODEL, INFERENCE_GRAPH)

_log = logging.getLogger(__name__)
Key = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the routing table is to have of these services. `unloaded` holds for all services, also for those of loops."""

    services: tuple[Service, ...] = ()
    graphs: tuple[Graph, ...] = ()
    unloaded: frozenset[Key] = frozenset()
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """Everything that one look found, the table in force, and what of it does not load (`namespace/service/version` → why)."""

    table: RoutingTable
    failures: Mapping[str, str]
    services: tuple[ServiceView, ...]
    trained_models: tuple[TrainedModelView, ...]
    graphs: tuple[GraphView, ...]
    remembered: Mapping[tuple[str, Key], ServiceMemory]  # by kind, namespace and name
    unloaded: frozenset[Key]

    @property
    def hand_written(self) -> tuple[ServiceView, ...]:
        return tuple(view for view in self.services if not view.is_owned)

    def entry(self, view: ServedResource) -> Service | None:
        """What the table in force has of it."""
        return next((each for each in self.table.services if (each.namespace, each.name) == view.key), None)


class ServiceReconciler:
    """Reconciles all of them. One thread calls `advance`."""

    def __init__(self, world: World, places: Places) -> None:
        self._world = world
        self._places = places
        self._examiner = Examiner(world, places)
        self._predictors = Predictors(places.predictors)
        self._standing = Standing()
        self._mark: object = None  # what was found when nothing was left to do
        self._retry_us: int | None = None
        self._trusted: tuple[str, ...] = places.trusted()
        self._forgive = False  # something is trusted since the last look: what was refused is worth another one
        self._errors: dict[str, str] = {}

    def advance(self, table: RoutingTable) -> Standing:
        """Look once; `table` is the one in force. Raises UnavailableError where the store does not answer."""
        router, now_us = self._world.router, self._world.clock.now_us()
        trusted = self._places.trusted()
        self._take_wishes()
        with self._world.database.read() as transaction:
            found = resources.marks(transaction, _KINDS)
            failures = {**router.failures(), **self._predictors.failures(table.services)}
            mark = (found, table.generation, router.workers(), failures, trusted)
            if mark == self._mark and (self._retry_us is None or now_us < self._retry_us):
                return self._standing
            scene = _look(transaction, table, failures)
        self._forgive, self._trusted = trusted != self._trusted, trusted
        self._examiner.sweep(_examinations(scene))
        moved = self._forget_the_gone(scene)
        services: list[Service] = []
        memories_now: list[tuple[ServedResource, ServiceMemory]] = []
        for view in (*scene.hand_written, *scene.trained_models):
            try:
                changed, memory, entry = self._one(view, scene)
                memories_now.append((view, memory))
                self._errors.pop(view.uid, None)
            except GoldenloopError as error:
                self._say_once(view, error)
                changed, entry = False, scene.entry(view)
            moved = moved or changed
            if entry is not None:
                services.append(entry)
        graphs: list[Graph] = []
        for graph_view in scene.graphs:
            try:
                graph = self._graph(graph_view, scene)
            except GoldenloopError as error:
                self._say_once(graph_view, error)
                graph = next((each for each in table.graphs if (each.namespace, each.name) == graph_view.key), None)
            if graph is not None:
                graphs.append(graph)
        is_busy = self._look_ahead(memories_now)
        self._mark = None if moved or is_busy else mark
        self._standing = Standing(services=tuple(services), graphs=tuple(graphs), unloaded=scene.unloaded)
        return dataclasses.replace(self._standing, moved=moved)

    def _one(self, view: ServedResource, scene: _Scene) -> tuple[bool, ServiceMemory, Service | None]:
        """Bring one service on; whether something moved, what is remembered now, and its entry in the table."""
        before = scene.remembered.get((view.kind.kind, view.key))
        if before is None or before.uid != view.uid:
            before = ServiceMemory(uid=view.uid)
        memory = follow(before, fingerprints(view.sources))
        finished = {}
        for track, source in view.sources.items():
            newest = memory.track(track).newest
            assert newest is not None
            revision = retried(newest, now_us=self._world.clock.now_us(), refused_too=self._forgive)
            if revision.state == "Pending":
                asked = revision
                revision = self._examiner.advance(_examination(view, track, revision.number), revision, source)
                if revision is not asked:
                    finished[_examination(view, track, revision.number)] = asked
            memory = memory.with_track(track, memory.track(track).with_revision(revision))
        memory = self._see_what_is_loaded(view, memory, scene)
        memory = roll_out(settle(memory, tuple(view.sources)), view.canary_percent)
        problem = _name_taken(view, scene)
        entry = entry_of(view, memory, self._world.artifacts)
        if problem or view.is_stopped or not _has_parent(view, scene):
            entry = None
        moved = self._write_down(view, before, memory, self._status(view, memory, scene, problem))
        for key, asked in finished.items():
            self._examiner.finish(key, asked)
        return moved, memory, entry

    def _see_what_is_loaded(self, view: ServedResource, memory: ServiceMemory, scene: _Scene) -> ServiceMemory:
        """What stands in the table of all workers is loaded, or has failed to."""
        entry = scene.entry(view)
        loading = {
            track: revision
            for track, revision in candidates(memory, tuple(view.sources)).items()
            if not revision.is_loaded
        }
        if entry is None or not loading or not self._world.router.serving(scene.table.generation):
            return memory
        present = {served.version: served.digest for served in entry.every_version}
        for track, revision in loading.items():
            version = version_name(track, revision.number)
            if revision.made is None or present.get(version) != served_digest(revision.made, view):
                continue
            if why := scene.failures.get(f"{view.namespace}/{view.name}/{version}"):
                now_us = self._world.clock.now_us()
                seen = failed(revision, "ModelLoadFailed", why, now_us=now_us, is_final=False)
            elif revision.made.runtime == "onnx" or self._predictors.is_loaded(served_digest(revision.made, view)):
                seen = msgspec.structs.replace(revision, is_loaded=True)
            else:
                continue  # its process is starting
            memory = memory.with_track(track, memory.track(track).with_revision(seen))
        return memory

    def _status(self, view: ServedResource, memory: ServiceMemory, scene: _Scene, problem: str) -> JsonObject:
        around, is_loaded = self._surroundings(scene), view.key not in scene.unloaded
        if isinstance(view, ServiceView):
            return service_status(view, memory, around, is_loaded=is_loaded, problem=problem)
        assert isinstance(view, TrainedModelView)
        parent = _parent_problem(view, scene)
        return trained_model_status(view, memory, around, is_loaded=is_loaded, parent_problem=parent, problem=problem)

    def _graph(self, view: GraphView, scene: _Scene) -> Graph | None:
        """The graph's entry; its status is brought up to date."""
        if any(view.key == other.key for other in scene.services):
            problem, entry = f"the name is that of the InferenceService {view.name!r}; give the graph another", None
        else:
            problem, entry = _steps_problem(view, scene), graph_entry_of(view)
        status = graph_status(view, self._surroundings(scene), problem=problem)
        if status != view.document.get("status"):
            with self._world.lock, self._world.database.write() as transaction:
                _set_status(transaction, INFERENCE_GRAPH, view, status)
        return entry

    def _write_down(
        self, view: ServedResource, before: ServiceMemory, memory: ServiceMemory, status: JsonObject
    ) -> bool:
        """Keep what changed, in one transaction; whether anything that decides did."""
        if memory == before and status == view.document.get("status"):
            return False
        with self._world.lock, self._world.database.write() as transaction:
            if _set_status(transaction, view.kind, view, status) and memory != before:
                memories.remember(transaction, view.namespace, view.name, MEMORY[view.kind.kind], memory)
        return memory != before

    def _take_wishes(self) -> None:
        """Write down what clients of the model repository asked for."""
        wanted = self._world.router.wanted()
        if not wanted:
            return
        with self._world.database.write() as transaction:
            for (namespace, name), loaded in wanted.items():
                if loaded:
                    memories.forget_one(transaction, namespace, name, REPOSITORY)
                else:
                    memories.remember(transaction, namespace, name, REPOSITORY, Repository(loaded=False))
        self._world.router.written_down(wanted)
        self._mark = None

    def _forget_the_gone(self, scene: _Scene) -> bool:
        """Drop what is remembered of services that are no more."""
        present = {(view.kind.kind, view.key) for view in (*scene.hand_written, *scene.trained_models)}
        gone = [each for each in scene.remembered if each not in present]
        if gone:
            with self._world.database.write() as transaction:
                for kind, (namespace, name) in gone:
                    memories.forget_one(transaction, namespace, name, MEMORY[kind])
                    memories.forget_one(transaction, namespace, name, REPOSITORY)
        return bool(gone)

    def _look_ahead(self, known: list[tuple[ServedResource, ServiceMemory]]) -> bool:
        """Note when something is to be tried again; whether something is under way that ends by itself."""
        newest = [memory.track(track).newest for view, memory in known for track in view.sources]
        retries = [each.failure.retry_us for each in newest if each is not None and each.failure is not None]
        self._retry_us = min((retry_us for retry_us in retries if retry_us is not None), default=None)
        return any(each is not None and each.state in ("Pending", "Loading") for each in newest)

    def _surroundings(self, scene: _Scene) -> Surroundings:
        return Surroundings(
            at=to_text(self._world.clock.now_us()),
            inference=self._places.inference(),
            grpc=self._places.grpc(),
            workers=self._world.router.workers(),
            failures=scene.failures,
        )

    def _say_once(self, view: Resource, error: GoldenloopError) -> None:
        if self._errors.get(view.uid) != str(error):
            self._errors[view.uid] = str(error)
            _log.error("%s %s/%s: %s", view.document["kind"], view.namespace, view.name, error)


def _look(transaction: Transaction, table: RoutingTable, failures: Mapping[str, str]) -> _Scene:
    remembered = {
        (kind, key): memory
        for kind, name in MEMORY.items()
        for key, memory in memories.recall_all(transaction, name, ServiceMemory).items()
    }
    return _Scene(
        table=table,
        failures=failures,
        services=tuple(ServiceView(document) for document in resources.listing(transaction, INFERENCE_SERVICE)),
        trained_models=tuple(TrainedModelView(document) for document in resources.listing(transaction, TRAINED_MODEL)),
        graphs=tuple(GraphView(document) for document in resources.listing(transaction, INFERENCE_GRAPH)),
        remembered=remembered,
        unloaded=frozenset(memories.recall_all(transaction, REPOSITORY, Repository)),
    )


def _set_status(transaction: Transaction, kind: Kind, view: Resource, status: JsonObject) -> bool:
    """Write the status, unless the resource is gone or another one by now; whether it was written."""
    present = resources.find(transaction, kind, view.namespace, view.name)
    if present is None or resources.metadata_of(present)["uid"] != view.uid:
        return False
    resources.set_status(transaction, kind, view.namespace, view.name, status)
    return True


def _examination(view: ServedResource, track: str, number: int) -> str:
    return f"examine/{view.uid}/{track}/{number}"


def _examinations(scene: _Scene) -> list[str]:
    """Those that may go on: of what is there, and of its newest revisions, told by the beginning of their keys."""
    wanted = []
    for view in (*scene.hand_written, *scene.trained_models):
        memory = scene.remembered.get((view.kind.kind, view.key))
        if memory is not None and memory.uid == view.uid:
            newest = {name: track.newest for name, track in memory.tracks.items()}
            wanted += [f"{_examination(view, name, each.number)}/" for name, each in newest.items() if each is not None]
    return wanted


def _name_taken(view: ServedResource, scene: _Scene) -> str:
    if isinstance(view, TrainedModelView) and any(view.key == other.key for other in scene.services):
        return f"the name is that of the InferenceService {view.name!r}; give the model another"
    return ""


def _has_parent(view: ServedResource, scene: _Scene) -> bool:
    if not isinstance(view, TrainedModelView):
        return True
    key = (view.namespace, view.spec.inference_service)
    return any(other.key == key and not other.is_stopped for other in scene.services)


def _parent_problem(view: TrainedModelView, scene: _Scene) -> str:
    parent = next((each for each in scene.services if each.key == (view.namespace, view.spec.inference_service)), None)
    if parent is None:
        return f"there is no InferenceService {view.spec.inference_service!r}"
    return "" if is_ready(parent.document) else f"the InferenceService {parent.name!r} is not ready"


def _steps_problem(view: GraphView, scene: _Scene) -> str:
    """What keeps a graph from answering: a service that one of its steps names and that does not answer."""
    known = {
        other.name: other for other in (*scene.trained_models, *scene.services) if other.namespace == view.namespace
    }
    for name in view.spec.services:
        if name not in known:
            return f"there is no InferenceService {name!r}"
        if not is_ready(known[name].document):
            return f"the InferenceService {name!r} is not ready"
    return ""
