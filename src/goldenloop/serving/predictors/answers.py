"""From what a predictor gives for a table to the answers of its rows."""

from __future__ import annotations

from collections.abc import Mapping

from goldenloop.core.errors import UnavailableError
from goldenloop.core.signatures import Signature
from goldenloop.payloads.records import Answer
from goldenloop.serving.predictors.wire import Array


def answers_of(given: Mapping[str, Array], signature: Signature, rows: int) -> tuple[Answer, ...]:
    """Return one answer a row from `predict`, and `probabilities` where there are any. Raises UnavailableError where they are none."""
    labels = given["predict"].reshape(-1).tolist()
    if len(labels) != rows:
        raise UnavailableError(f"the model gave {len(labels)} answers for {rows} rows", mend="Mend the model.")
    if signature.task == "regression":
        check_numbers(labels)
        return tuple([(label, ()) for label in labels])
    shares = given.get("probabilities")
    if shares is None:
        return tuple([(label, ()) for label in labels])
    check_numbers(shares[:, 0].tolist())
    return tuple(zip(labels, map(tuple, shares.tolist()), strict=True))


def check_numbers(values: list[float]) -> None:
    """Raise UnavailableError where the model gave no number: an answer out of nothing is no answer."""
    for row, value in enumerate(values):
        if value != value:
            raise UnavailableError(
                f"the model gives no number for row {row}",
                mend="It was probably not trained on missing values: send all of them, or train with an imputer before the model.",
            )
