"""One platform with one good loop, for all tests of wrong input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.platform import Platform, running, typed

from goldenloop.cli.scaffold import make_project

GOOD = {"amount": 3000, "months": 24, "income": 2400, "purpose": "car", "employed_years": 4}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `goldenloop init` makes; the loop is called `loans`."""
    folder = tmp_path_factory.mktemp("project")
    made = make_project("loans", None).folder.absolute()
    shutil.move(made, folder / "loans")
    return folder / "loans"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("platform") / "home", workers=1) as started:
        yield started


@pytest.fixture(scope="session")
def good(platform: Platform, project: Path) -> Platform:
    """The platform, with the loop `loans` answering by version 1."""
    done = typed("apply", "-f", str(project / "loop.yaml"), "--wait", home=platform.home)
    assert done.returncode == 0, done.stderr + platform.logs()
    return platform


def still_answers(platform: Platform) -> None:
    """The champion stays and answers."""
    done = typed("predict", "loans", json.dumps(GOOD), "--output", "json", home=platform.home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "1"
