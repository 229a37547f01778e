"""Behavioural tests that a person writes: what must not matter, what must help, and what must be right whatever else changes.

After Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (ACL 2020): invariance, direction, minimum
functionality, here for tables. Tests ask the converted model, with rows of the evaluation set or with rows that are written down. They
hold or do not; nothing is estimated, except where a test names a part of the evaluation set: that has to have `FEWEST_ROWS` rows.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import as_text as category_text
from goldenloop.evaluation.checks import Finding, Subject
from goldenloop.evaluation.gate import Evidence
from goldenloop.standards.evaluation import BehaviourTest, Direction, Minimum, change_of
from goldenloop.stats.losses import Values, as_numbers, as_text, metrics

FEWEST_ROWS = 30  # of the evaluation set, where a minimum is asked of a part of it
MOST_COMBINATIONS = 64  # of the values of an invariance
_EXAMPLES = 3  # counterexamples that are shown


def run_test(subject: Subject, test: BehaviourTest) -> Finding:
    """Carry out one test. Raises InvalidSpecError for a column, class or metric that is not there, naming the nearest."""
    if test.invariance:
        return _invariance(subject, test)
    if test.direction is not None:
        return _direction(subject, test, test.direction)
    assert test.minimum is not None  # `check_evaluation` has seen to it that one is asked for
    return _minimum(subject, test.minimum)


def _invariance(subject: Subject, test: BehaviourTest) -> Finding:
    values = {name: _typed(subject, name, given) for name, given in test.invariance.items()}
    combinations = list(itertools.product(*(list(given) for given in values.values())))
    if len(combinations) > MOST_COMBINATIONS:
        raise InvalidSpecError(
            f"{len(combinations)} combinations of values are too many",
            where=f"behaviour {test.name!r}",
            mend=f"Name at most {MOST_COMBINATIONS}, or write several tests.",
        )
    places = subject.places(test.rows)
    answers = []
    for combination in combinations:
        columns = subject.taken(places)
        for name, value in zip(values, combination, strict=True):
            columns[name] = np.full(places.size, value, dtype=columns[name].dtype)
        answers.append(subject.predict(columns))
    holds = _agree(subject, answers, tolerance=test.tolerance)
    return _told(subject, test, places, holds, f"the answer stays the same whatever {' and '.join(values)} is")


def _agree(subject: Subject, answers: list[Evidence], *, tolerance: float) -> NDArray[np.bool_]:
    """On which rows all answers are the same. An answer that is missing agrees with nothing."""
    if subject.task == "regression":
        said = np.array([as_numbers(each.answers) for each in answers])
        with np.errstate(invalid="ignore"):
            return np.ptp(said, axis=0) <= tolerance  # type: ignore[no-any-return]
    if tolerance > 0.0 and answers[0].probabilities is not None:
        shares = np.array([each.probabilities for each in answers])
        return np.ptp(shares, axis=0).max(axis=1) <= tolerance  # type: ignore[no-any-return]
    texts = np.array([as_text(each.answers) for each in answers], dtype=object)
    return np.array([len({*row}) == 1 and row[0] is not None for row in texts.T.tolist()], dtype=bool)


def _direction(subject: Subject, test: BehaviourTest, asked: Direction) -> Finding:
    _must_have(subject, asked.column)
    if subject.kinds[asked.column] != "number":
        raise InvalidSpecError(
            f"{asked.column!r} holds categories, which have no direction",
            where=f"behaviour {test.name!r}",
            mend="Name a column of numbers, or write an invariance.",
        )
    places = subject.places(test.rows)
    columns = subject.taken(places)
    numbers = as_numbers(columns[asked.column])
    amount, relative = change_of(asked.change)
    moved = {**columns, asked.column: numbers * (1.0 + amount) if relative else numbers + amount}
    of = asked.of if asked.of is not None else subject.classes[-1] if subject.classes else ""
    change = _scores(subject, subject.predict(moved), of) - _scores(subject, subject.predict(columns), of)
    if asked.expect == "down":
        change = -change
    with np.errstate(invalid="ignore"):
        holds = change >= -test.tolerance  # NaN holds nothing
    # Where the column is missing nothing was changed, so the row says nothing.
    told = np.isfinite(numbers)
    what = "the value" if subject.task == "regression" else f"the chance of {of}"
    away = "fall" if asked.expect == "up" else "rise"
    return _told(
        subject,
        test,
        places[told],
        holds[told],
        f"{what} does not {away} where {asked.column} changes by {asked.change}",
    )


def _scores(subject: Subject, said: Evidence, of: str) -> NDArray[np.float64]:
    if subject.task == "regression":
        return as_numbers(said.answers)
    if of not in subject.classes:
        raise InvalidSpecError(
            f"there is no class {of!r}", where="direction.of", mend=f"There are {', '.join(subject.classes)}."
        )
    if said.probabilities is None:
        raise InvalidSpecError(
            "the model gives no probabilities, so its answers have no direction",
            where="direction",
            mend="Write an invariance, or train a model that gives them.",
        )
    return np.asarray(said.probabilities, dtype=np.float64)[:, subject.classes.index(of)]


def _minimum(subject: Subject, asked: Minimum) -> Finding:
    if asked.rows:
        labels, said = _written(subject, asked.rows)
        told = f"on {len(labels)} written cases"
    else:
        member = np.ones(subject.rows, dtype=bool)
        for name, value in asked.where.items():
            (wanted,) = _typed(subject, name, (value,)).tolist()
            member &= np.asarray(subject.columns[name]) == wanted
        places = np.flatnonzero(member)
        told = (
            f"on {places.size} rows where {' and '.join(f'{name} is {value}' for name, value in asked.where.items())}"
        )
        if places.size < FEWEST_ROWS:
            return Finding(
                verdict=Verdict.INCONCLUSIVE,
                reason=f"{told} nothing can be said; {FEWEST_ROWS} rows are needed",
                evidence={"rows": int(places.size)},
            )
        labels = np.asarray(subject.labels)[places]
        probabilities = subject.challenger.probabilities
        said = Evidence(
            answers=np.asarray(subject.challenger.answers)[places],
            probabilities=None if probabilities is None else probabilities[places],
        )
    found = metrics(subject.task, labels, said.answers, probabilities=said.probabilities, classes=subject.classes)
    name = next(iter(found)) if asked.metric == "auto" else asked.metric
    if name not in found:
        raise InvalidSpecError(
            f"there is no metric {name!r} for {subject.task}",
            where="minimum.metric",
            mend=f"Known: {', '.join(found)}.",
        )
    measured = found[name]
    bound = asked.at_least if asked.at_least is not None else asked.at_most
    evidence: dict[str, Json] = {"metric": name, "value": measured, "bound": bound, "rows": len(labels)}
    if measured is None:
        return Finding(
            verdict=Verdict.INCONCLUSIVE,
            reason=f"{name} has no value {told}: the labels are constant",
            evidence=evidence,
        )
    assert bound is not None
    holds = measured >= bound if asked.at_least is not None else measured <= bound
    side = "at least" if asked.at_least is not None else "at most"
    return Finding(
        verdict=Verdict.PASS if holds else Verdict.FAIL,
        reason=f"{name} is {measured:.4g} {told}; {side} {bound:g} is asked for",
        evidence=evidence,
    )


def _written(subject: Subject, rows: tuple[Mapping[str, Json], ...]) -> tuple[Values, Evidence]:
    """The labels of rows that a person wrote, and the answers to them. A column that is left out is missing there."""
    for number, row in enumerate(rows):
        if subject.label not in row:
            raise InvalidSpecError(
                f"row {number} has no {subject.label!r}", where=f"minimum.rows[{number}]", mend="Write its label."
            )
        for name in row:
            if name != subject.label:
                _must_have(subject, name)
    columns: dict[str, Values] = {}
    for name in subject.columns:
        given = tuple(row.get(name) for row in rows)
        columns[name] = _typed(subject, name, given)
    labels = np.empty(len(rows), dtype=object)
    labels[:] = [category_text(row[subject.label]) for row in rows]  # type: ignore[arg-type]
    if subject.task == "regression":
        return as_numbers(labels, what="the labels of the written rows"), subject.predict(columns)
    return labels, subject.predict(columns)


def _typed(subject: Subject, name: str, given: tuple[Json, ...]) -> Values:
    """Values as the column holds them. Raises InvalidSpecError where it is not there, or does not hold such values."""
    _must_have(subject, name)
    if subject.kinds[name] == "number":
        try:
            return as_numbers(np.array(given, dtype=object))
        except ValueError as error:
            raise InvalidSpecError(f"column {name!r} holds numbers: {error}", where=name) from error
    typed = np.empty(len(given), dtype=object)
    typed[:] = [None if value is None else category_text(value) for value in given]  # type: ignore[arg-type]
    return typed


def _must_have(subject: Subject, name: str) -> None:
    if name in subject.columns:
        return
    near = difflib.get_close_matches(name, subject.columns, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The model takes {', '.join(list(subject.columns)[:20])}."
    raise InvalidSpecError(f"there is no column {name!r}", where="spec.evaluation.behaviour", mend=hint)


def _told(
    subject: Subject, test: BehaviourTest, places: NDArray[np.int64], holds: NDArray[np.bool_], what: str
) -> Finding:
    rows = int(holds.size)
    if rows == 0:
        return Finding(verdict=Verdict.INCONCLUSIVE, reason="there is no row to try it on", evidence={"rows": 0})
    share = float(holds.mean())
    broken = places[np.flatnonzero(~holds)[:_EXAMPLES]]
    examples: list[Json] = [
        {name: _plain(values[0]) for name, values in subject.taken(np.array([place])).items()}
        for place in broken.tolist()
    ]
    return Finding(
        verdict=Verdict.PASS if share >= test.at_least else Verdict.FAIL,
        reason=f"{what} on {share:.1%} of {rows} rows; {test.at_least:.1%} are asked for",
        evidence={"share": share, "atLeast": test.at_least, "rows": rows, "counterexamples": examples},
    )


def _plain(value: object) -> Json:
    number = value.item() if isinstance(value, np.generic) else value
    plain: Json = None if number != number else msgspec.to_builtins(number)
    return plain
