"""Shares of an error rate: they never exceed the whole, and late ones are not starved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.stats.spending import alpha_share, log_threshold


def test_all_shares_together_stay_within_the_total() -> None:
    count = 200_000
    partial = sum(alpha_share(index, 0.05) for index in range(1, count + 1))
    # The rest of the series is below the integral of 1 / (x ln(x)^2) from count + 1, which is 1 / ln(count + 1).
    rest = 0.05 / 2.109743 / math.log(count + 1)
    assert partial < 0.05
    assert partial + rest == pytest.approx(0.05, rel=1e-4)
    assert partial + rest - 0.05 < 0.05 * 1e-6


@given(index=st.integers(1, 10**9), total=st.floats(1e-6, 0.5))
def test_shares_fall_but_slower_than_the_square(index: int, total: float) -> None:
    assert 0.0 < alpha_share(index + 1, total) < alpha_share(index, total) < total
    assert log_threshold(index, total) == pytest.approx(np.log(1.0 / alpha_share(index, total)))
    if index >= 10:
        assert alpha_share(index, total) > 6.0 * total / (math.pi * index) ** 2


@pytest.mark.parametrize(("index", "total"), [(0, 0.05), (-1, 0.05), (1, 0.0), (1, 1.0), (1, math.nan)])
def test_nonsense_is_refused(index: int, total: float) -> None:
    with pytest.raises(ValueError):
        alpha_share(index, total)
