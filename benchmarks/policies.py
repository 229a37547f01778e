"""Policies of retraining side by side, each alone (what it trains answers at once): accuracy and number of retrainings on the same windows.

    python benchmarks/policies.py --data FOLDER [--out benchmarks/results/policies.md]

FOLDER holds electricity.csv and chicago_taxi.csv. A model is gradient boosting (40 iterations, 8 leaves) on the last eight windows, and
each model is trained once, whoever asks for it. results/policies.md says on which streams the constants were chosen.
ADWIN and Page-Hinkley are those of `goldenloop.triggers.detectors`, which the tests hold against river.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from goldenloop.triggers.costs import Costs
from goldenloop.triggers.policies import Policy, Windows, policy_named, simulate

SPAN = 8  # windows that a model is trained on, and the warm-up
PRICES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # window losses
BOUNDS = (1000, 100, 20, 2)  # falseAlarmWindows
OTHERS = ("never", "periodic:1", "periodic:2", "periodic:4", "periodic:6", "periodic:8", "adwin", "page-hinkley")


@dataclass(frozen=True)
class Stream:
    """Rows in the order of their time, and the size of a window."""

    name: str
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    rows: int


class Tried:
    """A stream with the models that policies asked for."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.count = -(-len(stream.labels) // stream.rows) - SPAN
        self._losses = cache(self._compute)
        self._model = cache(self._fit)
        self.known = self._reference()

    def reached(self, make: Callable[[Costs], Policy]) -> tuple[float, int]:
        """The accuracy over all rows after the warm-up, and how many trainings that took."""
        windows = Windows(count=self.count, losses=self._losses, train=lambda _: True, due=lambda window: window)
        answering = simulate(make(self.known), windows)
        wrong = np.concatenate([self._losses(version, window) for window, version in enumerate(answering)])
        return 1.0 - float(wrong.mean()), len(set(answering)) - 1

    def _rows(self, window: int) -> slice:
        return slice((SPAN + window) * self._stream.rows, (SPAN + window + 1) * self._stream.rows)

    def _fit(self, first: int, last: int) -> HistGradientBoostingClassifier:
        rows = slice(first * self._stream.rows, last * self._stream.rows)
        model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8)
        return model.fit(self._stream.features[rows], self._stream.labels[rows])

    def _compute(self, version: int, window: int) -> NDArray[np.float64]:
        rows = self._rows(window)
        said = self._model(version, version + SPAN).predict(self._stream.features[rows])
        return (said != self._stream.labels[rows]).astype(np.float64)

    def _reference(self) -> Costs:
        """Rolling origins inside the warm-up, as a loop's first reference has them; the bound is set by whoever asks."""
        found = []
        for window in range(2, SPAN):
            rows = slice(window * self._stream.rows, (window + 1) * self._stream.rows)
            said = self._fit(0, window).predict(self._stream.features[rows])
            found.append(float(np.mean(said != self._stream.labels[rows])))
        return Costs.of(
            found, expected=(2.0 * found[-1] + 2.0 * float(np.mean(found))) / 4.0, windows_per_false_alarm=1000.0
        )


def electricity(folder: Path) -> Stream:
    """Elec2 in windows of a week, without the date, which would be a feature that never comes back."""
    table = pd.read_csv(folder / "electricity.csv")
    labels = (table["class"] == "UP").to_numpy().astype(np.int64)
    return Stream("Elec2", table.drop(columns=["class", "date"]).to_numpy(dtype=float), labels, 336)


def taxi(folder: Path) -> Stream:
    """Was the tip over a fifth of the fare? In windows of 150 trips, in the order of their start."""
    table = pd.read_csv(folder / "chicago_taxi.csv").sort_values("trip_start_timestamp", kind="stable")
    labels = (table["tips"] > 0.2 * table["fare"]).to_numpy().astype(np.int64)
    inputs = table.drop(columns=["tips", "trip_start_timestamp"])
    numbers = {
        name: values if pd.api.types.is_numeric_dtype(values) else values.astype("category").cat.codes
        for name, values in inputs.items()
    }
    return Stream("Chicago taxi", pd.DataFrame(numbers).fillna(-1).to_numpy(dtype=float), labels, 150)


def synthetic(kind: str, *, seed: int = 1, windows: int = 100, rows: int = 300) -> Stream:
    """Two classes that a line and a curve part; the line turns (abrupt, gradual, recurring, seasonal), or only the noise grows."""
    generator = np.random.default_rng(seed)
    count = windows * rows
    features = generator.normal(size=(count, 5))
    window = np.arange(count) // rows
    noise = np.full(count, 0.5)
    turn = np.zeros(count)
    match kind:
        case "abrupt":
            changes = np.sort(generator.choice(np.arange(15, windows - 5), 4, replace=False))
            turn = np.searchsorted(changes, window, side="right") * 1.1
        case "gradual":
            turn = np.arange(count) / count * 6.0
        case "recurring":
            turn = np.where((window // 20) % 2 == 0, 0.0, 1.2)
        case "seasonal":
            turn = 0.9 * np.sin(2 * np.pi * window / 12)
        case "noisier":
            noise = np.where(window > 40, 1.3, 0.5)
        case "wobbling":
            level = np.zeros(windows)
            for place in range(1, windows):
                level[place] = 0.6 * level[place - 1] + 0.8 * generator.normal()
            noise = 0.5 * np.exp(0.5 * level)[window]
    score = np.cos(turn) * features[:, 0] + np.sin(turn) * features[:, 1] + 0.4 * features[:, 2] ** 2 - 0.4
    labels = (score + noise * generator.normal(size=count) > 0).astype(np.int64)
    return Stream(kind, features, labels, rows)


def main() -> None:
    """Try every policy on every stream and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kinds = ("none", "abrupt", "gradual", "recurring", "seasonal", "noisier", "wobbling")
    streams = [electricity(given.data), taxi(given.data), *(synthetic(kind) for kind in kinds)]
    tried = []
    for stream in streams:
        tried.append(Tried(stream))
        print(f"{stream.name}: {tried[-1].count} windows", flush=True)
    rows: list[tuple[str, Callable[[Costs], Policy]]] = [(name, _plain(name)) for name in OTHERS]
    for bound in BOUNDS:
        rows += [(f"cost, price {price:g}, N {bound}", _by_cost(price, bound)) for price in PRICES]
        rows.append((f"cost, price auto, N {bound}", _by_cost(None, bound)))
    lines = [f"| policy | {' | '.join(stream.name for stream in streams)} |", f"|---{'|---' * len(streams)}|"]
    for name, make in rows:
        reached = [each.reached(make) for each in tried]
        lines.append(f"| {name} | {' | '.join(f'{accuracy:.4f} / {runs}' for accuracy, runs in reached)} |")
        print(lines[-1], flush=True)
    if given.out is not None:
        given.out.write_text("\n".join(lines) + "\n")


def _plain(name: str) -> Callable[[Costs], Policy]:
    return lambda known: policy_named(name, known=known, price=lambda usual: usual)


def _by_cost(price: float | None, bound: int) -> Callable[[Costs], Policy]:
    def make(known: Costs) -> Policy:
        held = msgspec.structs.replace(known, windows_per_false_alarm=float(bound))
        return policy_named("cost", known=held, price=lambda usual: usual if price is None else price)

    return make


if __name__ == "__main__":
    main()
