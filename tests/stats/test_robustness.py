"""Noise that data has, stability under it, and inputs that were made to fool a model."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from goldenloop.stats.adversarial import (
    Fragility,
    median_filter,
    perturbation_scores,
    reduce_depth,
    squeezing_scores,
)
from goldenloop.stats.losses import Values
from goldenloop.stats.noise import Noise
from goldenloop.stats.profiles import Kind
from goldenloop.stats.robustness import stability

pytestmark = pytest.mark.filterwarnings("error")

KINDS: dict[str, Kind] = {"x": "number", "n": "number", "k": "category"}


def rows(count: int, seed: int) -> dict[str, Values]:
    generator = np.random.default_rng(seed)
    return {
        "x": np.where(generator.random(count) < 0.02, np.nan, generator.normal(size=count)),
        "n": generator.integers(0, 50, count).astype(float),
        "k": generator.choice(np.array(["a", "b"], dtype=object), count, p=[0.9, 0.1]),
    }


def steep(slope: float):  # type: ignore[no-untyped-def]
    """A model of x alone, whose probability goes from 0 to 1 over 1 / slope."""

    def predict(columns: dict[str, Values]) -> NDArray[np.float64]:
        x = np.nan_to_num(np.asarray(columns["x"], dtype=float))
        chance = 1.0 / (1.0 + np.exp(-np.clip(slope * x, -50, 50)))
        return np.column_stack([1.0 - chance, chance])

    return predict


def test_noise_is_what_the_data_has() -> None:
    columns = rows(3_000, 0)
    noise = Noise.of(columns, KINDS)
    assert msgspec.json.decode(msgspec.json.encode(noise), type=Noise) == noise
    generator = np.random.default_rng(1)
    assert noise.columns["n"].unit == 1.0  # type: ignore[union-attr]
    assert noise.columns["x"].unit == 0.0  # type: ignore[union-attr]
    jittered = noise.apply("jitter", columns, generator)
    assert np.nanstd(jittered["x"] - columns["x"]) == pytest.approx(0.05 / math.sqrt(3.0), rel=0.1)
    steps = jittered["n"] - columns["n"]
    assert set(np.unique(steps)) == {-1.0, 0.0, 1.0}
    gone = noise.apply("missing", columns, generator)
    assert np.isnan(gone["x"]).mean() == pytest.approx(0.04, abs=0.015)
    assert not np.isnan(gone["n"]).any()
    swapped = noise.apply("swap", columns, generator)
    assert (swapped["k"] != columns["k"]).mean() == pytest.approx(0.05 * 2 * 0.9 * 0.1, abs=0.008)
    shifted = noise.apply("shift", columns, generator)
    moved = (shifted["x"] - columns["x"])[~np.isnan(columns["x"])]
    assert abs(moved.mean()) == pytest.approx(0.1, abs=0.01)
    assert moved.std() < 1e-9
    assert noise.suffered("swap") == ("k",)


def test_flips_are_as_many_as_theory_says() -> None:
    """A jitter of 0.05 either way at a boundary at 0 flips a normal's rows with chance 0.05 / 2 * density at 0."""
    columns = rows(500, 2)
    columns["x"] = np.random.default_rng(3).normal(size=500)
    noise = Noise.of(rows(5_000, 4), KINDS)
    found = {one.noise: one for one in stability(steep(1e3), columns, noise, repeats=20)}
    expected = 0.05 / 2.0 / math.sqrt(2.0 * math.pi)
    assert found["jitter"].flips.value == pytest.approx(expected, abs=0.006)
    assert found["jitter"].flips.low <= expected <= found["jitter"].flips.high
    assert found["swap"].flips.value == 0.0  # the model does not look at k
    assert found["shift"].flips.value == pytest.approx(0.1 / math.sqrt(2.0 * math.pi), abs=0.02)
    gentle = {one.noise: one for one in stability(steep(1.0), columns, noise)}
    assert gentle["jitter"].change.value < 0.01
    assert gentle["jitter"].change.low <= gentle["jitter"].change.value <= gentle["jitter"].change.high


def test_numbers_and_names_as_answers() -> None:
    columns, noise = rows(300, 5), Noise.of(rows(2_000, 6), KINDS)
    numbers = {one.noise: one for one in stability(lambda c: np.asarray(c["n"], dtype=float), columns, noise)}
    assert numbers["jitter"].flips.value == 0.0  # one step of 50 is less than a tenth of their spread
    assert numbers["jitter"].change.value > 0.0
    names = {one.noise: one for one in stability(lambda c: np.asarray(c["k"]), columns, noise)}
    assert names["swap"].flips.value > 0.0
    assert names["swap"].change.value is None


