"""The Kubernetes API conventions that resources follow: object metadata, merge patches, lists, watch events and status objects."""

from __future__ import annotations

import re
from dataclasses import dataclass

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards import analysis_template, loop, openslo
from goldenloop.standards.documents import near_miss
from goldenloop.standards.inference_service import graph, records, trained_model

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
MAXIMUM_NAME = 63


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource and its names in paths."""

    group: str
    version: str
    kind: str
    plural: str
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


KINDS: tuple[Kind, ...] = (
    Kind(loop.GROUP, loop.VERSION, "Loop", "loops"),
    Kind(loop.GROUP, loop.VERSION, "Monitor", "monitors"),
    Kind(loop.GROUP, loop.VERSION, "Trigger", "triggers"),
    Kind(loop.GROUP, loop.VERSION, "Rollout", "rollouts"),
    Kind(records.GROUP, records.VERSION, "InferenceService", "inferenceservices", ("isvc",)),
    Kind(records.GROUP, graph.VERSION, "InferenceGraph", "inferencegraphs", ("ig",)),
    Kind(records.GROUP, trained_model.VERSION, "TrainedModel", "trainedmodels", ("tm",)),
    Kind(openslo.GROUP, openslo.VERSION, "SLO", "slos"),
    Kind(analysis_template.GROUP, analysis_template.VERSION, "AnalysisTemplate", "analysistemplates", ("at",)),
)


def kind_named(name: str) -> Kind:
    """Find a kind by what people type: `loop`, `loops`, `Loop`, `isvc`. Raises NotFoundError with a near miss."""
    wanted = name.lower()
    for kind in KINDS:
        if wanted in (kind.kind.lower(), kind.plural, *kind.short):
            return kind
    known = [kind.plural for kind in KINDS]
    raise NotFoundError(f"there is no kind {name!r}", mend=near_miss(wanted, known) or f"Known: {', '.join(known)}.")


def kind_of(document: JsonObject, *, where: str = "") -> Kind:
    """The kind of a document, by its apiVersion and kind. Raises InvalidSpecError."""
    api_version, name = document.get("apiVersion"), document.get("kind")
    for kind in KINDS:
        if kind.api_version == api_version and kind.kind == name:
            return kind
    for field, value, known in (
        ("kind", name, [kind.kind for kind in KINDS]),
        (
            "apiVersion",
            api_version,
            sorted({kind.api_version for kind in KINDS if name == kind.kind} or {k.api_version for k in KINDS}),
        ),
    ):
        if value not in known:
            hint = near_miss(str(value), known) or f"Known: {', '.join(known)}."
            raise InvalidSpecError(f"{value!r} is not known", where=f"{where}.{field}" if where else field, mend=hint)
    raise InvalidSpecError(f"{name} is not of {api_version}", where="apiVersion")


def check_name(name: object, *, where: str = "metadata.name") -> str:
    """Return the name if it can be one: lower-case letters, digits, `-` and `.`, at most 63. Raises InvalidSpecError."""
    if not isinstance(name, str) or len(name) > MAXIMUM_NAME or not _NAME.fullmatch(name):
        raise InvalidSpecError(
            f"{name!r} is not a name",
            where=where,
            mend="Use lower-case letters, digits, '-' and '.', at most 63 of them.",
        )
    return name


def merge_patch(target: Json, patch: Json) -> Json:
    """Apply a JSON merge patch (RFC 7386): null removes, objects merge, all else replaces.

    >>> merge_patch({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}})
    {'b': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    merged: JsonObject = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def condition(kind: str, holds: bool | None, reason: str, message: str, *, at: str) -> JsonObject:
    """A status condition. `holds` None is Unknown."""
    status = "Unknown" if holds is None else str(holds)
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}


def conditions_of(status: Json) -> list[JsonObject]:
    """The conditions in a status, none where there is no status yet."""
    found = status.get("conditions") if isinstance(status, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def set_condition(conditions: list[JsonObject], new: JsonObject) -> list[JsonObject]:
    """Replace the condition of the same type; the transition time stays where the status did not change."""
    result = []
    placed = False
    for old in conditions:
        if old["type"] != new["type"]:
            result.append(old)
            continue
        placed = True
        if old["status"] == new["status"]:
            new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
        result.append(new)
    return result if placed else [*result, new]


def status_object(code: int, reason: str, message: str) -> JsonObject:
    """The body of an error, as Kubernetes clients expect it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
