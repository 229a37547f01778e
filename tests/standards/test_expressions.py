"""Expressions: what each means, and what has no value."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.expressions import check_expression, evaluate

VALUES: JsonObject = {
    "n": 5,
    "x": 0.5,
    "word": "heads",
    "yes": True,
    "none": None,
    "list": [1, 2],
    "map": {"a": {"b": "deep"}},
    "big": 2**60 + 1,
}
AROUND: JsonObject = {"inputs": {"parameter_values": VALUES}, **VALUES}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inputs.parameter_values['word'] == 'heads'", True),
        ("!(inputs.parameter_values['word'] == 'heads') && int(inputs.parameter_values['n']) > 3", False),
        ('inputs.parameter_values["n"] >= 5', True),
        ("inputs.parameter_values['yes'] == true", True),
        ("map.a.b + '!'", "deep!"),
        ("list[1]", 2.0),
        ("2 in list || false", True),
        ("n / 2", 2.5),
        ("int(n) / 2", 2),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("n > 3 ? 'high' : 'low'", "high"),
        ("'1' == 1", False),
        ("1 == 1.0", True),
        ("none == null", True),
        ("[1, 2] == list", True),
        ("{'a': 'b'}['a']", "b"),
        ("string(n) + string(x) + string(true)", "50.5true"),
        ("int('12') + int(2.9)", 14),
        ("double('0.5')", 0.5),
        ("bool('true')", True),
        ("int(big) == 1152921504606846977", True),
        ("size('four') + size(list) + list.size()", 8),
        ("word.startsWith('he') && word.endsWith('ds') && word.contains('ea')", True),
        ("""r'\\d' + 'it\\'s' + "\\u0041" """, "\\dit'sA"),
        ("0x10 + 1e1", 26.0),
        ("has(map.a) && !has(map.z)", True),
        ("parseJson('[{\"a\": 1.5}]')[0]['a']", 1.5),
        ("--1", 1),
    ],
)
def test_what_it_means(text: str, expected: Json) -> None:
    value = evaluate(text, AROUND, where="task")
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize("text", ["false && nobody", "nobody && false", "true || 1 / 0 > 1", "1 / 0 > 1 || true"])
def test_an_error_does_not_matter_where_the_other_side_decides(text: str) -> None:
    assert isinstance(evaluate(text, AROUND, where="task"), bool)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nobody == 1", "there is no 'nobody'"),
        ("map.z", "there is no 'z' in it"),
        ("list[2]", "no element 2 in a list of 2"),
        ("word < 1", "< is not for string, int"),
        ("word && true", "string is neither true nor false"),
        ("1 / 0", "divides by zero"),
        ("int('x')", "int is not for string"),
        ("system('ls')", "no function system of 1 values"),
        ("word.__class__", "string has no '__class__'"),
        ("parseJson('{')", "parseJson"),
    ],
)
def test_what_has_no_value_says_why(text: str, problem: str) -> None:
    check_expression(text, where="task")
    with pytest.raises(InvalidSpecError, match="cannot be evaluated") as caught:
        evaluate(text, AROUND, where="task")
    assert problem in str(caught.value)
    assert caught.value.where == "task"


@pytest.mark.parametrize(
    "text", ["", "1 +", "a b", "(1", "[1", "'open", "1 == == 2", "a.1", "@", "(" * 200 + ")" * 200]
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError, match="is no expression"):
        check_expression(text, where="task")


def test_a_long_chain_is_refused_or_evaluated() -> None:
    with pytest.raises(InvalidSpecError, match="too deeply"):
        evaluate("+".join(["1"] * 100_000), AROUND, where="task")
    assert evaluate("+".join(["1"] * 100), AROUND, where="task") == 100


@given(st.text())
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidSpecError):
        evaluate(text, AROUND, where="task")


@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
def test_comparisons_of_numbers_agree_with_arithmetic(left: int, right: int) -> None:
    around: JsonObject = {"left": left, "right": right}
    assert evaluate("int(left) < int(right)", around, where="task") is (left < right)
    assert evaluate("int(left) == int(right)", around, where="task") is (left == right)
