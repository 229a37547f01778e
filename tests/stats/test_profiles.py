"""Profiles, counts and distances: merging, oracles, calm under no change, and odd columns."""

from __future__ import annotations

import math
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from goldenloop.stats.detection import WindowScorer, split_reference
from goldenloop.stats.profiles import (
    CategoryProfile,
    ColumnScales,
    Counts,
    Kind,
    NumberProfile,
    Profile,
    chi_square,
    count,
    distances,
    drift_scores,
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability,
    window_score,
)

numbers = st.lists(st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 3).map(float)), min_size=1)
cells = st.lists(st.integers(0, 200), min_size=2, max_size=12).filter(lambda values: sum(values) > 0)


@settings(max_examples=40, deadline=None)
@given(values=numbers, window=numbers)
def test_every_row_is_in_one_cell(values: list[float], window: list[float]) -> None:
    profile = Profile.of({"x": np.array(values)}, {"x": "number"})
    column = profile.columns["x"]
    assert isinstance(column, NumberProfile)
    assert sum(column.cells) == len(values)
    assert len(column.cells) == len(column.edges) + 2 <= 128
    assert list(column.edges) == sorted(set(column.edges))
    counted = count(profile, {"x": np.array(window)})
    assert sum(counted.cells["x"]) == len(window)
    assert counted.cells["x"][-1] == np.isnan(window).sum()
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile
    assert msgspec.json.decode(msgspec.json.encode(counted), type=Counts) == counted


@settings(max_examples=40, deadline=None)
@given(values=numbers, window=numbers, cut=st.integers(0, 100))
def test_counts_add_up(values: list[float], window: list[float], cut: int) -> None:
    profile = Profile.of({"x": np.array(values)}, {"x": "number"})
    array = np.array(window)
    parts = count(profile, {"x": array[:cut]}) + count(profile, {"x": array[cut:]})
    assert parts == count(profile, {"x": array})


def test_what_lies_outside_the_reference_is_seen() -> None:
    profile = Profile.of({"x": np.full(100, 5.0)}, {"x": "number"})
    cells = count(profile, {"x": np.array([4.999, 5.0, 5.0, 5.001, -math.inf, math.inf, math.nan])}).cells["x"]
    assert cells == (2, 2, 2, 1)


def test_a_shared_value_has_its_own_cell() -> None:
    generator = np.random.default_rng(0)
    values = np.where(generator.random(5_000) < 0.4, 0.0, generator.normal(size=5_000))
    profile = Profile.of({"x": values}, {"x": "number"})
    counted = count(profile, {"x": np.zeros(7)}).cells["x"]
    assert max(counted) == 7
    assert profile.columns["x"].cells[counted.index(7)] == np.count_nonzero(values == 0.0)


def test_categories_other_new_and_missing_are_counted_apart() -> None:
    names = np.array([f"c{i % 100}" for i in range(1_000)] + ["common"] * 50 + [None], dtype=object)
    profile = Profile.of({"c": names}, {"c": "category"})
    column = profile.columns["c"]
    assert isinstance(column, CategoryProfile)
    assert len(column.names) == 64
    assert column.names[0] == "common"
    other = column.rare[0]
    window = np.array(["common", other, "never seen", None, math.nan, 3], dtype=object)
    assert count(profile, {"c": window}).cells["c"][-3:] == (1, 2, 2)
    everywhere = Profile.of({"c": np.array([f"id{i}" for i in range(5_000)])}, {"c": "category"})
    assert count(everywhere, {"c": np.array(["id4999", "stranger"])}).cells["c"][-3:] == (2, 0, 0)


@settings(max_examples=40, deadline=None)
@given(reference=cells, data=st.data())
def test_distances_against_scipy(reference: list[int], data: st.DataObject) -> None:
    size = len(reference)
    current = data.draw(st.lists(st.integers(0, 200), min_size=size, max_size=size).filter(lambda v: sum(v) > 0))
    p, q = np.array(reference), np.array(current)
    assert jensen_shannon(p, q) == pytest.approx(float(jensenshannon(p, q, base=2)), abs=1e-7)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-12)
    assert population_stability(p, q) >= 0.0
    assert math.isfinite(population_stability(p, q))
    raw = stats.ks_2samp(np.repeat(np.arange(size), p), np.repeat(np.arange(size), q)).statistic
    assert kolmogorov_smirnov(p, q) == pytest.approx(raw, abs=1e-12)
    used = (p + q) > 0
    if used.sum() > 1:
        expected = stats.chi2_contingency(np.array([p, q])[:, used], correction=False)
        statistic, degrees, p_value = chi_square(p, q)
        assert (statistic, degrees) == (pytest.approx(expected.statistic, abs=1e-9), expected.dof)
        assert p_value == pytest.approx(expected.pvalue, abs=1e-9)


