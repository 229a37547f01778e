"""Explaining one answer: which inputs made it what it is, by the model that gave it."""

from __future__ import annotations

from pathlib import Path

from goldenloop.control.work.records import Explanation
from goldenloop.serving.explanations import Explained, explain_row
from goldenloop.serving.unconverted import load_version


def explain(request: Explanation) -> Explained:
    """Do it. Raises UnavailableError where the version's files are gone, InvalidSpecError where the row does not fit the model."""
    folder = Path(request.folder)
    model = load_version(folder)
    return explain_row(folder, model.layout, model.predict, request.row, request.answer)
