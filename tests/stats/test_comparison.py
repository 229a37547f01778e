"""Grids, tallies and the distances made of them, against scipy and against values recorded from evidently and alibi-detect."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from goldenloop.stats.comparison import CategoryChange, Comparison, NumberChange, compare_names, compare_numbers
from goldenloop.stats.grids import NumberGrid, smallest_magnitude
from goldenloop.stats.tallies import BUCKETS, NameTally

KINDS = ("normal", "lognormal", "offset", "integers", "both ends", "heavy")


def drawn(kind: str, rows: int, *, seed: int, moved: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = {
        "normal": lambda: generator.normal(size=rows),
        "lognormal": lambda: generator.lognormal(sigma=2.0, size=rows),
        "offset": lambda: 1.7e9 + generator.normal(size=rows) * 1e3,
        "integers": lambda: generator.poisson(30, size=rows).astype(float),
        "both ends": lambda: generator.choice([-1e-9, 1e9], size=rows) * generator.uniform(1, 2, size=rows),
        "heavy": lambda: generator.standard_t(1.5, size=rows),
    }[kind]()
    return values + moved * np.std(values)


def grids(before: np.ndarray, after: np.ndarray) -> tuple[NumberGrid, NumberGrid]:
    tiny = smallest_magnitude(before)
    one = NumberGrid(tiny=tiny, pivot=float(before[0]))
    one.add(before)
    other = NumberGrid(tiny=tiny, pivot=float(before[0]), bounds=(one.low, one.high))
    other.add(after)
    return one, other


def tally(counts: dict[str, int], *, most: int = 10_000, missing: int = 0) -> NameTally:
    made = NameTally(most=most)
    made.add(list(counts), list(counts.values()))
    made.missing = missing
    return made


def changed(found: Comparison) -> NumberChange:
    assert isinstance(found.change, NumberChange)
    return found.change


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_agree_with_scipy_within_the_resolution_that_is_told(kind: str) -> None:
    before, after = drawn(kind, 20_000, seed=1), drawn(kind, 15_000, seed=2, moved=0.05)
    found = compare_numbers(*grids(before, after))
    change, exact = changed(found), stats.ks_2samp(before, after, method="asymp")
    assert change.kolmogorov_smirnov <= exact.statistic + 1e-12
    assert exact.statistic <= change.kolmogorov_smirnov + change.resolution + 1e-12
    assert abs(exact.statistic - change.kolmogorov_smirnov) < 2e-3
    scale = float(np.std(before))
    assert change.wasserstein == pytest.approx(stats.wasserstein_distance(before, after), abs=2e-3 * scale)
    assert change.reference_mean == pytest.approx(before.mean(), abs=1e-9 * scale)
    assert change.reference_deviation == pytest.approx(scale, rel=1e-9)
    assert change.reference_range == (before.min(), before.max())
    outside = np.mean((after < before.min()) | (after > before.max()))
    assert change.outside.estimate == pytest.approx(outside)


def test_small_integers_and_constants_are_exact() -> None:
    before, after = drawn("integers", 2_000, seed=1), drawn("integers", 1_000, seed=2) + 2.0
    change = changed(compare_numbers(*grids(before, after)))
    assert change.kolmogorov_smirnov == pytest.approx(stats.ks_2samp(before, after).statistic, abs=1e-12)
    same = compare_numbers(*grids(np.full(100, 7.0), np.full(50, 7.0)))
    assert (changed(same).kolmogorov_smirnov, same.jensen_shannon, same.distribution_p) == (0.0, 0.0, 1.0)
    moved = compare_numbers(*grids(np.full(100, 7.0), np.full(50, 7.5)))
    assert (changed(moved).kolmogorov_smirnov, moved.jensen_shannon) == (1.0, 1.0)
    assert changed(moved).wasserstein == pytest.approx(0.5, abs=1e-3)


def test_values_that_evidently_and_alibi_detect_give() -> None:
    # evidently 0.7.23: ks 3.36e-11 (exact mode), wasserstein 0.3002596813740479, categories jensenshannon 0.14517124464937747
    # alibi-detect 0.13.0: KSDrift 0.12, ChiSquareDrift 64.95727, p 5.1227e-14
    before = stats.norm.ppf((np.arange(2_000) + 0.5) / 2_000)
    after = 0.3 + 1.1 * stats.norm.ppf((np.arange(1_500) + 0.5) / 1_500)
    found = compare_numbers(*grids(before, after))
    assert changed(found).kolmogorov_smirnov == pytest.approx(0.12, abs=5e-4)
    assert math.log10(found.distribution_p or 1.0) == pytest.approx(math.log10(3.3627e-11), abs=0.3)
    assert changed(found).wasserstein_in_deviations == pytest.approx(0.3002596813740479, abs=5e-4)
    names = compare_names(tally({"a": 500, "b": 300, "c": 200}), tally({"a": 400, "b": 350, "c": 200, "d": 50}))
    assert isinstance(names.change, CategoryChange)
    assert names.change.chi_square == pytest.approx(64.95727, rel=1e-6)
    assert names.distribution_p == pytest.approx(5.1227e-14, rel=1e-4)
    # evidently's logarithm is natural, ours is to the base of 2, so that the largest distance is 1.
    assert names.jensen_shannon == pytest.approx(0.14517124464937747 / math.sqrt(math.log(2.0)), abs=1e-9)


def test_categories_agree_with_scipy() -> None:
    before, after = {"a": 900, "b": 80, "c": 20}, {"a": 850, "b": 100, "c": 40, "new": 10}
    found = compare_names(tally(before), tally(after))
    counts = np.array([[side.get(name, 0) for name in ("a", "b", "c", "new")] for side in (before, after)])
    expected = stats.chi2_contingency(counts, correction=False)
    assert isinstance(found.change, CategoryChange)
    assert (found.change.chi_square, found.distribution_p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.jensen_shannon == pytest.approx(jensenshannon(*counts, base=2))
    assert (found.change.new_names, found.change.gone_names) == ((("new", 10),), ())
    assert found.change.new is not None
    assert found.change.new.estimate == 0.01


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
    st.integers(0, 60),
    st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_parts_of_any_order_merge_into_the_grid_of_the_whole(values: list[float], cut: int, tiny: float) -> None:
    numbers = np.array(values, dtype=np.float64)
    whole, first, second = (NumberGrid(tiny=tiny, cells=64, bounds=(-1.0, 1.0)) for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole.add(numbers)
        first.add(numbers[cut:][::-1].copy())
        second.add(numbers[:cut])
        first.merge(second)
    for name in ("count", "missing", "below", "above", "outside", "low", "high", "shift"):
        assert getattr(first, name) == getattr(whole, name), name
    for mine, theirs in zip(first.occupied(first.shift), whole.occupied(whole.shift), strict=True):
        assert mine.tolist() == theirs.tolist()
    assert whole.count == int(whole.occupied(whole.shift)[1].sum())
    assert whole.missing == int(np.isnan(numbers).sum())


def test_grids_of_different_resolution_do_not_merge() -> None:
    with pytest.raises(ValueError, match="different resolution"):
        NumberGrid(tiny=0.0).merge(NumberGrid(tiny=1.0))


def test_infinities_and_missing_values_are_told_apart_from_numbers() -> None:
    before = np.array([*range(100), np.inf, np.nan], dtype=float)
    after = np.array([*range(100), -np.inf, -np.inf, np.nan, np.nan], dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_numbers(*grids(before, after))
    change = changed(found)
    assert change.infinities == (1, 2)
    assert change.outside.estimate == pytest.approx(2 / 102)
    assert change.kolmogorov_smirnov == pytest.approx(2 / 102)
    assert found.missing.current == pytest.approx(2 / 104)
    only = compare_numbers(*grids(np.arange(5.0), np.array([np.inf] * 5)))
    assert (only.jensen_shannon, only.note) == (1.0, "a side has only infinities")
    huge = compare_numbers(*grids(np.array([-1.7e308, 1.7e308, 5e-324]), np.array([1.0, -1.7e308])))
    assert huge.jensen_shannon is not None


def test_a_column_without_values_says_so_and_its_missing_share_is_tested() -> None:
    found = compare_numbers(*grids(np.arange(500.0), np.full(400, np.nan)))
    assert (found.jensen_shannon, found.note) == (None, "the current frame has not a single value")
    assert found.effect == 1.0
    assert found.p is not None
    assert found.p < 1e-50
    nothing = compare_names(tally({}), tally({}))
    assert (nothing.p, nothing.effect, nothing.note) == (None, 0.0, "neither side has a single value")


def test_the_missing_share_agrees_with_scipy_for_many_rows() -> None:
    found = compare_names(tally({"a": 90_000}, missing=1_000), tally({"a": 80_000}, missing=1_100))
    expected = stats.chi2_contingency([[1_000, 90_000], [1_100, 80_000]], correction=False).pvalue
    assert found.missing.p == pytest.approx(expected)


def test_tallies_of_parts_are_the_tally_of_the_whole() -> None:
    one, other = tally({"a": 3, "b": 1}), tally({"b": 2, "c": 5}, missing=4)
    one.merge(other)
    assert (one.names, one.count, one.missing, one.is_exact) == ({"a": 3, "b": 3, "c": 5}, 11, 4, True)


@pytest.mark.parametrize("merged", [False, True], ids=["in one", "merged"])
def test_a_column_of_too_many_names_stays_bounded_and_comparable(merged: bool) -> None:
    distinct, frequent = 60_000, 9_000
    names = [f"id-{number}" for number in range(distinct)]
    made = NameTally(most=5_000)
    parts = [NameTally(most=5_000), made] if merged else [made]
    for start in range(0, distinct, 4_000):
        batch = names[start : start + 4_000]
        parts[(start // 4_000) % len(parts)].add([*batch, "often"], [1] * len(batch) + [frequent // 15])
    for part in parts[:-1]:
        made.merge(part)
    assert not made.is_exact
    assert len(made.names) <= 5_000
    assert made.count == distinct + frequent
    assert made.distinct == pytest.approx(distinct + 1, rel=0.1)
    name, least = made.frequent(1)[0]
    assert name == "often"
    assert frequent - made.count / 1_000 <= least <= frequent
    assert (int(made.buckets().sum()), made.buckets().size) == (made.count, BUCKETS)
    again = tally({f"id-{number}": 1 for number in range(distinct)} | {"often": frequent}, most=5_000)
    assert (again.buckets() == made.buckets()).all()
    same = compare_names(made, again)
    assert (same.jensen_shannon, same.distribution_p) == (0.0, 1.0)
    assert "too many names" in same.note
    other = tally({f"other-{number}": 1 for number in range(distinct)}, most=5_000)
    assert (compare_names(made, other).distribution_p or 0.0) < 1e-10


def test_with_no_change_few_columns_seem_to_have_changed() -> None:
    chances = [
        compare_numbers(*grids(drawn("normal", 400, seed=seed), drawn("normal", 300, seed=1_000 + seed))).distribution_p
        for seed in range(200)
    ]
    assert sum((chance or 0.0) < 0.05 for chance in chances) <= 20  # 10 are expected; more than 20 in 1 of 1,000 cases
