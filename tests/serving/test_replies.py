"""What goes out over V1."""

from __future__ import annotations

from typing import Literal, cast

import pytest

from goldenloop.core.served import ServedForm
from goldenloop.core.signatures import Column, Signature
from goldenloop.serving.dataplane import Answered
from goldenloop.serving.replies import predicted_of
from goldenloop.serving.scorers import Scorer
from goldenloop.serving.work import Result


def scorer(v1: Literal["classes", "scores"], classes: tuple[str, ...]) -> Scorer:
    signature = Signature(
        inputs=(Column(name="x", kind="number"),), task="classification", classes=classes, class_kind="integer"
    )
    return Scorer(ServedForm(form="table", runtime="onnx", loader="onnx", signature=signature, batching=True, v1=v1))


@pytest.mark.parametrize(
    ("v1", "classes", "answers", "said"),
    [
        ("classes", ("0", "1"), (("1", (0.25, 0.75)),), [1]),
        ("scores", ("0", "1"), (("1", (0.25, 0.75)), ("0", (0.5, 0.5))), [0.75, 0.5]),
        ("scores", ("0", "1", "2"), (("1", (0.25, 0.5, 0.25)),), [(0.25, 0.5, 0.25)]),
    ],
    ids=["classes", "two", "three"],
)
def test_a_classifier_gives_classes_or_scores(
    v1: Literal["classes", "scores"], classes: tuple[str, ...], answers: object, said: object
) -> None:
    answered = Answered("id", "1", scorer(v1, classes), cast(Result, answers), 0)
    assert predicted_of(answered).predictions == said
