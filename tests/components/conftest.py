"""A warm executor for the tests of this folder; the helpers that lie beside them and those of the pipelines' tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))

from small_pipelines import World, make_world

from goldenloop.pipelines.local import LocalExecutor


@pytest.fixture(scope="session")
def component_executor() -> Iterator[LocalExecutor]:
    executor = LocalExecutor()
    yield executor
    executor.close()


@pytest.fixture
def world(tmp_path: Path, component_executor: LocalExecutor) -> World:
    return make_world(tmp_path, component_executor)
