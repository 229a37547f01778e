"""MLflow's filter language and its orders, read.

A filter is comparisons joined by AND: `metrics.loss < 0.5 AND params."batch size" = '32' AND tags.owner ILIKE '%ann%'`. A subject is
`ENTITY.KEY`, or a bare attribute; a key with spaces or signs stands in double quotes or backticks. Operators are = != < <= > >= for
numbers; = != LIKE ILIKE IN, NOT IN for texts; IS NULL and IS NOT NULL for what may be missing. Texts stand in quotes; a doubled quote
inside is one quote. There is no OR, and there are no parentheses but those of a list.

An order is a subject with ASC or DESC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.documents import near_miss

LONGEST_FILTER: Final = 20_000  # characters
MOST_COMPARISONS: Final = 100
MOST_ORDERS: Final = 20


class Entity(StrEnum):
    """What a subject is part of."""

    ATTRIBUTE = "attribute"
    METRIC = "metric"
    PARAM = "param"
    TAG = "tag"
    DATASET = "dataset"


class Operator(StrEnum):
    """How a subject is compared."""

    EQUALS = "="
    NOT_EQUALS = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"


Value = str | float | tuple[str, ...] | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. The value is None for IS NULL and IS NOT NULL, a tuple for IN and NOT IN, a number where the subject is one."""

    entity: Entity
    key: str
    operator: Operator
    value: Value


