"""The error tree. An error says what is wrong, where, and how to mend it; `goldenloop.api.errors` turns it into a status code.

GoldenloopError
├── InvalidSpecError   the caller's document or input is wrong; nothing was changed
├── NotFoundError      a named thing does not exist
├── ConflictError      the thing changed since it was read, or is taken; read again
├── RefusedError       the request is understood and a policy forbids it (an untrusted model, an owned object)
└── UnavailableError   a thing it needs is not answering, or is full; nothing was lost
"""

from __future__ import annotations


class GoldenloopError(Exception):
    """The root. `where` is a path into a document, a file or an address; `mend` is one sentence on what to do."""

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text.removesuffix('.')}. {self.mend}" if self.mend else text


class InvalidSpecError(GoldenloopError):
    """The caller's document or input is wrong; nothing was changed."""


class NotFoundError(GoldenloopError):
    """A named thing does not exist."""


class ConflictError(GoldenloopError):
    """The thing changed since it was read, or another holds it."""


class RefusedError(GoldenloopError):
    """A policy forbids what was asked; nothing was changed."""


class UnavailableError(GoldenloopError):
    """A thing that is needed is not answering, or has no room; nothing was lost."""
