"""A tree of files by name, for clients that put, list and take files of their own.

A file is there whole or not at all: what comes in is written aside, synced, and renamed into place; in an object store it appears
with its last byte. A name that is put again is replaced. Names are relative paths; none leads out of the tree.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from fsspec import AbstractFileSystem

from goldenloop.core.errors import ConflictError, GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.store.disk import sync_folder

LARGEST_FILE: Final = 64 << 30  # bytes
LONGEST_PATH: Final = 1_024  # bytes
_LONGEST_NAME: Final = 255  # bytes
_STAGING: Final = ".staging"
_PIECE: Final = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """A file or a folder in a folder."""

    name: str
    size: int | None  # None for a folder


class Tree:
    """The files below `root`. `staging` is a local folder, on the disk of the tree where that is local, for what is coming in."""

    def __init__(self, files: AbstractFileSystem, root: str, *, is_local: bool, staging: Path) -> None:
        self._files = files
        self._root = root
        self._is_local = is_local
        self._staging = staging

    def sweep(self) -> None:
        """Remove what a process that was killed left half written. Nothing may be coming in now."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def begin(self, path: str) -> Incoming:
        """Begin to write a file. Raises InvalidSpecError for a path that is none, UnavailableError."""
        place = self._place(path)
        with self.reaching():
            self._staging.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._staging)
        return Incoming(self, os.fdopen(descriptor, "wb"), Path(name), place=place, path=path)

    def listing(self, path: str) -> list[Entry]:
        """What is in a folder, by name; nothing where there is no such folder. Raises InvalidSpecError, UnavailableError."""
        place = self._place(path) if path else self._root
        with self.reaching():
            if not self._files.isdir(place):
                return []
            found = self._files.ls(place, detail=True, refresh=True)
        entries = []
        for each in found:
            name = str(each["name"]).rstrip("/").rpartition("/")[2]
            if name != _STAGING and (path or name) and str(each["name"]).rstrip("/") != place:
                entries.append(Entry(name, None if each["type"] == "directory" else int(each["size"])))
        return sorted(entries, key=lambda entry: entry.name)

    def size(self, path: str) -> int | None:
        """Bytes of a file, None where there is none. Raises InvalidSpecError, UnavailableError."""
        place = self._place(path)
        with self.reaching():
            return int(self._files.size(place)) if self._files.isfile(place) else None

    def local(self, path: str) -> Path | None:
        """Where the file lies on this machine; None where the tree does not."""
        return Path(self._place(path)) if self._is_local else None

    def address(self, path: str) -> str:
        """What others call a file or a folder of the tree: a path of this machine, or the URL of an object. Raises InvalidSpecError."""
        place = self._place(path)
        return place if self._is_local else str(self._files.unstrip_protocol(place))

    def pieces(self, path: str) -> Iterator[bytes]:
        """The content of a file, in pieces. Raises NotFoundError, UnavailableError."""
        if self.size(path) is None:
            raise NotFoundError(f"there is no file {path[:200]!r}", mend="List the files that are there.")
        with self.reaching(), self._files.open(self._place(path), "rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with all in it. Raises NotFoundError, InvalidSpecError, UnavailableError."""
        place = self._place(path)
        with self.reaching():
            if not self._files.exists(place):
                raise NotFoundError(f"there is no file or folder {path[:200]!r}", mend="List the files that are there.")
            self._files.rm(place, recursive=True)

    def _place(self, path: str) -> str:
        return f"{self._root}/{check_path(path)}"

    def move_in(self, staged: Path, place: str, path: str) -> None:
        """Put what was written aside into its place. Raises ConflictError, UnavailableError."""
        with self.reaching():
            if not self._is_local:
                self._files.put_file(str(staged), place)
                return
            try:
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged, place)
            except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
                raise ConflictError(
                    "a file is in the place of a folder, or a folder in that of a file",
                    where=path,
                    mend="Choose another path.",
                ) from error
            sync_folder(Path(place).parent)

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """Turns what a disk or an object store's client raises into UnavailableError."""
        try:
            yield
        except GoldenloopError:
            raise
        except Exception as error:  # every object store's client has errors of its own
            raise UnavailableError(
                f"files cannot be read or written: {error}",
                mend="Check the store's address, its permissions and its room.",
            ) from error


class Incoming:
    """A file that is coming in. `finish` puts it into its place; what was not finished leaves nothing behind."""

    def __init__(self, tree: Tree, stream: BinaryIO, staged: Path, *, place: str, path: str) -> None:
        self._tree = tree
        self._stream = stream
        self._staged = staged
        self._place = place
        self._path = path
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Add bytes. Raises InvalidSpecError past the largest size, UnavailableError for a full disk."""
        self.size += len(piece)
        if self.size > LARGEST_FILE:
            raise InvalidSpecError(f"it is larger than {LARGEST_FILE >> 30} GiB", where=self._path, mend="Split it.")
        with self._tree.reaching():
            self._stream.write(piece)

    def finish(self) -> None:
        """Let it appear under its name. Raises ConflictError where that is taken by a folder, UnavailableError."""
        with self._tree.reaching():
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        self._tree.move_in(self._staged, self._place, self._path)

    def close(self) -> None:
        """Let go of it; unless it was finished, nothing of it stays."""
        self._stream.close()
        self._staged.unlink(missing_ok=True)


def check_path(path: str) -> str:
    """The path, if it stays inside. Raises InvalidSpecError."""
    parts = path.split("/")
    if (
        not path
        or len(path.encode(errors="replace")) > LONGEST_PATH
        or any(part in ("", ".", "..") or len(part.encode(errors="replace")) > _LONGEST_NAME for part in parts)
        or any(sign in path for sign in "\0\\")
        or parts[0] == _STAGING
    ):
        raise InvalidSpecError(
            f"{path[:200]!r} is no path of a file here", where="path", mend="Give names joined by '/', without '..'."
        )
    return path
