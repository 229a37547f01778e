"""What a call may name: a path and what answers it, without a word about how messages travel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from goldenloop.serving.grpc.inbox import Content

Headers: TypeAlias = Mapping[str, str]  # names in lower case


class Incoming(Protocol):
    """One message of a conversation, without its compression."""

    @property
    def content(self) -> Content:
        """The message."""
        ...

    def done(self) -> None:
        """Say that it is answered, so that the client may send more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call of one message. `prediction` is our id of it, where it is one; clients find it as a header."""

    content: bytes
    prediction: str = ""


Single: TypeAlias = Callable[[Content, Headers], Awaitable[Answer]]
Conversation: TypeAlias = Callable[[AsyncIterator[Incoming], Headers], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Method:
    """What answers the calls of one path: one message by one, or as many by as many. Exactly one of the two is there."""

    single: Single | None = None
    conversation: Conversation | None = None


Methods: TypeAlias = Mapping[str, Method]  # by path, `/package.Service/Method`
