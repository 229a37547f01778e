"""Wrong data, wrong requests and wrong pipelines on a running platform: a clear error, nothing half done, the champion answers on."""

from __future__ import annotations

import csv
import http.client
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.badinput.conftest import GOOD, still_answers
from tests.support.platform import Platform, loop_file, running, typed, wait_for
from typer.testing import CliRunner

from goldenloop.cli.applying import read_resources
from goldenloop.cli.main import app
from goldenloop.core.json import JsonObject

pytestmark = pytest.mark.process

Rows = list[list[object]]


def rows(count: int = 300) -> Rows:
    """Good rows with a header."""
    dice = random.Random(5)
    made: Rows = [["a", "b", "label"]]
    for _ in range(count):
        value = dice.gauss(0, 1)
        made.append([round(value, 3), dice.choice("xyz"), "yes" if value > 0 else "no"])
    return made


def one_class(good: Rows) -> Rows:
    return [good[0], *([*row[:2], "yes"] for row in good[1:])]


def no_labels(good: Rows) -> Rows:
    return [good[0], *([*row[:2], ""] for row in good[1:])]


def only_a_header(good: Rows) -> Rows:
    return good[:1]


def ragged(good: Rows) -> Rows:
    return [*good[:50], [1, "x", "yes", "more", "and more"], *good[50:]]


def no_label_column(good: Rows) -> Rows:
    return [row[:2] for row in good]


def nothing(_good: Rows) -> Rows:
    return []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nothing, ["rows.csv", "empty"]),
        (only_a_header, ["no rows"]),
        (ragged, ["rows.csv"]),
        (no_label_column, ["data.label", "a, b"]),
        (no_labels, ["label"]),
        (one_class, ["label"]),
    ],
)
def test_data_that_cannot_be_learned_from_blocks_the_loop(
    platform: Platform, tmp_path: Path, spoil: Callable[[Rows], Rows], words: list[str]
) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(spoil(rows()))
    name = spoil.__name__.replace("_", "-")
    file = loop_file(tmp_path, name, {"data": {"source": "rows.csv", "label": "label"}})
    done = typed("apply", "-f", str(file), "--wait", home=platform.home, seconds=90)
    try:
        assert done.returncode == 1, done.stdout
        for word in words:
            assert word in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert platform.rows(f"select number from versions where model = '{name}'") == []
    finally:
        assert typed("delete", "loop", name, home=platform.home).returncode == 0


# requests


def post(platform: Platform, path: str, body: object) -> tuple[int, str]:
    """The status and text of an answer."""
    parts = urlsplit(platform.inference)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def infer(platform: Platform, row: dict[str, object]) -> tuple[int, str]:
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if isinstance(value, str) else "FP64",
            "shape": [1],
            "data": [value],
        }
        for name, value in row.items()
    ]
    return post(platform, "/v2/models/loans/infer", {"inputs": inputs})


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_number_is_answered(good: Platform, value: float | None) -> None:
    status, text = infer(good, {**GOOD, "income": value})
    assert status == 200, text
    still_answers(good)


def test_a_new_category_is_answered(good: Platform) -> None:
    assert infer(good, {**GOOD, "purpose": "a boat"})[0] == 200


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({name: value for name, value in GOOD.items() if name != "income"}, ["income"]),
        ({**GOOD, "income": "much"}, ["income"]),
        ({**GOOD, "wages": 1.0}, ["wages"]),
        ({}, ["inputs"]),
    ],
)
def test_wrong_rows_are_refused_by_name(good: Platform, row: dict[str, object], words: list[str]) -> None:
    status, text = infer(good, row)
    assert status == 400, text
    for word in words:
        assert word in text
    still_answers(good)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"inputs": 3}', b"\xff\xfe", b'{"inputs": [{"name": "a"}]}'])
def test_a_body_that_is_no_request_is_refused(good: Platform, body: bytes) -> None:
    status, text = post(good, "/v2/models/loans/infer", body)
    assert status == 400, text
    assert json.loads(text)["error"]
    still_answers(good)


