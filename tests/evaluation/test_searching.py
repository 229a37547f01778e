"""Searched slices: what is planted is found and confirmed, what is not there is not, and small slices decide nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from subjects import KINDS, subject

from goldenloop.core.phases import Verdict
from goldenloop.evaluation.searching import find_slices, search_slices
from goldenloop.standards.evaluation import SliceCheck


def harmed(rows: int = 2_000, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Losses of both where the challenger is much worse for the old of Oslo, and alike elsewhere."""
    columns = dict(subject(rows, seed=seed).columns)
    generator = np.random.default_rng(seed + 100)
    there = (columns["city"] == "Oslo") & (columns["age"] > 65)
    champion = (generator.random(rows) < 0.2).astype(float)
    challenger = np.where(there, (generator.random(rows) < 0.7).astype(float), champion)
    return challenger, champion, columns


def test_a_planted_pair_is_found_named_and_confirmed_on_rows_that_did_not_find_it() -> None:
    challenger, champion, columns = harmed()
    (worst, *_) = find_slices(columns, KINDS, challenger, champion)
    assert {each.column for each in worst.conditions} == {"city", "age"}
    assert "city is Oslo" in worst.text
    assert worst.worse
    assert worst.gap.low > 0.15
    assert worst.rows >= 30


def test_the_check_refuses_for_it() -> None:
    challenger, champion, columns = harmed()
    seen = dataclasses.replace(
        subject(2_000), columns=columns, losses=challenger, champion_losses=champion, labels=np.zeros(2_000)
    )
    found = search_slices(seen, SliceCheck(), margin=0.0)
    assert found.verdict is Verdict.FAIL
    assert "it is worse than the champion where" in found.reason
    assert search_slices(seen, SliceCheck(), margin=0.9).verdict is Verdict.PASS


def test_an_equal_challenger_is_seldom_refused() -> None:
    refused = 0
    worlds = 150
    for seed in range(worlds):
        columns = dict(subject(400, seed=seed).columns)
        generator = np.random.default_rng(seed)
        challenger, champion = (generator.random((2, 400)) < 0.3).astype(float)
        refused += any(each.worse for each in find_slices(columns, KINDS, challenger, champion, alpha=0.05))
    # At most 5 % by promise; 14 of 150 would be seen in 1 % of such experiments.
    assert refused <= 14


def test_the_half_that_decides_is_not_the_half_that_searches() -> None:
    rows = 2_000
    columns = dict(subject(rows).columns)
    # Worse only where the search looks: alternate blocks of rows^(1/3) rows.
    searched = (np.arange(rows) // 13) % 2 == 0
    challenger = np.where(searched & (columns["city"] == "Oslo"), 1.0, 0.0)
    found = find_slices(columns, KINDS, challenger, np.zeros(rows))
    assert any("city is Oslo" in each.text for each in found)
    assert not any(each.worse for each in found)


def test_a_slice_of_three_rows_is_never_looked_at() -> None:
    columns = dict(subject(400).columns)
    columns["city"] = np.where(np.arange(400) < 3, "Å", columns["city"])
    losses = np.where(columns["city"] == "Å", 1.0, 0.0)
    assert all("Å" not in each.text for each in find_slices(columns, KINDS, losses, np.zeros(400)))


def test_too_few_rows_are_said_and_decide_nothing() -> None:
    found = search_slices(subject(100), SliceCheck(), margin=0.0)
    assert not found.applies
    assert "120 are needed" in found.reason


def test_without_a_champion_the_worst_part_is_told_and_nothing_is_refused() -> None:
    challenger, _, columns = harmed()
    seen = dataclasses.replace(subject(2_000), columns=columns, losses=challenger)
    found = search_slices(seen, SliceCheck(), margin=0.0)
    assert found.verdict is Verdict.PASS
    assert "it does worst where" in found.reason


@pytest.mark.parametrize(
    "column",
    [np.full(400, np.nan), np.ones(400), np.full(400, np.inf), np.arange(400.0) % 2],
    ids=["nan", "one", "inf", "two"],
)
def test_strange_columns_are_survived(column: np.ndarray) -> None:
    losses = (np.random.default_rng(3).random(400) < 0.3).astype(float)
    find_slices({"x": column}, {"x": "number"}, losses, np.zeros(400))


def test_thousands_of_columns_are_bounded() -> None:
    generator = np.random.default_rng(4)
    columns = {f"x{number}": generator.normal(size=240) for number in range(3_000)}
    found = find_slices(
        columns, dict.fromkeys(columns, "number"), (generator.random(240) < 0.3).astype(float), np.zeros(240)
    )
    assert len(found) <= 5
