"""Explaining one row by what lies in the version's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import ColumnKind
from goldenloop.payloads.records import Value
from goldenloop.serving.explanations.linear import explain_linear
from goldenloop.serving.explanations.records import Explained, Explainer, Linear, Trees, read_explainer
from goldenloop.serving.explanations.sampled import Scores, explain_by_sampling, read_background
from goldenloop.serving.explanations.trees import explain_by_trees
from goldenloop.standards.tabular import Layout


def explain_row(
    folder: Path,
    layout: Layout,
    predict: Scores,
    row: Mapping[str, Value],
    answer: str | float,
    *,
    explainer: Explainer | None = None,
) -> Explained:
    """Explain one row of a table's model, and the answer that it was given. `predict` is asked only where the parts are sampled.

    Raises InvalidSpecError where the row lacks a column, UnavailableError where the version keeps nothing to explain it by.
    """
    explainer = read_explainer(folder) if explainer is None else explainer
    if missing := [name for name in layout.names if name not in row]:
        raise InvalidSpecError(f"the row lacks {missing}", where="payload")
    typed = {column.name: _typed(row[column.name], column.kind) for column in layout.signature.inputs}
    if isinstance(explainer.form, Linear):
        return explain_linear(explainer.form, layout.signature, typed, answer, against=explainer.background)
    if isinstance(explainer.form, Trees):
        return explain_by_trees(folder, explainer.form, layout.signature, typed, answer)
    background = read_background(folder, layout)
    return explain_by_sampling(predict, layout, background, typed, answer, against=explainer.background)


def _typed(value: Value, kind: ColumnKind) -> Value:
    if kind == "number":
        return float("nan") if value is None else float(value)
    return None if value is None else str(value)
