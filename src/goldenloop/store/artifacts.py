"""Artifacts by content: what has the same bytes has the same address and is kept once.

An address is `artifact:SHA256` for a file and `artifact:SHA256/` for a folder, whose digest is that of its manifest (the sorted
list of relative paths and file digests). A thing is there whole or not at all: files are renamed into place, and a folder counts
once its manifest is written, which comes last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import fsspec
import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.ids import digest_bytes, digest_file

_SCHEME = "artifact:"
_MANIFEST = ".manifest.json"


class Artifacts:
    """A content-addressed store in any place that fsspec reaches.

    `cache` is a local folder for copies of what lies elsewhere; a local store needs none and hands out its own files, read-only.
    """

    def __init__(self, location: str, *, cache: Path) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(location)
        except (ImportError, ValueError) as error:
            raise InvalidSpecError(
                f"{location!r} cannot be used for artifacts: {error}",
                where="--artifacts",
                mend="Give a folder, or s3://BUCKET/PREFIX after pip install 'goldenloop[s3]'.",
            ) from error
        self._is_local = "file" in _protocols(self._files.protocol)
        self._cache = cache
        try:
            self._files.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"cannot write: {error}", where=location, mend="Check the path and its permissions."
            ) from error

    def put(self, path: Path) -> str:
        """Keep a file or a folder; return its address. Links inside a folder are refused."""
        return self._put_folder(path) if path.is_dir() else self._put_file(path)

    def put_bytes(self, content: bytes) -> str:
        """Keep these bytes; return their address."""
        digest = digest_bytes(content)
        if not self._files.exists(self._place(digest)):
            with tempfile.NamedTemporaryFile(dir=self._staging(), delete=False) as stream:
                stream.write(content)
            self._move_in(Path(stream.name), digest)
        return _SCHEME + digest

    def exists(self, address: str) -> bool:
        """Whether the thing is there, whole."""
        digest, is_folder = _parse(address)
        place = self._place(digest)
        return bool(self._files.exists(f"{place}.d/{_MANIFEST}" if is_folder else place))

    def local(self, address: str) -> Path:
        """Return a path on this machine with the content, to be read only. Raises NotFoundError."""
        digest, is_folder = _parse(address)
        if not self.exists(address):
            raise NotFoundError(f"the artifact {address} is gone", mend="Run the pipeline that made it again.")
        place = self._place(digest) + (".d" if is_folder else "")
        if self._is_local:
            return Path(place)
        target = self._cache / (digest + (".d" if is_folder else ""))
        if not target.exists():
            staging = Path(tempfile.mkdtemp(dir=self._staging()))
            self._files.get(place, str(staging / "content"), recursive=is_folder)
            os.replace(staging / "content", target)
            staging.rmdir()
        return target

    def read_bytes(self, address: str) -> bytes:
        """Return the content of a file. Raises NotFoundError."""
        return self.local(address).read_bytes()

    def _put_file(self, path: Path) -> str:
        digest = digest_file(path)
        if not self._files.exists(self._place(digest)):
            staged = self._staging() / f"{digest}.{os.getpid()}"
            shutil.copyfile(path, staged)
            self._move_in(staged, digest)
        return _SCHEME + digest

    def _put_folder(self, folder: Path) -> str:
        members: dict[str, str] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                raise InvalidSpecError(
                    "a link cannot be kept in an artifact", where=str(path), mend="Put the file itself there."
                )
            if path.is_file():
                members[path.relative_to(folder).as_posix()] = digest_file(path)
        manifest = msgspec.json.encode(members)
        digest = digest_bytes(manifest)
        target = f"{self._place(digest)}.d"
        if not self._files.exists(f"{target}/{_MANIFEST}"):
            for name in members:
                place = f"{target}/{name}"
                self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(folder / name), place)
            self._files.makedirs(target, exist_ok=True)
            self._files.pipe_file(f"{target}/{_MANIFEST}", manifest)
        return f"{_SCHEME}{digest}/"

    def _move_in(self, staged: Path, digest: str) -> None:
        place = self._place(digest)
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        if self._is_local:
            staged.chmod(0o444)
            with open(staged, "rb") as stream:
                os.fsync(stream.fileno())
            try:
                os.replace(staged, place)
            except OSError:  # the staging folder lies on another file system
                partial = f"{place}.partial.{os.getpid()}"
                shutil.move(staged, partial)
                os.replace(partial, place)
        else:
            self._files.put_file(str(staged), place)
            staged.unlink()

    def _place(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _staging(self) -> Path:
        folder = self._cache / "staging"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _protocols(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else protocol


def _parse(address: str) -> tuple[str, bool]:
    """Split an address into its digest and whether it is a folder's."""
    digest = address.removeprefix(_SCHEME).rstrip("/")
    if not address.startswith(_SCHEME) or len(digest) != 64:
        raise InvalidSpecError(f"{address!r} is not the address of an artifact", mend="It reads artifact:SHA256.")
    return digest, address.endswith("/")
