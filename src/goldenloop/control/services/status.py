"""Status as KServe writes it, so that its clients, and whatever reads its columns, see what they expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goldenloop.control.services.records import (
    PREDICTOR,
    STABLE,
    ModelState,
    ServiceMemory,
    Track,
    revision_name,
    version_name,
)
from goldenloop.control.services.revisions import shares
from goldenloop.control.services.settings import TAG_ROUTING, deployment_mode, names_of
from goldenloop.control.services.view import GraphView, Resource, ServedResource, ServiceView, TrainedModelView
from goldenloop.core.clock import to_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.inference_service.fields import annotations_not_acted_on, service_fields_not_acted_on
from goldenloop.standards.inference_service.graph import graph_fields_not_acted_on
from goldenloop.standards.inference_service.records import annotations_of
from goldenloop.standards.kubernetes import condition, conditions_of, set_condition

NOT_ACTED_ON = "NotActedOn"
_TRANSITIONS: dict[ModelState, str] = {
    "Pending": "InProgress",
    "Standby": "UpToDate",
    "Loading": "InProgress",
    "Loaded": "UpToDate",
    "FailedToLoad": "BlockedByFailedLoad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a status says besides what is remembered: addresses, workers and what they could not load, and the time."""

    at: str
    inference: str | None = None
    grpc: str | None = None
    workers: int = 0
    failures: Mapping[str, str]

    def address_of(self, view: Resource) -> str | None:
        """Where it answers on this machine, whatever the host in the request; None where nothing listens."""
        return None if self.inference is None else f"{self.inference}/serving/{view.namespace}/{view.name}"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether something is ready; None is not yet known."""

    holds: bool | None
    reason: str = ""
    message: str = ""


READY = Readiness(True)


def service_status(
    view: ServiceView, memory: ServiceMemory, around: Surroundings, *, is_loaded: bool, problem: str = ""
) -> JsonObject:
    """The status of an InferenceService. `problem` is what is wrong with it as a whole."""
    components = _readiness_of_components(view, memory, around)
    ingress = READY if memory.track(PREDICTOR).active is not None or not view.sources else Readiness(None, "NotServed")
    if problem:
        ingress = Readiness(False, "Conflict", problem)
    elif view.is_stopped:
        ingress = Readiness(False, "Stopped", "the service is stopped")
        components = dict.fromkeys(components, ingress)
    elif not is_loaded:
        ingress = Readiness(False, "Unloaded", f"a client unloaded it: POST /v2/repository/models/{view.name}/load")
    ready = _together([*components.values(), ingress])
    pairs = {f"{track.capitalize()}Ready": readiness for track, readiness in components.items()}
    pairs |= {"IngressReady": ingress, "Ready": ready, "Stopped": Readiness(view.is_stopped)}
    status: JsonObject = {
        "observedGeneration": view.generation,
        "conditions": _conditions(view, pairs, around, service_fields_not_acted_on(_spec(view), view.spec)),
        "deploymentMode": deployment_mode(view.metadata),
        "url": names_of(view.metadata).url,
        "components": {track: _component(view, memory, track, around) for track in STABLE if track in view.sources},
    }
    if (address := around.address_of(view)) is not None:
        status["address"] = {"url": address}
    if PREDICTOR in view.sources:
        is_standby = not is_loaded or view.is_stopped
        status["modelStatus"] = _model_status(view, PREDICTOR, memory.track(PREDICTOR), around, is_standby=is_standby)
    if view.canaries:
        status["canaryStatuses"] = [_canary(view, memory, track, around) for track in view.canaries]
    return status


def trained_model_status(
    view: TrainedModelView,
    memory: ServiceMemory,
    around: Surroundings,
    *,
    is_loaded: bool,
    parent_problem: str,
    problem: str = "",
) -> JsonObject:
    """The status of a TrainedModel. `parent_problem` says what is wrong with its InferenceService."""
    model = _readiness(view, PREDICTOR, memory.track(PREDICTOR), around)
    if problem:
        model = Readiness(False, "Conflict", problem)
    elif not is_loaded:
        model = Readiness(False, "Unloaded", f"a client unloaded it: POST /v2/repository/models/{view.name}/load")
    parent = Readiness(False, "InferenceServiceNotReady", parent_problem) if parent_problem else READY
    pairs = {
        "InferenceServiceReady": parent,
        "IsMMSPredictor": READY,
        "MemoryResourceAvailable": READY,
        "ModelReady": model,
        "Ready": _together([parent, model]),
    }
    status: JsonObject = {
        "observedGeneration": view.generation,
        "conditions": _conditions(view, pairs, around, []),
        "url": f"{names_of({**view.metadata, 'name': view.spec.inference_service}).url}/v1/models/{view.name}:predict",
        "modelStatus": _model_status(view, PREDICTOR, memory.track(PREDICTOR), around, is_standby=not is_loaded),
    }
    if (address := around.address_of(view)) is not None:
        status["address"] = {"url": f"{address}/v1/models/{view.name}:predict"}
    return status


def graph_status(view: GraphView, around: Surroundings, *, problem: str) -> JsonObject:
    """The status of an InferenceGraph."""
    ready = Readiness(False, "StepNotReady", problem) if problem else READY
    not_acted_on = graph_fields_not_acted_on(_spec(view))
    status: JsonObject = {
        "observedGeneration": view.generation,
        "conditions": _conditions(view, {"Ready": ready}, around, not_acted_on),
        "deploymentMode": deployment_mode(view.metadata),
        "url": names_of(view.metadata).url,
    }
    if (address := around.address_of(view)) is not None:
        status["address"] = {"url": address}
    return status


def is_ready(document: JsonObject) -> bool:
    """Whether the resource says that it is ready."""
    conditions = conditions_of(document.get("status"))
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _readiness_of_components(view: ServedResource, memory: ServiceMemory, around: Surroundings) -> dict[str, Readiness]:
    if not view.sources:
        return {PREDICTOR: Readiness(True, "MultiModel", "it has no model of its own; its TrainedModels answer")}
    found = {track: _readiness(view, track, memory.track(track), around) for track in view.sources if track in STABLE}
    # What changes together is ready together.
    waiting = [track for track, readiness in found.items() if readiness.holds is not True]
    return {
        track: Readiness(None, "Waiting", f"waits for the {waiting[0]}")
        if readiness.holds and waiting and memory.track(track).active is None
        else readiness
        for track, readiness in found.items()
    }


def _readiness(view: ServedResource, track_name: str, track: Track, around: Surroundings) -> Readiness:
    newest = track.newest
    if newest is None:
        return Readiness(None, "Pending", "it was not looked at yet")
    name = revision_name(view.name, track_name, newest.number)
    if newest.failure is not None:
        going_on = "; the one before goes on answering" if track.active not in (None, newest.number) else ""
        return Readiness(False, newest.failure.reason, f"{name}: {newest.failure.message.removesuffix('.')}{going_on}")
    if track.active == newest.number:
        why = around.failures.get(f"{view.namespace}/{view.name}/{version_name(track_name, newest.number)}")
        if why is not None:
            return Readiness(False, "ModelLoadFailed", f"{name} cannot be loaded: {why}")
        return Readiness(True, "", " ".join(newest.made.notes) if newest.made is not None else "")
    if newest.state == "Loaded":
        return Readiness(None, "Waiting", f"{name} is loaded and waits for what changes with it")
    step = "is loaded by the workers" if newest.state == "Loading" else "is fetched and examined"
    return Readiness(None, newest.state, f"{name} {step}")


def _together(all_of_it: list[Readiness]) -> Readiness:
    for wanted in (False, None):
        for readiness in all_of_it:
            if readiness.holds is wanted:
                return readiness
    return READY


def _conditions(
    view: ServiceView | TrainedModelView | GraphView,
    pairs: Mapping[str, Readiness],
    around: Surroundings,
    not_acted_on: list[str],
) -> list[Json]:
    """The conditions, those of the old status that are of no interest any more left out."""
    paths = [*not_acted_on, *annotations_not_acted_on(annotations_of(view.metadata))]
    old = conditions_of(view.document.get("status"))
    conditions = [each for each in old if each.get("type") in pairs or (each.get("type") == NOT_ACTED_ON and paths)]
    for kind, readiness in pairs.items():
        new = condition(kind, readiness.holds, readiness.reason, readiness.message, at=around.at)
        conditions = set_condition(conditions, new)
    if paths:
        text = f"kept, but nothing acts on {', '.join(paths)}"
        if any(path.endswith(".image") for path in paths):
            text += ". Images are not run here: give code of your own as a folder with model.py, in STORAGE_URI"
        # True and of no weight: what reads conditions takes False for a fault.
        extra = condition(NOT_ACTED_ON, True, "FieldsKept", text, at=around.at)
        conditions = set_condition(conditions, {**extra, "severity": "Info"})
    return list(conditions)


def _component(view: ServiceView, memory: ServiceMemory, track_name: str, around: Surroundings) -> JsonObject:
    track = memory.track(track_name)
    shown: JsonObject = {}
    if track.newest is not None:
        shown["latestCreatedRevision"] = revision_name(view.name, track_name, track.newest.number)
    if track.active is not None:
        shown["latestReadyRevision"] = revision_name(view.name, track_name, track.active)
    if track_name == PREDICTOR:
        for field, number in (
            ("latestRolledoutRevision", memory.rolled_out),
            ("previousRolledoutRevision", memory.previous),
        ):
            if number is not None:
                shown[field] = revision_name(view.name, track_name, number)
        shown["traffic"] = _traffic(view, memory, around)
        shown["url"] = names_of(view.metadata).url
        for field, address in (("restUrl", around.address_of(view)), ("grpcUrl", around.grpc)):
            if address is not None:
                shown[field] = address
    elif track.active is not None:
        revision = revision_name(view.name, track_name, track.active)
        shown["traffic"] = [{"revisionName": revision, "latestRevision": True, "percent": 100}]
    return shown


def _traffic(view: ServiceView, memory: ServiceMemory, around: Surroundings) -> list[Json]:
    """Who gets how much, the newest first. The one before has the tag `prev`; the newest `latest` where tags are asked for."""
    has_tags = annotations_of(view.metadata).get(TAG_ROUTING, "").lower() == "true"
    latest = memory.track(PREDICTOR).active
    canaries = sum(view.canaries.values())
    shown: list[Json] = []
    for number, percent in sorted(shares(memory, view.canary_percent).items(), reverse=True):
        target: JsonObject = {
            "revisionName": revision_name(view.name, PREDICTOR, number),
            "latestRevision": number == latest,
            "percent": percent - canaries if number == memory.rolled_out else percent,
        }
        if number != latest or has_tags:
            target["tag"] = "latest" if number == latest else "prev"
            if (address := around.address_of(view)) is not None:
                target["url"] = f"{address}/v2/models/{view.name}/versions/{version_name(PREDICTOR, number)}"
        shown.append(target)
    return shown


def _canary(view: ServiceView, memory: ServiceMemory, track_name: str, around: Surroundings) -> JsonObject:
    track = memory.track(track_name)
    return {
        "name": track_name.partition("-")[2],
        "ready": track.newest is not None and track.active == track.newest.number,
        "trafficPercent": view.canaries[track_name] if track.active is not None else 0,
        "modelStatus": _model_status(view, track_name, track, around, is_standby=False),
    }


def _model_status(
    view: ServedResource, track_name: str, track: Track, around: Surroundings, *, is_standby: bool
) -> JsonObject:
    newest = track.newest
    target: ModelState = "Pending" if newest is None else newest.state
    active: ModelState = "Pending" if track.active is None else "Standby" if is_standby else "Loaded"
    failure = None if newest is None else newest.failure
    is_invalid = failure is not None and failure.reason == "InvalidPredictorSpec"
    shown: JsonObject = {
        "transitionStatus": "InvalidSpec" if is_invalid else _TRANSITIONS[target],
        "states": {"activeModelState": active, "targetModelState": target},
        "copies": {
            "failedCopies": around.workers if failure is not None else 0,
            "totalCopies": around.workers if track.active is not None and not is_standby else 0,
        },
    }
    if newest is not None and failure is not None:
        shown["lastFailureInfo"] = {
            "location": track_name,
            "reason": failure.reason,
            "message": failure.message,
            "modelRevisionName": revision_name(view.name, track_name, newest.number),
            "time": to_text(failure.at_us),
        }
    return shown


def _spec(view: ServiceView | GraphView) -> JsonObject:
    spec = view.document["spec"]
    assert isinstance(spec, dict)
    return spec
