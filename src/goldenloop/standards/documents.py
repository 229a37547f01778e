"""Strict reading of documents: every error names the path of the wrong field, and the field that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterator
from typing import TypeVar, get_args

import msgspec
import yaml

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject

Spec = TypeVar("Spec", bound=msgspec.Struct)

_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
MAXIMUM_DOCUMENT_BYTES = 1 << 20


def convert(document: object, kind: type[Spec], *, where: str = "") -> Spec:
    """Turn parsed YAML or JSON into a record. Raises InvalidSpecError with the path and, for an unknown field, a near miss."""
    try:
        return msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(error, kind, where) from None


def read_yaml(text: str, *, source: str = "") -> list[JsonObject]:
    """Return the documents of a YAML text. Raises InvalidSpecError with line and column."""
    if len(text) > MAXIMUM_DOCUMENT_BYTES:
        raise InvalidSpecError(
            "the file is larger than 1 MiB", where=source, mend="Resources are small; is this the right file?"
        )
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise InvalidSpecError(
            f"not YAML: {error.problem or error.context}", where=place, mend="Mend that line."
        ) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{source}:{before.count(chr(10)) + 1}:{error.position - before.rfind(chr(10))}"
        raise InvalidSpecError(
            f"not YAML: the character U+{ord(text[error.position]):04X} cannot stand in it",
            where=place,
            mend="Remove it.",
        ) from None
    except RecursionError:
        raise InvalidSpecError("it is nested too deeply", where=source, mend="Resources are flat.") from None
    for index, document in enumerate(documents):
        if not isinstance(document, dict):
            raise InvalidSpecError(
                f"document {index + 1} is a {type(document).__name__}, not a mapping",
                where=source,
                mend="A resource begins with apiVersion and kind.",
            )
    return documents


def near_miss(name: str, known: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """Return `Did you mean 'x'?`, or nothing where no name is near.

    >>> near_miss("cooldwn", ["cooldown", "maxRunsPerDay"])
    "Did you mean 'cooldown'?"
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {found[0]!r}?" if found else ""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the second would silently win."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[object, object]:
    loader.flatten_mapping(node)
    result: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key is a list or a mapping", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
# Dates stay text: what a field means is decided by its record, not by YAML.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _explain(error: msgspec.ValidationError, kind: type[msgspec.Struct], where: str) -> InvalidSpecError:
    text = str(error)
    path = ""
    if found := _PATH.search(text):
        path = found["path"].removeprefix("$").removeprefix(".")
        text = text[: found.start()]
    mend = ""
    if unknown := _UNKNOWN.search(text):
        name = unknown["name"]
        fields = _fields_at(kind, path)
        mend = near_miss(name, fields) or (f"Known here: {', '.join(sorted(fields))}." if fields else "")
        text = f"unknown field {name!r}"
        path = f"{path}.{name}" if path else name
    place = ".".join(part for part in (where, path) if part)
    return InvalidSpecError(text.rstrip("."), where=place, mend=mend)


def _fields_at(kind: object, path: str) -> list[str]:
    """The names of the fields that the record at this path of a record type has."""
    current = [kind]
    for part in re.findall(r"[^.\[\]]+", path):
        following: list[object] = []
        for candidate in current:
            for member in _structs(candidate):
                following += [field.type for field in msgspec.structs.fields(member) if field.encode_name == part]
            if part == "...":
                following.append(candidate)
        current = following or current
    return [
        field.encode_name
        for candidate in current
        for member in _structs(candidate)
        for field in msgspec.structs.fields(member)
    ]


def _structs(kind: object) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [struct for argument in get_args(kind) for struct in _structs(argument)]