def test_a_service_that_is_not_there(good: Platform) -> None:
    status, text = post(good, "/v2/models/lonas/infer", {"inputs": []})
    assert status == 404
    assert "loans" in text


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ([{"id": "x", "label": {"is": "yes"}}], "label"),
        ([{"label": "yes"}], "id"),
        ("yes", "label"),
        ([{"id": "x", "label": "yes", "row": -1}], "row"),
        ([{"id": "x", "label": "yes", "observed_at": "yesterday"}], "observed_at"),
    ],
)
def test_wrong_labels_are_refused_whole(good: Platform, labels: object, word: str) -> None:
    before = len(good.payloads()[1])
    both = [{"id": "fine", "label": "yes"}, *labels] if isinstance(labels, list) else labels
    status, text = post(good, "/v1/feedback", both)
    assert status == 400, text
    assert word in text
    assert len(good.payloads()[1]) == before, "nothing of it was taken"


def test_labels_for_the_unknown_and_labels_that_contradict_are_kept(good: Platform) -> None:
    identity = json.loads(infer(good, dict(GOOD))[1])["id"]
    for label in ("yes", "no"):
        assert post(good, "/v1/feedback", [{"id": identity, "label": label}])[0] == 202
    assert post(good, "/v1/feedback", [{"id": "01a20000-0000-7000-8000-000000000000", "label": "yes"}])[0] == 202
    kept = [label.label for label in good.payloads()[1] if label.prediction == identity]
    assert kept == ["yes", "no"]
    traced = typed("trace", identity, "-o", "json", home=good.home)
    assert traced.returncode == 0, traced.stderr
    assert json.loads(traced.stdout)


# pipelines

PIPELINE = """
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output


@dsl.component
def fit(data: Input[Dataset], label: str, what: str, model: Output[Model]):
    import os
    import signal

    import joblib
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    if what == "raise":
        raise ValueError("the rows are not to my liking")
    if what == "exit":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    table = pd.read_parquet(data.path)
    numbers = table.select_dtypes("number")
    if what == "nothing":
        return
    if what == "words":
        joblib.dump({"not": "an estimator"}, model.path)
        return
    if what == "rubbish":
        open(model.path, "w").write("this is no model")
        return
    odd = LogisticRegression().fit(numbers.fillna(0), table[label])
    odd.coef_ = odd.coef_[:, 1:]  # it has unlearned a column
    joblib.dump(odd, model.path)


@dsl.pipeline(name="odd")
def train(data: Input[Dataset], label: str, what: str) -> Model:
    return fit(data=data, label=label, what=what).outputs["model"]
"""


@pytest.fixture(scope="session")
def odd(project: Path) -> JsonObject:
    """The good loop with a pipeline that goes wrong as its parameter says."""
    (project / "odd.py").write_text(PIPELINE)
    text = (project / "loop.yaml").read_text() + "  pipeline: {source: 'odd.py:train'}\n"
    (project / "odd.yaml").write_text(text)
    (document,) = read_resources(project / "odd.yaml")
    return document


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise", ["fit", "the rows are not to my liking"]),
        ("exit", ["fit", "3"]),
        ("kill", ["fit", "SIGKILL"]),
        ("nothing", ["model"]),
        ("words", ["dict", "predict"]),
        ("rubbish", ["not a saved estimator"]),
        ("unable", ["cannot score the sample"]),
    ],
)
def test_a_pipeline_that_goes_wrong_leaves_the_champion(
    good: Platform, odd: JsonObject, what: str, words: list[str]
) -> None:
    spec = odd["spec"]
    assert isinstance(spec, dict)
    pipeline = spec["pipeline"]
    assert isinstance(pipeline, dict)
    good.client.apply({**odd, "spec": {**spec, "pipeline": {**pipeline, "parameters": {"what": what}}}})
    before = len(good.rows("select id from runs"))
    typed("run", "loans", home=good.home, seconds=90)

    def said() -> str:
        still = good.rows("select id from runs where not settled")
        if still or len(good.rows("select id from runs")) == before:
            return ""
        return str(
            good.rows("select text from timeline where kind = 'RunFailed' order by sequence desc limit 1")[0]["text"]
        )

    text = wait_for(said, "the end of the run")
    for word in words:
        assert word in text, text
    assert "the champion stays" in text
    assert len(good.rows("select number from versions where model = 'loans'")) == 1
    still_answers(good)


# starting


