"""The grammar: from a text to a tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from goldenloop.core.json import Json

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>[rR]?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?|\d+[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)


class ExpressionError(Exception):
    """What is wrong with an expression, or why it has no value."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands for itself."""

    value: Json


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Inside:
    """A member or an element of a value."""

    value: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function, a method (its value comes first), an operator, a list (`[]`) or a map (`{}`) of the arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Literal | Name | Inside | Call


@lru_cache(maxsize=1024)
def parsed(text: str) -> Node:
    """The tree of an expression. Raises ExpressionError."""
    return _Parser(text).whole()


class _Parser:
    """Recursive descent, one method for each level of binding; the loosest comes first."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._place = 0

    def whole(self) -> Node:
        node = self._choice()
        if self._place < len(self._tokens):
            raise ExpressionError(f"{self._tokens[self._place][1]!r} was not expected")
        return node

    def _choice(self) -> Node:
        test = self._either()
        if self._takes("?"):
            chosen = self._either()
            self._needs(":")
            test = Call("?:", (test, chosen, self._choice()))
        return test

    def _either(self) -> Node:
        return self._chain(self._both, ("||",))

    def _both(self) -> Node:
        return self._chain(self._comparison, ("&&",))

    def _comparison(self) -> Node:
        return self._chain(self._sum, ("==", "!=", "<=", ">=", "<", ">", "in"))

    def _sum(self) -> Node:
        return self._chain(self._product, ("+", "-"))

    def _product(self) -> Node:
        return self._chain(self._sign, ("*", "/", "%"))

    def _chain(self, tighter: Callable[[], Node], signs: tuple[str, ...]) -> Node:
        node = tighter()
        while (sign := self._takes(*signs)) is not None:
            node = Call(sign, (node, tighter()))
        return node

    def _sign(self) -> Node:
        signs = []
        while (sign := self._takes("!", "-")) is not None:
            signs.append(sign)
        node = self._member()
        for sign in reversed(signs):
            node = Call("not" if sign == "!" else "negative", (node,))
        return node

    def _member(self) -> Node:
        node = self._primary()
        while (sign := self._takes(".", "[")) is not None:
            if sign == "[":
                node = Inside(node, self._choice())
                self._needs("]")
                continue
            name = self._name()
            called = self._takes("(")
            node = Call(f".{name}", (node, *self._arguments(")"))) if called else Inside(node, Literal(name))
        return node

    def _primary(self) -> Node:
        if self._takes("("):
            node = self._choice()
            self._needs(")")
            return node
        if self._takes("["):
            return Call("[]", self._arguments("]"))
        if self._takes("{"):
            return self._map()
        kind, text = self._next()
        if kind == "text":
            return Literal(_unquoted(text))
        if kind == "number":
            return Literal(_number(text))
        if kind != "name":
            raise ExpressionError(f"{text!r} was not expected")
        if text in ("true", "false", "null"):
            return Literal({"true": True, "false": False, "null": None}[text])
        return Call(text, self._arguments(")")) if self._takes("(") else Name(text)

    def _map(self) -> Node:
        members: list[Node] = []
        while not self._takes("}"):
            if members:
                self._needs(",")
            members.append(self._choice())
            self._needs(":")
            members.append(self._choice())
        return Call("{}", tuple(members))

    def _arguments(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._takes(end):
            if found:
                self._needs(",")
            found.append(self._choice())
        return tuple(found)

    def _takes(self, *signs: str) -> str | None:
        if self._place < len(self._tokens):
            kind, text = self._tokens[self._place]
            if text in signs and kind != "text":
                self._place += 1
                return text
        return None

    def _needs(self, sign: str) -> None:
        if not self._takes(sign):
            raise ExpressionError(f"{sign!r} is missing")

    def _name(self) -> str:
        kind, text = self._next()
        if kind != "name":
            raise ExpressionError(f"a name was expected, not {text!r}")
        return text

    def _next(self) -> tuple[str, str]:
        if self._place == len(self._tokens):
            raise ExpressionError("it ends too early")
        self._place += 1
        return self._tokens[self._place - 1]


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    end = len(text.rstrip())
    while place < end:
        matched = _TOKEN.match(text, place)
        if matched is None or matched.lastgroup is None:
            raise ExpressionError(f"{text[place:].strip()[:20]!r} was not expected")
        found.append((matched.lastgroup, matched[matched.lastgroup]))
        place = matched.end()
    return found


def _unquoted(text: str) -> str:
    raw = text[0] in "rR"
    text = text[1:] if raw else text
    quotes = 3 if text[:3] in ('"""', "'''") else 1
    inside = text[quotes:-quotes]
    return inside if raw else _ESCAPE.sub(_unescaped, inside)


def _unescaped(matched: re.Match[str]) -> str:
    two, four, eight, octal, single = matched.groups()
    if octal:
        return chr(int(octal, 8))
    number = two or four or eight
    return chr(int(number, 16)) if number else _ESCAPES.get(single, single)


def _number(text: str) -> int | float:
    text = text.rstrip("uU")
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text) if text.isdigit() else float(text)
