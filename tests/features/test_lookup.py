"""Features by key: the newest row of each, read again when the files change."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.features import lookup
from goldenloop.features.lookup import FEATURES_VARIABLE, ParquetFeatures
from goldenloop.serving.formats import make_form, recognise
from goldenloop.serving.predictors.loaders import load


def write(path: Path, **columns: list[object]) -> Path:
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_the_newest_row_of_a_key_is_found(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.parquet",
        customer=[1, 2, 1],
        timestamp=list(pd.to_datetime(["2024-03-01", "2024-01-01", "2024-02-01"])),
        income=[30.0, 50.0, 20.0],
        city=["Ulm", "Bonn", "Jena"],
    )
    found = ParquetFeatures(f"{path}#customer").get("customer", [2, 1, 9])
    assert (found["income"], found["city"]) == ([50.0, 30.0, None], ["Bonn", "Ulm", None])


def test_files_that_change_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "LOOK_SECONDS", 0.0)
    write(tmp_path / "a.parquet", key=["x"], value=[1])
    features = ParquetFeatures(f"file://{tmp_path}#key")
    write(tmp_path / "b.parquet", key=["x", "y"], value=[2, 3])
    assert features.get("key", ["x", "y"])["value"] == [2, 3]
    (tmp_path / "b.parquet").write_bytes(b"half of a file")
    assert features.get("key", ["x"])["value"] == [2], "what was read before stays"


@pytest.mark.parametrize("uri", ["", "/rows.parquet", "/rows.parquet#", "#key", "s3://bucket/rows.parquet#key"])
def test_an_address_without_a_key_is_refused(uri: str) -> None:
    with pytest.raises(InvalidSpecError):
        ParquetFeatures(uri)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file"):
        ParquetFeatures(f"{tmp_path / 'none.parquet'}#key")
    with pytest.raises(UnavailableError, match="no Parquet files"):
        ParquetFeatures(f"{tmp_path}#key")
    path = write(tmp_path / "rows.parquet", key=["x"], value=[1])
    with pytest.raises(UnavailableError, match="There are key, value"):
        ParquetFeatures(f"{path}#customer")
    with pytest.raises(InvalidSpecError, match="kept by 'key'"):
        ParquetFeatures(f"{path}#key").get("customer", ["x"])


@pytest.mark.parametrize("constructor", ["", "    def __init__(self, features):\n        self.given = features\n"])
def test_a_users_class_looks_features_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constructor: str) -> None:
    path = write(tmp_path / "rows.parquet", customer=["ann", "bob"], income=[30.0, 50.0])
    monkeypatch.setenv(FEATURES_VARIABLE, f"{path}#customer")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text(
        f"class Enriching:\n{constructor}"
        "    def preprocess(self, payload):\n"
        "        keys = [row['customer'] for row in payload['instances']]\n"
        "        return {'instances': self.features.get('customer', keys)['income']}\n"
    )
    out = tmp_path / "served"
    form = make_form(recognise(tmp_path / "code", said="python"), out).form
    model = load(out, form, name="enriching", threads=1)
    asked = {"instances": [{"customer": "bob"}, {"customer": "ann"}, {"customer": "eve"}]}
    assert model.call("preprocess", asked, {}) == {"instances": [50.0, 30.0, None]}  # type: ignore[comparison-overlap]
