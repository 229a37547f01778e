"""Placeholders in a step's command line and in constant texts: `{{$.inputs.parameters['x']}}` and their kin.

A text is expanded once: what a value brings in is not looked at again, so a parameter that looks like a placeholder
stays a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
_MEMBER = re.compile(
    r"^\.(inputs|outputs)\.(parameters|artifacts)\[(['\"])(.+?)\3\](?:\.(uri|path|output_file|metadata)(?:\[(.+)\])?)?$"
)
_JSON_ESCAPE = re.compile(r"^\.json_escape\[\d+\]\((.*)\)$")


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a text may speak of: the step's input as KFP's executor sees it, and named facts (`pipeline_job_name` …)."""

    executor_input: JsonObject
    facts: Mapping[str, str]


def expand_words(words: tuple[str, ...], surroundings: Surroundings, *, where: str) -> tuple[str, ...]:
    """Expand a command line; `Concat` and `IfPresent` structures are resolved, and a word that resolves to nothing is
    left out.
    """
    expanded: list[str] = []
    for word in words:
        if word.startswith(('{"Concat"', '{"IfPresent"')):
            expanded += _structure(msgspec.json.decode(word), surroundings, where)
        else:
            expanded.append(expand(word, surroundings, where=where))
    return tuple(expanded)


def expand(text: str, surroundings: Surroundings, *, where: str) -> str:
    """Replace every placeholder in a text. Raises InvalidSpecError for one that is unknown."""
    return _PLACEHOLDER.sub(lambda found: _as_text(_look_up(found[1], surroundings, where)), text)


def expand_deep(value: Json, surroundings: Surroundings, *, where: str) -> Json:
    """Replace every placeholder in the texts of a value. A text that is nothing but a placeholder becomes what it stands for."""
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole is not None and whole[1] and "}}" not in whole[1]:
            return _look_up(whole[1], surroundings, where)
        return expand(value, surroundings, where=where)
    if isinstance(value, list):
        return [expand_deep(member, surroundings, where=where) for member in value]
    if isinstance(value, dict):
        return {
            expand(key, surroundings, where=where): expand_deep(member, surroundings, where=where)
            for key, member in value.items()
        }
    return value


def _look_up(expression: str, surroundings: Surroundings, where: str) -> Json:
    if expression == "":
        return surroundings.executor_input
    if (escaped := _JSON_ESCAPE.match(expression)) is not None:
        return _as_text(msgspec.json.encode(_as_text(_look_up(escaped[1], surroundings, where))).decode())[1:-1]
    if expression in (".outputs.output_file", ".outputMetadataUri"):
        return _inside(surroundings.executor_input, "outputs", "outputFile")
    if expression[1:] in surroundings.facts:
        return surroundings.facts[expression[1:]]
    found = _MEMBER.match(expression)
    if found is None:
        raise InvalidSpecError(
            f"the placeholder {{{{${expression}}}}} is not supported",
            where=where,
            mend="Leave it out of the component.",
        )
    direction, kind, _, name, attribute, key = found.groups()
    if kind == "parameters":
        if direction == "inputs":
            return _inside(surroundings.executor_input, "inputs", "parameterValues", name)
        return _inside(surroundings.executor_input, "outputs", "parameters", name, "outputFile")
    listed = _inside(surroundings.executor_input, direction, "artifacts", name, "artifacts")
    artifact = listed[0] if isinstance(listed, list) and listed else None
    if attribute == "metadata":
        metadata = _inside(artifact, "metadata")
        return _inside(metadata, key.strip("'\"")) if key else metadata
    return _inside(artifact, "uri")


def _inside(value: Json, *keys: str) -> Json:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _as_text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _structure(content: Json, surroundings: Surroundings, where: str) -> list[str]:
    if isinstance(content, str):
        return [expand(content, surroundings, where=where)]
    if isinstance(content, list):
        return [word for member in content for word in _structure(member, surroundings, where)]
    if isinstance(content, dict) and "Concat" in content:
        return ["".join(_structure(content["Concat"], surroundings, where))]
    if isinstance(content, dict) and isinstance(choice := content.get("IfPresent"), dict):
        name = str(choice.get("InputName"))
        inputs = surroundings.executor_input.get("inputs")
        given = any(_inside(inputs, kind, name) is not None for kind in ("parameterValues", "artifacts"))
        branch = choice.get("Then") if given else choice.get("Else")
        return [] if branch is None else _structure(branch, surroundings, where)
    raise InvalidSpecError(
        f"{content!r} is not a placeholder structure", where=where, mend="Use dsl.ConcatPlaceholder."
    )
