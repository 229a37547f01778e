"""Services without processes: a real store and artifacts, a clock that is told the time, examinations and workers that obey."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import msgspec

from goldenloop.control.publication import table_of
from goldenloop.control.services.examining import Places
from goldenloop.control.services.reconciler import ServiceReconciler
from goldenloop.control.work.records import Examination, Examined
from goldenloop.control.world import World
from goldenloop.core.clock import SECOND, VirtualClock
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.ids import digest_text
from goldenloop.core.json import JsonObject
from goldenloop.core.routing import Graph, RoutingTable, Service
from goldenloop.core.served import SERVED_FILE, Loader, Runtime, ServedForm
from goldenloop.standards.kubernetes import Kind, kind_named
from goldenloop.store import resources
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database

NAMESPACE = "default"
ISVC, GRAPH, TRAINED = kind_named("isvc"), kind_named("inferencegraph"), kind_named("trainedmodel")


@dataclasses.dataclass
class Examinations:
    """A job takes one look. What its URI stands for is made, or fails as told; `stuck` URIs never come to an end."""

    folder: Path
    failing: dict[str, GoldenloopError] = dataclasses.field(default_factory=dict)
    stuck: set[str] = dataclasses.field(default_factory=set)
    runtimes: dict[str, Runtime] = dataclasses.field(default_factory=dict)
    loaders: dict[str, Loader] = dataclasses.field(default_factory=dict)
    asked: list[Examination] = dataclasses.field(default_factory=list)
    running: dict[str, Examination] = dataclasses.field(default_factory=dict)
    most_at_once: int = 0

    def result(self, key: str, kind: str, request: msgspec.Struct) -> msgspec.Raw | GoldenloopError | None:
        assert kind == "examine"
        assert isinstance(request, Examination)
        if key not in self.running:
            self.asked.append(request)
            self.running[key] = request
            self.most_at_once = max(self.most_at_once, len(self.running))
            return None
        uri = request.sources[0].uri
        if uri in self.stuck:
            return None
        if uri in self.failing:
            return self.failing[uri]
        folder = self.folder_of(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_text(uri)
        runtime: Runtime = self.runtimes.get(uri, "onnx")
        loader = self.loaders.get(uri, "onnx" if runtime == "onnx" else "python")
        form = ServedForm(form="code" if loader == "python" else "tensors", runtime=runtime, loader=loader)
        (folder / SERVED_FILE).write_bytes(msgspec.json.encode(form))
        examined = Examined(
            folder=str(folder),
            digest=digest_text(uri),
            form=form.form,
            runtime=runtime,
            format=request.format or "found",
            size_bytes=1,
        )
        return msgspec.Raw(msgspec.json.encode(examined))

    def forget(self, key: str) -> None:
        self.running.pop(key, None)
        shutil.rmtree(self.folder_of(key), ignore_errors=True)

    def folder(self, key: str) -> Path:
        return self.folder_of(key)

    def folder_of(self, key: str) -> Path:
        return self.folder / digest_text(key)[:16]


@dataclasses.dataclass
class Workers:
    """The workers' side: they take tables when they are let, and cannot load what they are told they cannot."""

    table: RoutingTable = dataclasses.field(default_factory=lambda: RoutingTable(generation=0))
    taken: int = 0
    are_there: bool = True
    take_tables: bool = True
    broken: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # the path's model (its URI) to why it does not load
    wishes: dict[tuple[str, str], bool] = dataclasses.field(default_factory=dict)
    published: list[RoutingTable] = dataclasses.field(default_factory=list)

    def publish(self, table: RoutingTable) -> None:
        self.table = table
        self.published.append(table)

    def look(self) -> None:
        if self.take_tables:
            self.taken = self.table.generation

    def held(self, _namespace: str, _service: str) -> tuple[int, int] | None:
        return None

    def settle(self) -> bool:
        return True

    def failures(self) -> dict[str, str]:
        found = {}
        for service in self.table.services if self.taken == self.table.generation else ():
            for served in service.every_version:
                why = self.broken.get((Path(served.path) / "model.onnx").read_text())
                if why is not None:
                    found[f"{service.namespace}/{service.name}/{served.version}"] = why
        return found

    def workers(self) -> int:
        return 2 if self.are_there else 0

    def serving(self, generation: int) -> bool:
        return self.are_there and self.taken >= generation

    def wanted(self) -> dict[tuple[str, str], bool]:
        return dict(self.wishes)

    def written_down(self, wanted: dict[tuple[str, str], bool]) -> None:
        for key in wanted:
            self.wishes.pop(key, None)


