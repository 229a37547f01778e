"""What the graph keeps. Numbers of states, events and kinds of values are those of ML Metadata, so that nothing is translated twice."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from goldenloop.core.errors import ConflictError, InvalidSpecError

MILLISECOND: Final = 1_000  # microseconds
LONGEST_NAME: Final = 1_024  # bytes of a name, a version or an external id; indexes hold them
LONGEST_ADDRESS: Final = 65_535  # bytes of a URI
LARGEST_VALUE: Final = 16 * 1024 * 1024  # bytes of a property's value
MOST_PROPERTIES: Final = 10_000  # of one node, and of one type


class Kind(IntEnum):
    """The three kinds of nodes; a type has one too."""

    ARTIFACT = 1
    EXECUTION = 2
    CONTEXT = 3

    @property
    def word(self) -> str:
        """The kind as a message names it."""
        return self.name.lower()


class PropertyType(IntEnum):
    """What a property's value may be."""

    INT = 1
    DOUBLE = 2
    STRING = 3
    STRUCT = 4
    PROTO = 5
    BOOLEAN = 6


class EventType(IntEnum):
    """How an execution touched an artifact."""

    DECLARED_OUTPUT = 1
    DECLARED_INPUT = 2
    INPUT = 3
    OUTPUT = 4
    INTERNAL_INPUT = 5
    INTERNAL_OUTPUT = 6
    PENDING_OUTPUT = 7


INPUTS: Final = frozenset({EventType.DECLARED_INPUT, EventType.INPUT, EventType.INTERNAL_INPUT})
OUTPUTS: Final = frozenset(EventType) - INPUTS


class Packed(msgspec.Struct, frozen=True):
    """A value that is a message: its bytes, and which message (STRUCT or PROTO)."""

    kind: PropertyType
    content: bytes


Value: TypeAlias = bool | int | float | str | Packed
Values: TypeAlias = Mapping[str, Value | None]  # None is a property of which the value was left out


class NodeType(msgspec.Struct, frozen=True, kw_only=True):
    """A type of nodes. Its name and version are unique in its kind; `base` is a number of ML Metadata's system types."""

    name: str
    version: str = ""
    description: str | None = None
    external_id: str | None = None
    base: int | None = None
    properties: Mapping[str, int] = msgspec.field(default_factory=dict)
    input_type: bytes | None = None
    output_type: bytes | None = None
    id: int | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact, an execution or a context. Names are unique in a type, external ids in a kind; both may be absent."""

    id: int | None = None
    type_id: int | None = None
    type: str = ""
    name: str | None = None
    external_id: str | None = None
    uri: str | None = None
    state: int | None = None
    properties: Values = msgspec.field(default_factory=dict)
    custom: Values = msgspec.field(default_factory=dict)
    created_us: int = 0
    updated_us: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An execution read or wrote an artifact. The path says where among its inputs or outputs: indexes and keys."""

    artifact_id: int
    execution_id: int
    type: int
    milliseconds: int | None = None  # since the Unix epoch; None is now
    path: tuple[int | str, ...] | None = None


class ExistsError(ConflictError):
    """Something with this name, external id or place is there already."""


class ChangedError(ConflictError):
    """The node was changed since the caller read it."""


class UnsupportedError(InvalidSpecError):
    """What is asked for cannot be done to what is there, and never will be: a type's base is not changed."""


def check_text(text: str | None, *, where: str, most: int = LONGEST_NAME) -> None:
    """Raise InvalidSpecError for a text that is too long, or has a character that databases do not keep."""
    if text is None:
        return
    if len(text) * 4 > most and len(text.encode()) > most:
        raise InvalidSpecError(f"it has more than {most} bytes", where=where, mend="Give a shorter one.")
    if "\0" in text:
        raise InvalidSpecError("it has a NUL character", where=where, mend="Leave it out.")


def kind_of_value(value: Value) -> PropertyType:
    """Which of the kinds a value is.

    >>> kind_of_value(True), kind_of_value(3), kind_of_value(3.0)
    (<PropertyType.BOOLEAN: 6>, <PropertyType.INT: 1>, <PropertyType.DOUBLE: 2>)
    """
    if isinstance(value, str):
        return PropertyType.STRING
    if isinstance(value, bool):
        return PropertyType.BOOLEAN
    if isinstance(value, int):
        return PropertyType.INT
    return PropertyType.DOUBLE if isinstance(value, float) else value.kind
