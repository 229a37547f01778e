"""Boosters in the files of XGBoost (`*.bst`, `*.json`, `*.ubj`) and LightGBM (`*.bst`, `*.txt`), told apart by their first bytes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from goldenloop.core.errors import GoldenloopError, RefusedError
from goldenloop.core.served import ServedForm
from goldenloop.serving.conversion.boosters import (
    Booster,
    ask_booster,
    convert_booster,
    load_lightgbm,
    load_xgboost,
    sample_for,
    signature_of_booster,
)
from goldenloop.serving.explanations import keep_explainer
from goldenloop.serving.formats.found import Found, Made, ends, head
from goldenloop.serving.formats.tables import converted, in_process

_XGBOOST_JSON = re.compile(rb'\s*\{\s*"(learner|version|Config)"')
_XGBOOST_UBJSON = (
    b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner",
    b"{L\x00\x00\x00\x00\x00\x00\x00\x07version",
    b"{i\x07learner",
)
_XGBOOST_OLD = (b"binf", b"bs64")
_LIGHTGBM = re.compile(rb"tree\r?\nversion=v\d")


def find_xgboost(folder: Path, names: Sequence[str]) -> list[Found]:
    """Files that begin as XGBoost's do. Raises RefusedError for its old binary form."""
    found = []
    for name in names:
        if ends(name, ".bst", ".json", ".ubj", ".model", ".xgb"):
            begin = head(folder / name)
            if begin.startswith(_XGBOOST_OLD) and not ends(name, ".json"):
                raise RefusedError(
                    "it is of XGBoost's old binary form, which newer releases do not read",
                    where=name,
                    mend="Load it with the release that wrote it, and save it as model.ubj or model.json.",
                )
            if _XGBOOST_JSON.match(begin) or begin.startswith(_XGBOOST_UBJSON):
                found.append(found_at(folder, name, "xgboost"))
    return found


def find_lightgbm(folder: Path, names: Sequence[str]) -> list[Found]:
    """Files that begin as LightGBM's do."""
    return [
        found_at(folder, name, "lightgbm")
        for name in names
        if ends(name, ".bst", ".txt", ".lgb", ".model") and _LIGHTGBM.match(head(folder / name))
    ]


def found_at(
    folder: Path, name: str, kind: str, *, called: str = "", version: str = "", columns: tuple[str, ...] = ()
) -> Found:
    """The booster in this file; `kind` is `xgboost` or `lightgbm`."""
    return Found(
        format=called or kind,
        loader="xgboost" if kind == "xgboost" else "lightgbm",
        folder=folder,
        file=name,
        files=(name,),
        also=kind,
        framework_version=version,
        columns=columns,
    )


def make(found: Found, out: Path) -> Made:
    """Convert it if that changes nothing, and keep the booster itself otherwise. Raises InvalidSpecError, RefusedError."""
    # The libraries go by the ending of the name, which may be one that they share.
    kept = out / f"model{'.txt' if found.loader == 'lightgbm' else _ending(found.path)}"
    shutil.copyfile(found.path, kept)
    booster = load_xgboost(kept) if found.loader == "xgboost" else load_lightgbm(kept)
    columns = found.columns if len(found.columns) == len(booster.columns) else booster.columns
    if len(set(columns)) != len(columns) or not columns:
        raise RefusedError("columns share a name", where=found.file, mend="Train on columns with names of their own.")
    signature = signature_of_booster(booster, columns)
    sample = sample_for(booster, columns)
    expected = ask_booster(booster, sample)
    try:
        record = convert_booster(booster, signature, sample, expected, out=out)
    except GoldenloopError as error:
        form = ServedForm(
            form="table",
            runtime="process",
            loader=found.loader,
            format=found.format,
            framework_version=found.framework_version,
            file=kept.name,
            signature=signature,
            batching=True,
        )
        made = _scoring(in_process(form, sample, expected, why=str(error), out=out), booster)
        keep_explainer(
            out,
            signature,
            sample,
            background="made-up rows",
            booster=(kept, "xgboost" if found.loader == "xgboost" else "lightgbm"),
        )
        return made
    explainer = keep_explainer(
        out,
        signature,
        sample,
        background="made-up rows",
        booster=(kept, "xgboost" if found.loader == "xgboost" else "lightgbm"),
    )
    if explainer.form is None:
        kept.unlink()
    return _scoring(converted(found, record), booster)


def _scoring(made: Made, booster: Booster) -> Made:
    """A booster gives to V1 clients what its `predict` gives: probabilities, unless classes were asked for in training."""
    if not booster.classes or booster.gives_classes:
        return made
    return replace(made, form=msgspec.structs.replace(made.form, v1="scores"))


def _ending(path: Path) -> str:
    """The ending by which XGBoost knows how to read a file."""
    return ".ubj" if head(path).startswith(_XGBOOST_UBJSON) else ".json"
