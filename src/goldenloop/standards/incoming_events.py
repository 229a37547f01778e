"""CloudEvents 1.0 that are sent to us over HTTP, in its three forms: structured, batched and binary."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

LARGEST_BATCH = 1_000
_STRUCTURED = "application/cloudevents+json"
_BATCHED = "application/cloudevents-batch+json"
_MEND = "Send CloudEvents 1.0: specversion, id, source and type."


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `source` and `id` together name it: an event that is sent again has the same ones."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str = ""
    time: str = ""
    data: Json = None


def read_events(headers: Mapping[str, str], body: bytes) -> list[CloudEvent]:
    """Return the events of a request; names of headers are in lower case, values decoded. Raises InvalidSpecError."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _BATCHED:
        documents = _json(body)
        if not isinstance(documents, list) or len(documents) > LARGEST_BATCH:
            raise InvalidSpecError(f"a batch is a list of at most {LARGEST_BATCH}", where="body", mend=_MEND)
        return [_event(document, f"body[{index}]") for index, document in enumerate(documents)]
    if kind == _STRUCTURED or "ce-specversion" not in headers:
        return [_event(_json(body), "body")]
    attributes: JsonObject = {
        name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")
    }
    is_json = kind in ("", "application/json", "text/json") or kind.endswith("+json")
    if body:
        attributes["data"] = _json(body) if is_json else body.decode(errors="replace")
    return [_event(attributes, "headers")]


def _event(document: Json, where: str) -> CloudEvent:
    if isinstance(document, dict) and "data_base64" in document and "data" not in document:
        try:
            content = base64.b64decode(str(document["data_base64"]), validate=True)
        except ValueError:
            raise InvalidSpecError("data_base64 is not base64", where=where, mend="Encode it, or send data.") from None
        document = {**document, "data": content.decode(errors="replace")}
    try:
        event = msgspec.convert(document, CloudEvent)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(str(error), where=where, mend=_MEND) from None
    if event.specversion != "1.0" or not (event.id and event.source and event.type):
        raise InvalidSpecError("this is not a CloudEvent 1.0", where=where, mend=_MEND)
    return event


def _json(body: bytes) -> Json:
    try:
        document: Json = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSpecError(f"not JSON: {error}", where="body", mend=_MEND) from None
    return document
