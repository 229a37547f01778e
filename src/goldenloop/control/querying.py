"""Queries of people, each answered in a process of its own that may take so long and no longer."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from goldenloop.control.home import Home
from goldenloop.control.jobs import Failure
from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.json import Json

MOST_ROWS = 100_000  # that one answer carries
MOST_SECONDS = 80.0  # less than a client waits for any answer


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, of which installation, and the most rows that are wanted."""

    sql: str
    payloads: str
    database_url: str
    limit: int


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The rows, as JSON can carry them. `notices` say what was left out."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[list[Json]]
    notices: tuple[str, ...] = ()


def ask(home: Home, question: Question, *, seconds: float) -> Answered:
    """Answer a query. Raises RefusedError and InvalidSpecError as `work.query`, UnavailableError where it takes longer."""
    if not 0 < seconds <= MOST_SECONDS:
        raise InvalidSpecError(f"{seconds} s is not a time to wait", where="timeout", mend=f"At most {MOST_SECONDS}.")
    if not 0 < question.limit <= MOST_ROWS:
        raise InvalidSpecError(
            f"{question.limit} rows cannot be asked for", where="limit", mend=f"At most {MOST_ROWS}."
        )
    folder = Path(tempfile.mkdtemp(dir=home.work, prefix="query-"))
    try:
        (folder / "request.json").write_bytes(msgspec.json.encode(question))
        command = [sys.executable, "-m", "goldenloop.control.work.main", "query", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"the query took longer than {seconds:g} s", where="SQL", mend="Ask for less, or give --timeout."
            ) from None
        if (folder / "failure.json").exists():
            raise msgspec.json.decode((folder / "failure.json").read_bytes(), type=Failure).error()
        if done.returncode != 0:
            raise UnavailableError(
                f"the process of the query ended with {done.returncode}: {done.stderr[-500:].decode(errors='replace')}"
            )
        return msgspec.json.decode((folder / "response.json").read_bytes(), type=Answered)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
