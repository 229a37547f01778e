"""What is shown of a service, a graph and a trained model: the columns that KServe's users know."""

from __future__ import annotations

from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.kubernetes import conditions_of

HEADINGS = ("READY", "PREV", "LATEST", "URL", "WHY NOT")


def columns(document: JsonObject) -> tuple[str, str, str, str, str]:
    """Whether it is ready, the parts of the traffic in percent of the revision before and of the latest, and the address."""
    status = _object(document.get("status"))
    ready = next((each for each in conditions_of(status) if each.get("type") == "Ready"), {})
    predictor = _object(_object(status.get("components")).get("predictor"))
    traffic = predictor.get("traffic")
    targets = [_object(each) for each in traffic] if isinstance(traffic, list) else []
    latest = next((each for each in targets if each.get("latestRevision") is True), {})
    before = next((each for each in targets if each.get("tag") == "prev"), {})
    is_ready = ready.get("status") == "True"
    return (
        _text(ready.get("status")),
        _text(before.get("percent")),
        _text(latest.get("percent")),
        _text(_object(status.get("address")).get("url") or status.get("url")),
        "" if is_ready else _text(ready.get("message")),
    )


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _text(value: Json) -> str:
    return "" if value is None else str(value)
