"""Conditions of graphs."""

from __future__ import annotations

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards import gjson

DOCUMENT = {
    "predictions": ["cat", "dog"],
    "scores": [0.25, 0.75],
    "instances": [{"id": 1, "name": "first"}, {"id": 2, "name": "second"}],
    "meta": {"model": "m-1", "a.b": 1},
}


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("predictions", True), ("predictions.0", True), ("predictions.2", False), ("nothing", False), ("meta.model", True),
        ('[@this].#(predictions.0=="cat")', True), ('[@this].#(predictions.0=="dog")', False),
        ("instances.#(id==2)", True), ("instances.#(id==3)", False), ("instances.#(id>1).name", True), ("instances.#(id>2)", False),
        ("instances.#(id!=1)#.name", True), ("instances.#(id>5)#", False), ('instances.#(name%"sec*")', True),
        ('instances.#(name!%"*")', False), ("scores.#(>0.7)", True), ("scores.#(<0.2)", False), ("predictions.#", True),
        ("instances.#.name", True), ("instances.#.nothing", False), ("meta.mod*", True), ("@this", True), ("instances.#(id)", True),
    ],
)  # fmt: skip
def test_conditions(path: str, holds: bool) -> None:
    assert gjson.exists(DOCUMENT, path) is holds


@pytest.mark.parametrize("path", ["", "a..b", "a.#(b==1", "a)", '#(a=="b)', "."])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(InvalidSpecError, match="is not a path"):
        gjson.check(path, where="spec")
