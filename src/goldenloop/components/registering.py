"""Registering a blessed model: with a Kubeflow Model Registry (`v1alpha3`), as goldenloop and Kubeflow serve it, and always as a record.

Registering the same model twice, as a retried step does, finds what is there: the version is named by the digest of the model's files
unless the caller names it.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Literal

import msgspec

from goldenloop.core.clock import SystemClock, to_text
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError, RefusedError, UnavailableError
from goldenloop.core.ids import digest_file, digest_text
from goldenloop.core.json import JsonObject

_API = "/api/model_registry/v1alpha3"
_SECONDS = 20.0
_SHORT_DIGEST = 12

Outcome = Literal["registered", "recorded", "refused"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Where a registry keeps a version."""

    registry: str
    model: str
    version: str
    artifact: str


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of a version. `outcome`: in a registry, in this record only, or not at all, with the reason."""

    name: str
    version: str
    uri: str
    digest: str
    properties: JsonObject
    outcome: Outcome
    reason: str
    created: str
    entry: Entry | None = None


class Registry:
    """A Kubeflow Model Registry at an address, such as `http://127.0.0.1:8080`."""

    def __init__(self, address: str) -> None:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise InvalidSpecError(f"{address!r} is no address", where="registry", mend="Give http://HOST:PORT.")
        self.address = address.rstrip("/")

    def register(self, name: str, version: str, uri: str, *, framework: str, properties: JsonObject) -> Entry:
        """Find or make the model, its version and the version's artifact. Raises an error of the tree."""
        found = self._find_or_make(f"/registered_model?{_query(name=name)}", "/registered_models", {"name": name})
        model = str(found["id"])
        body: JsonObject = {"name": version, "registeredModelId": model, "customProperties": _custom(properties)}
        versioned = self._find_or_make(
            f"/model_version?{_query(name=version, parentResourceId=model)}", "/model_versions", body
        )
        of_version = str(versioned["id"])
        artifact: JsonObject = {
            "artifactType": "model-artifact",
            "name": f"{name}-{version}",
            "uri": uri,
            "modelFormatName": framework,
        }
        kept = self._call("GET", f"/model_versions/{urllib.parse.quote(of_version)}/artifacts")
        items = kept.get("items")
        there = (
            [item for item in items if isinstance(item, dict) and item.get("uri") == uri]
            if isinstance(items, list)
            else []
        )
        made = (
            there[0]
            if there
            else self._call("POST", f"/model_versions/{urllib.parse.quote(of_version)}/artifacts", artifact)
        )
        return Entry(registry=self.address, model=model, version=of_version, artifact=str(made.get("id", "")))

    def _find_or_make(self, find: str, make: str, body: JsonObject) -> JsonObject:
        try:
            return self._call("GET", find)
        except NotFoundError:
            pass
        try:
            return self._call("POST", make, body)
        except ConflictError:  # somebody made it in between
            return self._call("GET", find)

    def _call(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        request = urllib.request.Request(
            f"{self.address}{_API}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        where = f"{method} {self.address}{_API}{path.split('?')[0]}"
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                answered = json.loads(response.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:300]
            kind = {404: NotFoundError, 409: ConflictError, 400: InvalidSpecError, 422: InvalidSpecError}.get(
                error.code
            )
            kind = kind or (RefusedError if error.code in (401, 403) else UnavailableError)
            raise kind(f"the registry answered {error.code}: {text}", where=where) from error
        except (OSError, ValueError) as error:
            raise UnavailableError(f"the registry does not answer: {error}", where=where) from error
        if not isinstance(answered, dict):
            raise UnavailableError("the registry did not answer with an object", where=where)
        return answered


def register(
    *,
    folder: Path,
    uri: str,
    name: str,
    version: str = "",
    properties: JsonObject,
    refused: str = "",
    registry: str = "",
) -> ModelRecord:
    """Register a model and return its record.

    `refused` is why it was not blessed; then nothing is registered. `registry` is the address of a registry, which must answer;
    without one the installation that `GOLDENLOOP_HOME` names is asked, and where none runs the record stands alone. Raises
    InvalidSpecError for an empty name and a missing model, and the error of a registry that was named.
    """
    if not name.strip():
        raise InvalidSpecError("a registered model needs a name", where="name", mend="Give one.")
    digest = _digest(folder)
    record = ModelRecord(
        name=name,
        version=version or digest[:_SHORT_DIGEST],
        uri=uri,
        digest=digest,
        properties=properties,
        outcome="refused" if refused else "recorded",
        reason=refused or "no registry is named, and no installation is running",
        created=to_text(SystemClock().now_us()),
    )
    if refused:
        return record
    address = registry or _installation()
    if not address:
        return record
    try:
        entry = Registry(address).register(
            name, record.version, uri, framework=str(properties.get("framework", "")), properties=properties
        )
    except (NotFoundError, UnavailableError) as error:
        if registry:
            raise
        return msgspec.structs.replace(
            record, reason=f"the installation at {address} keeps no models this way: {error}"
        )
    return msgspec.structs.replace(record, outcome="registered", reason=f"registered at {address}", entry=entry)


def _installation() -> str:
    """The address of the running installation, "" where there is none."""
    home = os.environ.get("GOLDENLOOP_HOME")
    if not home:
        return ""
    from goldenloop.control.home import Home

    try:
        return Home(Path(home).absolute()).running().http
    except NotFoundError:
        return ""


def _digest(folder: Path) -> str:
    """One digest of all files, by their names and contents."""
    if folder.is_file():
        return digest_file(folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if not files:
        raise InvalidSpecError("there is no model", where=str(folder), mend="Give the output of a training step.")
    return digest_text(*(text for file in files for text in (file.relative_to(folder).as_posix(), digest_file(file))))


def _custom(properties: JsonObject) -> JsonObject:
    """Properties as the registry types them: numbers, truths and texts; anything else as JSON text."""
    custom: JsonObject = {}
    for name, value in properties.items():
        if isinstance(value, bool):
            custom[name] = {"metadataType": "MetadataBoolValue", "bool_value": value}
        elif isinstance(value, int | float):
            custom[name] = {"metadataType": "MetadataDoubleValue", "double_value": float(value)}
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            custom[name] = {"metadataType": "MetadataStringValue", "string_value": text}
    return custom


def _query(**words: str) -> str:
    return urllib.parse.urlencode(words)