def test_binned_kolmogorov_smirnov_is_close_to_the_raw_one() -> None:
    generator = np.random.default_rng(1)
    reference, window = generator.normal(size=20_000), generator.normal(size=500) + 0.3
    profile = Profile.of({"x": reference}, {"x": "number"})
    found = distances(profile, count(profile, {"x": window}))["x"]
    raw = stats.ks_2samp(reference, window)
    assert found.kolmogorov_smirnov is not None
    assert raw.statistic - 0.009 <= found.kolmogorov_smirnov <= raw.statistic + 1e-12


def mixed(generator: np.random.Generator, rows: int) -> dict[str, NDArray[np.generic]]:
    """A table with a smooth, a heavy-tailed, a mostly-zero, a partly missing and two categorical columns."""
    holes = generator.normal(size=rows)
    holes[generator.random(rows) < 0.1] = np.nan
    return {
        "smooth": generator.normal(size=rows),
        "heavy": generator.standard_cauchy(size=rows).astype(np.float32),
        "zeros": np.where(generator.random(rows) < 0.7, 0.0, generator.exponential(size=rows)),
        "holes": holes,
        "few": generator.choice(np.array(["a", "b", "c"]), size=rows, p=[0.6, 0.3, 0.1]),
        "rare": generator.zipf(1.6, size=rows).astype(str).astype(object),
    }


KINDS: dict[str, Kind] = {
    "smooth": "number",
    "heavy": "number",
    "zeros": "number",
    "holes": "number",
    "few": "category",
    "rare": "category",
}


def test_scores_are_comparable_where_nothing_changed() -> None:
    generator = np.random.default_rng(2)
    profile = Profile.of(mixed(generator, 20_000), KINDS)
    for rows in (100, 1_000):
        table = [drift_scores(profile, count(profile, mixed(generator, rows))) for _ in range(60)]
        for name in KINDS:
            values = np.array([scores[name] for scores in table])
            assert -1.5 < values.mean() < 1.5, (name, rows)
            assert values.std() < 1.6, (name, rows)
            assert values.max() < 7.0, (name, rows)


@pytest.mark.parametrize("column", list(KINDS))
def test_a_change_of_one_column_stands_out(column: str) -> None:
    generator = np.random.default_rng(3)
    profile = Profile.of(mixed(generator, 20_000), KINDS)
    window = mixed(generator, 1_000)
    quiet = window_score(drift_scores(profile, count(profile, window)))
    if column == "holes":
        window["holes"] = np.where(generator.random(1_000) < 0.3, np.nan, window["holes"].astype(float))
    elif KINDS[column] == "number":
        window[column] = window[column].astype(float) * 1.0 + 0.4
    else:
        window[column] = np.where(generator.random(1_000) < 0.1, "brand new", window[column].astype(object))
    scores = drift_scores(profile, count(profile, window))
    assert max(scores, key=lambda name: scores[name]) == column
    assert window_score(scores) > quiet + 2.0


@settings(max_examples=40, deadline=None)
@given(scores=st.dictionaries(st.text(max_size=3), st.floats(-1e3, 1e3), min_size=1, max_size=10))
def test_the_window_score_is_a_soft_maximum(scores: dict[str, float]) -> None:
    top = max(scores.values())
    assert top - math.log(len(scores)) - 1e-9 <= window_score(scores) <= top + 1e-9


