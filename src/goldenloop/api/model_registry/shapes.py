"""Models, versions and what belongs to them as the Model Registry's messages have them.

A field that we have no column for is kept in `details` as it came. A tag of an MLflow client is shown as a custom property, a text.
"""

from __future__ import annotations

from goldenloop.core.json import Json, JsonObject
from goldenloop.tracking.entries import Entry
from goldenloop.tracking.models import RegisteredModel, RegisteredVersion
from goldenloop.tracking.values import Pairs

# Fields that stand in columns, or that only we write.
OURS = frozenset({"id", "name", "externalId", "createTimeSinceEpoch", "lastUpdateTimeSinceEpoch"})
_IMPLIED = "version-"  # the id of an artifact that is nothing but the source of a version begins so


def model_shape(model: RegisteredModel) -> JsonObject:
    """A registered model."""
    return {
        "state": "LIVE",
        **model.details,
        **_common(model.id, model.name, model.external_id),
        **_said(model.description, model.details, model.tags),
        **_times(model.created_ms, model.updated_ms),
    }


def version_shape(version: RegisteredVersion) -> JsonObject:
    """A model version."""
    return {
        "state": "LIVE",
        **version.details,
        **_common(version.id, version.name, version.external_id),
        "registeredModelId": str(version.model_id),
        **_said(version.description, version.details, version.tags),
        **_times(version.created_ms, version.updated_ms),
    }


def entry_shape(entry: Entry) -> JsonObject:
    """An artifact, a serving environment, an inference service or a serve."""
    return {
        "customProperties": {},
        **entry.document,
        **_common(entry.id, entry.name, entry.external_id),
        **_times(entry.created_ms, entry.updated_ms),
    }


def implied_artifact(version: RegisteredVersion) -> JsonObject:
    """The source of a version that was registered without artifacts, as its model artifact."""
    return {
        "id": f"{_IMPLIED}{version.id}",
        "artifactType": "model-artifact",
        "name": version.model,
        "uri": version.source,
        "state": "LIVE",
        "customProperties": {},
        **_times(version.created_ms, version.updated_ms),
    }


def implied_version(identity: str) -> str:
    """The id of the version whose source an artifact is, empty where it is an artifact of its own."""
    return identity.removeprefix(_IMPLIED) if identity.startswith(_IMPLIED) else ""


def details_of(message: JsonObject) -> JsonObject:
    """The fields of a message that are kept as they came."""
    return {
        name: value
        for name, value in message.items()
        if name not in OURS and name != "description" and value is not None
    }


def _common(identity: int, name: str, external_id: str | None) -> JsonObject:
    shown: JsonObject = {"id": str(identity), "name": name}
    return {**shown, "externalId": external_id} if external_id else shown


def _said(description: str, details: JsonObject, tags: Pairs) -> JsonObject:
    own = details.get("customProperties")
    properties: dict[str, Json] = {
        key: {"metadataType": "MetadataStringValue", "string_value": value} for key, value in tags.items()
    }
    shown: JsonObject = {"customProperties": properties | (own if isinstance(own, dict) else {})}
    return {**shown, "description": description} if description else shown


def _times(created_ms: int, updated_ms: int) -> JsonObject:
    return {"createTimeSinceEpoch": str(created_ms), "lastUpdateTimeSinceEpoch": str(updated_ms)}
