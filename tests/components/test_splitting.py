"""Every row goes to exactly one part, alike each time."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some
from tables_for_tests import customers

from goldenloop.components.splitting import divide
from goldenloop.core.errors import InvalidSpecError


def rows_of(part: pa.Table) -> list[int]:
    found: list[int] = part.column("row").to_pylist()
    return found


def numbered(count: int) -> pa.Table:
    return customers(count).append_column("row", pa.array(range(count)))


@given(
    count=some.integers(200, 400),
    shares=some.sampled_from([(0.2, 0.0), (0.2, 0.2), (0.5, 0.1)]),
    by=some.sampled_from(["random", "time", "group"]),
    seed=some.integers(0, 9),
)
def test_every_row_goes_to_one_part(count: int, shares: tuple[float, float], by: str, seed: int) -> None:
    table = numbered(count)
    column = {"random": "", "time": "at", "group": "who"}[by]
    asked = {"by": by, "column": column, "evaluation_share": shares[0], "test_share": shares[1], "seed": seed}
    parts = divide(table, **asked)  # type: ignore[arg-type]
    found = [rows_of(part) for part in (parts.training, parts.evaluation, parts.test)]
    assert sorted(row for part in found for row in part) == list(range(count))
    again = divide(table, **asked)  # type: ignore[arg-type]
    assert [rows_of(part) for part in (again.training, again.evaluation, again.test)] == found
    if by != "group":
        assert abs(len(found[1]) - shares[0] * count) <= 1
        assert abs(len(found[2]) - shares[1] * count) <= 1
    if by == "time":
        assert [row for part in found for row in part] == list(range(count))


def test_by_time_no_moment_is_torn_apart() -> None:
    table = pa.table({"day": ["2026-01-01"] * 5 + ["2026-01-02"] * 5, "row": list(range(10))})
    parts = divide(table, by="time", column="day", evaluation_share=0.2)
    assert rows_of(parts.evaluation) == [5, 6, 7, 8, 9]


def test_a_group_stays_on_its_side_when_rows_are_added() -> None:
    def side(count: int) -> dict[str, str]:
        parts = divide(numbered(count), by="group", column="who", evaluation_share=0.3)
        named = (("training", parts.training), ("evaluation", parts.evaluation))
        return {who: name for name, part in named for who in part.column("who").to_pylist()}

    few, many = side(80), side(400)
    assert few == many
    assert set(few.values()) == {"training", "evaluation"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"by": "time", "column": "when"}, "there is no column 'when'"),
        ({"by": "time", "column": "town"}, "row 1 is '.*', not a moment"),
        ({"by": "luck"}, "'luck' is no way to divide"),
        ({"by": "random", "evaluation_share": 0.6, "test_share": 0.4}, "leave nothing to train on"),
        ({"by": "random", "evaluation_share": 0.0}, "leave nothing to train on"),
        ({"by": "group", "column": "same"}, "part has no rows"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, object], message: str) -> None:
    table = customers(50).append_column("same", pa.array(["x"] * 50))
    with pytest.raises(InvalidSpecError, match=message):
        divide(table, **asked)  # type: ignore[arg-type]
