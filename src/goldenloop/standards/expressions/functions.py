"""What functions and operators do with values."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.expressions.grammar import ExpressionError

EXACT = 1 << 53  # up to here every whole number is a double


def apply(function: str, values: list[Json]) -> Json:
    """The value of a function, an operator, a list (`[]`) or a map (`{}`) of values. Raises ExpressionError."""
    if function == "[]":
        return values
    known = _made_map if function == "{}" else _FUNCTIONS.get((function, len(values)))
    if known is None:
        raise ExpressionError(f"there is no function {function.lstrip('.')} of {len(values)} values")
    try:
        return known(*values)
    except ZeroDivisionError:
        raise ExpressionError("it divides by zero") from None
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ExpressionError(f"{function.lstrip('.')} is not for {', '.join(map(kind_of, values))}") from None


def _made_map(*values: Json) -> JsonObject:
    return {_text(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _equal(left: Json, right: Json) -> bool:
    if is_number(left) and is_number(right):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    return left == right


def _ordered(left: Json, right: Json) -> int:
    """-1, 0 or 1; raises TypeError for what has no order."""
    same = type(left) is type(right) and isinstance(left, str | bool)
    if not same and not (is_number(left) and is_number(right)):
        raise TypeError
    return (left > right) - (left < right)  # type: ignore[operator]


def _plus(left: Json, right: Json) -> Json:
    if isinstance(left, str | list) and type(left) is type(right):
        return left + right  # type: ignore[operator]
    return _numeric(left) + _numeric(right)


def _divided(left: Json, right: Json) -> Json:
    above, below = _numeric(left), _numeric(right)
    if isinstance(above, int) and isinstance(below, int):
        rounded = abs(above) // abs(below)
        return rounded if (above < 0) == (below < 0) else -rounded
    return above / below


def _remainder(left: Json, right: Json) -> Json:
    above, below = _numeric(left), _numeric(right)
    if isinstance(above, float) or isinstance(below, float):
        raise TypeError
    rest = abs(above) % abs(below)
    return rest if above >= 0 else -rest


def _integer(value: Json) -> int:
    if isinstance(value, str):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return int(value)


def _double(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _boolean(value: Json) -> bool:
    if isinstance(value, str):
        return {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}[value]
    return truth(value)


def _string(value: Json) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict):
        raise TypeError
    return msgspec.json.encode(value).decode()


def _size(value: Json) -> int:
    if not isinstance(value, str | list | dict):
        raise TypeError
    return len(value)


def _parse_json(value: Json) -> Json:
    try:
        parsed: Json = msgspec.json.decode(_text(value))
    except msgspec.DecodeError as error:
        raise ExpressionError(f"parseJson: {error}") from None
    return parsed


def _contained(value: Json, where: Json) -> bool:
    if not isinstance(where, list | dict):
        raise TypeError
    return any(_equal(value, member) for member in where)


def _numeric(value: Json) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def truth(value: Json) -> bool:
    """A value that must be true or false. Raises ExpressionError."""
    if not isinstance(value, bool):
        raise ExpressionError(f"{kind_of(value)} is neither true nor false")
    return value


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def is_number(value: Json) -> bool:
    """Whether a value is an int or a double."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Json) -> str:
    """The name of a value's kind."""
    if value is None:
        return "null"
    kinds: list[tuple[type, str]] = [(bool, "bool"), (int, "int"), (float, "double"), (str, "string"), (list, "list")]
    return next((name for kind, name in kinds if isinstance(value, kind)), "map")


_FUNCTIONS: dict[tuple[str, int], Callable[..., Json]] = {
    ("not", 1): lambda value: not truth(value),
    ("negative", 1): lambda value: -_numeric(value),
    ("==", 2): _equal,
    ("!=", 2): lambda left, right: not _equal(left, right),
    ("<", 2): lambda left, right: _ordered(left, right) < 0,
    ("<=", 2): lambda left, right: _ordered(left, right) <= 0,
    (">", 2): lambda left, right: _ordered(left, right) > 0,
    (">=", 2): lambda left, right: _ordered(left, right) >= 0,
    ("in", 2): _contained,
    ("+", 2): _plus,
    ("-", 2): lambda left, right: _numeric(left) - _numeric(right),
    ("*", 2): lambda left, right: _numeric(left) * _numeric(right),
    ("/", 2): _divided,
    ("%", 2): _remainder,
    ("int", 1): _integer,
    ("uint", 1): _integer,
    ("double", 1): _double,
    ("string", 1): _string,
    ("bool", 1): _boolean,
    ("size", 1): _size,
    (".size", 1): _size,
    ("parseJson", 1): _parse_json,
    (".contains", 2): lambda value, part: _text(part) in _text(value),
    (".startsWith", 2): lambda value, part: _text(value).startswith(_text(part)),
    (".endsWith", 2): lambda value, part: _text(value).endswith(_text(part)),
}
