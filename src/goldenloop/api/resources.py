"""The Kubernetes-style part: discovery, and every verb on every kind, at Kubernetes' paths."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from goldenloop.api.bodies import read_body
from goldenloop.api.tables import table_of, wants_table
from goldenloop.api.validation import check_document
from goldenloop.control.platform import Platform
from goldenloop.control.removal import forget_loop
from goldenloop.core.errors import ConflictError, InvalidSpecError
from goldenloop.core.ids import digest_bytes
from goldenloop.core.json import Json, JsonObject
from goldenloop.lineage import audit
from goldenloop.standards.kubernetes import KINDS, Kind, merge_patch, status_object
from goldenloop.store import resources
from goldenloop.store.database import Transaction

BODY_LIMIT = 4 << 20
_WATCH_POLL_SECONDS = 0.2
_WATCH_SECONDS = 300.0
_LIST_LIMIT = 5_000
_LARGEST_NUMBER = 2**63 - 1  # what a database keeps
_TRUE = ("true", "True", "TRUE", "t", "T", "1")  # what Kubernetes takes; its Python client writes True


class ResourceRoutes:
    """Routes for all kinds."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._database = platform.database

    def routes(self) -> list[Route]:
        """What to mount."""
        made = [
            Route("/api", self._core, methods=["GET"]),
            Route("/apis", self._groups, methods=["GET"]),
            Route("/openapi/v2", self._no_openapi, methods=["GET"]),
            Route("/openapi/v3", self._openapi_index, methods=["GET"]),
        ]
        for group, version in dict.fromkeys((kind.group, kind.version) for kind in KINDS):
            made.append(Route(f"/apis/{group}/{version}", self._group(group, version), methods=["GET"]))
        for kind in KINDS:
            base = f"/apis/{kind.group}/{kind.version}"
            named = f"{base}/namespaces/{{namespace}}/{kind.plural}"
            made += [
                Route(f"{base}/{kind.plural}", self._many(kind), methods=["GET"]),
                Route(named, self._many(kind), methods=["GET", "POST"]),
                Route(f"{named}/{{name}}", self._one(kind), methods=["GET", "PUT", "PATCH", "DELETE"]),
                Route(f"{named}/{{name}}/status", self._status(kind), methods=["GET", "PUT", "PATCH"]),
            ]
        return made

    # discovery

    async def _core(self, _request: Request) -> Response:
        return JSONResponse({"kind": "APIVersions", "versions": [], "serverAddressByClientCIDRs": []})

    async def _groups(self, _request: Request) -> Response:
        groups = []
        for group in dict.fromkeys(kind.group for kind in KINDS):
            versions = dict.fromkeys(kind.version for kind in KINDS if kind.group == group)
            entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
            groups.append({"name": group, "versions": entries, "preferredVersion": entries[0]})
        return JSONResponse({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    def _group(self, group: str, version: str) -> Callable[[Request], object]:
        verbs: list[Json] = ["create", "delete", "get", "list", "patch", "update", "watch"]
        found = [kind for kind in KINDS if (kind.group, kind.version) == (group, version)]

        async def answer(_request: Request) -> Response:
            entries: list[JsonObject] = []
            for kind in found:
                common: JsonObject = {"namespaced": True, "kind": kind.kind}
                names: JsonObject = {"singularName": kind.kind.lower(), "shortNames": list(kind.short)}
                entries.append({"name": kind.plural, "verbs": verbs, **common, **names})
                entries.append(
                    {"name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"], "singularName": "", **common}
                )
            body = {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{group}/{version}",
                "resources": entries,
            }
            return JSONResponse(body)

        return answer

    async def _no_openapi(self, _request: Request) -> Response:
        message = (
            "OpenAPI version 2 is not published; kubectl works with --validate=false, and the server validates strictly"
        )
        return JSONResponse(status_object(404, "NotFound", message), status_code=404)

    async def _openapi_index(self, _request: Request) -> Response:
        return JSONResponse({"paths": {}})

    # verbs

    def _many(self, kind: Kind) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            namespace = request.path_params.get("namespace")
            if request.method == "POST":
                document = await _body(request)
                made = await run_in_threadpool(self._create, kind, str(namespace), document)
                return JSONResponse(made, status_code=201)
            if request.query_params.get("watch") in _TRUE:
                return self._watch(kind, namespace, request)
            listed = await run_in_threadpool(self._list, kind, namespace)
            if wants_table(request.headers.get("accept", "")):
                return JSONResponse(self._table(kind, listed["items"], listed["metadata"]))
            return JSONResponse(listed)

        return answer

    def _one(self, kind: Kind) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            namespace, name = request.path_params["namespace"], request.path_params["name"]
            if request.method == "PUT":
                document = await _body(request)
                return JSONResponse(await run_in_threadpool(self._replace, kind, namespace, name, document))
            if request.method == "PATCH":
                patch = await _patch_body(request)
                return JSONResponse(await run_in_threadpool(self._patch, kind, namespace, name, patch))
            if request.method == "DELETE":
                return JSONResponse(await run_in_threadpool(self._delete, kind, namespace, name))
            found = await run_in_threadpool(self._get, kind, namespace, name)
            if wants_table(request.headers.get("accept", "")):
                version = resources.metadata_of(found)["resourceVersion"]
                return JSONResponse(self._table(kind, [found], {"resourceVersion": version}))
            return JSONResponse(found)

        return answer

    def _status(self, kind: Kind) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            namespace, name = request.path_params["namespace"], request.path_params["name"]
            if request.method == "GET":
                return JSONResponse(await run_in_threadpool(self._get, kind, namespace, name))
            document = await (_patch_body(request) if request.method == "PATCH" else _body(request))
            is_patch = request.method == "PATCH"
            return JSONResponse(await run_in_threadpool(self._set_status, kind, namespace, name, document, is_patch))

        return answer

    def _create(self, kind: Kind, namespace: str, document: JsonObject) -> JsonObject:
        check_document(kind, document, namespace)
        with self._changing() as transaction:
            made = resources.create(transaction, kind, namespace, document, now_us=self._platform.world.clock.now_us())
            return self._applied(transaction, kind, made, None)

    def _get(self, kind: Kind, namespace: str, name: str) -> JsonObject:
        with self._database.read() as transaction:
            return resources.get(transaction, kind, namespace, name)

    def _list(self, kind: Kind, namespace: str | None) -> JsonObject:
        with self._database.read() as transaction:
            items = resources.listing(transaction, kind, namespace)
            latest = resources.latest_sequence(transaction)
        metadata: JsonObject = {"resourceVersion": str(latest)}
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": metadata,
            "items": list(items[:_LIST_LIMIT]),
        }

    def _replace(self, kind: Kind, namespace: str, name: str, document: JsonObject) -> JsonObject:
        check_document(kind, document, namespace, name)
        with self._changing() as transaction:
            before = resources.metadata_of(resources.get(transaction, kind, namespace, name))["resourceVersion"]
            return self._applied(
                transaction, kind, resources.replace(transaction, kind, namespace, name, document), before
            )

    def _patch(self, kind: Kind, namespace: str, name: str, patch: JsonObject) -> JsonObject:
        with self._changing() as transaction:
            current = resources.get(transaction, kind, namespace, name)
            before = resources.metadata_of(current)["resourceVersion"]
            merged = merge_patch(current, {key: value for key, value in patch.items() if key != "status"})
            assert isinstance(merged, dict)
            check_document(kind, merged, namespace, name)
            given = patch.get("metadata")
            if not (isinstance(given, dict) and "resourceVersion" in given):
                resources.metadata_of(merged).pop("resourceVersion", None)
            return self._applied(
                transaction, kind, resources.replace(transaction, kind, namespace, name, merged), before
            )

    def _delete(self, kind: Kind, namespace: str, name: str) -> JsonObject:
        with self._changing() as transaction:
            removed = resources.remove(transaction, kind, namespace, name)
            if kind.kind == "Loop":
                forget_loop(transaction, namespace, name)
            self._audited(transaction, kind, "delete", removed)
        return {
            **status_object(200, "", f"{kind.kind} {name!r} is deleted"),
            "status": "Success",
            "details": removed["metadata"],
        }

    def _applied(self, transaction: Transaction, kind: Kind, kept: JsonObject, before: Json) -> JsonObject:
        """Put a change on record; where the resource is as it was `before`, there was none."""
        if resources.metadata_of(kept)["resourceVersion"] != before:
            self._audited(transaction, kind, "apply", kept)
        return kept

    def _audited(self, transaction: Transaction, kind: Kind, action: str, document: JsonObject) -> None:
        metadata = resources.metadata_of(document)
        deed = audit.Deed(
            action=action,
            kind=kind.kind,
            namespace=str(metadata["namespace"]),
            name=str(metadata["name"]),
            facts={
                "uid": metadata["uid"],
                "generation": metadata["generation"],
                "spec": digest_bytes(msgspec.json.encode(document.get("spec"), order="deterministic")),
            },
        )
        audit.record(transaction, deed, now_us=self._platform.world.clock.now_us())

    def _set_status(self, kind: Kind, namespace: str, name: str, document: JsonObject, is_patch: bool) -> JsonObject:
        with self._changing() as transaction:
            current = resources.get(transaction, kind, namespace, name)
            wanted = document.get("status", {})
            if not isinstance(wanted, dict):
                raise InvalidSpecError("status is not a mapping", where="status", mend="Give status: {…}.")
            status = merge_patch(current.get("status", {}), wanted) if is_patch else wanted
            assert isinstance(status, dict)
            given = document.get("metadata")
            read_at = given.get("resourceVersion") if isinstance(given, dict) else None
            return resources.set_status(transaction, kind, namespace, name, status, read_at=read_at)

    def _table(self, kind: Kind, items: Json, metadata: Json) -> JsonObject:
        documents = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        of_list = metadata if isinstance(metadata, dict) else {}
        return table_of(kind, documents, of_list, now_us=self._platform.world.clock.now_us())

    def _changing(self) -> _Changing:
        return _Changing(self._platform)

    def _watch(self, kind: Kind, namespace: str | None, request: Request) -> Response:
        sequence = whole_number(request, "resourceVersion", mend="Give one that a list returned.")
        seconds = min(whole_number(request, "timeoutSeconds", int(_WATCH_SECONDS)), _WATCH_SECONDS)
        return StreamingResponse(self._follow(kind, namespace, sequence, seconds), media_type="application/json")

    async def _follow(self, kind: Kind, namespace: str | None, sequence: int, seconds: float) -> AsyncIterator[bytes]:
        end = time.monotonic() + seconds
        if sequence == 0:
            initial = await run_in_threadpool(self._list, kind, namespace)
            items = initial["items"]
            assert isinstance(items, list)
            for item in items:
                yield msgspec.json.encode({"type": "ADDED", "object": item}) + b"\n"
            metadata = initial["metadata"]
            assert isinstance(metadata, dict)
            sequence = int(str(metadata["resourceVersion"]))
        while time.monotonic() < end:
            try:
                found = await run_in_threadpool(self._changes, kind, namespace, sequence)
            except ConflictError as error:
                gone = status_object(410, "Expired", str(error))
                yield msgspec.json.encode({"type": "ERROR", "object": gone}) + b"\n"
                return
            for change in found:
                sequence = change.sequence
                yield msgspec.json.encode({"type": change.type, "object": change.document}) + b"\n"
            if not found:
                await asyncio.sleep(_WATCH_POLL_SECONDS)

    def _changes(self, kind: Kind, namespace: str | None, sequence: int) -> list[resources.Change]:
        with self._database.read() as transaction:
            return resources.changes_since(transaction, kind, namespace, sequence)


