"""The purse of one fetch: every byte goes to disk through it, is counted against the limits, hashed and synced."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.serving.storage.records import FetchedFile, Limits

PIECE = 1 << 20
_LONGEST_NAME = 255  # bytes of one part of a path
_LONGEST_PATH = 1_024  # bytes
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Purse:
    """What is left of the limits, and the folder that is filled. `where` names the source in errors."""

    def __init__(self, folder: Path, limits: Limits, *, where: str) -> None:
        self.folder = folder
        self.limits = limits
        self.where = where
        self._bytes = limits.bytes
        self._files = limits.files
        self._until = time.monotonic() + limits.seconds

    def write(
        self, name: str, pieces: Iterable[bytes], *, etag: str = "", expected: int | None = None, aside: bool = False
    ) -> FetchedFile:
        """Write a new file and sync it. `aside` is for what is not to stay; `expected` is the size that the source named.

        Raises InvalidSpecError for a name that leads out of the folder or is there already, and past a limit; UnavailableError where
        the disk is full, the time is over, or the size is another. Then nothing of the file is left, nor counted.
        """
        path = self.folder / (name if aside else inner_path(name, where=self.where))
        self._take_file()
        hasher, size = hashlib.sha256(), 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                for piece in pieces:
                    size += len(piece)
                    self._take(len(piece))
                    hasher.update(piece)
                    stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
            if expected is not None and size != expected:
                raise UnavailableError(
                    f"{name!r} ended after {size} of {expected} bytes",
                    where=self.where,
                    mend="Nothing of it was kept; fetch it again.",
                )
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise InvalidSpecError(
                f"the name {name!r} is there twice", where=self.where, mend="Each file needs a name of its own."
            ) from error
        except OSError as error:
            self._give_back(path, size)
            if error.errno not in _NO_ROOM:
                raise
            raise UnavailableError(
                f"there is no room for {name!r}: {error.strerror}", where=self.where, mend="Make room on the disk."
            ) from error
        except BaseException:
            self._give_back(path, size)
            raise
        return FetchedFile(path=name, sha256=hasher.hexdigest(), size=size, etag=etag)

    def rename(self, file: FetchedFile, name: str) -> FetchedFile:
        """Give a file that was written aside its name. Raises InvalidSpecError for a name that leads out of the folder."""
        (self.folder / file.path).rename(self.folder / inner_path(name, where=self.where))
        return msgspec.structs.replace(file, path=name)

    def check_time(self) -> None:
        """Raise UnavailableError where the time is over."""
        if time.monotonic() > self._until:
            raise UnavailableError(
                f"it took longer than {self.limits.seconds:g} s",
                where=self.where,
                mend="Use a smaller model or a nearer storage.",
            )

    def check_listing(self, sizes: Iterable[int]) -> None:
        """Raise InvalidSpecError where files of these sizes would be more than is left."""
        listed = list(sizes)
        if len(listed) > self._files:
            raise self._too_many()
        if sum(listed) > self._bytes:
            raise self._too_large()

    def _take_file(self) -> None:
        if self._files == 0:
            raise self._too_many()
        self._files -= 1

    def _take(self, count: int) -> None:
        self._bytes -= count
        if self._bytes < 0:
            raise self._too_large()
        self.check_time()

    def _give_back(self, path: Path, size: int) -> None:
        path.unlink(missing_ok=True)
        self._bytes += size
        self._files += 1

    def _too_large(self) -> InvalidSpecError:
        return InvalidSpecError(
            f"it is larger than {self.limits.bytes} bytes", where=self.where, mend="Point at the model's own files."
        )

    def _too_many(self) -> InvalidSpecError:
        return InvalidSpecError(
            f"it has more than {self.limits.files} files", where=self.where, mend="Point at the model's own files."
        )


def inner_path(name: str, *, where: str) -> PurePosixPath:
    """Return the path, which stays inside whatever folder it is put in. Raises InvalidSpecError where it would not.

    >>> inner_path("models/model.onnx", where="")
    PurePosixPath('models/model.onnx')
    """
    parts = name.split("/")
    wrong = (
        any(part in ("", ".", "..") for part in parts)
        or any(ord(letter) < 32 or letter in "\\\x7f" or 0xD800 <= ord(letter) <= 0xDFFF for letter in name)
        or any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in parts)
        or len(name.encode(errors="replace")) > _LONGEST_PATH
    )
    if wrong:
        raise InvalidSpecError(
            f"{name[:200]!r} is not the name of a file inside a folder",
            where=where,
            mend="Names are relative, without '..', empty parts and control characters.",
        )
    return PurePosixPath(name)
