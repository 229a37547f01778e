"""A small made world for checks: rows of loans, and a model that is a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from goldenloop.core.signatures import ColumnKind
from goldenloop.evaluation.checks import Subject
from goldenloop.evaluation.gate import Evidence
from goldenloop.stats.losses import Values, losses

KINDS: dict[str, ColumnKind] = {"income": "number", "age": "number", "city": "category"}
Rule = Callable[[dict[str, Values]], np.ndarray]


def by_income(columns: dict[str, Values]) -> np.ndarray:
    """The chance of repaying, growing with income alone."""
    with np.errstate(over="ignore", invalid="ignore"):
        return 1.0 / (1.0 + np.exp(-(np.asarray(columns["income"], dtype=np.float64) - 50.0) / 5.0))


def answer(rule: Rule, columns: dict[str, Values]) -> Evidence:
    chance = rule(columns)
    said = np.where(chance > 0.5, "yes", "no").astype(object)
    said[np.isnan(chance)] = None
    return Evidence(answers=said, probabilities=np.column_stack([1.0 - chance, chance]))


def subject(rows: int = 600, *, seed: int = 0, rule: Rule = by_income, **changed: object) -> Subject:
    """A classifier's rows and its answers; labels are drawn from `by_income`, so that this rule is calibrated."""
    generator = np.random.default_rng(seed)
    columns: dict[str, Values] = {
        "income": np.round(generator.normal(50.0, 10.0, rows), 1),
        "age": generator.integers(18, 80, rows).astype(np.float64),
        "city": generator.choice(np.array(["Bergen", "Oslo", "Voss"], dtype=object), rows),
    }
    labels = np.where(generator.random(rows) < by_income(columns), "yes", "no").astype(object)
    said = answer(rule, columns)
    made = Subject(
        task="classification",
        label="repaid",
        labels=labels,
        columns=columns,
        kinds=KINDS,
        protected={},
        challenger=said,
        losses=losses("classification", labels, said.answers),
        champion_losses=None,
        classes=("no", "yes"),
        scale=1.0,
        predict=lambda given: answer(rule, given),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def regression(rows: int = 600, *, seed: int = 0) -> Subject:
    """A regressor's rows: the value is twice the income, with a little noise."""
    base = subject(rows, seed=seed)
    truth = 2.0 * np.asarray(base.columns["income"], dtype=np.float64)
    labels = truth + np.random.default_rng(seed + 1).normal(0.0, 2.0, rows)

    def predict(given: dict[str, Values]) -> Evidence:
        return Evidence(answers=2.0 * np.asarray(given["income"], dtype=np.float64))

    said = predict(dict(base.columns))
    return dataclasses.replace(
        base,
        task="regression",
        labels=labels,
        challenger=said,
        losses=losses("regression", labels, said.answers, scale=40.0),
        classes=(),
        scale=40.0,
        predict=predict,
    )