class Ordering(msgspec.Struct, frozen=True, kw_only=True):
    """One subject to sort by."""

    entity: Entity
    key: str
    descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What may be asked of a kind of thing. `renamed` maps other names of attributes to theirs."""

    texts: frozenset[str]  # attributes that are texts
    numbers: frozenset[str] = frozenset()  # attributes that are numbers
    entities: frozenset[Entity] = frozenset()  # beside attributes
    renamed: Mapping[str, str] = field(default_factory=dict)


_ENTITIES: Final = {
    "attribute": Entity.ATTRIBUTE, "attributes": Entity.ATTRIBUTE, "attr": Entity.ATTRIBUTE, "run": Entity.ATTRIBUTE,
    "metric": Entity.METRIC, "metrics": Entity.METRIC,
    "param": Entity.PARAM, "params": Entity.PARAM, "parameter": Entity.PARAM, "parameters": Entity.PARAM,
    "tag": Entity.TAG, "tags": Entity.TAG,
    "dataset": Entity.DATASET, "datasets": Entity.DATASET,
}  # fmt: skip
_DATASET_KEYS: Final = ("name", "digest", "context")
_ORDERED: Final = frozenset(
    {Operator.EQUALS, Operator.NOT_EQUALS, Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST}
)
_EXISTENCE: Final = frozenset({Operator.IS_NULL, Operator.IS_NOT_NULL})
_TEXTUAL: Final = frozenset(
    {Operator.EQUALS, Operator.NOT_EQUALS, Operator.LIKE, Operator.ILIKE, Operator.IN, Operator.NOT_IN}
)
_SPACE: Final = re.compile(r"\s*")
_QUOTED: Final = r'"(?:[^"]|"")*"|`[^`]*`'
_SUBJECT: Final = re.compile(rf"({_QUOTED}|[A-Za-z_]\w*(?:\s[Nn]ame)?)(?:\.({_QUOTED}|[^\s=<>!,()'\"`]+))?")
_OPERATOR: Final = re.compile(
    r"(<=|>=|!=|<>|=|<|>|(?:NOT\s+IN|IS\s+NOT\s+NULL|IS\s+NULL|ILIKE|LIKE|IN)(?!\w))", re.IGNORECASE
)
_TEXT: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_AND: Final = re.compile(r"AND(?!\w)", re.IGNORECASE)
_DIRECTION: Final = re.compile(r"\s+(ASC|DESC)\s*$", re.IGNORECASE)


def read_filter(text: str | None, vocabulary: Vocabulary) -> tuple[Comparison, ...]:
    """The comparisons of a filter, none for an empty one. Raises InvalidSpecError with the place of what is wrong.

    >>> vocabulary = Vocabulary(texts=frozenset({"status"}), entities=frozenset({Entity.METRIC}))
    >>> [(found.key, found.operator.value, found.value) for found in read_filter("metrics.a > 1 AND status = 'x'", vocabulary)]
    [('a', '>', 1.0), ('status', '=', 'x')]
    """
    if not text or not text.strip():
        return ()
    if len(text) > LONGEST_FILTER:
        raise InvalidSpecError(f"the filter is longer than {LONGEST_FILTER} characters", where="filter")
    return tuple(_Reader(text, vocabulary).comparisons())


def read_orders(texts: Sequence[str], vocabulary: Vocabulary) -> tuple[Ordering, ...]:
    """What to sort by. Raises InvalidSpecError, also for a subject that is there twice."""
    if len(texts) > MOST_ORDERS:
        raise InvalidSpecError(f"there are more than {MOST_ORDERS} fields to sort by", where="order_by")
    found = [_read_order(text, vocabulary) for text in texts]
    if len({(each.entity, each.key) for each in found}) < len(found):
        raise InvalidSpecError("a field to sort by is there twice", where="order_by", mend="Name each once.")
    return tuple(found)


def holds(comparison: Comparison, value: object) -> bool:
    """Whether a comparison holds for what a thing has; None is nothing, which is not equal to anything, and not unequal either.

    >>> holds(Comparison(entity=Entity.TAG, key="owner", operator=Operator.ILIKE, value="a%"), "Ann")
    True
    """
    wanted = comparison.value
    if value is None or wanted is None:
        return (value is None) is (comparison.operator is Operator.IS_NULL)
    match comparison.operator:
        case Operator.EQUALS:
            return value == wanted
        case Operator.NOT_EQUALS:
            return value != wanted
        case Operator.IN | Operator.NOT_IN:
            assert isinstance(wanted, tuple)
            return (value in wanted) is (comparison.operator is Operator.IN)
        case Operator.LIKE | Operator.ILIKE:
            signs = {"%": ".*", "_": "."}
            pattern = "".join(signs.get(sign, re.escape(sign)) for sign in str(wanted))
            flags = re.DOTALL | (re.IGNORECASE if comparison.operator is Operator.ILIKE else re.NOFLAG)
            return re.fullmatch(pattern, str(value), flags) is not None
    if not isinstance(value, int | float) or not isinstance(wanted, int | float):
        return False
    return {
        Operator.LESS: value < wanted,
        Operator.AT_MOST: value <= wanted,
        Operator.GREATER: value > wanted,
        Operator.AT_LEAST: value >= wanted,
    }[comparison.operator]


def _read_order(text: str, vocabulary: Vocabulary) -> Ordering:
    if len(text) > LONGEST_FILTER:
        raise InvalidSpecError(f"it is longer than {LONGEST_FILTER} characters", where="order_by")
    stripped = text.strip()
    direction = _DIRECTION.search(stripped)
    subject = _SUBJECT.fullmatch(stripped[: direction.start()].rstrip() if direction else stripped)
    if subject is None:
        raise InvalidSpecError(
            f"{text[:200]!r} is not a field to sort by", where="order_by", mend="Write it as: metrics.loss ASC."
        )
    entity, key = _subject_of(subject, vocabulary, where="order_by")
    if entity is Entity.DATASET:
        raise InvalidSpecError("lists are not sorted by datasets", where="order_by", mend="Sort by something else.")
    return Ordering(entity=entity, key=key, descending=direction is not None and direction[1].upper() == "DESC")


class _Reader:
    """Goes through a filter from left to right."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._place = 0

    def comparisons(self) -> list[Comparison]:
        found = [self._comparison()]
        while not self._at_end():
            if self._take(_AND) is None:
                raise self._wrong("expected AND", mend="Comparisons are joined by AND; there is no OR.")
            found.append(self._comparison())
            if len(found) > MOST_COMPARISONS:
                raise self._wrong(f"there are more than {MOST_COMPARISONS} comparisons")
        return found

    def _comparison(self) -> Comparison:
        subject = self._take(_SUBJECT)
        if subject is None:
            raise self._wrong("expected a field", mend="Write it as: metrics.loss < 0.5 AND tags.owner = 'ann'.")
        entity, key = _subject_of(subject, self._vocabulary, where="filter")
        given = self._take(_OPERATOR)
        if given is None:
            raise self._wrong("expected an operator", mend=f"There are {', '.join(Operator)}.")
        operator = Operator(" ".join(given[1].upper().split()).replace("<>", "!="))
        is_number = entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in self._vocabulary.numbers)
        allowed = _ORDERED if is_number else _TEXTUAL
        if entity in (Entity.TAG, Entity.PARAM):
            allowed |= _EXISTENCE
        if operator not in allowed:
            raise self._wrong(
                f"{entity}.{key} cannot be compared with {operator}",
                mend=f"It takes {', '.join(each for each in Operator if each in allowed)}.",
            )
        return Comparison(entity=entity, key=key, operator=operator, value=self._value(operator, is_number=is_number))

    def _value(self, operator: Operator, *, is_number: bool) -> Value:
        if operator in _EXISTENCE:
            return None
        if operator in (Operator.IN, Operator.NOT_IN):
            return self._list()
        if is_number:
            found = self._take(_NUMBER)
            if found is None or not math.isfinite(number := float(found[0])):
                raise self._wrong("expected a number", mend="Write it without quotes.")
            return number
        return self._quoted()

    def _list(self) -> tuple[str, ...]:
        self._sign("(")
        values = [self._quoted()]
        while not self._is_next(")"):
            self._sign(",")
            values.append(self._quoted())
        self._sign(")")
        return tuple(values)

    def _quoted(self) -> str:
        found = self._take(_TEXT)
        if found is None:
            raise self._wrong("expected a text in quotes", mend="Write it as: 'value'.")
        return _unquoted(found[0])

    def _sign(self, sign: str) -> None:
        if not self._is_next(sign):
            raise self._wrong(f"expected {sign!r}", mend="A list is written as ('a', 'b').")
        self._place += 1

    def _is_next(self, sign: str) -> bool:
        self._skip()
        return self._text.startswith(sign, self._place)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip()
        found = pattern.match(self._text, self._place)
        if found is not None:
            self._place = found.end()
        return found

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._place)
        self._place = space.end() if space else self._place

    def _at_end(self) -> bool:
        self._skip()
        return self._place == len(self._text)

    def _wrong(self, what: str, *, mend: str = "") -> InvalidSpecError:
        rest = self._text[self._place : self._place + 60]
        return InvalidSpecError(f"{what}, at {rest!r}" if rest else f"{what}, at the end", where="filter", mend=mend)


