"""Work on a model while somebody waits for its result: one process for one question, with a bound on its time.

What nobody waits for is a job (`goldenloop.control.jobs`); the kinds of work are the same (`goldenloop.control.work.main`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from goldenloop.control.home import Home
from goldenloop.control.jobs import Failure
from goldenloop.core.errors import UnavailableError

Result = TypeVar("Result", bound=msgspec.Struct)


def work_apart(kind: str, request: msgspec.Struct, result: type[Result], home: Home, *, seconds: float) -> Result:
    """Have the work done and return what it found. Raises the work's own error, UnavailableError where it took too long or died."""
    folder = Path(tempfile.mkdtemp(dir=home.work, prefix=f"{kind}-"))
    try:
        (folder / "request.json").write_bytes(msgspec.json.encode(request))
        command = [sys.executable, "-m", "goldenloop.control.work.main", kind, str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"the work {kind!r} took longer than {seconds:.0f} s") from None
        if (folder / "failure.json").exists():
            raise msgspec.json.decode((folder / "failure.json").read_bytes(), type=Failure).error()
        if done.returncode != 0:
            said = done.stderr[-500:].decode(errors="replace")
            raise UnavailableError(f"the process of the work {kind!r} ended with {done.returncode}: {said}")
        return msgspec.json.decode((folder / "response.json").read_bytes(), type=result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
