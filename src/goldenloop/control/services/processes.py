"""What the host of predictor processes says of versions that run in one: whether they load, and why not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from goldenloop.core.routing import Service
from goldenloop.serving.predictors.places import Place

_FAILURES_FORGIVEN = 2  # in a row: a crash may be bad luck, a model that says it cannot be loaded is not


class Predictors:
    """Reads the host's statuses. Without a folder there are no processes to ask about."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def is_loaded(self, digest: str) -> bool:
        """Whether a process of this version was ready, now or before it went to rest."""
        if self._folder is None:
            return True
        status = Place(self._folder, digest, 0).read_status()
        return status is not None and status.state in ("ready", "ending", "idle") and status.failures == 0

    def why_not(self, digest: str) -> str:
        """Why it does not load, empty as long as it may."""
        status = None if self._folder is None else Place(self._folder, digest, 0).read_status()
        if status is None or status.failures == 0:
            return ""
        cannot_load = status.ended is not None and status.ended.kind == "load"
        is_hopeless = status.state == "pausing" and (cannot_load or status.failures > _FAILURES_FORGIVEN)
        return (status.reason or "its process ends by itself") if is_hopeless else ""

    def failures(self, services: Iterable[Service]) -> dict[str, str]:
        """Versions in the table whose process fails: `namespace/service/version` to why."""
        return {
            f"{service.namespace}/{service.name}/{served.version}": why
            for service in services
            for served in service.every_version
            if served.runtime == "process" and (why := self.why_not(served.digest))
        }