def test_strange_input_is_told() -> None:
    noise = Noise.of(rows(500, 7), KINDS)
    empty = {name: values[:0] for name, values in rows(5, 7).items()}
    assert all(one.flips.value is None for one in stability(steep(1.0), empty, noise))
    assert all(one.flips.value is None for one in stability(steep(1.0), {}, noise))
    quiet = Noise.of({"x": np.full(50, 2.0)}, {"x": "number"})
    assert all("no column" in one.flips.note for one in stability(steep(1.0), {"x": np.full(9, 2.0)}, quiet))
    odd = {"x": np.array([math.inf, -math.inf, math.nan, 1e308]), "n": np.zeros(4), "k": np.array([None, 1, 2.5, "a"])}
    for one in stability(lambda c: np.asarray(c["x"], dtype=float), odd, noise):
        assert one.flips.rows == 4
    assert stability(steep(1.0), {name: values[:1] for name, values in odd.items()}, noise)[0].flips.rows == 1
    with pytest.raises(ValueError, match="for 9 rows"):
        stability(lambda _: np.zeros(3), {"x": np.zeros(9)}, noise)
    with pytest.raises(ValueError, match="at least once"):
        stability(steep(1.0), odd, noise, repeats=0)
    with pytest.raises(ValueError, match="missing"):
        Noise.of({}, KINDS)
    nothing = Noise.of({"x": np.full(3, math.nan), "k": np.array([], dtype=object)}, {"x": "number", "k": "category"})
    assert nothing.suffered("jitter") == ()


def test_rows_just_across_the_boundary_are_flagged() -> None:
    noise = Noise.of(rows(2_000, 8), KINDS)
    reference = rows(1_000, 9)
    reference["x"] = reference["x"] + np.where(np.random.default_rng(1).random(1_000) < 0.5, 3.0, -3.0)
    fragility = Fragility.of(perturbation_scores(steep(30.0), reference, noise))
    honest, fooled = rows(300, 10), rows(300, 10)
    honest["x"] = honest["x"] + 3.0
    fooled["x"] = np.full(300, 0.002)
    assert fragility.judge(perturbation_scores(steep(30.0), honest, noise), rate=0.05).share.value < 0.1
    assert fragility.judge(perturbation_scores(steep(30.0), fooled, noise), rate=0.05).share.value > 0.95
    names = perturbation_scores(lambda c: np.asarray(c["k"]), honest, noise)
    assert fragility.judge(names).share.value is None
    assert perturbation_scores(steep(1.0), {}, noise).size == 0
    assert len(Fragility.of(np.arange(5_000.0)).held_out) == 1_000


def test_squeezers_against_scipy() -> None:
    images = np.random.default_rng(11).random((3, 7, 6, 2))
    for place in range(3):
        theirs = ndimage.median_filter(images[place], size=(3, 3, 1), mode="reflect")
        assert median_filter(images, 3)[place] == pytest.approx(theirs)
    assert np.unique(reduce_depth(images, 2)).size == 4
    for wrong in (0, 9):
        with pytest.raises(ValueError, match="bits"):
            reduce_depth(images, wrong)
    with pytest.raises(ValueError, match="odd"):
        median_filter(images, 2)


def test_noisy_images_are_flagged() -> None:
    """A model of the mean difference of neighbouring pixels, which salt-and-pepper noise drives."""

    def predict(images: NDArray[np.float64]) -> NDArray[np.float64]:
        rough = np.abs(np.diff(images, axis=1)).mean(axis=(1, 2))
        chance = 1.0 / (1.0 + np.exp(-80.0 * (rough - 0.1)))
        return np.column_stack([1.0 - chance, chance])

    generator = np.random.default_rng(12)
    smooth = ndimage.uniform_filter(generator.random((200, 12, 12)), size=(1, 5, 5))
    spoilt = smooth[:50].copy()
    spoilt[generator.random(spoilt.shape) < 0.1] = 1.0
    fragility = Fragility.of(squeezing_scores(predict, smooth))
    assert fragility.judge(squeezing_scores(predict, spoilt), rate=0.02).share.value > 0.9
    gone = np.full((2, 4, 4), math.nan)
    assert np.isfinite(squeezing_scores(predict, gone)).all()
    assert squeezing_scores(predict, smooth[:0]).size == 0
    with pytest.raises(ValueError, match="dimensions"):
        squeezing_scores(predict, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="probabilities"):
        squeezing_scores(lambda images: np.zeros(len(images)), smooth)
