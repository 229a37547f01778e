"""The language of ML Metadata's `filter_query`: a condition in the manner of SQL, read into a tree.

    condition   := all { OR all }                      all := one { AND one }
    one         := NOT one | ( condition ) | operand [ test ]
    test        := = | != | <> | < | <= | > | >= operand | [NOT] IN ( operand, … ) | [NOT] LIKE text
                 | [NOT] BETWEEN operand AND operand | IS [NOT] NULL | IS [NOT] TRUE | IS [NOT] FALSE
    operand     := number | 'text' | "text" | TRUE | FALSE | NULL | name { . name }
    name        := letters, digits, _ ; or anything between backquotes

What names mean, and which of them may be compared, is for who has the tree: a name by itself may be a field (`uri`) or a value of an
enumeration (`LIVE`).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import msgspec

from goldenloop.core.errors import InvalidSpecError

LONGEST: Final = 65_536  # characters of a filter
DEEPEST: Final = 100  # parentheses and NOTs within each other
MOST_TERMS: Final = 500  # conditions in one filter, and operands in one list

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![A-Za-z_]))
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<quoted>`(?:[^`\\]|\\.)+`)
    | (?P<name>[A-Za-z_0-9]+)
    | (?P<sign><=|>=|!=|<>|[=<>().,+-])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_COMPARISONS: Final = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_INT64: Final = 2**63


class Name(msgspec.Struct, frozen=True):
    """A field: its path."""

    path: tuple[str, ...]


class Literal(msgspec.Struct, frozen=True):
    """A value that was written out."""

    value: int | float | str | bool | None


Operand: TypeAlias = Name | Literal


class Compare(msgspec.Struct, frozen=True):
    """`left operator right`; the operator is one of = != < <= > >=."""

    operator: str
    left: Operand
    right: Operand


class In(msgspec.Struct, frozen=True):
    """`operand IN (…)`."""

    operand: Operand
    options: tuple[Operand, ...]
    negated: bool


class Like(msgspec.Struct, frozen=True):
    """`operand LIKE pattern`: % is any text, _ any character, a backslash before either makes it itself."""

    operand: Operand
    pattern: Operand
    negated: bool


class IsNull(msgspec.Struct, frozen=True):
    """`operand IS NULL`."""

    operand: Operand
    negated: bool


class Truth(msgspec.Struct, frozen=True):
    """An operand that is itself true or false."""

    operand: Operand


class Not(msgspec.Struct, frozen=True):
    """`NOT condition`."""

    condition: Condition


class All(msgspec.Struct, frozen=True):
    """`… AND …`."""

    conditions: tuple[Condition, ...]


class Any(msgspec.Struct, frozen=True):
    """`… OR …`."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | In | Like | IsNull | Truth | Not | All | Any


