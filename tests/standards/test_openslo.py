"""A Loop's objectives as OpenSLO: the same promise, in the standard's words."""

from __future__ import annotations

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import Objective
from goldenloop.standards.openslo import SloSpec, from_objective


@pytest.mark.parametrize(("target", "operator", "value"), [(">= 0.80", "gte", 0.8), ("<= 50", "lte", 50.0)])
def test_an_objective_is_written_and_read_back(target: str, operator: str, value: float) -> None:
    written = from_objective("loan", Objective(indicator="latency_p99_ms", target=target, window="28d"))
    spec = convert(written, SloSpec)
    (objective,) = spec.objectives
    assert (objective.op, objective.value) == (operator, value)
    assert spec.service == "loan"
    assert spec.budgeting_method == "Occurrences"
    assert spec.time_window[0].duration == "28d"
    assert spec.time_window[0].is_rolling
    assert 'metric="latency_p99_ms"' in str(spec.indicator)
    assert "latency-p99-ms" in str(spec.indicator), "the standard's names have no underscores"


def test_a_target_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidSpecError):
        from_objective("loan", Objective(indicator="accuracy", target="good"))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"objectives": []}, "objectives"),
        ({"objectives": [{"target": 1.5}]}, "objectives[0].target"),
        ({"objectives": [{"op": "eq"}]}, "objectives[0].op"),
        ({"budgetingMethod": "Sometimes"}, "budgetingMethod"),
        ({"service": 1}, "service"),
    ],
)
def test_a_wrong_slo_is_refused_with_its_path(change: dict[str, object], place: str) -> None:
    good = from_objective("loan", Objective(indicator="accuracy", target=">= 0.8"))
    with pytest.raises(InvalidSpecError) as caught:
        convert({**good, **change}, SloSpec)
    assert caught.value.where == place
