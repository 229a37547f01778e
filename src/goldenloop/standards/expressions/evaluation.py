"""The value of a tree."""

from __future__ import annotations

from collections.abc import Mapping

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json
from goldenloop.standards.expressions.functions import EXACT, apply, is_number, kind_of, truth
from goldenloop.standards.expressions.grammar import Call, ExpressionError, Inside, Literal, Name, Node, parsed

_TOO_DEEP = "it is nested too deeply"
_MEND = "Write it in CEL, as kfp's compiler does."


def check_expression(text: str, *, where: str) -> None:
    """Raise InvalidSpecError where the text is no expression."""
    try:
        parsed(text)
    except ExpressionError as error:
        raise InvalidSpecError(f"{text!r} is no expression: {error}", where=where, mend=_MEND) from None
    except RecursionError:
        raise InvalidSpecError(f"{text[:40]!r}… is no expression: {_TOO_DEEP}", where=where, mend=_MEND) from None


def evaluate(text: str, variables: Mapping[str, Json], *, where: str) -> Json:
    """Return the value of an expression. Raises InvalidSpecError where it cannot be parsed or has none.

    >>> evaluate("int(n) > 3 && !(word == 'no')", {"n": 5, "word": "yes"}, where="task")
    True
    """
    try:
        return _value(parsed(text), variables)
    except ExpressionError as error:
        raise InvalidSpecError(f"{text!r} cannot be evaluated: {error}", where=where, mend=_MEND) from None
    except RecursionError:
        raise InvalidSpecError(f"{text[:40]!r}… cannot be evaluated: {_TOO_DEEP}", where=where, mend=_MEND) from None


def _value(node: Node, variables: Mapping[str, Json]) -> Json:
    match node:
        case Literal(value):
            return value
        case Name(name):
            if name not in variables:
                raise ExpressionError(f"there is no {name!r}")
            return _of_document(variables[name])
        case Inside(value, key):
            return _inside(_value(value, variables), _value(key, variables))
        case Call("&&" | "||" as function, (left, right)):
            return _logic(left, right, variables, decides=function == "||")
        case Call("?:", (test, chosen, other)):
            return _value(chosen if truth(_value(test, variables)) else other, variables)
        case Call("has", (Inside() as member,)):
            try:
                _value(member, variables)
            except ExpressionError:
                return False
            return True
        case Call(function, arguments):
            return apply(function, [_value(argument, variables) for argument in arguments])


def _logic(left: Node, right: Node, variables: Mapping[str, Json], *, decides: bool) -> bool:
    """`decides` is the value of one side that makes the other side irrelevant: true for `||`, false for `&&`."""
    failure: ExpressionError | None = None
    for side in (left, right):
        try:
            if truth(_value(side, variables)) is decides:
                return decides
        except ExpressionError as error:
            failure = error
    if failure is not None:
        raise failure
    return not decides


def _of_document(value: Json) -> Json:
    """A number of a document is a double, unless a double could not hold it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= EXACT:
        return float(value)
    return value


def _inside(value: Json, key: Json) -> Json:
    if isinstance(value, dict) and isinstance(key, str):
        if key not in value:
            raise ExpressionError(f"there is no {key!r} in it")
        return _of_document(value[key])
    if isinstance(value, list) and is_number(key) and float(key).is_integer():  # type: ignore[arg-type]
        place = int(key)  # type: ignore[arg-type]
        if not 0 <= place < len(value):
            raise ExpressionError(f"there is no element {place} in a list of {len(value)}")
        return _of_document(value[place])
    raise ExpressionError(f"{kind_of(value)} has no {key!r}")
