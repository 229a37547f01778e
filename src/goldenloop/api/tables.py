"""Lists as Kubernetes' Table, for clients that ask the server for the columns (`kubectl get`): those of KServe, and of our own kinds.

The form is that of `meta.k8s.io/v1`; a client that does not ask for it gets the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, from_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.kubernetes import Kind, conditions_of
from goldenloop.store.resources import metadata_of

_WORDS = ("as=Table", "g=meta.k8s.io", "v=v1")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its head, its type, and what it shows of a document. `priority` 1 is shown with `-o wide` only."""

    name: str
    value: Callable[[JsonObject], Json]
    type: str = "string"
    format: str = ""
    priority: int = 0


def wants_table(accept: str) -> bool:
    """Whether a client would rather have a table than the documents: the first kind of answer that it names."""
    first = accept.partition(",")[0].replace(" ", "").split(";")
    return first[0] == "application/json" and all(word in first for word in _WORDS)


def table_of(kind: Kind, items: list[JsonObject], metadata: JsonObject, *, now_us: int) -> JsonObject:
    """The documents as a table; `metadata` is that of the list."""
    columns = (_NAME, *_COLUMNS.get(kind.kind, (_READY,)), Column("Age", lambda document: _age(document, now_us)))
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": "",
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": [_row(item, columns) for item in items],
    }


def _row(document: JsonObject, columns: tuple[Column, ...]) -> JsonObject:
    partial: JsonObject = {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata_of(document),
    }
    return {"cells": [column.value(document) for column in columns], "object": partial}


def _age(document: JsonObject, now_us: int) -> str:
    """How old it is, in the largest unit of which there are two."""
    lasted_us = max(0, now_us - from_text(str(metadata_of(document)["creationTimestamp"])))
    for unit, size_us in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if lasted_us >= 2 * size_us:
            return f"{lasted_us // size_us}{unit}"
    return f"{lasted_us // SECOND}s"


def _status(*path: str) -> Callable[[JsonObject], Json]:
    def value(document: JsonObject) -> Json:
        found: Json = document.get("status")
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    return value


def _ready(document: JsonObject) -> Json:
    found = conditions_of(document.get("status"))
    return next((each.get("status") for each in found if each.get("type") == "Ready"), "")


def _target(name: str, wanted: Json, field: str) -> Callable[[JsonObject], Json]:
    """A field of the target of the predictor's traffic that has this."""

    def value(document: JsonObject) -> Json:
        traffic = _status("components", "predictor", "traffic")(document)
        targets = traffic if isinstance(traffic, list) else []
        return next((each.get(field) for each in targets if isinstance(each, dict) and each.get(name) == wanted), None)

    return value


_NAME = Column("Name", lambda document: metadata_of(document).get("name"), format="name")
_READY = Column("Ready", _ready)
_URL = Column("URL", _status("url"))
_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "InferenceService": (
        _URL,
        _READY,
        Column("Prev", _target("tag", "prev", "percent"), type="integer"),
        Column("Latest", _target("latestRevision", True, "percent"), type="integer"),
        Column("PrevRolledoutRevision", _target("tag", "prev", "revisionName")),
        Column("LatestReadyRevision", _target("latestRevision", True, "revisionName")),
    ),
    "InferenceGraph": (_URL, _READY),
    "TrainedModel": (_URL, _READY),
    "Loop": (Column("Phase", _status("phase")), Column("Champion", _status("champion")), _READY),
    "Rollout": (Column("Phase", _status("phase")),),
}
