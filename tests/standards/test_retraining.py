"""The retrain part of a Loop: what is read, and what is refused with its place."""

from __future__ import annotations

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.documents import convert
from goldenloop.standards.retraining import Retrain, check_retrain


def read(**given: object) -> Retrain:
    retrain = convert(given, Retrain, where="spec.retrain")
    check_retrain(retrain)
    return retrain


def test_everything_may_be_left_out() -> None:
    retrain = read()
    assert (retrain.price, retrain.value, retrain.reasons, retrain.triggers) == ("auto", "auto", ("cost", "alarm"), ())


@pytest.mark.parametrize(
    "given",
    [
        {"price": "20m"},
        {"price": "20m", "value": "6s"},
        {"price": 2, "value": 0.05},
        {"value": "1s"},
        {"reasons": []},
        {
            "triggers": [
                {"metric": "accuracy", "below": 0.8, "for": 2, "clear": 0.1},
                {"labels": 5},
                {"staleness": "30d"},
            ]
        },
        {"triggers": [{"schedule": "0 3 * * 1"}]},
    ],
)
def test_what_can_be_said(given: dict[str, object]) -> None:
    read(**given)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"price": 2.5}, "spec.retrain.value"),
        ({"price": 2.5, "value": "1s"}, "spec.retrain.value"),
        ({"price": "1h", "value": 0.5}, "spec.retrain.price"),
        ({"price": "soon"}, "spec.retrain.price"),
        ({"price": 0, "value": 1}, "spec.retrain.price"),
        ({"triggers": [{}]}, "spec.retrain.triggers[0]"),
        ({"triggers": [{"labels": 5, "staleness": "1d"}]}, "spec.retrain.triggers[0]"),
        ({"triggers": [{"labels": 5}, {"metric": "accuracy"}]}, "spec.retrain.triggers[1]"),
        ({"triggers": [{"metric": "accuracy", "below": 1, "above": 0}]}, "spec.retrain.triggers[0]"),
        ({"triggers": [{"staleness": "0s"}]}, "spec.retrain.triggers[0].staleness"),
        ({"triggers": [{"schedule": "tomorrow"}]}, "schedule"),
    ],
)
def test_what_is_refused_says_where(given: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read(**given)
    assert where in str(caught.value.where)