class _Changing:
    """A write by hand: not between two steps of a reconciler, and seen by it at once."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._write = platform.database.write()

    def __enter__(self) -> Transaction:
        self._platform.world.lock.acquire()
        try:
            return self._write.__enter__()
        except BaseException:
            self._platform.world.lock.release()
            raise

    def __exit__(self, *raised: object) -> None:
        try:
            self._write.__exit__(*raised)  # type: ignore[arg-type]
        finally:
            self._platform.world.lock.release()
            self._platform.wake()


def whole_number(request: Request, name: str, default: int = 0, *, mend: str = "Give a whole number.") -> int:
    """A number in the query, from 0 on. Raises InvalidSpecError."""
    text = request.query_params.get(name, "")
    if text == "":
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _LARGEST_NUMBER):
        raise InvalidSpecError(f"{text!r} is not a number", where=name, mend=mend)
    return int(text)


async def read_json(request: Request) -> object:
    """The body as JSON. Raises InvalidSpecError."""
    body = await read_body(request, limit=BODY_LIMIT)
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidSpecError(f"not JSON: {error}", where="body", mend="Send JSON.") from None


async def _body(request: Request) -> JsonObject:
    document = await read_json(request)
    if not isinstance(document, dict):
        raise InvalidSpecError("the body is not a mapping", where="body", mend="Send one resource.")
    return document


async def _patch_body(request: Request) -> JsonObject:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind not in ("application/merge-patch+json", "application/json", "application/strategic-merge-patch+json"):
        raise InvalidSpecError(
            f"a patch of type {kind!r} is not supported", where="Content-Type", mend="Use application/merge-patch+json."
        )
    return await _body(request)
