"""Models of Hugging Face's hub: `hf://ORG/MODEL[:REVISION]`, also written with `@`.

The hub's own HTTP interface is used: the revision is resolved to a commit once, every file is of that commit, has the size that the
hub names, and for large files the SHA-256. `HF_TOKEN` identifies the caller, `HF_ENDPOINT` names another hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.serving.storage.purse import Purse, inner_path
from goldenloop.serving.storage.records import FetchedFile
from goldenloop.serving.storage.web import download, read_json

_ENDPOINT = "https://huggingface.co"
_ADDRESS = re.compile(r"hf://(?P<model>[\w.-]+/[\w.-]+)(?:[:@](?P<revision>[\w./-]+))?/?")


class _Large(msgspec.Struct):
    sha256: str | None = None


class _File(msgspec.Struct):
    rfilename: str
    size: int | None = None
    lfs: _Large | None = None


class _Model(msgspec.Struct):
    sha: str
    siblings: list[_File] = []


def download_model(uri: str, purse: Purse, environment: Mapping[str, str]) -> tuple[tuple[FetchedFile, ...], str]:
    """Bring the files of a repository; return them and the commit. Raises what `web.download` raises."""
    address = _ADDRESS.fullmatch(uri)
    if address is None:
        raise InvalidSpecError(
            "not the address of a model on the hub",
            where=purse.where,
            mend="Write hf://ORG/MODEL or hf://ORG/MODEL:REVISION.",
        )
    endpoint = environment.get("HF_ENDPOINT", _ENDPOINT).rstrip("/")
    token = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    name = address["model"]
    revision = quote(address["revision"] or "main", safe="")
    document = read_json(
        f"{endpoint}/api/models/{name}/revision/{revision}?blobs=true", purse, environment=environment, headers=headers
    )
    try:
        model = msgspec.convert(document, _Model)
    except msgspec.ValidationError as error:
        raise UnavailableError(
            f"the hub's answer is not understood: {error}", where=purse.where, mend="Check HF_ENDPOINT."
        ) from error
    if not model.siblings:
        raise NotFoundError(
            "the repository holds no files", where=purse.where, mend="Check the model and its revision."
        )
    purse.check_listing(file.size or 0 for file in model.siblings)
    files = []
    for file in model.siblings:
        inner_path(file.rfilename, where=purse.where)
        place = f"{endpoint}/{name}/resolve/{quote(model.sha)}/{quote(file.rfilename)}"
        written, _ = download(place, file.rfilename, purse, environment=environment, headers=headers)
        if file.size not in (None, written.size) or (file.lfs and file.lfs.sha256 not in (None, written.sha256)):
            raise UnavailableError(
                f"{file.rfilename!r} is not the file that the hub lists", where=purse.where, mend="Fetch it again."
            )
        files.append(written)
    return tuple(files), model.sha
