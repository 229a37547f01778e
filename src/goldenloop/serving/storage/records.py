"""What a fetch may use, and what it brought."""

from __future__ import annotations

import msgspec

GIBIBYTE = 1 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one fetch. An archive's own bytes and those it unpacks to both count."""

    bytes: int = 32 * GIBIBYTE
    files: int = 10_000
    seconds: float = 1_500.0  # in all
    silence_seconds: float = 30.0  # without a single byte from the other side


class FetchedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, by its path in the folder; `etag` is what the source calls this state of it, if it says."""

    path: str
    sha256: str
    size: int
    etag: str = ""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched: the address without its secrets, the files, and what they came in if that was an archive.

    `version` is what the source calls this state of the whole, such as a commit; empty where it says nothing.
    """

    uri: str
    files: tuple[FetchedFile, ...]
    archive: FetchedFile | None = None
    version: str = ""

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)
