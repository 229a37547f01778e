"""Routes of the Model Registry's API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from goldenloop.api.bodies import read_body
from goldenloop.api.errors import status_of
from goldenloop.api.mlflow.calls import BODY_LIMIT
from goldenloop.api.mlflow.golden import refuse_loop_model
from goldenloop.api.model_registry.shapes import (
    details_of,
    entry_shape,
    implied_artifact,
    implied_version,
    model_shape,
    version_shape,
)
from goldenloop.control.platform import Platform
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.standards.mlflow.limits import LARGEST_INTEGER
from goldenloop.store.database import Transaction
from goldenloop.store.tracking_tables import registered_models, registered_versions
from goldenloop.tracking import entries, models
from goldenloop.tracking.entries import ARTIFACT, ENVIRONMENT, SERVE, SERVICE, Paging, read_page
from goldenloop.tracking.models import NewRegistration

PREFIX = "/api/model_registry"
VERSIONS = ("v1alpha3", "v1")
_MODEL_ARTIFACT = "model-artifact"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: names in its path, its query, its message, and the time."""

    path: dict[str, str]
    query: dict[str, str]
    message: JsonObject
    now_ms: int

    def number(self, name: str) -> int:
        """An id of the path. Raises NotFoundError for what cannot be one."""
        return _number(self.path[name])

    def text(self, name: str) -> str:
        """A field of the message. Raises InvalidSpecError where it is no text."""
        value = self.message.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidSpecError(f"{value!r:.60} is not a text", where=name)
        return value or ""

    @property
    def external_id(self) -> str | None:
        """The id that the caller gave, if any."""
        return self.text("externalId") or None

    @property
    def paging(self) -> Paging:
        """Which part of a list is asked for. Raises InvalidSpecError."""
        given: JsonObject = {"descending": self.query.get("sortOrder", "ASC").upper() == "DESC"}
        for name, field in (("pageSize", "page_size"), ("orderBy", "order_by"), ("nextPageToken", "token")):
            if self.query.get(name):
                given[field] = self.query[name]
        try:
            return msgspec.convert(given, Paging, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidSpecError(str(error), where="query") from None


Handler = Callable[[Transaction, Asked], JsonObject]


def model_registry_api(platform: Platform) -> list[Mount]:
    """What to mount."""
    routes = [_route(platform, *each) for each in (*_MODELS, *_VERSIONS, *_artifact_routes(), *_SERVING)]
    handlers = {GoldenloopError: _answer_error, HTTPException: _answer_error, Exception: _answer_error}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return [Mount(f"{PREFIX}/{version}", app=app) for version in VERSIONS]


def _create_model(transaction: Transaction, asked: Asked) -> JsonObject:
    name = asked.text("name")
    refuse_loop_model(transaction, name)
    made = models.create_model(
        transaction,
        name,
        description=asked.text("description"),
        external_id=asked.external_id,
        details=details_of(asked.message),
        now_ms=asked.now_ms,
    )
    return model_shape(made)


def _get_model(transaction: Transaction, asked: Asked) -> JsonObject:
    return model_shape(models.model_with_id(transaction, asked.number("id")))


def _find_model(transaction: Transaction, asked: Asked) -> JsonObject:
    external = asked.query.get("externalId")
    if not external:
        return model_shape(models.get_model(transaction, asked.query.get("name", "")))
    found = transaction.scalar(select(registered_models.c.id).where(registered_models.c.external_id == external))
    if found is None:
        raise NotFoundError(f"there is no registered model {external[:100]!r}", where="externalId")
    return model_shape(models.model_with_id(transaction, found))


def _list_models(transaction: Transaction, asked: Asked) -> JsonObject:
    table = registered_models
    columns = (table.c.id, table.c.created_ms, table.c.updated_ms)
    rows, token = read_page(transaction, select(table.c.id), columns, asked.paging)
    return _page([model_shape(models.model_with_id(transaction, row._mapping["id"])) for row in rows], token, asked)


def _change_model(transaction: Transaction, asked: Asked) -> JsonObject:
    current = models.model_with_id(transaction, asked.number("id"))
    changed = models.change_model(
        transaction,
        current.id,
        description=asked.text("description") if "description" in asked.message else None,
        external_id=asked.external_id,
        details={**current.details, **details_of(asked.message)},
        now_ms=asked.now_ms,
    )
    return model_shape(changed)


def _create_version(transaction: Transaction, asked: Asked) -> JsonObject:
    model = models.model_with_id(transaction, _number(asked.path.get("id") or asked.text("registeredModelId")))
    details = details_of(asked.message)
    details.pop("registeredModelId", None)
    new = NewRegistration(
        source="",
        name=asked.text("name"),
        description=asked.text("description"),
        external_id=asked.external_id,
        details=details,
    )
    return version_shape(models.create_version(transaction, model.name, new, now_ms=asked.now_ms))


def _get_version(transaction: Transaction, asked: Asked) -> JsonObject:
    return version_shape(models.version_with_id(transaction, asked.number("id")))


def _find_version(transaction: Transaction, asked: Asked) -> JsonObject:
    table = registered_versions
    external, parent = asked.query.get("externalId"), asked.query.get("parentResourceId")
    query = select(table.c.id)
    if external:
        query = query.where(table.c.external_id == external)
    elif parent:
        query = query.where(table.c.name == asked.query.get("name", ""), table.c.model_id == _number(parent))
    else:
        raise InvalidSpecError(
            "a version is found by its model and name", where="parentResourceId", mend="Give both, or externalId."
        )
    found = transaction.scalar(query)
    if found is None:
        raise NotFoundError("there is no such model version", mend="List the versions of the model.")
    return version_shape(models.version_with_id(transaction, found))


def _list_versions(transaction: Transaction, asked: Asked) -> JsonObject:
    table = registered_versions
    query = select(table.c.id)
    if "id" in asked.path:
        query = query.where(table.c.model_id == models.model_with_id(transaction, asked.number("id")).id)
    rows, token = read_page(transaction, query, (table.c.id, table.c.created_ms, table.c.updated_ms), asked.paging)
    return _page([version_shape(models.version_with_id(transaction, row._mapping["id"])) for row in rows], token, asked)


def _change_version(transaction: Transaction, asked: Asked) -> JsonObject:
    current = models.version_with_id(transaction, asked.number("id"))
    details = details_of(asked.message)
    details.pop("registeredModelId", None)
    changed = models.change_version(
        transaction,
        current.id,
        description=asked.text("description") if "description" in asked.message else None,
        external_id=asked.external_id,
        details={**current.details, **details},
        now_ms=asked.now_ms,
    )
    return version_shape(changed)


def _put_artifact(transaction: Transaction, asked: Asked) -> JsonObject:
    """Keep an artifact, of a version where the path names one; with an id in the message, change that one."""
    identity = asked.text("id")
    if implied_version(identity):
        return _change_artifact(transaction, Asked({"id": identity}, asked.query, asked.message, asked.now_ms))
    if identity:
        changed = entries.change_entry(
            transaction, ARTIFACT, _number(identity), asked.external_id, _document(asked), now_ms=asked.now_ms
        )
        _let_version_follow(transaction, changed, asked.now_ms)
        return entry_shape(changed)
    parent = models.version_with_id(transaction, asked.number("version")).id if "version" in asked.path else 0
    document = {"artifactType": _MODEL_ARTIFACT, "state": "LIVE", **_document(asked)}
    made = entries.create_entry(
        transaction, ARTIFACT, parent, asked.text("name"), asked.external_id, document, now_ms=asked.now_ms
    )
    _let_version_follow(transaction, made, asked.now_ms)
    return entry_shape(made)


def _let_version_follow(transaction: Transaction, artifact: entries.Entry, now_ms: int) -> None:
    """The address of a version's model artifact is what MLflow's clients and a storageUri find as its source."""
    uri = artifact.document.get("uri")
    if artifact.parent_id and artifact.document.get("artifactType") == _MODEL_ARTIFACT and isinstance(uri, str):
        models.change_version(transaction, artifact.parent_id, source=uri, now_ms=now_ms)


def _get_artifact(transaction: Transaction, asked: Asked) -> JsonObject:
    version = implied_version(asked.path["id"])
    if version:
        return implied_artifact(models.version_with_id(transaction, _number(version)))
    return entry_shape(entries.get_entry(transaction, ARTIFACT, asked.number("id")))


def _change_artifact(transaction: Transaction, asked: Asked) -> JsonObject:
    version = implied_version(asked.path["id"])
    if version:
        uri = asked.text("uri") or None
        return implied_artifact(models.change_version(transaction, _number(version), source=uri, now_ms=asked.now_ms))
    changed = entries.change_entry(
        transaction, ARTIFACT, asked.number("id"), asked.external_id, _document(asked), now_ms=asked.now_ms
    )
    _let_version_follow(transaction, changed, asked.now_ms)
    return entry_shape(changed)


def _list_artifacts(transaction: Transaction, asked: Asked) -> JsonObject:
    if "version" not in asked.path:
        found, token = entries.list_entries(transaction, ARTIFACT, None, asked.paging)
        return _page([entry_shape(each) for each in found], token, asked)
    version = models.version_with_id(transaction, asked.number("version"))
    found, token = entries.list_entries(transaction, ARTIFACT, version.id, asked.paging)
    shown = [entry_shape(each) for each in found]
    if not shown and version.source and not asked.paging.token:
        shown = [implied_artifact(version)]
    return _page(shown, token, asked)


def _entry_handlers(kind: str, parent_field: str, parent_kind: str) -> dict[str, Handler]:
    """Handlers for a kind of entry whose parent is named by a field of the message, or by the path."""

    def parent_of(transaction: Transaction, asked: Asked) -> int:
        given = asked.path.get("parent") or (asked.text(parent_field) if parent_field else "")
        return entries.get_entry(transaction, parent_kind, _number(given)).id if given else 0

    def create(transaction: Transaction, asked: Asked) -> JsonObject:
        parent = parent_of(transaction, asked)
        document = _document(asked)
        if parent and parent_field:
            document[parent_field] = str(parent)
        made = entries.create_entry(
            transaction, kind, parent, asked.text("name"), asked.external_id, document, now_ms=asked.now_ms
        )
        return entry_shape(made)

    def get(transaction: Transaction, asked: Asked) -> JsonObject:
        return entry_shape(entries.get_entry(transaction, kind, asked.number("id")))

    def change(transaction: Transaction, asked: Asked) -> JsonObject:
        identity = asked.number("id")
        changed = entries.change_entry(
            transaction, kind, identity, asked.external_id, _document(asked), now_ms=asked.now_ms
        )
        return entry_shape(changed)

    def listing(transaction: Transaction, asked: Asked) -> JsonObject:
        parent = parent_of(transaction, asked) if "parent" in asked.path else None
        found, token = entries.list_entries(transaction, kind, parent, asked.paging)
        return _page([entry_shape(each) for each in found], token, asked)

    def find(transaction: Transaction, asked: Asked) -> JsonObject:
        return _find_entry(transaction, asked, kind)

    return {"create": create, "get": get, "change": change, "list": listing, "find": find}


def _find_entry(transaction: Transaction, asked: Asked, kind: str) -> JsonObject:
    parent = asked.query.get("parentResourceId")
    found = entries.find_entry(
        transaction,
        kind,
        name=asked.query.get("name", ""),
        parent_id=_number(parent) if parent else None,
        external_id=asked.query.get("externalId", ""),
    )
    return entry_shape(found)


def _find_artifact(transaction: Transaction, asked: Asked) -> JsonObject:
    return _find_entry(transaction, asked, ARTIFACT)


def _model_of_service(transaction: Transaction, asked: Asked) -> JsonObject:
    service = entries.get_entry(transaction, SERVICE, asked.number("id"))
    return model_shape(models.model_with_id(transaction, _number(str(service.document.get("registeredModelId", "")))))


def _version_of_service(transaction: Transaction, asked: Asked) -> JsonObject:
    document = entries.get_entry(transaction, SERVICE, asked.number("id")).document
    if document.get("modelVersionId"):
        return version_shape(models.version_with_id(transaction, _number(str(document["modelVersionId"]))))
    model = models.model_with_id(transaction, _number(str(document.get("registeredModelId", ""))))
    latest = models.latest_versions(transaction, [model.name])[model.name]
    if not latest:
        raise NotFoundError(f"the model {model.name!r} has no version", mend="Register one.")
    return version_shape(max(latest, key=lambda version: version.number))


_MODELS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/registered_models", _create_model),
    ("GET", "/registered_models", _list_models),
    ("GET", "/registered_model", _find_model),
    ("GET", "/registered_models/{id}", _get_model),
    ("PATCH", "/registered_models/{id}", _change_model),
)
_VERSIONS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/registered_models/{id}/versions", _create_version),
    ("GET", "/registered_models/{id}/versions", _list_versions),
    ("POST", "/model_versions", _create_version),
    ("GET", "/model_versions", _list_versions),
    ("GET", "/model_version", _find_version),
    ("GET", "/model_versions/{id}", _get_version),
    ("PATCH", "/model_versions/{id}", _change_version),
)
_environments, _services = (
    _entry_handlers(ENVIRONMENT, "", ""),
    _entry_handlers(SERVICE, "servingEnvironmentId", ENVIRONMENT),
)
_serves = _entry_handlers(SERVE, "", SERVICE)
_SERVING: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/serving_environments", _environments["create"]),
    ("GET", "/serving_environments", _environments["list"]),
    ("GET", "/serving_environment", _environments["find"]),
    ("GET", "/serving_environments/{id}", _environments["get"]),
    ("PATCH", "/serving_environments/{id}", _environments["change"]),
    ("POST", "/serving_environments/{parent}/inference_services", _services["create"]),
    ("GET", "/serving_environments/{parent}/inference_services", _services["list"]),
    ("POST", "/inference_services", _services["create"]),
    ("GET", "/inference_services", _services["list"]),
    ("GET", "/inference_service", _services["find"]),
    ("GET", "/inference_services/{id}", _services["get"]),
    ("PATCH", "/inference_services/{id}", _services["change"]),
    ("GET", "/inference_services/{id}/model", _model_of_service),
    ("GET", "/inference_services/{id}/version", _version_of_service),
    ("POST", "/inference_services/{parent}/serves", _serves["create"]),
    ("GET", "/inference_services/{parent}/serves", _serves["list"]),
)


