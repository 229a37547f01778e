"""A whole platform with a loop whose model no converter knows: it is served by a process of its own, and everything else goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator

import msgspec
import pytest
from tests.support.platform import Platform, running, typed, wait_for

from goldenloop.cli.scaffold import make_project
from goldenloop.serving.predictors.places import Status

pytestmark = pytest.mark.process

ROW = {"amount": 3000, "months": 24, "income": 2400, "employed_years": 4}
PIPELINE = """
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output


@dsl.component
def fit(data: Input[Dataset], label: str, model: Output[Model]):
    import joblib
    import numpy
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    table = pd.read_parquet(data.path)
    numbers = table.select_dtypes("number").drop(columns=label, errors="ignore").fillna(0)
    odd = make_pipeline(FunctionTransformer(numpy.cbrt), LogisticRegression(max_iter=1000))
    joblib.dump(odd.fit(numbers, table[label]), model.path)


@dsl.pipeline(name="odd")
def train(data: Input[Dataset], label: str) -> Model:
    return fit(data=data, label=label).outputs["model"]
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("unconverted")
    project = folder / "loans"
    shutil.move(make_project("loans", None).folder.absolute(), project)
    (project / "odd.py").write_text(PIPELINE)
    with (project / "loop.yaml").open("a") as file:
        file.write("  pipeline: {source: 'odd.py:train'}\n")
    with running(folder / "home", workers=2) as started:
        done = typed("apply", "-f", str(project / "loop.yaml"), "--wait", home=started.home, seconds=120)
        assert done.returncode == 0, done.stderr + started.logs()
        yield started


def predict(platform: Platform) -> dict[str, object]:
    done = typed("predict", "loans", json.dumps(ROW), "--output", "json", home=platform.home)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def pid(platform: Platform) -> int | None:
    found = list((platform.home / "work" / "predictors").glob("*.json"))
    status = msgspec.json.decode(found[0].read_bytes(), type=Status) if found else None
    return status.pid if status is not None and status.state == "ready" else None


def test_answers_and_says_why_it_is_not_converted(platform: Platform) -> None:
    assert predict(platform)["version"] == "1"
    described = json.loads(typed("describe", "version", "loans/1", "--output", "json", home=platform.home).stdout)
    conversion = described["conversion"]
    assert conversion["runtime"] == "process"
    assert "FunctionTransformer" in conversion["rule"]


def test_its_process_may_be_killed(platform: Platform) -> None:
    predict(platform)
    before = pid(platform)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    assert predict(platform)["version"] == "1"
    wait_for(lambda: pid(platform) not in (None, before), "another process")


def test_a_prediction_is_explained(platform: Platform) -> None:
    answer = predict(platform)

    def explained() -> bool:
        done = typed("trace", str(answer["id"]), "--output", "json", home=platform.home)
        return done.returncode == 0 and bool(json.loads(done.stdout).get("attributions"))

    wait_for(explained, "the attributions")


def test_a_changed_pickle_is_not_loaded(platform: Platform) -> None:
    """Whoever can write into the artifacts cannot have code run by it."""
    predict(platform)
    before = pid(platform)
    assert before is not None
    (model,) = (platform.home / "artifacts").rglob("served.json")
    pickle = model.with_name("model.joblib")
    pickle.chmod(0o600)
    content = pickle.read_bytes()
    pickle.write_bytes(content + b"more")
    host = platform.processes("predictors")
    os.kill(host[0], signal.SIGKILL)
    done = typed("predict", "loans", json.dumps(ROW), home=platform.home)
    assert done.returncode == 1
    assert "changed after they were signed" in done.stderr
    pickle.write_bytes(content)
    wait_for(lambda: typed("predict", "loans", json.dumps(ROW), home=platform.home).returncode == 0, "the answer")
