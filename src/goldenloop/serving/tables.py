"""Following the routing table: read it, load what is new beside what runs, then switch.

Rules. Versions are loaded in a thread, before the switch; requests go on meanwhile. A service with a version that it needs and that
does not load stays as it was, and the reason is reported. Loaded versions are shared by path and digest, and let go when no service
names them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.serving.dataplane import DataPlane, Deployed
from goldenloop.serving.models import Model, load

POLL_SECONDS = 0.25


class TableFollower:
    """Keeps a data plane on the newest table of a file. `on_taken` is told the generation and what failed."""

    def __init__(self, path: Path, plane: DataPlane, *, on_taken: Callable[[int, dict[str, str]], None]) -> None:
        self._path = path
        self._plane = plane
        self._on_taken = on_taken
        self._models: dict[tuple[str, str], Model] = {}  # by path and digest
        self._deployed: dict[tuple[str, str], Deployed] = {}
        self._mark: tuple[int, int, int] | None = None
        self._woken = asyncio.Event()
        self.trouble = ""  # why the file itself could not be taken, the last time

    def wake(self) -> None:
        """Look at the file now."""
        self._woken.set()

    async def follow(self) -> None:
        """Take every table that comes, for ever."""
        while True:
            await self.look()
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
        await self._take(table)

    async def _take(self, table: RoutingTable) -> None:
        wanted = {(served.path, served.digest): served for service in table.services for served in service.versions}
        reasons: dict[tuple[str, str], str] = {}
        loaded = dict(self._models)
        for key, served in wanted.items():
            if key not in loaded:
                try:
                    loaded[key] = await asyncio.to_thread(_load, served)
                except GoldenloopError as error:
                    reasons[key] = str(error)
        deployed: dict[tuple[str, str], Deployed] = {}
        failed: dict[str, str] = {}
        for service in table.services:
            name = (service.namespace, service.name)
            wrong = _wrong_versions(service, reasons)
            for version, reason in wrong.items():
                failed[f"{service.namespace}/{service.name}/{version}"] = reason
            if not wrong:
                models = {
                    served.version: loaded[served.path, served.digest]
                    for served in service.versions
                    if (served.path, served.digest) in loaded
                }
                deployed[name] = Deployed(service, models)
            elif name in self._deployed:
                deployed[name] = self._deployed[name]
        self._deployed = deployed
        in_use = {id(model) for entry in deployed.values() for model in entry.models.values()}
        self._models = {key: model for key, model in loaded.items() if id(model) in in_use}
        self._plane.take_table(table, deployed, failed)
        self._on_taken(table.generation, failed)


def _load(served: Served) -> Model:
    return load(Path(served.path))


def _wrong_versions(service: Service, reasons: dict[tuple[str, str], str]) -> dict[str, str]:
    """Versions that a service needs and that cannot take part, each with the reason. One that only stands by is not needed."""
    present = {served.version: served for served in service.versions}
    wrong: dict[str, str] = {}
    for version in (service.champion, *(route.version for route in service.routes), *service.shadows):
        served = present.get(version)
        if served is not None and (served.path, served.digest) in reasons:
            wrong[version] = reasons[served.path, served.digest]
        elif served is None:
            wrong[version] = "the routing table names it and does not say where it lies"
    return wrong
