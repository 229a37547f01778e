"""What a call of ML Metadata's service is: which messages it takes and gives, whether it writes, and what answers it.

An answerer has the request and a transaction, and returns the response. It raises errors of the tree; `status` turns them into the statuses
that ML Metadata's clients know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from goldenloop.core.errors import ConflictError, GoldenloopError, InvalidSpecError
from goldenloop.lineage.graph.records import ChangedError, ExistsError, Kind, UnsupportedError
from goldenloop.serving.grpc.status import CallError, Status, status_of
from goldenloop.standards.mlmd.messages import Message
from goldenloop.store.database import Transaction

# An answerer's request and response are messages of its call; the fields of each are in `standards.mlmd.requests`.
Request = Any
Response = Any
Answerer = Callable[["Asked"], None]

PLURALS: Final = {Kind.ARTIFACT: "Artifacts", Kind.EXECUTION: "Executions", Kind.CONTEXT: "Contexts"}
_STATUSES: Final[tuple[tuple[type[GoldenloopError], Status], ...]] = (
    (ExistsError, Status.ALREADY_EXISTS),
    (ChangedError, Status.FAILED_PRECONDITION),
    (UnsupportedError, Status.UNIMPLEMENTED),
    # Clients send what was aborted again and again; what conflicts here would conflict then too.
    (ConflictError, Status.FAILED_PRECONDITION),
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A call under way."""

    request: Request
    response: Response
    transaction: Transaction
    now_us: int


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the service."""

    name: str
    answer: Answerer
    writes: bool = False


def name_of(kind: Kind) -> str:
    """The kind as the service's names have it.

    >>> name_of(Kind.ARTIFACT)
    'Artifact'
    """
    return kind.name.capitalize()


def field_of(kind: Kind) -> str:
    """The field that has many of a kind: `artifacts`."""
    return f"{kind.word}s"


def failed(error: GoldenloopError) -> CallError:
    """An error as the service answers it."""
    if isinstance(error, CallError):
        return error
    status = next((status for of, status in _STATUSES if isinstance(error, of)), status_of(error))
    return CallError(status, error.what, where=error.where, mend=error.mend)


def given(message: Message, field: str, value: str) -> str | None:
    """A text that was set, None where it was not or is empty."""
    return value if message.HasField(field) and value else None


def required(value: str, *, where: str) -> str:
    """A text that must be there. Raises InvalidSpecError."""
    if not value:
        raise InvalidSpecError("it is empty", where=where, mend="Leave empty ones out.")
    return value
