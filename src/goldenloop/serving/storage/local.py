"""Files of this machine: a path, `file://`, and `pvc://` with its claims mapped to folders."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from goldenloop.core.errors import InvalidSpecError, NotFoundError, RefusedError, UnavailableError
from goldenloop.serving.storage.purse import PIECE, Purse
from goldenloop.serving.storage.records import FetchedFile

_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def path_of(uri: str, *, volumes: Path | None) -> Path:
    """Return the path that the address names. Raises InvalidSpecError, and NotFoundError for a claim that is mapped nowhere."""
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InvalidSpecError(
                f"{parts.netloc!r} is another machine", where=uri, mend="Write file:///path, with three slashes."
            )
        return Path(unquote(parts.path))
    inside = unquote(parts.path).strip("/")
    if not _CLAIM.fullmatch(parts.netloc) or ".." in inside.split("/"):
        raise InvalidSpecError("not a path in a claim", where=uri, mend="Write pvc://CLAIM/path.")
    if volumes is None:
        raise NotFoundError("no claims are mapped to folders", where=uri, mend="Give the path itself.")
    folder = volumes / parts.netloc
    if not folder.is_dir():
        raise NotFoundError(
            f"the claim {parts.netloc!r} is mapped to no folder",
            where=uri,
            mend=f"Make {folder} that folder, or a link to it.",
        )
    return folder / inside if inside else folder


def copy(source: Path, purse: Purse) -> tuple[FetchedFile, ...]:
    """Copy a file or all files of a folder. Links are followed: whoever names a path may name what it leads to.

    Raises NotFoundError, RefusedError where it may not be read, InvalidSpecError for pipes and devices, UnavailableError where a file
    changes meanwhile.
    """
    if not source.exists():
        raise NotFoundError("there is no such file or folder", where=purse.where, mend="Check the path.")
    try:
        if source.is_dir():
            found = sorted(_files_below(source, purse))
            purse.check_listing(path.stat().st_size for _, path in found if path.exists())
            return tuple(_copy_file(path, name, purse) for name, path in found)
        return (_copy_file(source, source.name, purse),)
    except PermissionError as error:
        raise RefusedError(
            f"{error.filename!r} may not be read", where=purse.where, mend="Let the user of the server read it."
        ) from error


def _files_below(folder: Path, purse: Purse) -> Iterator[tuple[str, Path]]:
    """The files with their names. A folder that links lead back to is walked once."""
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        purse.check_time()
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in names:
            path = Path(place, name)
            yield path.relative_to(folder).as_posix(), path


def _copy_file(path: Path, name: str, purse: Purse) -> FetchedFile:
    try:
        before = path.stat()
    except FileNotFoundError as error:
        raise NotFoundError(f"{name!r} leads to nothing", where=purse.where, mend="Put the file there.") from error
    if not stat.S_ISREG(before.st_mode):  # opening a pipe would wait for ever
        raise InvalidSpecError(f"{name!r} is no file", where=purse.where, mend="Keep pipes and devices elsewhere.")
    with path.open("rb") as stream:
        written = purse.write(name, iter(lambda: stream.read(PIECE), b""), expected=before.st_size)
        after = os.fstat(stream.fileno())
    if (before.st_mtime_ns, before.st_size, before.st_ino) != (after.st_mtime_ns, after.st_size, after.st_ino):
        raise UnavailableError(f"{name!r} changed while it was read", where=purse.where, mend="Fetch it again.")
    return written
