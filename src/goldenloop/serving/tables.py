"""Following the routing table: read it, load what is new beside what runs, then switch; and letting go of what nobody asks for.

Rules. Versions are loaded in threads, before the switch; requests go on meanwhile. Each service switches as soon as its own versions are
there, so a rollback waits for nobody else's model; the generation is reported when all have switched. A service with a version that it
needs and that does not load stays as it was, and the reason is reported. Loaded versions are let go when their service does not name them
any more and nothing that is under way uses them.

A service with `min_replicas` 0 is loaded by its first request, and let go when it was idle for `idle_seconds`. Where the worker has a
budget of memory for models, those that were asked least recently leave when it is exceeded; a request brings them back.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.serving.dataplane import DataPlane, Deployed
from goldenloop.serving.scorers import Scorer, open_version

POLL_SECONDS = 0.25
LOADS_AT_ONCE = 2

_Key = tuple[object, ...]


class TableFollower:
    """Keeps a data plane on the newest table of a file. `on_taken` is told the generation and what failed.

    `sockets` is the folder where predictor processes listen; `memory_budget` bounds the bytes of model files that are loaded.
    """

    def __init__(
        self,
        path: Path,
        plane: DataPlane,
        *,
        on_taken: Callable[[int, dict[str, str]], None],
        sockets: Path | None = None,
        memory_budget: int | None = None,
    ) -> None:
        self._path = path
        self._plane = plane
        self._on_taken = on_taken
        self._sockets = sockets
        self._memory_budget = memory_budget
        self._scorers: dict[_Key, Scorer] = {}
        self._deployed: dict[tuple[str, str], Deployed] = {}
        self._leaving: list[tuple[str, str, Scorer]] = []
        self._coming: dict[tuple[str, str], asyncio.Task[Deployed]] = {}
        self._table: RoutingTable | None = None
        self._loading: dict[_Key, asyncio.Task[None]] = {}
        self._loads_at_once = asyncio.Semaphore(LOADS_AT_ONCE)
        self._wrong: dict[_Key, str] = {}  # versions that did not load since the table came, and why
        self._mark: tuple[int, int, int] | None = None
        self._woken = asyncio.Event()
        self.trouble = ""  # why the file itself could not be taken, the last time

    def wake(self) -> None:
        """Look at the file now."""
        self._woken.set()

    async def follow(self) -> None:
        """Take every table that comes, and let go of what is idle, for ever."""
        while True:
            await self.look()
            await self._let_go()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue
            self._woken.clear()

    async def look(self) -> None:
        """Take the table if the file changed since the last look."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        mark = (found.st_mtime_ns, found.st_ino, found.st_size)
        if mark == self._mark:
            return
        try:
            table = msgspec.json.decode(self._path.read_bytes(), type=RoutingTable)
        except (OSError, msgspec.DecodeError, ValueError) as error:
            self.trouble = f"{self._path}: {error}"
            return  # it is looked at again: whoever writes it replaces it whole
        self._mark = mark
        self.trouble = ""
        self._table = table
        self._wrong.clear()
        self._apply()

    async def all_loaded(self) -> None:
        """Return when everything that the present table needs is loaded, or was found not to load."""
        while self._loading:
            await asyncio.wait(self._loading.values())

    async def bring(self, deployed: Deployed) -> Deployed:
        """Load a service that is not resident; those who ask at the same time wait for the same load. Raises UnavailableError."""
        key = (deployed.namespace, deployed.name)
        task = self._coming.get(key)
        if task is None:
            task = self._coming[key] = asyncio.create_task(self._bring(key))
            task.add_done_callback(lambda _: self._coming.pop(key, None))
        return await asyncio.shield(task)

    async def _bring(self, key: tuple[str, str]) -> Deployed:
        while True:
            deployed = self._deployed.get(key)
            if deployed is None or not deployed.service.loaded:
                raise UnavailableError(f"the service {key[1]!r} is not there any more", where=key[1])
            if deployed.is_resident:
                return deployed
            while missing := self._missing(deployed.service):
                await asyncio.wait(missing)
            made, wrong = self._made(deployed.service)
            if wrong:
                self._wrong.clear()  # the next request tries again
                raise UnavailableError(f"the service {key[1]!r} could not load its model: {next(iter(wrong.values()))}")
            if self._deployed.get(key) is deployed:  # else a newer table came meanwhile
                self._deployed[key] = made
                self._plane.replace(made)
                self._keep_within_budget(spare=key)
                return made

    def _apply(self) -> None:
        """Switch every service of the present table whose versions are there, and load those of the others."""
        table = self._table
        assert table is not None  # it was read
        deployed: dict[tuple[str, str], Deployed] = {}
        failed: dict[str, str] = {}
        coming: set[str] = set()
        for service in table.services:
            key = (service.namespace, service.name)
            before = self._deployed.get(key)
            if before is not None and before.service == service and (before.is_resident or not service.loaded):
                deployed[key] = before
                continue
            if not service.loaded or (_waits_for_requests(service) and (before is None or not before.is_resident)):
                deployed[key] = Deployed(service, {}, is_resident=False)
                continue
            if self._missing(service):
                coming.add(service.name)
                if before is not None:
                    deployed[key] = before
                continue
            made, wrong = self._made(service)
            failed |= {f"{service.namespace}/{service.name}/{version}": reason for version, reason in wrong.items()}
            if not wrong:
                if before is not None:
                    made.used_at = before.used_at
                deployed[key] = made
            elif before is not None:
                deployed[key] = before
        self._deployed = deployed
        self._drop_unused()
        self._plane.take_table(table, deployed, failed, coming=frozenset(coming))
        self._keep_within_budget(spare=None)
        if not coming:
            self._on_taken(table.generation, failed)

    def _missing(self, service: Service) -> list[asyncio.Task[None]]:
        """The loads that a service waits for; those that are not under way begin."""
        loads = []
        for served in service.every_version:
            key = _key_of(served, service)
            if key in self._scorers or key in self._wrong:
                continue
            load = self._loading.get(key)
            if load is None:
                load = self._loading[key] = asyncio.create_task(self._load(key, served, service))
            loads.append(load)
        return loads

    async def _load(self, key: _Key, served: Served, service: Service) -> None:
        try:
            async with self._loads_at_once:
                scorer = await asyncio.to_thread(open_version, served, service, sockets=self._sockets)
        except GoldenloopError as error:
            self._wrong[key] = str(error)
        else:
            self._scorers[key] = scorer
            self._plane.metrics.loaded(service.namespace, service.name, served.version, scorer.load_seconds)
        del self._loading[key]
        self._apply()

    def _made(self, service: Service) -> tuple[Deployed, dict[str, str]]:
        """A service of loaded versions, and which versions that it needs are wrong, with the reason."""
        keys = {served.version: _key_of(served, service) for served in service.every_version}
        reasons = {version: self._wrong[key] for version, key in keys.items() if key in self._wrong}
        wrong = _wrong_versions(service, reasons)
        if wrong:
            return Deployed(service, {}, is_resident=False), wrong
        found = {version: self._scorers[key] for version, key in keys.items() if key in self._scorers}
        models = {served.version: found[served.version] for served in service.versions if served.version in found}
        transformer = None if service.transformer is None else found[service.transformer.version]
        explainer = None if service.explainer is None else found[service.explainer.version]
        return Deployed(service, models, transformer=transformer, explainer=explainer), {}

    async def _let_go(self) -> None:
        """Unload what was idle for too long, and close what nothing uses any more."""
        now = perf_counter()
        for key, deployed in list(self._deployed.items()):
            service = deployed.service
            is_over = now - deployed.used_at > service.idle_seconds
            if deployed.is_resident and _waits_for_requests(service) and is_over and self._plane.is_idle(*key):
                self._unload(deployed)
        self._drop_unused()
        still_used = []
        for namespace, name, scorer in self._leaving:
            if self._plane.is_idle(namespace, name):
                await scorer.close()
            else:
                still_used.append((namespace, name, scorer))
        self._leaving = still_used

    def _keep_within_budget(self, *, spare: tuple[str, str] | None) -> None:
        if self._memory_budget is None:
            return
        resident = [each for each in self._deployed.values() if each.is_resident and each.size_bytes]
        used = sum(each.size_bytes for each in resident)
        for deployed in sorted(resident, key=lambda each: each.used_at):
            key = (deployed.namespace, deployed.name)
            if used <= self._memory_budget:
                return
            if key != spare and self._plane.is_idle(*key):
                used -= deployed.size_bytes
                self._unload(deployed)

    def _unload(self, deployed: Deployed) -> None:
        gone = Deployed(deployed.service, {}, is_resident=False)
        self._deployed[deployed.namespace, deployed.name] = gone
        self._plane.replace(gone)
        self._plane.metrics.unloaded(deployed.namespace, deployed.name)

    def _drop_unused(self) -> None:
        in_use: set[int] = set()
        for deployed in self._deployed.values():
            beside = (deployed.transformer, deployed.explainer)
            in_use |= {id(scorer) for scorer in (*deployed.models.values(), *beside) if scorer is not None}
        services = () if self._table is None else self._table.services
        wanted = {
            _key_of(served, service)
            for service in services
            if service.loaded
            and (not _waits_for_requests(service) or (service.namespace, service.name) in self._coming)
            for served in service.every_version
        }
        for key, scorer in list(self._scorers.items()):
            if id(scorer) not in in_use and key not in wanted:
                del self._scorers[key]
                self._leaving.append((str(key[0]), str(key[1]), scorer))


def _waits_for_requests(service: Service) -> bool:
    """Whether a service is loaded by its first request. What runs in a process of its own is started and ended by its host."""
    return service.min_replicas == 0 and all(served.runtime == "onnx" for served in service.every_version)


def _key_of(served: Served, service: Service) -> _Key:
    """What makes two loads the same; how many processes there are is the service's own."""
    key: _Key = (service.namespace, service.name, served.path, served.digest)
    if served.runtime == "process":
        return (*key, service.min_replicas, service.max_replicas, service.idle_seconds)
    return key


def _wrong_versions(service: Service, reasons: dict[str, str]) -> dict[str, str]:
    """Versions that a service needs and that cannot take part, each with the reason. One that only stands by is not needed."""
    present = {served.version for served in service.every_version}
    beside = [each.version for each in (service.transformer, service.explainer) if each is not None]
    wrong: dict[str, str] = {}
    for version in (service.champion, *(route.version for route in service.routes), *service.shadows, *beside):
        if version in reasons:
            wrong[version] = reasons[version]
        elif version not in present:
            wrong[version] = "the routing table names it and does not say where it lies"
    return wrong
