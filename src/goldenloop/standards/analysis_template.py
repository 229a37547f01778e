"""Argo Rollouts' `AnalysisTemplate`, `argoproj.io/v1alpha1`: the part of it that guards a rollout here.

Accepted: `args` with values, and `metrics` with `interval`, `initialDelay`, `count`, `successCondition`, `failureCondition`,
`failureLimit`, `inconclusiveLimit`, `consecutiveErrorLimit` and the providers `prometheus` and `web`. All else is refused by its name.

Conditions are written as in Argo, over `result`: numbers, text, `[0]`, members, comparison, `&&`, `||`, `!`, arithmetic, `len`, `asFloat`,
`asInt`. Predicates over lists (`all`, `any`, `filter`, …) and the words `and`, `or`, `not` are refused by name.

Reference: argo-rollouts.readthedocs.io, "Analysis & Progressive Delivery".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.documents import near_miss
from goldenloop.standards.expressions import check_expression, evaluate

GROUP = "argoproj.io"
VERSION = "v1alpha1"
NO_LIMIT = -1
LONGEST_TIMEOUT_SECONDS = 60.0
_DEFAULT_TIMEOUT_SECONDS = 10.0
_DEFAULT_ERRORS = 4

_ARGUMENT = re.compile(r"\{\{\s*args\.([A-Za-z0-9_.-]+)\s*\}\}")
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RENAMED = {"len": "size", "asFloat": "double", "asInt": "int"}
_ALLOWED_WORDS = frozenset({"result", "true", "false", "null", "in", "size", "double", "int", "string"})
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\['([^']+)'\]")

Assessment = Literal["Successful", "Failed", "Inconclusive"]


class Prometheus(msgspec.Struct, frozen=True, kw_only=True):
    """A query at one moment."""

    address: str
    query: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS


class Web(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON document from an address; `json_path` picks the part that is the result."""

    url: str
    method: Literal["GET", "POST", "PUT"] = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    json_path: str = ""
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, how often, and what its results mean. `count` None: for as long as the rollout goes on."""

    name: str
    provider: Prometheus | Web
    interval_us: int = 0
    initial_delay_us: int = 0
    count: int | None = 1
    success: str = ""
    failure: str = ""
    failure_limit: int = 0
    inconclusive_limit: int = 0
    consecutive_error_limit: int = _DEFAULT_ERRORS


def check_template(spec: object, *, where: str = "spec") -> None:
    """Raise InvalidSpecError for what is not accepted, by name."""
    document = _object(spec, where)
    _metrics(document, _arguments(document, where), where)


def read_metrics(spec: object, given: Mapping[str, str], *, where: str) -> tuple[Metric, ...]:
    """The metrics of a template with its arguments filled in. Raises InvalidSpecError for arguments that are missing or unknown."""
    document = _object(spec, where)
    declared = _arguments(document, where)
    for name in given:
        if name not in declared:
            raise InvalidSpecError(f"it has no argument {name!r}", where=where, mend=near_miss(name, list(declared)))
    arguments: dict[str, str] = {}
    for name, value in declared.items():
        filled = given.get(name, value)
        if filled is None:
            raise InvalidSpecError(
                f"the argument {name!r} has no value", where=where, mend="Give it where the template is named."
            )
        arguments[name] = filled
    return _metrics(document, arguments, where)


def assess(metric: Metric, result: Json) -> Assessment:
    """What one result means: with no condition that there is one is a success; with both, neither being true is inconclusive. Raises
    InvalidSpecError where a condition has no value for this result, such as `result[0]` of nothing.
    """
    if metric.failure and _holds(metric.failure, result, metric.name):
        return "Failed"
    if metric.success:
        if _holds(metric.success, result, metric.name):
            return "Successful"
        return "Inconclusive" if metric.failure else "Failed"
    return "Successful"


def pick(document: Json, path: str, *, where: str) -> Json:
    """The part of a document that a JSON path names. Raises InvalidSpecError where there is none.

    >>> pick({"data": [{"ok": 3}]}, "{$.data[0].ok}", where="web")
    3
    """
    found = document
    for name, index, quoted in _STEP.findall(_steps(path, where)):
        try:
            found = found[int(index)] if index else found[quoted or name]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            raise InvalidSpecError(f"the answer has nothing at {path!r}", where=where) from None
    return found


def _metrics(document: JsonObject, arguments: Mapping[str, str | None], where: str) -> tuple[Metric, ...]:
    _only(document, ("args", "metrics"), where)
    listed = document.get("metrics")
    if not isinstance(listed, list) or not listed:
        raise InvalidSpecError("it measures nothing", where=f"{where}.metrics", mend="List at least one metric.")
    found = tuple(_metric(each, arguments, f"{where}.metrics[{place}]") for place, each in enumerate(listed))
    names = [metric.name for metric in found]
    if len(names) != len(set(names)):
        raise InvalidSpecError("two metrics have one name", where=f"{where}.metrics")
    return found


def _arguments(document: JsonObject, where: str) -> dict[str, str | None]:
    listed = document.get("args") or []
    if not isinstance(listed, list):
        raise InvalidSpecError("must be a list", where=f"{where}.args")
    found: dict[str, str | None] = {}
    for place, each in enumerate(listed):
        at = f"{where}.args[{place}]"
        argument = _object(each, at)
        _only(argument, ("name", "value"), at)
        value = argument.get("value")
        found[_text(argument, "name", at)] = None if value is None else str(value)
    return found


def _metric(given: Json, arguments: Mapping[str, str | None], where: str) -> Metric:
    metric = _object(given, where)
    _only(
        metric,
        (
            "name", "interval", "initialDelay", "count", "successCondition", "failureCondition", "failureLimit",
            "inconclusiveLimit", "consecutiveErrorLimit", "provider",
        ),
        where,
    )  # fmt: skip
    filled = _object(_filled(metric, arguments, where), where)
    interval = _duration(filled, "interval", where)
    has_count = filled.get("count") is not None
    count = _whole(filled, "count", 1, where)
    if has_count and count > 1 and not interval:
        raise InvalidSpecError("several measurements need an interval", where=f"{where}.interval", mend="Write 1m.")
    made = Metric(
        name=_text(filled, "name", where),
        provider=_provider(filled.get("provider"), f"{where}.provider"),
        interval_us=interval,
        initial_delay_us=_duration(filled, "initialDelay", where),
        count=None if interval and (not has_count or count == 0) else max(1, count),
        success=_condition(filled, "successCondition", where),
        failure=_condition(filled, "failureCondition", where),
        failure_limit=_whole(filled, "failureLimit", 0, where),
        inconclusive_limit=_whole(filled, "inconclusiveLimit", 0, where),
        consecutive_error_limit=_whole(filled, "consecutiveErrorLimit", _DEFAULT_ERRORS, where),
    )
    for name, limit in (("failureLimit", made.failure_limit), ("inconclusiveLimit", made.inconclusive_limit)):
        if made.count is not None and limit >= made.count and limit > 0:
            raise InvalidSpecError(
                f"of {made.count} measurements never more than {limit} can be so, so this could never say no",
                where=f"{where}.{name}",
                mend="Write a limit below count.",
            )
    return made


def _provider(given: Json, where: str) -> Prometheus | Web:
    provider = _object(given, where)
    _only(provider, ("prometheus", "web"), where)
    if len(provider) != 1:
        raise InvalidSpecError("a metric has one provider", where=where, mend="Write prometheus or web.")
    (kind, inner), at = next(iter(provider.items())), f"{where}.{next(iter(provider))}"
    settings = _object(inner, at)
    if kind == "prometheus":
        _only(settings, ("address", "query", "timeout", "headers"), at)
        return Prometheus(
            address=_address(_text(settings, "address", at), f"{at}.address"),
            query=_text(settings, "query", at).strip(),
            headers=_headers(settings, at),
            timeout_seconds=_timeout(settings.get("timeout"), f"{at}.timeout"),
        )
    _only(settings, ("url", "method", "headers", "body", "jsonBody", "jsonPath", "timeoutSeconds"), at)
    path = str(settings.get("jsonPath") or "")
    _steps(path, f"{at}.jsonPath")
    body = settings.get("body")
    if settings.get("jsonBody") is not None:
        body = json.dumps(settings["jsonBody"])
    method = settings.get("method", "GET")
    if method not in ("GET", "POST", "PUT"):
        raise InvalidSpecError(f"{method!r} is no method", where=f"{at}.method", mend="Write GET, POST or PUT.")
    return Web(
        url=_address(_text(settings, "url", at), f"{at}.url"),
        method=method,  # type: ignore[arg-type]
        headers=_headers(settings, at),
        body="" if body is None else str(body),
        json_path=path,
        timeout_seconds=_timeout(settings.get("timeoutSeconds"), f"{at}.timeoutSeconds"),
    )


def _condition(metric: JsonObject, name: str, where: str) -> str:
    text = str(metric.get(name) or "").strip()
    if not text or _is_open(text):
        return ""
    at = f"{where}.{name}"
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    def rename(match: re.Match[str]) -> str:
        word = match[0]
        before = match.string[: match.start()].rstrip()
        if before.endswith("."):
            return word
        renamed = _RENAMED.get(word, word)
        if renamed not in _ALLOWED_WORDS:
            raise InvalidSpecError(
                f"{word!r} is not understood in a condition",
                where=at,
                mend="Conditions are over `result`, with comparison, &&, ||, !, len, asFloat and asInt.",
            )
        return renamed

    bare = _WORD.sub(rename, _STRING.sub(keep, text))
    if "#" in bare:
        raise InvalidSpecError("'#' is not understood in a condition", where=at, mend="Write result[0] >= 0.95.")
    expression = re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], bare)
    check_expression(expression, where=at)
    return expression


def _holds(condition: str, result: Json, name: str) -> bool:
    held = evaluate(condition, {"result": result}, where=f"metric {name}")
    if not isinstance(held, bool):
        raise InvalidSpecError(f"{condition!r} is neither true nor false", where=f"metric {name}")
    return held


def _filled(value: Json, arguments: Mapping[str, str | None], where: str) -> Json:
    if isinstance(value, str):

        def fill(match: re.Match[str]) -> str:
            if match[1] not in arguments:
                raise InvalidSpecError(f"there is no argument {match[1]!r}", where=where, mend="Declare it in args.")
            value = arguments[match[1]]
            return match[0] if value is None else value  # where a template is only checked, it stays open

        return _ARGUMENT.sub(fill, value)
    if isinstance(value, dict):
        return {name: _filled(inner, arguments, where) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, arguments, where) for inner in value]
    return value


def _steps(path: str, where: str) -> str:
    inner = path.strip().removeprefix("{").removesuffix("}").strip().removeprefix("$")
    if inner and not inner.startswith((".", "[")):
        inner = f".{inner}"
    if _STEP.sub("", inner):
        raise InvalidSpecError(
            f"{path!r} is more than names and places", where=where, mend="Write a path as {$.data.values[0]}."
        )
    return inner


def _only(given: JsonObject, known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            hint = near_miss(name, list(known)) or f"Supported are {', '.join(known)}."
            raise InvalidSpecError(f"{name!r} is not supported", where=f"{where}.{name}", mend=hint)


def _object(value: object, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise InvalidSpecError("must be an object", where=where)
    return value


def _text(given: JsonObject, name: str, where: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidSpecError("must be text", where=f"{where}.{name}")
    return value


def _whole(given: JsonObject, name: str, default: int, where: str) -> int:
    """A whole number, also as text: arguments are text."""
    value = given.get(name)
    if value is None or _is_open(value):
        return default
    try:
        number = int(str(value))
    except ValueError:
        number = NO_LIMIT - 1
    if number < NO_LIMIT or isinstance(value, bool):
        raise InvalidSpecError(f"{value!r} is no whole number", where=f"{where}.{name}")
    return number


def _duration(given: JsonObject, name: str, where: str) -> int:
    value = given.get(name)
    return 0 if value is None or _is_open(value) else parse_duration(str(value), where=f"{where}.{name}")


def _timeout(value: Json, where: str) -> float:
    if value is None or _is_open(value):
        return _DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidSpecError(
            f"{value!r} is no time to wait", where=where, mend=f"Write seconds, at most {LONGEST_TIMEOUT_SECONDS:g}."
        )
    return seconds


def _headers(given: JsonObject, where: str) -> tuple[tuple[str, str], ...]:
    listed = given.get("headers") or []
    if not isinstance(listed, list):
        raise InvalidSpecError("must be a list of keys and values", where=f"{where}.headers")
    found = []
    for place, each in enumerate(listed):
        at = f"{where}.headers[{place}]"
        header = _object(each, at)
        _only(header, ("key", "value"), at)
        found.append((_text(header, "key", at), str(header.get("value", ""))))
    return tuple(found)


def _address(text: str, where: str) -> str:
    if not _is_open(text) and not text.startswith(("http://", "https://")):
        raise InvalidSpecError(f"{text!r} is no address", where=where, mend="Write http://HOST:PORT.")
    return text


def _is_open(value: Json) -> bool:
    """Whether an argument stands in it that has no value yet."""
    return isinstance(value, str) and _ARGUMENT.search(value) is not None