def _artifact_routes() -> list[tuple[str, str, Handler]]:
    """Artifacts under both of their names, and under versions."""
    found: list[tuple[str, str, Handler]] = [
        ("POST", "/model_versions/{version}/artifacts", _put_artifact),
        ("GET", "/model_versions/{version}/artifacts", _list_artifacts),
    ]
    for one in ("artifact", "model_artifact"):
        found += [
            ("POST", f"/{one}s", _put_artifact),
            ("GET", f"/{one}s", _list_artifacts),
            ("GET", f"/{one}", _find_artifact),
            ("GET", f"/{one}s/{{id}}", _get_artifact),
            ("PATCH", f"/{one}s/{{id}}", _change_artifact),
        ]
    return found


def _route(platform: Platform, method: str, path: str, handler: Handler) -> Route:
    async def answer(request: Request) -> Response:
        message = _message(await read_body(request, limit=BODY_LIMIT)) if method != "GET" else {}
        now_ms = platform.world.clock.now_us() // 1_000
        asked = Asked(dict(request.path_params), dict(request.query_params), message, now_ms)

        def work() -> JsonObject:
            opened = platform.database.read() if method == "GET" else platform.database.write()
            with opened as transaction:
                return handler(transaction, asked)

        result = await run_in_threadpool(work)
        code = 201 if method == "POST" else 200
        return Response(msgspec.json.encode(result), status_code=code, media_type="application/json")

    return Route(path, answer, methods=[method])


