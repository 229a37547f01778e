"""What a predictor prints: kept in a file that is bounded, the older half in a second one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LARGEST_LOG = 1 << 20  # bytes of each of the two files
_PIECE = 1 << 16


class Output:
    """Pumps a pipe into a log."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - it lives as long as the process

    def pump(self) -> bool:
        """Take what is there, at most one piece: others wait to be looked at too. Whether more may come."""
        try:
            piece = os.read(self.descriptor, _PIECE)
        except BlockingIOError:
            return True
        self._keep(piece)
        return bool(piece)

    def close(self) -> None:
        """Take the rest and let go."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(LARGEST_LOG // _PIECE):  # a child that lives on may write for ever
                if not (piece := os.read(self.descriptor, _PIECE)):
                    break
                self._keep(piece)
        os.close(self.descriptor)
        self._file.close()

    def _keep(self, piece: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk does not end the model
            if self._file.tell() + len(piece) > LARGEST_LOG:
                os.replace(self._path, self._path.with_suffix(".log.1"))
                self._file.close()
                self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
            self._file.write(piece)
