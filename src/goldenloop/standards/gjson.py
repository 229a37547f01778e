"""The conditions of an InferenceGraph: paths in GJSON's syntax, of which what conditions need is read. Pure.

    name.inner.0        members and elements          *, ?        wildcards in names
    #                   the number of elements        #.name      that member of every element
    #(name=="x")        the first element that fits   #(…)#       every one; operators == != < <= > >= % (like) !%
    @this, [@this]      the document itself, and a list of it, which is how conditions look at objects

A condition holds where its path leads to something.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Final

import msgspec

from goldenloop.core.errors import InvalidSpecError

_OPERATORS: Final = ("==", "!=", "<=", ">=", "!%", "<", ">", "%")
_MISSING: Final = object()
_MEND = 'Write it as GJSON does, such as [@this].#(predictions.0=="cat") or instances.#(modelId==1).'


def check(path: str, *, where: str) -> None:
    """Raise InvalidSpecError where a path cannot be read."""
    _parts(path, where)


def exists(document: object, path: str) -> bool:
    """Whether a path leads to something in a document. Raises InvalidSpecError where the path cannot be read.

    >>> exists({"predictions": ["cat", "dog"]}, '[@this].#(predictions.0=="cat")')
    True
    >>> exists({"instances": [{"id": 1}]}, "instances.#(id==2)")
    False
    """
    found = _follow(document, _parts(path, "condition"))
    return found is not _MISSING and found != []


def _follow(value: object, parts: list[str]) -> object:
    for place, part in enumerate(parts):
        if part == "@this":
            continue
        if part.startswith("["):
            value = [_follow(value, _parts(part[1:-1], "condition"))]
        elif part == "#":
            if not isinstance(value, list):
                return _MISSING
            rest = parts[place + 1 :]
            if not rest:
                return len(value)
            return [inner for each in value if (inner := _follow(each, rest)) is not _MISSING]
        elif part.startswith("#("):
            every = part.endswith(")#")
            fitting = _fitting(value, part[2:-2] if every else part[2:-1])
            if not every:
                if not fitting:
                    return _MISSING
                value = fitting[0]
                continue
            rest = parts[place + 1 :]
            return [inner for each in fitting if (inner := _follow(each, rest)) is not _MISSING]
        else:
            value = _member(value, part)
        if value is _MISSING:
            return _MISSING
    return value


def _member(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        if "*" in name or "?" in name:
            return next((inner for key, inner in value.items() if fnmatch.fnmatchcase(str(key), name)), _MISSING)
    elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    return _MISSING


def _fitting(value: object, query: str) -> list[object]:
    if not isinstance(value, list):
        return []
    path, operator, wanted = _query(query)
    fitting = []
    for each in value:
        given = _follow(each, _parts(path, "condition")) if path else each
        if given is not _MISSING and (not operator or _compares(given, operator, wanted)):
            fitting.append(each)
    return fitting


def _query(query: str) -> tuple[str, str, object]:
    quoted = False
    for place, letter in enumerate(query):
        if letter == '"':
            quoted = not quoted
        if not quoted:
            for operator in _OPERATORS:
                if query.startswith(operator, place):
                    return query[:place].strip(), operator, _literal(query[place + len(operator) :].strip())
    return query.strip(), "", None


def _literal(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _compares(given: object, operator: str, wanted: object) -> bool:
    if operator in ("%", "!%"):
        return fnmatch.fnmatchcase(str(given), str(wanted)) is (operator == "%")
    if operator == "==":
        return given == wanted
    if operator == "!=":
        return given != wanted
    numbers = isinstance(given, int | float) and isinstance(wanted, int | float)
    if not numbers and not (isinstance(given, str) and isinstance(wanted, str)):
        return False
    smaller: bool = given < wanted  # type: ignore[operator]  # both numbers, or both texts
    if operator in ("<", ">="):
        return smaller is (operator == "<")
    larger: bool = given > wanted  # type: ignore[operator]
    return larger is (operator == ">")


def _parts(path: str, where: str) -> list[str]:
    """Split a path at dots and pipes that stand outside of brackets and quotes."""
    parts: list[str] = []
    part = ""
    depth = 0
    quoted = False
    for letter in path.strip():
        if letter == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
            if depth < 0:
                break
            if letter in ".|" and depth == 0:
                parts.append(part)
                part = ""
                continue
        part += letter
    parts.append(part)
    if depth != 0 or quoted or any(not each for each in parts):
        raise InvalidSpecError(f"{path[:100]!r} is not a path", where=where, mend=_MEND)
    return parts
