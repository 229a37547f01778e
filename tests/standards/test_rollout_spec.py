"""What a Loop may say about its rollouts."""

from __future__ import annotations

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec, check_loop


def loop(rollout: dict[str, object], *, feedback: bool = False) -> LoopSpec:
    return convert({"data": {}, "labels": {"feedback": feedback}, "rollout": rollout}, LoopSpec)


@pytest.mark.parametrize(
    ("rollout", "feedback"),
    [
        ({}, False),
        ({}, True),
        ({"strategy": "blueGreen"}, False),
        ({"onInconclusive": "nonInferior", "margin": 0.01}, False),
        ({"maxDuration": "3d", "onInconclusive": "ask"}, False),
        ({"analysis": [{"templateName": "rate", "args": [{"name": "a", "value": "1"}]}]}, False),
        ({"guardrails": {"slices": ["sex"], "sliceMargin": 0.1, "errors": 0, "latency": 0}}, False),
    ],
)
def test_what_is_taken(rollout: dict[str, object], feedback: bool) -> None:
    check_loop(loop(rollout, feedback=feedback))


@pytest.mark.parametrize(
    ("rollout", "feedback", "named"),
    [
        ({"strategy": "abn"}, False, "several challengers"),
        ({"canary": [25, 5, 100]}, False, "do not rise"),
        ({"canary": [5, 50]}, False, "not 100"),
        ({"shadow": False, "canary": [100]}, False, "no evidence"),
        ({"shadow": False, "strategy": "blueGreen"}, False, "no evidence"),
        ({"onInconclusive": "nonInferior"}, False, "not worse by more than nothing"),
        ({"maxDuration": "0s"}, False, "longer than nothing"),
        ({"strategy": "blueGreen"}, True, "dealt out"),
        ({"canary": [100]}, True, "dealt out"),
        ({"canary": [5, 75, 100]}, True, "no baseline"),
        ({"guardrails": {"maxSlices": 21}}, False, "maxSlices"),
    ],
)
def test_what_is_refused_and_how_it_is_said(rollout: dict[str, object], feedback: bool, named: str) -> None:
    with pytest.raises(InvalidSpecError, match=named):
        check_loop(loop(rollout, feedback=feedback))


def test_swapped_colours_are_a_rollout_without_steps() -> None:
    assert loop({"strategy": "blueGreen"}).rollout.steps == ()
