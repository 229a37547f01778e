"""Values of parameters in their declared kinds.

The format knows only doubles, so a whole double that was written in a pipeline for an integer, a list or a struct is an
integer, as it is for a step on a Kubeflow cluster. What a step gave, or a caller of a run, is exact already and stays
as it is.
"""

from __future__ import annotations

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json
from goldenloop.standards.pipeline_ir.records import ParameterSpec, ParameterType


def exact(value: Json, kind: ParameterType) -> Json:
    """Return a value that was written as doubles in the kind it was meant: whole numbers are integers except where a
    double is asked.

    >>> exact(3.0, "NUMBER_INTEGER"), exact([1.0, 2.5], "LIST"), exact(3, "NUMBER_DOUBLE")
    (3, [1, 2.5], 3.0)
    """
    if kind in ("LIST", "STRUCT"):
        return _whole(value)
    return _number(value, kind)


def as_kind(value: Json, spec: ParameterSpec, *, where: str) -> Json:
    """Return a value that flows into an input in that input's kind. Raises InvalidSpecError where it cannot be.

    A text takes anything: what is no text comes as JSON. A number comes as the kind of number that is declared; nothing
    else changes.
    """
    if spec.type == "STRING" and not isinstance(value, str):
        value = msgspec.json.encode(value).decode()
    value = _number(value, spec.type)
    if not fits(value, spec.type):
        raise InvalidSpecError(
            f"{_shortened(value)} is not of type {spec.type}",
            where=where,
            mend=f"Give a value of type {spec.type} to {spec.name!r}.",
        )
    if spec.literals and value not in spec.literals:
        allowed = ", ".join(map(repr, spec.literals))
        raise InvalidSpecError(
            f"{_shortened(value)} is not one of {allowed}", where=where, mend=f"Give {spec.name!r} one of them."
        )
    return value


def fits(value: Json, kind: ParameterType) -> bool:
    """Whether a value may stand for a parameter of this kind; an integer may stand for a double."""
    if isinstance(value, bool):
        return kind == "BOOLEAN"
    allowed: dict[ParameterType, tuple[type, ...]] = {
        "STRING": (str,),
        "NUMBER_INTEGER": (int,),
        "NUMBER_DOUBLE": (int, float),
        "BOOLEAN": (bool,),
        "LIST": (list,),
        "STRUCT": (dict,),
        "TASK_FINAL_STATUS": (dict,),
        "TASK_CONFIG": (dict,),
    }
    return isinstance(value, allowed[kind]) or (
        kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer()
    )


def _number(value: Json, kind: ParameterType) -> Json:
    if kind == "NUMBER_DOUBLE" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _whole(value: Json) -> Json:
    if isinstance(value, list):
        return [_whole(member) for member in value]
    if isinstance(value, dict):
        return {key: _whole(member) for key, member in value.items()}
    return _number(value, "NUMBER_INTEGER")


def _shortened(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
