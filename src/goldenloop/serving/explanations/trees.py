"""Boosted trees of XGBoost and LightGBM: the contributions that the libraries compute from the trees themselves (TreeSHAP, exact).

What is usual for them is the mean over the rows that the trees were grown on, which each tree keeps in its nodes. (Lundberg, Erion & Lee,
"Consistent individualized feature attribution for tree ensembles", 2018.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import Value
from goldenloop.serving.conversion.boosters import Booster, load_lightgbm, load_xgboost
from goldenloop.serving.explanations.records import Explained, Library, Trees, chosen_score, explained_by_parts
from goldenloop.stats.attributions import Attribution

if TYPE_CHECKING:
    import pyarrow

AGAINST = "the rows that the trees were grown on"
_LOADED = 8  # boosters that stay in memory


def explain_by_trees(
    folder: Path, form: Trees, signature: Signature, row: Mapping[str, Value], answer: str | float
) -> Explained:
    """Explain one row. Raises UnavailableError where the trees cannot be asked."""
    booster = _load(folder / form.file, form.library)
    scores = contributions(booster, _table(signature, row))[0]
    place, sign = chosen_score(signature, answer, len(scores))
    mine = (sign * scores[place]).tolist()
    parts = [
        Attribution(name=name, value=row[name], contribution=part, error=0.0)
        for name, part in zip(signature.names, mine, strict=False)
    ]
    if signature.classes:
        of = f"log-odds of {answer}" if len(scores) == 1 else f"score of {answer}"
    else:
        of = "value" if form.is_value else "score"
    return explained_by_parts(parts, usual=mine[-1], of=of, method="trees", against=AGAINST)


def trees_form(path: Path, library: Library, sample: pyarrow.Table) -> Trees | None:
    """Look whether the booster in a file can be asked for contributions, None where it cannot be."""
    try:
        booster = load_xgboost(path) if library == "xgboost" else load_lightgbm(path)
        rows = sample.slice(0, 50)
        sums = contributions(booster, rows).sum(axis=2)
        is_value = not booster.classes and np.allclose(sums[:, 0], booster.answer(rows), rtol=1e-4, atol=1e-6)
    except (GoldenloopError, ValueError, TypeError):
        return None
    return Trees(library=library, file=path.name, is_value=bool(is_value))


def contributions(booster: Booster, rows: pyarrow.Table) -> np.ndarray:
    """Return an array [rows, scores, columns + 1]; the last entry is what is usual. Raises UnavailableError."""
    try:
        raw = booster.contributions(rows)
    except Exception as error:  # whatever the libraries raise
        raise UnavailableError(f"the trees cannot be asked: {type(error).__name__}: {str(error)[:300]}") from error
    width = len(booster.columns) + 1
    return raw.reshape(rows.num_rows, -1, width).astype(np.float64)


@lru_cache(_LOADED)
def _load(path: Path, library: Library) -> Booster:
    return load_xgboost(path) if library == "xgboost" else load_lightgbm(path)


def _table(signature: Signature, row: Mapping[str, Value]) -> pyarrow.Table:
    import pyarrow

    return pyarrow.table(
        {
            column.name: pyarrow.array(
                [row[column.name]],
                pyarrow.float64() if column.kind == "number" else pyarrow.string(),
                from_pandas=False,
            )
            for column in signature.inputs
        }
    )
