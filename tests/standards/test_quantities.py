"""Quantities are read as Kubernetes reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("250m", 0.25),
        ("1.5Gi", 1.5 * 2**30),
        (".5", 0.5),
        ("1e3", 1000),
        ("1E", 1e18),
        ("2E3", 2000),
        ("5k", 5000),
        ("1Ki", 1024),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_what_kubernetes_reads(text: str | float, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "Mi", "1 Gi", "1GiB", "-1", "one", "1e", "1Kb", "nan", "inf", "1e999", "١"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError):
        parse_quantity(text, where="here")


@given(st.integers(0, 2**50), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi"]))
def test_a_whole_number_and_a_unit_are_what_they_say(number: int, unit: str) -> None:
    sizes = {"": 1, "k": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    assert parse_quantity(f"{number}{unit}") == pytest.approx(number * sizes[unit], rel=1e-12)
