"""Statistics of columns. The checks of `validate` are tested on whole runs, with `pipeline: auto`."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from goldenloop.features.statistics import Statistics, describe


def test_columns_are_described() -> None:
    table = pa.table(
        {"n": [1.0, 2.0, None, 3.0], "t": ["a", "b", "a", ""], "flag": [True, False, True, True], "none": pa.nulls(4)}
    )
    found = describe(table)
    number, text, flag, none = found.columns
    assert (number.missing, number.distinct, number.mean, number.quantiles[0], number.quantiles[-1]) == (
        1,
        3,
        2.0,
        1.0,
        3.0,
    )
    assert (text.family, text.missing, text.values) == ("text", 1, {"a": 2, "b": 1})
    assert (flag.family, flag.mean) == ("number", 0.75)
    assert (none.family, none.missing) == ("nothing", 4)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Statistics) == found
