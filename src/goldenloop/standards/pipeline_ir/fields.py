"""Taking fields of a document in the kind they must have; what is wrong is refused with its place."""

from __future__ import annotations

import re

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

WRITE_PIPELINE = "Compile the pipeline with kfp (kfp.compiler) and give its YAML unchanged."
_SECONDS = re.compile(r"^(\d+(?:\.\d+)?)s$")


def object_at(value: Json, at: str) -> JsonObject:
    """An object; empty where there is nothing."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidSpecError(f"an object is expected, not {value!r}", where=at, mend=WRITE_PIPELINE)
    return value


def objects_at(value: Json, at: str) -> dict[str, JsonObject]:
    """An object of objects."""
    return {name: object_at(member, f"{at}.{name}") for name, member in object_at(value, at).items()}


def list_at(value: Json, at: str) -> list[Json]:
    """A list; empty where there is nothing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidSpecError(f"a list is expected, not {value!r}", where=at, mend=WRITE_PIPELINE)
    return value


def list_of_objects_at(value: Json, at: str) -> list[JsonObject]:
    """A list of objects."""
    return [object_at(member, at) for member in list_at(value, at)]


def texts_at(value: Json, at: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(text_at(member, at) for member in list_at(value, at))


def text_at(value: Json, at: str) -> str:
    """A text, which must be there."""
    if not isinstance(value, str):
        raise InvalidSpecError(f"a text is expected, not {value!r}", where=at, mend=WRITE_PIPELINE)
    return value


def count_at(value: Json, at: str) -> int:
    """A whole number of 0 or more; 0 where there is nothing. protobuf's JSON writes large ones as texts."""
    if value is None:
        return 0
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise InvalidSpecError(f"a whole number of 0 or more is expected, not {value!r}", where=at, mend=WRITE_PIPELINE)
    return int(value)


def duration_us_at(value: Json, at: str) -> int:
    """A duration such as `30s`, in microseconds."""
    matched = _SECONDS.match(value) if isinstance(value, str) else None
    if matched is None:
        raise InvalidSpecError(f"{value!r} is not a duration in seconds such as 30s", where=at, mend=WRITE_PIPELINE)
    return round(float(matched[1]) * SECOND)