def test_a_port_or_a_home_that_is_taken(platform: Platform, tmp_path: Path) -> None:
    port = str(urlsplit(platform.inference).port)
    done = typed("up", "--detach", "--home", str(tmp_path / "other"), "--http-port", "0", "--inference-port", port)
    assert done.returncode == 1
    assert port in done.stderr
    assert "--inference-port" in done.stderr
    assert not (tmp_path / "other" / "addresses.json").exists()
    again = typed("up", "--detach", "--home", str(platform.home), "--http-port", "0", "--inference-port", "0")
    assert again.returncode == 1
    assert "goldenloop down" in again.stderr
    assert len(platform.processes("control")) == 1


def test_listening_to_the_world_is_refused(tmp_path: Path) -> None:
    done = typed("up", "--detach", "--home", str(tmp_path / "home"), "--host", "0.0.0.0", "--http-port", "0")
    assert done.returncode == 1
    assert "--host" in done.stderr


def test_a_full_disk_sends_requests_away_and_loses_nothing(good: Platform, project: Path, tmp_path: Path) -> None:
    """The payload log lies on a file system of 1 MiB: when it is full, requests are refused; with room again, they are answered."""
    home = tmp_path / "home"
    small = home / "payloads"
    small.mkdir(parents=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with running(home, workers=1) as full:
            done = typed("apply", "-f", str(project / "loop.yaml"), "--wait", home=home, seconds=90)
            assert done.returncode == 0, done.stderr
            answered = [json.loads(infer(full, dict(GOOD))[1])["id"]]
            filler = small / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 4096)
                except OSError:
                    pass
            refused = 0
            for _ in range(200):
                status, text = infer(full, dict(GOOD))
                if status == 200:
                    answered.append(json.loads(text)["id"])
                    continue
                assert status == 503, text
                assert "payload log" in text
                refused += 1
            assert refused > 0
            filler.unlink()
            status, text = infer(full, dict(GOOD))
            assert status == 200, text
            answered.append(json.loads(text)["id"])
            assert set(answered) <= {prediction.id for prediction in full.payloads()[0]}
    finally:
        subprocess.run(["umount", small], check=True)
    still_answers(good)


# verbs


def test_what_init_prints_works_when_typed(tmp_path: Path) -> None:
    done = typed("init", "loans", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert lines[0] == "cd loans"
    script = "set -e\n" + "\n".join(lines).replace(
        "up --detach", "up --detach --workers 1 --http-port 0 --inference-port 0"
    )
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": path, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "answers with version 1" in ran.stdout
    assert "stopped" in ran.stdout


def test_every_verb_speaks_json(good: Platform) -> None:
    identity = json.loads(typed("predict", "loans", json.dumps(GOOD), "-o", "json", home=good.home).stdout)["id"]
    (run,) = good.rows("select id from runs where name = 'loans-first'")
    said = [
        *(("get", kind) for kind in ("loops", "inferenceservices", "monitors", "triggers", "slos", "rollouts", "runs")),
        ("get", "versions", "loans"),
        ("get", "loops", "loans"),
        ("describe", "loop", "loans"),
        ("describe", "run", run["id"]),
        ("describe", "version", "loans/1"),
        ("logs", run["id"]),
        ("trace", identity),
        ("feedback", identity, "yes"),
        # what is refused is said in JSON, too
        ("promote", "loans", "7"),
        ("rollback", "loans"),
        ("get", "loops", "nobody"),
        ("describe", "loop", "nobody"),
        ("delete", "loop", "nobody"),
        ("run", "nobody"),
        ("logs", "nobody"),
        ("trace", "nobody"),
        ("predict", "nobody", "{}"),
        ("predict", "loans", "no json"),
        ("get", "what"),
    ]
    runner = CliRunner()
    for words in said:
        done = runner.invoke(app, [*words, "--output", "json"], env={"GOLDENLOOP_HOME": str(good.home)})
        found = json.loads(done.stdout)
        is_error = (
            isinstance(found, dict) and "error" in found and set(found["error"] or ()) == {"what", "where", "mend"}
        )
        assert done.exit_code == (1 if is_error else 0), (words, done.stdout)
        assert done.exception is None or isinstance(done.exception, SystemExit), words
    assert sum(1 for words in said if words[-1] in ("nobody", "7")) == 7
