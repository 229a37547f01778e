"""What a cause puts into parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import from_text
from goldenloop.core.json import Json
from goldenloop.triggers.macros import CauseFacts, fill_parameters

CAUSE = CauseFacts(
    scheduled_us=from_text("2026-01-31T09:30:00Z"),
    now_us=from_text("2026-01-31T09:30:01.5Z"),
    index=7,
    facts={"path": "/in/a.csv", "paths": ["/in/a.csv"], "data": {"rows": 3, "name": "x"}},
)


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("[[ScheduledTime]]", "20260131093000"),
        ("at [[CurrentTime]], number [[Index]]", "at 20260131093001, number 7"),
        ("{{$.scheduledTime.strftime('%Y-%m')}}", "2026-01"),
        ("[[Cause.path]]", "/in/a.csv"),
        ("[[Cause.paths]]", ["/in/a.csv"]),
        ("[[Cause.data.rows]]", 3),
        ("[[Cause.data.rows]] rows of [[Cause.data.name]]", "3 rows of x"),
        ("[[Cause.data.gone]]", "[[Cause.data.gone]]"),
        ("[[Other]]", "[[Other]]"),
        (["[[Index]]", {"deep": "[[Index]]"}], ["7", {"deep": "7"}]),
        (4, 4),
    ],
)
def test_macros_are_filled_in(written: Json, filled: Json) -> None:
    assert fill_parameters({"p": written}, CAUSE) == {"p": filled}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8))
def test_what_has_no_macro_stays_as_it_is(value: Json) -> None:
    text = repr(value)
    if "[[" not in text and "{{" not in text:
        assert fill_parameters({"p": value}, CAUSE) == {"p": value}
