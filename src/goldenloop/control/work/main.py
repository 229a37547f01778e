"""The entry of a job's process: `python -m goldenloop.control.work.main KIND FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from goldenloop.control.jobs import Failure
from goldenloop.core.errors import GoldenloopError


def _prepare(folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.prepare import prepare
    from goldenloop.control.work.records import Preparation

    return prepare(msgspec.json.decode(request, type=Preparation), folder)


def _assess(folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.assess import assess
    from goldenloop.control.work.records import Assessment

    return assess(msgspec.json.decode(request, type=Assessment), folder)


def _explain(_folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.explain import explain
    from goldenloop.control.work.records import Explanation

    return explain(msgspec.json.decode(request, type=Explanation))


def _remake(folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.records import Remaking
    from goldenloop.control.work.remake import remake

    return remake(msgspec.json.decode(request, type=Remaking), folder)


def _baselines(_folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.baselines import compare
    from goldenloop.control.work.records import Comparison

    return compare(msgspec.json.decode(request, type=Comparison))


def _examine(folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.examine import examine
    from goldenloop.control.work.records import Examination

    return examine(msgspec.json.decode(request, type=Examination), folder)


def _bring(_folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.work.examine import Bringing, bring

    return bring(msgspec.json.decode(request, type=Bringing))


def _query(_folder: Path, request: bytes) -> msgspec.Struct:
    from goldenloop.control.querying import Question
    from goldenloop.control.work.query import answer

    return answer(msgspec.json.decode(request, type=Question))


KINDS: dict[str, Callable[[Path, bytes], msgspec.Struct]] = {
    "prepare": _prepare,
    "assess": _assess,
    "explain": _explain,
    "remake": _remake,
    "baselines": _baselines,
    "examine": _examine,
    "bring": _bring,
    "query": _query,
}


def main(kind: str, folder: Path) -> int:
    """Do the work; leave `response.json`, or `failure.json` and exit code 1."""
    try:
        result = KINDS[kind](folder, (folder / "request.json").read_bytes())
    except GoldenloopError as error:
        failure = Failure(kind=type(error).__name__, what=error.what, where=error.where, mend=error.mend)
        _leave(folder / "failure.json", failure)
        return 1
    _leave(folder / "response.json", result)
    return 0


def _leave(path: Path, record: msgspec.Struct) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(record))
    partial.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
