"""One warm executor for the tests of this folder; each test has a world of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests, also for the process that is killed

from small_pipelines import World, make_world

from goldenloop.pipelines.local import LocalExecutor


@pytest.fixture(scope="session")
def warm_executor() -> Iterator[LocalExecutor]:
    executor = LocalExecutor()
    yield executor
    executor.close()


@pytest.fixture
def world(tmp_path: Path, warm_executor: LocalExecutor) -> World:
    return make_world(tmp_path, warm_executor)
