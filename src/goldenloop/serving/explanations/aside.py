"""A process beside an inference worker that asks boosted trees for their contributions: `python -m goldenloop.serving.explanations.aside`.

It is started by the first request that needs it and ends with the worker, whose end of the pipe closes. A request is a line of JSON on
standard input, its answer a line on standard output; one request at a time. Who waits too long for it ends it, and the next request
starts another.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import Value
from goldenloop.serving.explanations.records import Explained, Trees

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_LINE = 64 * 1024 * 1024
_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to explain; a missing number is null."""

    folder: str
    signature: Signature
    form: Trees
    rows: tuple[tuple[dict[str, Value], str | float], ...]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The explanations, or why there are none."""

    explained: tuple[Explained, ...] = ()
    failure: str = ""


class _Beside:
    """The process, while there is one."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, asked: Asked) -> Told:
        async with self._turn:
            try:
                return await self._ask(asked)
            except BaseException:
                self._end()  # what it says next would answer another request
                raise

    async def _ask(self, asked: Asked) -> Told:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "goldenloop.serving.explanations.aside"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"OMP_NUM_THREADS": "1"},
            )
        assert process.stdin is not None  # as it was started
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(asked) + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        if not line:
            raise UnavailableError("the process that explains ended", mend="Send the request again.")
        return msgspec.json.decode(line, type=Told)

    def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None


_beside: dict[asyncio.AbstractEventLoop, _Beside] = {}


async def explain_aside(
    folder: Path, signature: Signature, form: Trees, rows: Sequence[tuple[Mapping[str, Value], str | float]]
) -> list[Explained]:
    """Explain rows by their version's trees. Raises UnavailableError where the trees, or the process, cannot be asked."""
    beside = _beside.setdefault(asyncio.get_running_loop(), _Beside())
    asked = Asked(
        folder=str(folder), signature=signature, form=form, rows=tuple((dict(row), answer) for row, answer in rows)
    )
    told = await beside.ask(asked)
    if told.failure:
        raise UnavailableError(told.failure)
    return list(told.explained)


def answer(line: bytes) -> Told:
    """What the process does with a request."""
    from goldenloop.serving.explanations.trees import explain_by_trees

    try:
        asked = msgspec.json.decode(line, type=Asked)
        numbers = [column.name for column in asked.signature.inputs if column.kind == "number"]
        explained = []
        for row, said in asked.rows:
            nothing = {name: float("nan") for name in numbers if row[name] is None}
            explained.append(
                explain_by_trees(Path(asked.folder), asked.form, asked.signature, {**row, **nothing}, said)
            )
    except GoldenloopError as error:
        return Told(failure=str(error))
    return Told(explained=tuple(explained))


def main() -> int:
    """Answer until nobody asks any more."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # libraries print
    for line in sys.stdin.buffer:
        out.write(msgspec.json.encode(answer(line)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
