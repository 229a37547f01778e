"""Unpacking archives that strangers made.

Only files come out: no devices, no owners, no permissions. A link inside the archive becomes a copy of the file it leads to; a link that
leads out of it is refused, as is a name that does, and a name that is there twice. What is unpacked counts against the purse as it
comes, whatever the archive says about sizes, and an archive that ends before its end is refused.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from goldenloop.core.errors import GoldenloopError, InvalidSpecError
from goldenloop.serving.storage.purse import PIECE, Purse, inner_path
from goldenloop.serving.storage.records import FetchedFile

_LARGEST_HEADER = 16 << 20  # bytes; names and attributes, not contents
_LONGEST_LINK = 1_024
_LINKS_IN_A_ROW = 8
_BLOCK = 512  # bytes; a tar is made of them and ends with empty ones
_ENDINGS = {
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
    ".zip": "zip",
}
_TYPES = {
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/x-tar": "tar",
    "application/x-gtar": "tar",
    "application/gzip": "tar.gz",
    "application/x-gzip": "tar.gz",
}
_READING = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


def kind_of(name: str, content_type: str = "") -> str | None:
    """Return the kind of archive by the file's name, or by the content type where the name has no ending at all.

    >>> kind_of("iris.tar.gz"), kind_of("model.skops", "application/zip"), kind_of("download", "application/zip")
    ('tar.gz', None, 'zip')
    """
    lower = name.lower()
    for ending, kind in sorted(_ENDINGS.items(), key=lambda entry: -len(entry[0])):
        if lower.endswith(ending):
            return kind
    return None if "." in posixpath.basename(name) else _TYPES.get(content_type.partition(";")[0].strip().lower())


def unpack(archive: Path, kind: str, purse: Purse) -> tuple[FetchedFile, ...]:
    """Unpack into the purse's folder. Raises InvalidSpecError for an archive that is broken or leads out."""
    try:
        return tuple(_unpack_zip(archive, purse) if kind == "zip" else _unpack_tar(archive, kind, purse))
    except GoldenloopError:
        raise
    except (NotImplementedError, RuntimeError) as error:  # what zipfile says of encryption and of unknown methods
        raise InvalidSpecError(
            f"the archive cannot be unpacked: {error}", where=purse.where, mend="Pack it anew without a password."
        ) from error
    except _READING as error:
        # A place before the beginning of the file is invalid too; any other error of the system is the disk's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InvalidSpecError(
            f"the archive is broken: {str(error) or type(error).__name__}",
            where=purse.where,
            mend="Pack it anew, and compare its checksum.",
        ) from error


def _unpack_zip(path: Path, purse: Purse) -> list[FetchedFile]:
    files, links = [], {}
    with zipfile.ZipFile(path) as archive:
        purse.check_listing(entry.file_size for entry in archive.infolist() if not entry.is_dir())
        for entry in archive.infolist():
            if entry.is_dir():
                inner_path(entry.filename.removesuffix("/"), where=purse.where)
                continue
            with archive.open(entry) as stream:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    links[entry.filename] = stream.read(_LONGEST_LINK).decode(errors="replace")
                else:
                    files.append(_write(entry.filename, stream, entry.file_size, purse))
    return files + _copy_links(files, links, purse)


def _unpack_tar(path: Path, kind: str, purse: Purse) -> list[FetchedFile]:
    files, links = [], {}
    with _opened(path, kind) as plain, tarfile.open(fileobj=cast(IO[bytes], _Bounded(plain)), mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
            purse.check_time()
            name = member.name.removeprefix("./")
            if member.isdir():
                if name not in ("", "."):
                    inner_path(name, where=purse.where)
            elif member.issym():
                links[name] = posixpath.join(posixpath.dirname(name), member.linkname)
            elif member.islnk():
                links[name] = member.linkname.removeprefix("./")
            elif member.isreg():
                stream = archive.extractfile(member)
                if stream is not None:
                    files.append(_write(name, stream, member.size, purse))
            else:
                raise InvalidSpecError(
                    f"{member.name[:200]!r} is a device or a pipe",
                    where=purse.where,
                    mend="Pack files and folders only.",
                )
        plain.seek(archive.offset)
        if plain.read(_BLOCK) != bytes(_BLOCK):
            raise _too_short(purse)
        while plain.read(PIECE):  # a compressed stream is checked at its very end
            purse.check_time()
    return files + _copy_links(files, links, purse)


def _write(name: str, stream: IO[bytes], size: int, purse: Purse) -> FetchedFile:
    written = purse.write(name, _pieces(stream))
    if written.size != size:
        raise _too_short(purse)
    return written


def _too_short(purse: Purse) -> InvalidSpecError:
    return InvalidSpecError(
        "the archive ends before its end", where=purse.where, mend="Pack it anew, and compare its checksum."
    )


def _copy_links(files: list[FetchedFile], links: dict[str, str], purse: Purse) -> list[FetchedFile]:
    """Put copies where links were."""
    unpacked = {file.path for file in files}
    copies = []
    for name in links:
        target = name
        for _ in range(_LINKS_IN_A_ROW):
            if target not in links:
                break
            target = posixpath.normpath(links[target])
        if target not in unpacked:
            raise InvalidSpecError(
                f"{name[:200]!r} is a link to {links[name][:200]!r}, which is no file of the archive",
                where=purse.where,
                mend="Pack the file itself in its place.",
            )
        with (purse.folder / target).open("rb") as stream:
            copies.append(purse.write(name, _pieces(stream)))
    return copies


def _opened(path: Path, kind: str) -> IO[bytes]:
    openers: dict[str, Callable[[Path], object]] = {
        "tar": lambda place: place.open("rb"),
        "tar.gz": gzip.open,
        "tar.bz2": bz2.open,
        "tar.xz": lzma.open,
    }
    return cast(IO[bytes], openers[kind](path))


class _Bounded:
    """A stream that never reads much at once: a header says itself how long it is."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        yield piece
