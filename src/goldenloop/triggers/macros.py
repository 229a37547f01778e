"""What a cause puts into the parameters of its run: `[[ScheduledTime]]` and the like, as KFP's scheduler writes them. Pure.

| macro | value |
|---|---|
| `[[ScheduledTime]]` | the moment of the cause (of a schedule its slot), as `20260131093000`, UTC |
| `[[CurrentTime]]` | the moment at which the run is made, in the same form |
| `[[Index]]` | the number of the run among those of its recurring run or trigger, from 1 on |
| `{{$.scheduledTime.strftime('%Y')}}`, `{{$.currentTime.strftime('%Y')}}` | the same moments in another form |
| `[[Cause.NAME]]` | a fact of the cause: `path`, `paths`, `version` of files, `data.FIELD` of an event, `labels.NAME` of an alert, `run` |

A text that is nothing but `[[Cause.NAME]]` becomes the fact itself, with its kind; inside a longer text facts are written out.
A macro that is not known, or whose fact is not there, stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from goldenloop.core.clock import SECOND
from goldenloop.core.json import Json, JsonObject

_MACRO = re.compile(
    r"\[\[([A-Za-z]+)(?:\.([^\]]+))?\]\]|\{\{\$\.(scheduledTime|currentTime)\.strftime\('([^']*)'\)\}\}"
)
_PLAIN_FORM = "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseFacts:
    """What macros can name."""

    scheduled_us: int
    now_us: int
    index: int
    facts: JsonObject = field(default_factory=dict)


def fill_parameters(parameters: JsonObject, cause: CauseFacts) -> JsonObject:
    """Return the parameters with every macro filled in, also within lists and mappings.

    >>> fill_parameters({"day": "[[ScheduledTime]]"}, CauseFacts(scheduled_us=0, now_us=0, index=1))
    {'day': '19700101000000'}
    """
    return {name: _filled(value, cause) for name, value in parameters.items()}


def _filled(value: Json, cause: CauseFacts) -> Json:
    if isinstance(value, list):
        return [_filled(each, cause) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, cause) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    whole = _MACRO.fullmatch(value)
    if whole is not None:
        return _value(whole, cause)
    return _MACRO.sub(lambda found: _written(_value(found, cause)), value)


def _value(found: re.Match[str], cause: CauseFacts) -> Json:
    name, rest, moment, form = found.groups()
    match name or moment:
        case "Index" if rest is None:
            return str(cause.index)
        case "ScheduledTime" | "CurrentTime" if rest is None:
            return _moment(cause.scheduled_us if name == "ScheduledTime" else cause.now_us, _PLAIN_FORM)
        case "scheduledTime" | "currentTime":
            return _moment(cause.scheduled_us if moment == "scheduledTime" else cause.now_us, form)
        case "Cause" if rest is not None:
            return _fact(cause.facts, rest.split("."), otherwise=found.group())
        case _:
            return found.group()


def _fact(facts: Json, path: list[str], *, otherwise: str) -> Json:
    for part in path:
        if not isinstance(facts, dict) or part not in facts:
            return otherwise
        facts = facts[part]
    return facts


def _written(value: Json) -> str:
    return value if isinstance(value, str) else str(value)


def _moment(moment_us: int, form: str) -> str:
    return datetime.fromtimestamp(moment_us / SECOND, UTC).strftime(form)
