"""Any model that scores tables: Shapley values by sampling, against the background rows of the version.

They are what the `shap` package's permutation explainer estimates, with an independent masker of the same rows: interventional values,
of the probability of the answer or of the value. The same prediction is explained alike each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import UnavailableError
from goldenloop.payloads.records import Answer, Value
from goldenloop.serving.explanations.records import BACKGROUND_FILE, Background, Explained, explained_by_parts
from goldenloop.serving.scoring import batch_of_table
from goldenloop.standards.tabular import Batch, Layout
from goldenloop.stats.attributions import attribute

_SEED = 5
_PERMUTATIONS = 4


class Scores(Protocol):
    """Scores columns by name."""

    def __call__(self, columns: Mapping[str, NDArray[np.generic]], rows: int, /) -> tuple[Answer, ...]: ...


def explain_by_sampling(
    predict: Scores,
    layout: Layout,
    background: Batch,
    row: Mapping[str, Value],
    answer: str | float,
    *,
    against: Background,
) -> Explained:
    """Explain one row."""
    columns = layout.columns(background)
    classes = layout.signature.classes
    place = classes.index(str(answer)) if str(answer) in classes else None

    def score(rows: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
        answers = predict(rows, len(next(iter(rows.values()))))
        if place is None:
            return np.array([float(value) for value, _ in answers])
        if not answers[0][1]:
            return np.array([float(str(value) == str(answer)) for value, _ in answers])
        return np.array([shares[place] for _, shares in answers])

    found = attribute(score, row, columns, permutations=_PERMUTATIONS, seed=_SEED)
    return explained_by_parts(
        list(found),
        usual=float(score(columns).mean()),
        of=f"probability of {answer}" if place is not None else "value",
        method="sampled",
        against=against,
    )


def read_background(folder: Path, layout: Layout) -> Batch:
    """The rows that stand for what is usual. Raises UnavailableError where the version has none."""
    import pyarrow.parquet as pq

    path = folder / BACKGROUND_FILE
    if not path.exists():
        raise UnavailableError(
            "the version has no background rows to compare with",
            where=str(folder),
            mend="Apply the service again, or give it an explainer.",
        )
    return batch_of_table(layout, pq.read_table(path))