def _message(body: bytes) -> JsonObject:
    try:
        found = msgspec.json.decode(body or b"{}", type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSpecError(f"not JSON of an object: {error}", where="body", mend="Send a JSON object.") from None
    if "\\u0000" in body.decode():
        raise InvalidSpecError("there is a character U+0000, which no database keeps", where="body", mend="Remove it.")
    return {name: value for name, value in found.items() if value is not None}  # type: ignore[misc]  # decoded JSON


def _document(asked: Asked) -> JsonObject:
    description = asked.text("description")
    document = details_of(asked.message)
    return {**document, "description": description} if description else document


def _number(given: str) -> int:
    if given.isascii() and given.isdecimal() and int(given[:30]) <= LARGEST_INTEGER:
        return int(given)
    raise NotFoundError(
        f"there is nothing with the id {given[:60]!r}", where="id", mend="List what is there for its ids."
    )


def _page(items: Sequence[JsonObject], token: str, asked: Asked) -> JsonObject:
    return {"items": list(items), "size": len(items), "pageSize": asked.paging.page_size, "nextPageToken": token}


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, GoldenloopError):
        status, _ = status_of(error)
        status = 400 if status == 422 else status
        return JSONResponse({"code": str(status), "message": str(error)}, status_code=status)
    if isinstance(error, HTTPException):
        return JSONResponse({"code": str(error.status_code), "message": error.detail}, status_code=error.status_code)
    _log.exception("a request of the Model Registry's API failed", exc_info=error)
    return JSONResponse({"code": "500", "message": "an error of the platform; its log says more"}, status_code=500)
