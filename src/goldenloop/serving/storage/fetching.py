"""`fetch`: into a folder beside the target first, and there by one rename when all of it is on the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from goldenloop.core.errors import ConflictError, InvalidSpecError, RefusedError, UnavailableError
from goldenloop.serving.storage import hub, local, objects, web
from goldenloop.serving.storage.archives import kind_of, unpack
from goldenloop.serving.storage.purse import Purse
from goldenloop.serving.storage.records import Fetched, FetchedFile, Limits
from goldenloop.store.disk import sync_folder

_KNOWN = "a path, file://, pvc://, s3://, gs://, abfs://, abfss://, az://, http://, https:// or hf://"
_REFUSED = {
    "oci": ("container images", "Copy the model's files out of the image, and give their address."),
    "oci+fetch": ("container images", "Copy the model's files out of the image, and give their address."),
    "hdfs": ("Hadoop's file systems", "Copy the files to an object store."),
    "webhdfs": ("Hadoop's file systems", "Copy the files to an object store."),
    "modelscope": ("this hub", "Download the files, and give their path."),
    "git": ("git repositories", "Check it out, and give the path."),
}


def fetch(
    uri: str,
    into: Path,
    *,
    limits: Limits | None = None,
    volumes: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Fetched:
    """Bring what lies behind the address into the folder `into`, which must not be there yet, and appears with all of it or not at all.

    `volumes` is the folder in which each claim of `pvc://CLAIM/…` is a folder. `environment` holds the variables that reach the storage
    (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_*, HF_TOKEN, …), the process's own when it is not given. One call at a time for each
    target: what an earlier one left half done beside it is removed.

    Raises InvalidSpecError for an address that is none, a name that leads out, a broken archive, or past a limit; RefusedError without
    access; NotFoundError where nothing is there; UnavailableError where the storage does not answer or breaks off, or the disk is full;
    ConflictError where `into` is there already.
    """
    where = shown(uri)
    if into.exists():
        raise ConflictError("the target is there already", where=str(into), mend="Give a folder that is not there yet.")
    into.parent.mkdir(parents=True, exist_ok=True)
    for left in into.parent.glob(f".{into.name}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{into.name}.partial-", dir=into.parent))
    try:
        purse = Purse(staging, limits or Limits(), where=where)
        fetched = _collect(uri, purse, volumes, os.environ if environment is None else environment)
        staging.chmod(0o755)
        for folder in (*(path for path in staging.rglob("*") if path.is_dir()), staging):
            sync_folder(folder)
        staging.rename(into)
        sync_folder(into.parent)
    except OSError as error:
        raise UnavailableError(
            f"the files cannot be written: {error.strerror or error}", where=where, mend="Check the disk."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return fetched


def shown(uri: str) -> str:
    """Return the address without what may be secret in it: a user's name and password, and the query.

    >>> shown("https://me:secret@models.example/iris.zip?token=1"), shown("s3://models/iris")
    ('https://models.example/iris.zip', 's3://models/iris')
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri[:200]
    host = parts.netloc.rpartition("@")[2] if parts.scheme in ("http", "https") else parts.netloc
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme and "://" in uri else parts.path


def _collect(uri: str, purse: Purse, volumes: Path | None, environment: Mapping[str, str]) -> Fetched:
    scheme = _scheme(uri, purse.where)
    files: tuple[FetchedFile, ...]
    version = ""
    if scheme == "hf":
        files, version = hub.download_model(uri, purse, environment)
    elif scheme in ("http", "https") and not objects.is_azure(uri):
        return _collect_page(uri, purse, environment)
    elif scheme in ("path", "file", "pvc"):
        files = local.copy(local.path_of(uri, volumes=volumes), purse)
    else:
        files = objects.download(uri, purse, environment)
    if not files:
        raise InvalidSpecError("the folder is empty", where=purse.where, mend="Put the model's files there.")
    if len(files) == 1 and (kind := kind_of(files[0].path)):
        return _unpacked(files[0], kind, purse, version)
    return Fetched(uri=purse.where, files=files, version=version)


def _collect_page(uri: str, purse: Purse, environment: Mapping[str, str]) -> Fetched:
    file, reply = web.download(uri, None, purse, environment=environment)
    if kind := kind_of(reply.name, reply.content_type):
        return _unpacked(file, kind, purse, file.etag)
    return Fetched(uri=purse.where, files=(purse.rename(file, reply.name),), version=file.etag)


def _unpacked(archive: FetchedFile, kind: str, purse: Purse, version: str) -> Fetched:
    # Aside, under a name that no file in the archive may have.
    (purse.folder / archive.path).rename(purse.folder / web.ASIDE)
    files = unpack(purse.folder / web.ASIDE, kind, purse)
    (purse.folder / web.ASIDE).unlink()
    if not files:
        raise InvalidSpecError("the archive is empty", where=purse.where, mend="Pack the model's files.")
    return Fetched(uri=purse.where, files=files, archive=archive, version=version)


def _scheme(uri: str, where: str) -> str:
    if uri.startswith("/"):
        return "path"
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if scheme in ("http", "https") and urlsplit(uri).path.endswith(".git"):
        scheme = "git"
    if scheme in _REFUSED:
        what, mend = _REFUSED[scheme]
        raise RefusedError(f"models are not fetched from {what}", where=where, mend=mend)
    if scheme not in ("file", "pvc", "s3", "gs", "abfs", "abfss", "az", "http", "https", "hf"):
        raise InvalidSpecError(
            "not the address of a model", where=where, mend=f"Give {_KNOWN}; a path begins with '/'."
        )
    return scheme
