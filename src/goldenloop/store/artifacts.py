"""Artifacts by content: what has the same bytes has the same address and is kept once.

An address is `artifact:SHA256` for a file and `artifact:SHA256/` for a folder, whose digest is that of its manifest (the sorted
list of relative paths and file digests). A thing is there whole or not at all: on a local disk it is renamed into place, read-only and
synced; in an object store a file appears with its last byte, and a folder counts once its manifest is written, which comes last.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.ids import digest_bytes, digest_file
from goldenloop.store.files import Tree

_SCHEME = "artifact:"
_ADDRESS = re.compile(r"artifact:([0-9a-f]{64})(/?)")
_MANIFEST = ".manifest.json"


class Artifacts:
    """A content-addressed store in any place that fsspec reaches.

    `cache` is a local folder for copies of what lies elsewhere; a local store needs none and hands out its own files, read-only.
    """

    def __init__(self, location: str, *, cache: Path) -> None:
        try:
            # A cached listing would not show what another process put there.
            self._files, self._root = fsspec.core.url_to_fs(location, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InvalidSpecError(
                f"{location!r} cannot be used for artifacts: {error}",
                where="--artifacts",
                mend="Give a folder, or s3://BUCKET/PREFIX after pip install 'goldenloop[s3]'.",
            ) from error
        self._is_local = "file" in _protocols(self._files.protocol)
        self._cache = cache
        self._location = location
        with self._reaching():
            self._files.makedirs(self._root, exist_ok=True)

    def put(self, path: Path) -> str:
        """Keep a file or a folder; return its address.

        Raises NotFoundError where there is nothing at the path, InvalidSpecError for links inside a folder, UnavailableError where
        the store does not answer or has no room.
        """
        if not path.exists():
            raise NotFoundError("there is no file or folder to keep", where=str(path))
        return self._put_folder(path) if path.is_dir() else self._put_file(path)

    def put_bytes(self, content: bytes) -> str:
        """Keep these bytes; return their address. Raises UnavailableError."""
        digest = digest_bytes(content)
        with self._reaching():
            if not self._files.exists(self._place(digest)):
                with self._staging() as staging:
                    (staging / "content").write_bytes(content)
                    self._move_in(staging / "content", self._place(digest))
        return _SCHEME + digest

    def exists(self, address: str) -> bool:
        """Whether the thing is there, whole. Raises UnavailableError."""
        digest, is_folder = _parse(address)
        place = self._place(digest)
        with self._reaching():
            return bool(self._files.exists(f"{place}.d/{_MANIFEST}" if is_folder else place))

    def local(self, address: str) -> Path:
        """Return a path on this machine with the content, to be read only. Raises NotFoundError, UnavailableError."""
        digest, is_folder = _parse(address)
        if not self.exists(address):
            raise NotFoundError(f"the artifact {address} is gone", mend="Run the pipeline that made it again.")
        place = self._place(digest) + (".d" if is_folder else "")
        if self._is_local:
            return Path(place)
        target = self._cache / (digest + (".d" if is_folder else ""))
        if not target.exists():
            with self._reaching(), self._staging() as staging:
                copy = staging / "content"
                self._files.get(place, str(copy), recursive=is_folder)
                _seal(copy)
                _rename(copy, target)
        return target

    def read_bytes(self, address: str) -> bytes:
        """Return the content of a file. Raises NotFoundError."""
        return self.local(address).read_bytes()

    def damaged(self, address: str) -> str:
        """The name of a file whose content is not what it was when it was kept; "" where all of it is whole. Cost: one pass over it.

        Raises NotFoundError, UnavailableError.
        """
        digest, is_folder = _parse(address)
        path = self.local(address)
        with self._reaching():
            if not is_folder:
                return path.name if digest_file(path) != digest else ""
            manifest = (path / _MANIFEST).read_bytes()
            if digest_bytes(manifest) != digest:
                return _MANIFEST
            for name, expected in msgspec.json.decode(manifest, type=dict[str, str]).items():
                if not (path / name).is_file() or digest_file(path / name) != expected:
                    return name
            return ""

    def tree(self, name: str) -> Tree:
        """A tree of files by name, kept beside what is kept by content. The name has no two letters, as the folders of that do."""
        root = f"{self._root}/{name}"
        staging = Path(root) / ".staging" if self._is_local else self._cache / f"staging-{name}"
        return Tree(self._files, root, is_local=self._is_local, staging=staging)

    def _put_file(self, path: Path) -> str:
        digest = digest_file(path)
        with self._reaching():
            if not self._files.exists(self._place(digest)):
                with self._staging() as staging:
                    shutil.copyfile(path, staging / "content")
                    self._move_in(staging / "content", self._place(digest))
        return _SCHEME + digest

    def _put_folder(self, folder: Path) -> str:
        members: dict[str, str] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                raise InvalidSpecError(
                    "a link cannot be kept in an artifact", where=str(path), mend="Put the file itself there."
                )
            if path == folder / _MANIFEST:
                raise InvalidSpecError(f"the name {_MANIFEST} is taken", where=str(path), mend="Give it another name.")
            if path.is_file():
                members[path.relative_to(folder).as_posix()] = digest_file(path)
        manifest = msgspec.json.encode(members)
        digest = digest_bytes(manifest)
        target = f"{self._place(digest)}.d"
        with self._reaching():
            if not self._files.exists(f"{target}/{_MANIFEST}"):
                with self._staging() as staging:
                    for name in members:
                        (staging / "content" / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(folder / name, staging / "content" / name)
                    (staging / "content").mkdir(exist_ok=True)
                    (staging / "content" / _MANIFEST).write_bytes(manifest)
                    self._move_in(staging / "content", target)
        return f"{_SCHEME}{digest}/"

    def _move_in(self, staged: Path, place: str) -> None:
        if self._is_local:
            _seal(staged)
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            _rename(staged, Path(place))
            return
        if staged.is_file():
            self._files.put_file(str(staged), place)
            return
        for path in staged.rglob("*"):
            if path.is_file() and path != staged / _MANIFEST:
                self._files.put_file(str(path), f"{place}/{path.relative_to(staged).as_posix()}")
        self._files.put_file(str(staged / _MANIFEST), f"{place}/{_MANIFEST}")

    def _place(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder of one writer, on the disk from which its content is renamed into place. What is left in it goes."""
        home = (Path(self._root) if self._is_local else self._cache) / "staging"
        home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=home))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turns what a disk or an object store's client raises into UnavailableError."""
        try:
            yield
        except GoldenloopError:
            raise
        except Exception as error:  # every object store's client has errors of its own
            raise UnavailableError(
                f"artifacts cannot be read or written: {error}",
                where=self._location,
                mend="Check the address, its permissions and the room that is left.",
            ) from error


def _seal(path: Path) -> None:
    """Make the files read-only, and see to it that they outlive a power cut."""
    for file in (path,) if path.is_file() else path.rglob("*"):
        if file.is_file():
            file.chmod(0o444)
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())


def _rename(staged: Path, place: Path) -> None:
    """Rename into place; where another writer was first, its content is the same, and ours goes."""
    if staged.is_dir() and place.is_dir() and not (place / _MANIFEST).exists():
        shutil.rmtree(place)  # what a crash left of a folder that was written in place
    try:
        os.replace(staged, place)
    except OSError:
        if not (place / _MANIFEST).exists():
            raise


def _protocols(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else protocol


def _parse(address: str) -> tuple[str, bool]:
    """Split an address into its digest and whether it is a folder's."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InvalidSpecError(f"{address!r} is not the address of an artifact", mend="It reads artifact:SHA256.")
    return found[1], bool(found[2])