def parse_filter(text: str) -> Condition:
    """Read a filter. Raises InvalidSpecError, which says where in the text it stopped.

    >>> parse_filter("uri LIKE 'gs://%' AND state = LIVE").conditions[1]
    Compare(operator='=', left=Name(path=('state',)), right=Name(path=('LIVE',)))
    """
    return _Parser(text).whole()


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """A name as a keyword."""
        return self.text.upper() if self.kind == "name" else ""


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise InvalidSpecError(
                f"it has more than {LONGEST} characters", where="filter_query", mend="Ask for less at once."
            )
        self._tokens = _tokens(text)
        self._at = 0
        self._terms = 0

    def whole(self) -> Condition:
        condition = self._any(0)
        if self._next.kind != "end":
            raise self._wrong("the condition has ended, and something follows")
        return condition

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _takes(self, *words: str) -> bool:
        """Take these keywords or signs if they come next."""
        following = self._tokens[self._at : self._at + len(words)]
        if [token.word or (token.text if token.kind == "sign" else "") for token in following] != list(words):
            return False
        self._at += len(words)
        return True

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            raise self._wrong(f"{sign!r} is missing")

    def _wrong(self, what: str) -> InvalidSpecError:
        token = self._next
        found = f"found {token.text[:40]!r}" if token.text else "found its end"
        return InvalidSpecError(
            f"{what}: {found} at character {token.at + 1}",
            where="filter_query",
            mend="Write it like: uri LIKE 'gs://%' AND properties.accuracy.double_value > 0.9.",
        )

    def _any(self, depth: int) -> Condition:
        parts = [self._all(depth)]
        while self._takes("OR"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _all(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._takes("AND"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > DEEPEST:
            raise self._wrong(f"it is nested more than {DEEPEST} deep")
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise self._wrong(f"it has more than {MOST_TERMS} conditions")
        if self._takes("NOT"):
            return Not(self._one(depth + 1))
        if self._takes("("):
            condition = self._any(depth + 1)
            self._expect(")")
            return condition
        return self._test(self._operand())

    def _test(self, operand: Operand) -> Condition:
        if self._next.kind == "sign" and self._next.text in _COMPARISONS:
            return Compare(_COMPARISONS[self._take().text], operand, self._operand())
        if self._takes("IS"):
            return self._is(operand)
        negated = self._takes("NOT")
        if self._takes("IN"):
            return In(operand, self._list(), negated)
        if self._takes("LIKE"):
            return Like(operand, self._operand(), negated)
        if self._takes("BETWEEN"):
            low = self._operand()
            if not self._takes("AND"):
                raise self._wrong("BETWEEN needs AND")
            between = All((Compare(">=", operand, low), Compare("<=", operand, self._operand())))
            return Not(between) if negated else between
        if negated:
            raise self._wrong("NOT is followed by IN, LIKE or BETWEEN")
        return Truth(operand)

    def _is(self, operand: Operand) -> Condition:
        negated = self._takes("NOT")
        if self._takes("NULL"):
            return IsNull(operand, negated)
        for word, value in (("TRUE", True), ("FALSE", False)):
            if self._takes(word):
                # What is unknown is neither, and so it is not true and not false.
                known = All((IsNull(operand, negated=True), Compare("=", operand, Literal(value))))
                other = Any((IsNull(operand, negated=False), Compare("!=", operand, Literal(value))))
                return other if negated else known
        raise self._wrong("IS is followed by NULL, TRUE or FALSE")

    def _list(self) -> tuple[Operand, ...]:
        self._expect("(")
        options = [self._operand()]
        while self._takes(","):
            options.append(self._operand())
            if len(options) > MOST_TERMS:
                raise self._wrong(f"a list has at most {MOST_TERMS} values")
        self._expect(")")
        return tuple(options)

    def _operand(self) -> Operand:
        sign = -1 if self._takes("-") else 1
        if sign == 1:
            self._takes("+")
        token = self._next
        if token.kind == "number":
            return Literal(sign * self._number())
        if sign == -1:
            raise self._wrong("a number is missing")
        if token.kind == "text":
            self._take()
            return Literal(_unescaped(token.text))
        for word, value in (("TRUE", True), ("FALSE", False), ("NULL", None)):
            if self._takes(word):
                return Literal(value)
        if token.kind not in ("name", "quoted"):
            raise self._wrong("a field or a value is missing")
        path = [self._part()]
        while self._takes("."):
            path.append(self._part())
        return Name(tuple(path))

    def _part(self) -> str:
        token = self._next
        if token.kind not in ("name", "quoted", "number"):
            raise self._wrong("a name is missing")
        self._take()
        return _unescaped(token.text) if token.kind == "quoted" else token.text

    def _number(self) -> int | float:
        token = self._next
        if not token.text.isdigit():
            self._take()
            return float(token.text)
        if int(token.text[:20]) > _INT64:
            raise self._wrong("the number does not fit 64 bits")
        self._take()
        return int(token.text)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            begin = at + len(text[at:]) - len(text[at:].lstrip())
            raise InvalidSpecError(
                f"{text[begin : begin + 40]!r} at character {begin + 1} is not understood",
                where="filter_query",
                mend="Put texts between quotes, and names with other characters between backquotes.",
            )
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return [*tokens, _Token("end", "", end)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1], flags=re.DOTALL)
