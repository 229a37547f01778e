"""Explaining one answer: which inputs made it what it is, by the model that gave it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from goldenloop.control.work.records import Explained, Explanation
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.payloads.records import Value
from goldenloop.serving.models import load
from goldenloop.serving.scoring import batch_of_table
from goldenloop.stats.attributions import attribute

_SEED = 5  # the same prediction is explained alike each time


def explain(request: Explanation) -> Explained:
    """Do it. Raises NotFoundError where the version's files are gone, InvalidSpecError where the row does not fit the model."""
    folder = Path(request.folder)
    if not (folder / "background.parquet").exists():
        raise NotFoundError(
            "the version has no background rows", where=str(folder), mend="Only the loop's own versions have them."
        )
    model = load(folder)
    background = pq.read_table(folder / "background.parquet")
    names = model.signature.names
    if missing := [name for name in names if name not in request.row]:
        raise InvalidSpecError(f"the logged row lacks {missing}", where="payload")
    columns = model.layout.columns(batch_of_table(model.layout, background))
    classes = model.signature.classes
    place = classes.index(str(request.answer)) if str(request.answer) in classes else None

    def score(rows: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
        answers = model.predict(rows, len(next(iter(rows.values()))))
        if place is None:
            return np.array([float(value) for value, _ in answers])
        return np.array([shares[place] for _, shares in answers])

    kinds = {column.name: column.kind for column in model.signature.inputs}
    row = {name: _typed(request.row[name], kinds[name]) for name in names}
    found = attribute(score, row, columns, permutations=4, seed=_SEED)
    usual = float(score(columns).mean())
    total = usual + sum(part.contribution for part in found)
    of = f"probability of {request.answer}" if place is not None else "value"
    return Explained(
        attributions=tuple(sorted(found, key=lambda part: -abs(part.contribution))), score=total, usual=usual, of=of
    )


def _typed(value: Value, kind: str) -> Value:
    if kind == "number":
        return float("nan") if value is None else float(value)
    return "" if value is None else str(value)