def test_scales_are_those_of_the_reference_windows() -> None:
    scales = ColumnScales.fit([{"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 5.0}])
    assert scales.location == {"a": 2.0, "b": 5.0}
    assert scales.scale == {"a": 1.0, "b": 0.25}
    assert window_score({"a": 2.0, "b": 5.0}, scales) == pytest.approx(0.0)
    assert window_score({"a": 2.0}) == window_score({"a": 2.0}, ColumnScales.fit([])) == 2.0


def whole_chain(generator: np.random.Generator, *, reference: int, windows: int, shift: float) -> list[bool]:
    """Row by row: profile and scales from the first half of the reference, ranks from the second, then the alarms."""
    tables = [mixed(generator, 200) for _ in range(reference + windows)]
    for table in tables[reference:]:
        table["smooth"] = table["smooth"].astype(float) + shift
    first = split_reference(reference)
    joined = {name: np.concatenate([table[name] for table in tables[:first]]) for name in KINDS}
    profile = Profile.of(joined, KINDS)
    drifts = [drift_scores(profile, count(profile, table)) for table in tables]
    scales = ColumnScales.fit(drifts[:first])
    scores = [window_score(scores, scales) for scores in drifts]
    scorer = WindowScorer.of(scores[:reference], windows_per_false_alarm=50)
    alarms = []
    for score in scores[reference:]:
        judgement, scorer = scorer.judge(score)
        alarms.append(judgement.alarm)
    return alarms


def test_from_rows_to_alarms_the_promise_holds_and_a_shift_is_seen() -> None:
    generator = np.random.default_rng(12)
    null = [sum(whole_chain(generator, reference=40, windows=60, shift=0.0)) for _ in range(12)]
    assert sum(null) / (12 * 60) <= 1.0 / 50.0 + 3.0 * math.sqrt(1.0 / 50.0 / (12 * 60))
    for _ in range(5):
        assert any(whole_chain(generator, reference=40, windows=10, shift=0.4))


def test_a_window_is_judged_fast() -> None:
    generator = np.random.default_rng(4)
    reference = {f"n{i}": generator.normal(size=5_000) for i in range(15)}
    reference |= {f"c{i}": generator.choice(np.array(["a", "b", "c"], dtype=object), size=5_000) for i in range(5)}
    kinds: dict[str, Kind] = {name: "number" if name.startswith("n") else "category" for name in reference}
    profile = Profile.of(reference, kinds)
    window = {name: values[:500] for name, values in reference.items()}
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        window_score(drift_scores(profile, count(profile, window)))
        best = min(best, time.process_time() - started)
    assert best < 0.020


def test_odd_columns_are_no_reason_to_fail() -> None:
    nothing = np.full(10, np.nan)
    profile = Profile.of(
        {"x": nothing, "c": np.full(10, None), "k": np.full(10, 7)}, {"x": "number", "c": "category", "k": "number"}
    )
    window = {"x": np.array([1.0]), "c": np.array(["a"], dtype=object), "k": np.array([7])}
    scores = drift_scores(profile, count(profile, window))
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["x"] > 0.0
    assert all(math.isfinite(found.chi_square) for found in distances(profile, count(profile, window)).values())
    integers = Profile.of({"x": np.array([1, 2, None], dtype=object)}, {"x": "number"})
    assert integers.columns["x"].cells[-1] == 1


def test_errors_name_the_column() -> None:
    profile = Profile.of({"x": np.arange(5.0), "y": np.arange(5.0)}, {"x": "number", "y": "number"})
    with pytest.raises(ValueError, match="'y' are missing"):
        count(profile, {"x": np.arange(3.0)})
    with pytest.raises(ValueError, match="differ in length"):
        count(profile, {"x": np.arange(3.0), "y": np.arange(4.0)})
    with pytest.raises(ValueError, match="x hold something that is not a number"):
        count(profile, {"x": np.array(["a", "b"]), "y": np.arange(2.0)})
    with pytest.raises(ValueError, match="window is empty"):
        drift_scores(profile, count(profile, {"x": np.array([]), "y": np.array([])}))
    with pytest.raises(ValueError, match="at least one row"):
        Profile.of({"x": np.array([])}, {"x": "number"})
    with pytest.raises(ValueError, match="another profile"):
        drift_scores(profile, Counts(rows=1, cells={"x": (1,)}))
    with pytest.raises(ValueError, match="do not add up"):
        _ = profile.counts + Counts(rows=1, cells={"x": (1,)})
    with pytest.raises(ValueError, match="empty sample"):
        jensen_shannon(np.zeros(2, dtype=int), np.ones(2, dtype=int))
    with pytest.raises(ValueError, match="cannot be compared"):
        chi_square(np.ones(2, dtype=int), np.ones(3, dtype=int))
    with pytest.raises(ValueError, match="no score"):
        window_score({})
    with pytest.raises(ValueError, match="'b' is NaN"):
        window_score({"a": 0.0, "b": math.nan})
