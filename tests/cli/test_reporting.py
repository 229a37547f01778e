"""`goldenloop report` of two frames, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner, Result

from goldenloop.cli.main import app


@pytest.fixture
def frames(tmp_path: Path) -> list[str]:
    generator = np.random.default_rng(1)
    for name, mean in (("before", 0.0), ("after", 1.0)):
        table = pa.table({"x": generator.normal(mean, 1.0, 500), "<b>": generator.normal(size=500)})
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    return ["--reference", str(tmp_path / "before.parquet"), "--current", str(tmp_path / "after.parquet")]


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, ["report", *words])


def test_two_frames_as_text_json_and_html(frames: list[str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    text = typed(*frames, "--html", str(page))
    assert text.exit_code == 0, text.output
    assert "fail: 1 of 2 compared columns have drifted (500 rows before, 500 now)" in text.output
    assert "<svg" in page.read_text()
    assert "<b>" not in page.read_text()
    shown = json.loads(typed(*frames, "--prediction", "x", "--output", "json").output)
    assert [(each["column"], each["role"], each["verdict"]) for each in shown["columns"]] == [
        ("x", "prediction", "fail"),
        ("<b>", "feature", "pass"),
    ]
    assert {"jensen_shannon", "population_stability", "distribution_p"} <= shown["columns"][0]["comparison"].keys()
    assert typed(*frames, "--output", "html").output.strip() == page.read_text().strip()


def test_a_report_is_of_a_loop_or_of_two_frames(frames: list[str], tmp_path: Path) -> None:
    for words in ([], frames[:2], ["loan", *frames]):
        told = typed(*words, "--output", "json")
        assert told.exit_code == 1
        assert json.loads(told.stdout.splitlines()[0])["error"]["what"] == "a report is of a loop, or of two frames"
    missing = typed(*frames, "--prediction", "gone", "--output", "json")
    assert json.loads(missing.stdout.splitlines()[0])["error"]["where"] == "--prediction"
    assert typed(*frames, "--html", str(tmp_path)).exit_code == 1