class ServiceWorld:
    """Control for services alone. `restart` is a new control process on what is on the disk."""

    def __init__(self, folder: Path, *, predictors: Path | None = None) -> None:
        self.home = folder
        self.predictors = predictors
        self.trusted: tuple[str, ...] = ()
        self.signed: list[str] = []  # what was in the folders that were signed
        self.clock = VirtualClock(1_000_000 * SECOND)
        self.jobs = Examinations(folder / "jobs")
        self.workers = Workers()
        database = Database(f"sqlite:///{folder / 'state.db'}")
        database.migrate()
        self.world = World(
            database=database,
            artifacts=Artifacts(str(folder / "artifacts"), cache=folder / "cache"),
            clock=self.clock,
            runs=None,  # type: ignore[arg-type]  # no pipelines here
            jobs=self.jobs,
            analyst=None,  # type: ignore[arg-type]  # no payloads here
            router=self.workers,
        )
        self.restart()

    def restart(self) -> None:
        places = Places(
            volumes=self.home / "volumes",
            secrets=self.home / "secrets",
            predictors=self.predictors,
            inference=lambda: "http://127.0.0.1:8000",
            trusted=lambda: self.trusted,
            sign=lambda folder: self.signed.append((folder / "model.onnx").read_text()),
        )
        self.reconciler = ServiceReconciler(self.world, places)

    def look(self) -> bool:
        """One look of control, and of the workers; whether something moved."""
        standing = self.reconciler.advance(self.workers.table)
        following = table_of(standing.services, standing.graphs, unloaded=standing.unloaded, after=self.workers.table)
        if following is not None:
            self.workers.publish(following)
        self.workers.look()
        return standing.moved or following is not None

    def run(self, looks: int = 40) -> None:
        """Look until nothing moves any more."""
        still = 0
        for _ in range(looks):
            still = 0 if self.look() else still + 1
            if still == 3:
                return
        raise AssertionError("it does not come to rest")

    # a person's side

    def apply(self, name: str, spec: JsonObject, *, kind: Kind = ISVC, annotations: JsonObject | None = None) -> None:
        document: JsonObject = {"metadata": {"name": name, "annotations": annotations or {}}, "spec": spec}
        with self.world.database.write() as transaction:
            if resources.find(transaction, kind, NAMESPACE, name) is None:
                resources.create(transaction, kind, NAMESPACE, document, now_us=self.clock.now_us())
            else:
                resources.replace(transaction, kind, NAMESPACE, name, document)

    def delete(self, name: str, *, kind: Kind = ISVC) -> None:
        with self.world.database.write() as transaction:
            resources.remove(transaction, kind, NAMESPACE, name)

    def status(self, name: str, *, kind: Kind = ISVC) -> dict[str, Any]:
        with self.world.database.read() as transaction:
            status: dict[str, Any] = resources.get(transaction, kind, NAMESPACE, name)["status"]  # type: ignore[assignment]
        return status

    def condition(self, name: str, kind: str, *, of: Kind = ISVC) -> dict[str, Any]:
        """A condition by its type; an empty one where it is not there."""
        found = [each for each in self.status(name, kind=of)["conditions"] if each["type"] == kind]
        return found[0] if found else {}

    def is_ready(self, name: str, *, kind: Kind = ISVC) -> str:
        return str(self.condition(name, "Ready", of=kind).get("status"))

    # the table

    def entry(self, name: str) -> Service:
        [found] = [service for service in self.workers.table.services if service.name == name]
        return found

    def graph(self, name: str) -> Graph:
        [found] = [graph for graph in self.workers.table.graphs if graph.name == name]
        return found

    @property
    def names(self) -> list[str]:
        return [service.name for service in self.workers.table.services]

    def parts(self, name: str) -> dict[str, float]:
        """Which version answers how much."""
        entry = self.entry(name)
        routed = {route.version: route.percent for route in entry.routes if route.percent}
        return {entry.champion: 100 - sum(routed.values()), **routed}


def model(uri: str, **fields: object) -> JsonObject:
    """A spec with a scikit-learn model from there."""
    return {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}, **fields}}  # type: ignore[dict-item]
