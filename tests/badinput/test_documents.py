"""Files that are wrong: the error says what, where and how to mend it, before anything is sent to a platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.platform import typed

HEAD = "apiVersion: goldenloop.dev/v1alpha1\nkind: Loop\nmetadata: {name: loans}\n"


def apply(folder: Path, text: str) -> tuple[int, str]:
    """The exit code and the error of applying this text, with no platform running."""
    path = folder / "loop.yaml"
    path.write_text(text)
    (folder / "rows.csv").write_text("a,b\n1,yes\n2,no\n")
    done = typed("apply", "-f", str(path), home=folder / "home")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2\nb: 3\n", ["loop.yaml:2:2", "not YAML"]),
        ("", ["loop.yaml", "no resource"]),
        ("- 1\n- 2\n", ["loop.yaml"]),
        ("kind: Loop\n", ["loop.yaml", "apiVersion"]),
        (HEAD.replace("Loop", "Lop") + "spec: {data: {source: rows.csv}}\n", ["loop.yaml", "Lop", "Loop"]),
        (HEAD + "spec: {data: {source: rows.csv}, retrian: {cooldown: 1h}}\n", ["spec", "retrian", "retrain"]),
        (HEAD + "spec: {data: {source: rows.csv}, retrain: {cooldwn: 1h}}\n", ["spec.retrain", "cooldwn", "cooldown"]),
        (HEAD + "spec: {data: {source: rows.csv}, retrain: {cooldown: soon}}\n", ["spec.retrain.cooldown", "soon"]),
        (HEAD + "spec: {data: {source: rows.csv}, rollout: {canary: [50, 5]}}\n", ["spec.rollout.canary", "rising"]),
        (HEAD + "spec: {data: {source: rows.csv}, rollout: {alpha: 2}}\n", ["spec.rollout.alpha"]),
        (HEAD + "spec: {data: {source: nothing.csv}}\n", ["spec.data.source", "nothing.csv"]),
        (HEAD + "spec: {}\n", ["spec", "data"]),
        (
            HEAD + "spec: {data: {source: rows.csv}, objectives: [{indicator: accuracy, target: high}]}\n",
            ["target", ">="],
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, words: list[str]) -> None:
    code, error = apply(tmp_path, text)
    assert code == 1
    for word in words:
        assert word in error, error


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def train(:\n    pass\n", ["train.py", "line 1"]),
        (
            "from kfp import dsl\n\n\n@dsl.component\ndef one():\n    pass\n\n\n@dsl.pipeline\ndef other():\n    one()\n",
            ["train.py", "train", "other"],
        ),
        ("from kfp import dsl\n\n\n@dsl.pipeline\ndef train():\n    pass\n", ["train.py, line 4"]),
        ("from kfp import dsl\nimport nothing_of_this_name\n", ["train.py", "line 2", "nothing_of_this_name"]),
        (
            "from kfp import dsl\n\n\n@dsl.component\ndef one(a: int) -> int:\n    return a\n\n\n"
            "@dsl.pipeline\ndef train():\n    one(a='x', b=2)\n",
            ["train.py", "line 11"],
        ),
    ],
)
def test_a_pipeline_that_does_not_compile_is_refused_with_file_and_line(
    tmp_path: Path, source: str, words: list[str]
) -> None:
    (tmp_path / "train.py").write_text(source)
    code, error = apply(tmp_path, HEAD + "spec: {data: {source: rows.csv}, pipeline: {source: 'train.py:train'}}\n")
    assert code == 1
    for word in words:
        assert word in error, error


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = typed("apply", "-f", str(tmp_path / "no.yaml"), home=tmp_path / "home")
    assert done.returncode == 1
    assert "no.yaml" in done.stderr


def test_without_a_platform_every_verb_says_how_to_start_one(tmp_path: Path) -> None:
    for words in (("get", "loops"), ("predict", "loans", "{}"), ("trace", "x"), ("down",), ("run", "loans")):
        done = typed(*words, "--output", "json", home=tmp_path / "home")
        assert done.returncode == 1, words
        assert "goldenloop up" in done.stderr, done.stderr
        assert set(json.loads(done.stdout)["error"]) == {"what", "where", "mend"}


@pytest.mark.parametrize(
    "words", [("aply",), ("apply",), ("get",), ("up", "--http-port", "many"), ("get", "loops", "-o", "xml")]
)
def test_wrong_use_ends_with_2(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert typed(*words, home=tmp_path / "home").returncode == 2


def test_init_does_not_write_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "loans").mkdir()
    done = typed("init", "loans", folder=tmp_path)
    assert done.returncode == 1
    assert "loans" in done.stderr
    assert "another name" in done.stderr
    assert list((tmp_path / "loans").iterdir()) == []
    assert typed("init", "No Name!", folder=tmp_path).returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loans"]
