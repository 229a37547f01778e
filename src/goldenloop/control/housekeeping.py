"""What nobody waits for: runs that were deleted are removed, and then their folders; segments that are not written any more are sealed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

from goldenloop.control.world import World
from goldenloop.core.clock import SECOND
from goldenloop.payloads.sealing import is_due
from goldenloop.pipelines.run_records import purge

_EVERY_US = 10 * SECOND
_SEAL_EVERY_US = 60 * SECOND  # a start is left alone for as long

_log = logging.getLogger(__name__)


class Housekeeping:
    """Tidies now and then. One thread calls `advance`."""

    def __init__(self, world: World, runs: Path, payloads: Path) -> None:
        self._world = world
        self._runs = runs
        self._sealing = Sealing(payloads)
        self._tidied_us: int | None = None
        self._sealed_us = world.clock.now_us()

    def advance(self) -> bool:
        """Remove what is due, if the time has come; whether there was something. Raises UnavailableError."""
        now_us = self._world.clock.now_us()
        if not 0 <= now_us - self._sealed_us < _SEAL_EVERY_US:
            self._sealed_us = now_us
            self._sealing.advance()
        if self._tidied_us is not None and 0 <= now_us - self._tidied_us < _EVERY_US:
            return False
        self._tidied_us = now_us
        with self._world.database.write() as transaction:
            gone = purge(transaction, now_us=now_us)
            # Within the transaction: a folder that cannot be removed keeps its run on record, to be tried again.
            for run_id in gone:
                shutil.rmtree(self._runs / run_id, ignore_errors=True)
        return bool(gone)

    def close(self) -> None:
        """End what is under way; the next start does it again."""
        self._sealing.close()


class Sealing:
    """Seals the payload log in a process of its own, at low priority, some segments at a time."""

    def __init__(self, payloads: Path) -> None:
        self._payloads = payloads
        self._process: subprocess.Popen[str] | None = None
        self._said = ""

    def advance(self) -> None:
        """Say once why the last one failed, and begin the next one where none is under way."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            _, told = self._process.communicate()
            if told.strip() and told != self._said:
                _log.error("sealing: %s", told.strip())
            self._said = told
            self._process = None
        if not is_due(self._payloads):
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", "goldenloop.payloads.sealing", str(self._payloads)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End it, as if it were cut off."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