def _subject_of(found: re.Match[str], vocabulary: Vocabulary, *, where: str) -> tuple[Entity, str]:
    first, second = _unquoted(found[1]), _unquoted(found[2] or "")
    entity = _ENTITIES.get(first.lower()) if second else Entity.ATTRIBUTE
    key = second or first
    if entity is None or (entity is not Entity.ATTRIBUTE and entity not in vocabulary.entities):
        known = sorted({*(f"{each}s" for each in vocabulary.entities), "attributes"})
        raise InvalidSpecError(
            f"there is nothing called {first[:100]!r}", where=where, mend=f"There are {', '.join(known)}."
        )
    if entity is Entity.ATTRIBUTE:
        key = vocabulary.renamed.get(key, key)
        known = sorted({*vocabulary.texts, *vocabulary.numbers})
        if key not in known:
            hint = near_miss(key, known) or f"Known: {', '.join(known)}."
            raise InvalidSpecError(f"there is no attribute {key[:100]!r}", where=where, mend=hint)
    elif entity is Entity.DATASET and key not in _DATASET_KEYS:
        raise InvalidSpecError(
            f"a dataset has no {key[:100]!r}", where=where, mend=f"It has {', '.join(_DATASET_KEYS)}."
        )
    return entity, key


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"`":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text
