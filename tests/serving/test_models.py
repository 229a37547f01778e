"""Loading and scoring served forms: the right answers, and errors that say what is wrong with the files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.serving.workbench import COLUMNS, make_version

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.serving.models import load
from goldenloop.serving.scoring import score_table
from goldenloop.standards.tabular import Batch


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_version(tmp_path_factory.mktemp("models") / "1")


def test_columns_and_tables_and_batches_score_alike(version: Path) -> None:
    model = load(version)
    generator = np.random.default_rng(1)
    columns = {name: generator.normal(size=5000) for name in COLUMNS}
    answers = model.predict(columns, 5000)
    assert [label for label, _ in answers] == ["UP" if price > 0 else "DOWN" for price in columns["price"]] or (
        # The fitted boundary is not exactly at zero.
        np.mean(
            [
                label == ("UP" if price > 0 else "DOWN")
                for (label, _), price in zip(answers, columns["price"], strict=True)
            ]
        )
        > 0.95
    )
    assert score_table(model, pa.table({**columns, "other": ["x"] * 5000})) == answers
    halves = [model.layout.from_columns({name: part[name] for name in COLUMNS}, where="") for part in (
        {name: values[:2000] for name, values in columns.items()}, {name: values[2000:] for name, values in columns.items()}
    )]  # fmt: skip
    assert model.score(Batch.joined(halves)) == answers
    with pytest.raises(InvalidSpecError, match="not 4999"):
        model.predict(columns, 4999)


def test_tables_with_other_types(version: Path) -> None:
    model = load(version)
    numbers = {
        "price": pa.array([1, 2]),
        "demand": pa.array([1.5, 2.5], pa.float32()),
        "transfer": pa.array([True, False]),
    }
    assert [label for label, _ in score_table(model, pa.table(numbers))] == ["UP", "UP"]
    assert score_table(model, pa.table({name: pa.array([], pa.float64()) for name in COLUMNS})) == ()
    with pytest.raises(InvalidSpecError, match="'demand' is missing"):
        score_table(model, pa.table({"price": [1.0], "transfer": [1.0]}))
    with pytest.raises(InvalidSpecError, match="'price' holds numbers, not the text 'dear'"):
        score_table(model, pa.table({"price": ["dear"], "demand": [1.0], "transfer": [1.0]}))
    with pytest.raises(InvalidSpecError, match="of type list"):
        score_table(model, pa.table({"price": [[1.0]], "demand": [1.0], "transfer": [1.0]}))


def test_no_number_is_no_answer(version: Path) -> None:
    with pytest.raises(UnavailableError, match="no number for row 1"):
        load(version).predict({name: np.array([1.0, np.nan]) for name in COLUMNS}, 2)


@pytest.mark.parametrize(
    ("file", "content", "kind", "said"),
    [
        ("model.onnx", None, UnavailableError, "not there"),
        ("signature.json", None, UnavailableError, "cannot be read"),
        ("model.onnx", b"", InvalidSpecError, "not a model"),
        ("model.onnx", b"\x80\x04pickle", InvalidSpecError, "not a model"),
        ("signature.json", b"{", InvalidSpecError, "not a signature"),
        ("signature.json", b'{"inputs": [], "task": "regression"}', InvalidSpecError, "at least one input"),
        (
            "signature.json",
            b'{"inputs": [{"name": "a", "kind": "number"}], "task": "classification"}',
            InvalidSpecError,
            "names its classes",
        ),
        (
            "signature.json",
            b'{"inputs": [{"name": "a", "kind": "category"}], "task": "regression"}',
            InvalidSpecError,
            "the graph takes features, the signature a",
        ),
    ],
)
def test_broken_folders(
    version: Path, tmp_path: Path, file: str, content: bytes | None, kind: type[Exception], said: str
) -> None:
    folder = shutil.copytree(version, tmp_path / "copy")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(kind, match=said):
        load(folder)


def test_a_graph_that_gives_another_class(version: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(version, tmp_path / "copy")
    path = folder / "signature.json"
    path.write_bytes(path.read_bytes().replace(b'"UP"', b'"SIDEWAYS"'))
    with pytest.raises(UnavailableError, match="'UP', which is none of its classes"):
        load(folder).predict({name: np.array([2.0]) for name in COLUMNS}, 1)
