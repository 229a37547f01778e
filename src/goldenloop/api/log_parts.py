"""Reading a step's logs piece by piece, while they grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text, the position after it, and whether there was no more at that moment."""

    text: str
    next: int
    is_last: bool


def read_part(paths: list[Path], *, after: int, limit: int, whole: bool) -> Part:
    """Return what lies after a position (in bytes) in files that follow each other, at most `limit` bytes of it.

    A character that is not there whole yet waits for the next part, unless the text is `whole`: nothing will be added.
    """
    content = b""
    skipped = after
    for path in paths:
        try:
            size = path.stat().st_size
            if skipped >= size:
                skipped -= size
                continue
            with open(path, "rb") as file:
                file.seek(skipped)
                content += file.read(limit + 1 - len(content))
        except FileNotFoundError:
            continue
        skipped = 0
        if len(content) > limit:
            break
    is_last = len(content) <= limit
    content = content[:limit]
    if not (whole and is_last):
        content = content[: len(content) - _begun_bytes(content)]
    return Part(text=content.decode(errors="replace"), next=after + len(content), is_last=is_last)


def _begun_bytes(content: bytes) -> int:
    """How many bytes at the end are the beginning of a character in UTF-8 whose rest is not there."""
    for back in range(1, min(4, len(content)) + 1):
        byte = content[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue
        wanted = 4 if byte >= 0b1111_0000 else 3 if byte >= 0b1110_0000 else 2 if byte >= 0b1100_0000 else 1
        return back if wanted > back else 0
    return 0
