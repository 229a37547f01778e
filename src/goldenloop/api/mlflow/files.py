"""Files that clients send and take through us (`mlflow-artifacts`), and the listings of what a run or a logged model has.

An upload is written aside as it comes, a piece at a time, and appears when all of it is there. Below `golden/` lie the versions of
loops, read-only.
"""

from __future__ import annotations

import mimetypes
import posixpath
from collections.abc import Sequence

import msgspec
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from goldenloop.api.mlflow import golden
from goldenloop.api.mlflow.calls import Answer, Operation, operation
from goldenloop.api.mlflow.folders import GoldenFolders
from goldenloop.api.mlflow.runs import NamedRun
from goldenloop.core.errors import InvalidSpecError, NotFoundError, RefusedError
from goldenloop.standards.mlflow.addresses import PROXIED
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database
from goldenloop.store.files import Entry, Incoming, check_path
from goldenloop.tracking.logged import get_logged_model
from goldenloop.tracking.places import TREE, path_in_tree
from goldenloop.tracking.runs import get_info

_GATHERED = 1 << 20  # bytes of an upload that are written at once
_PLAIN = {
    "X-Content-Type-Options": "nosniff",
    "Content-Disposition": "attachment",
}  # nothing of a stranger's runs in our pages


class RunFiles(NamedRun, frozen=True, kw_only=True):
    """A folder among the artifacts of a run."""

    path: str = ""


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A folder among the files of a logged model."""

    model_id: str
    artifact_directory_path: str = ""


class FileOperations:
    """What can be done with files."""

    def __init__(self, database: Database, artifacts: Artifacts) -> None:
        self._database = database
        self._tree = artifacts.tree(TREE)
        self._tree.sweep()
        self._golden = GoldenFolders(database, artifacts)

    def operations(self) -> list[Operation]:
        """The listings by run and by logged model."""
        return [
            operation("GET", "/mlflow/artifacts/list", RunFiles, self._list_run),
            operation(
                "GET", "/mlflow/logged-models/{model_id}/artifacts/directories", ModelFiles, self._list_logged_model
            ),
        ]

    def routes(self) -> list[Route]:
        """The files themselves."""
        base = "/mlflow-artifacts/artifacts"
        return [
            Route(base, self._list, methods=["GET"]),
            Route(base + "/{path:path}", self._download, methods=["GET"]),
            Route(base + "/{path:path}", self._upload, methods=["PUT"]),
            Route(base + "/{path:path}", self._delete, methods=["DELETE"]),
        ]

    def _list_run(self, asked: RunFiles) -> Answer:
        with self._database.read() as transaction:
            root = get_info(transaction, asked.run).artifact_uri
        return self._listed(root, asked.path)

    def _list_logged_model(self, asked: ModelFiles) -> Answer:
        with self._database.read() as transaction:
            root = get_logged_model(transaction, asked.model_id).info.artifact_uri
        return self._listed(root, asked.artifact_directory_path)

    def _listed(self, root: str, path: str) -> Answer:
        path = path.strip("/")
        if path:
            check_path(path)
        if not root.startswith(f"{PROXIED}:/"):
            raise RefusedError(
                f"the files lie at {root}, where clients reach them without us",
                where="path",
                mend="Let the client list them itself: mlflow.artifacts.list_artifacts.",
            )
        folder = posixpath.join(path_in_tree(root), path).rstrip("/")
        return {"root_uri": root, "files": _infos(self._tree.listing(folder), path)}

    async def _list(self, request: Request) -> Response:
        path = request.query_params.get("path", "").strip("/")
        if path:
            check_path(path)
        entries = await run_in_threadpool(self._entries, path)
        return JSONResponse({"files": _infos(entries, "")})

    def _entries(self, path: str) -> Sequence[Entry]:
        return self._golden.listing(path) if _is_golden(path) else self._tree.listing(path)

    async def _download(self, request: Request) -> Response:
        path = check_path(request.path_params["path"])
        media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        if _is_golden(path):
            content = await run_in_threadpool(self._golden.content, path)
            if isinstance(content, bytes):
                return Response(content, media_type=media_type, headers=_PLAIN)
            return FileResponse(content, media_type=media_type, headers=_PLAIN)
        size = await run_in_threadpool(self._tree.size, path)
        if size is None:
            raise NotFoundError(f"there is no file {path!r}", where="path", mend="List the artifacts.")
        local = self._tree.local(path)
        if local is not None:
            return FileResponse(local, media_type=media_type, headers=_PLAIN)
        pieces = iterate_in_threadpool(self._tree.pieces(path))
        return StreamingResponse(pieces, media_type=media_type, headers={**_PLAIN, "Content-Length": str(size)})

    async def _upload(self, request: Request) -> Response:
        path = check_path(request.path_params["path"])
        if _is_golden(path):
            raise _read_only()
        incoming = await run_in_threadpool(self._tree.begin, path)
        try:
            await _receive(request, incoming)
            await run_in_threadpool(incoming.finish)
        except ClientDisconnect:
            raise InvalidSpecError(
                "the upload broke off", where=path, mend="Send it again; nothing was kept."
            ) from None
        finally:
            await run_in_threadpool(incoming.close)
        return JSONResponse({})

    async def _delete(self, request: Request) -> Response:
        path = check_path(request.path_params["path"].rstrip("/"))
        if _is_golden(path):
            raise _read_only()
        await run_in_threadpool(self._tree.delete, path)
        return JSONResponse({})


async def _receive(request: Request, incoming: Incoming) -> None:
    """Write what comes, some of it at a time. Raises InvalidSpecError where less came than was announced."""
    gathered = bytearray()
    async for piece in request.stream():
        gathered += piece
        if len(gathered) >= _GATHERED:
            await run_in_threadpool(incoming.write, bytes(gathered))
            gathered.clear()
    await run_in_threadpool(incoming.write, bytes(gathered))
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) != incoming.size:
        raise InvalidSpecError(
            f"{incoming.size} of {announced} bytes came", where="body", mend="Send it again; nothing was kept."
        )


def _infos(entries: Sequence[Entry], below: str) -> list[Answer]:
    shown: list[Answer] = []
    for entry in entries:
        path = posixpath.join(below, entry.name)
        shown.append(
            {"path": path, "is_dir": True}
            if entry.size is None
            else {"path": path, "is_dir": False, "file_size": entry.size}
        )
    return shown


def _is_golden(path: str) -> bool:
    return path == golden.FOLDER or path.startswith(f"{golden.FOLDER}/")


def _read_only() -> RefusedError:
    return RefusedError(
        "the versions of loops are not written by clients",
        where=golden.FOLDER,
        mend="Log under a run, or run the loop.",
    )
