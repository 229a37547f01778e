"""What nobody waits for: runs that were deleted are removed, and then their folders."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldenloop.control.world import World
from goldenloop.core.clock import SECOND
from goldenloop.pipelines.run_records import purge

_EVERY_US = 10 * SECOND


class Housekeeping:
    """Tidies now and then. One thread calls `advance`."""

    def __init__(self, world: World, runs: Path) -> None:
        self._world = world
        self._runs = runs
        self._tidied_us: int | None = None

    def advance(self) -> bool:
        """Remove what is due, if the time has come; whether there was something. Raises UnavailableError."""
        now_us = self._world.clock.now_us()
        if self._tidied_us is not None and 0 <= now_us - self._tidied_us < _EVERY_US:
            return False
        self._tidied_us = now_us
        with self._world.database.write() as transaction:
            gone = purge(transaction, now_us=now_us)
            # Within the transaction: a folder that cannot be removed keeps its run on record, to be tried again.
            for run_id in gone:
                shutil.rmtree(self._runs / run_id, ignore_errors=True)
        return bool(gone)
