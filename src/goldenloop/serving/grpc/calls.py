"""The calls of one connection: from a stream's head to the status that ends it.

Every call ends with a status, and is then forgotten: when it is answered, when its deadline passes, when the client cancels it or goes
away, or when it does not send what it began. Work that nobody waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from goldenloop.core.errors import GoldenloopError
from goldenloop.serving.grpc.coding import ENCODINGS, SLOW, SMALLEST_PACKED, framed, packed, unpacked
from goldenloop.serving.grpc.connection import Connection
from goldenloop.serving.grpc.frames import Code
from goldenloop.serving.grpc.heads import Head
from goldenloop.serving.grpc.hpack import Field, encode
from goldenloop.serving.grpc.inbox import PATIENCE_SECONDS, Budgets, Content, Inbox, Message
from goldenloop.serving.grpc.methods import Answer, Method, Methods
from goldenloop.serving.grpc.status import CallError, Status, quoted, status_of
from goldenloop.serving.grpc.streams import STREAM_WINDOW, Stream

LARGEST_QUEUE: Final = 1024 * 1024  # bytes of a conversation's answers that wait for the client; then we wait for it
_LONGEST_SECONDS: Final = 10_000_000.0  # of a deadline that is kept
_OK_FIELDS: list[Field] = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ",".join(ENCODINGS).encode()),
]
_OK_HEAD = encode(_OK_FIELDS)
_OK_TRAILERS = encode([(b"grpc-status", b"0")])
_PREDICTION = b"\0\x0fx-prediction-id"  # a field of which the value is missing
_ENCODED = {name: encode([(b"grpc-encoding", name.encode())]) for name in ENCODINGS}
_NOT_GRPC = encode([(b":status", b"415"), (b"grpc-status", b"2")])


class Calls:
    """Takes the streams of one connection and answers them. What is wrong inside goes to the event loop's exception handler."""

    def __init__(self, methods: Methods, budgets: Budgets, owner: Owner) -> None:
        self.connection: Connection  # set by whoever made both
        self._methods = methods
        self._budgets = budgets
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    def opened(self, stream: Stream) -> None:
        """Take a stream: refuse it, or wait for its messages."""
        self._owner.begun()
        head = stream.head
        if not head.is_too_large and (head.method != b"POST" or not head.content_type.startswith("application/grpc")):
            self.connection.sender.finish(stream, _NOT_GRPC)
            return
        try:
            method = self._method(head)
            seconds = _seconds(head)
        except CallError as error:
            self._refuse(stream, error)
            return
        now = self._loop.time()
        call = Call(stream, method, Inbox(self._budgets, lambda size: self.connection.allow(stream, size)), now)
        stream.call = call
        if seconds is not None and seconds < _LONGEST_SECONDS:
            call.timer = self._loop.call_later(seconds, self._expire, call)
        if method.conversation is not None:
            call.incoming = Conversing(self.connection, call)
            call.task = self._loop.create_task(self._converse(call, call.incoming))

    def received(self, stream: Stream, data: bytes | memoryview) -> None:
        """Take data of a stream; a call of one message begins when all of it is there."""
        call = stream.call
        if not isinstance(call, Call) or call.is_over:
            return
        try:
            messages = call.inbox.take(data, self._loop.time())
            if stream.is_ended and not call.inbox.is_empty:
                raise CallError(Status.INTERNAL, "the call ended within a message", mend="Send messages whole.")
            if call.incoming is not None:
                call.incoming.put(messages, ended=stream.is_ended)
                return
            if len(messages) > (call.message is None):
                raise CallError(Status.UNIMPLEMENTED, "the call has several messages", mend="Send one.")
            if messages:
                call.message = messages[0]
            if stream.is_ended:
                if call.message is None:
                    raise CallError(Status.UNIMPLEMENTED, "the call has no message", mend="Send one.")
                call.task = self._loop.create_task(self._answer(call, call.message))
        except CallError as error:
            self._fail(call, error)

    def moved(self, stream: Stream) -> None:
        """Data of a stream went out."""
        if isinstance(stream.call, Call):
            stream.call.moved_at = self._loop.time()
            if stream.call.room is not None and (stream.outgoing is None or stream.outgoing.size <= LARGEST_QUEUE // 2):
                stream.call.room.set()

    def lost(self, stream: Stream) -> None:
        """Nobody waits for an answer any more."""
        if isinstance(stream.call, Call):
            stream.call.end()

    def closing(self) -> None:
        """The connection is over."""
        self._owner.close()

    def sweep(self, now: float) -> None:
        """End the calls of which what was begun did not come, or is not taken."""
        for stream in list(self.connection.streams.values()):
            call = stream.call
            if not isinstance(call, Call):
                continue
            if call.is_over:
                if now > call.moved_at + PATIENCE_SECONDS:  # the answer is not taken
                    self.connection.reset(stream, Code.CANCEL)
                continue
            due = call.inbox.due
            if due is None and call.task is None:
                due = call.opened_at + PATIENCE_SECONDS
            if due is not None and now > due:
                late = CallError(
                    Status.DEADLINE_EXCEEDED, "a message that was begun did not come", mend="Send it faster."
                )
                self._fail(call, late)

    def _method(self, head: Head) -> Method:
        if head.is_too_large:
            raise CallError(Status.RESOURCE_EXHAUSTED, "the headers are too large", mend="Send less metadata.")
        method = self._methods.get(head.path)
        if method is None:
            raise CallError(
                Status.UNIMPLEMENTED, f"nothing is served at {head.path[:200]}", mend="Ask by reflection what is."
            )
        if head.encoding not in ENCODINGS:
            raise CallError(
                Status.UNIMPLEMENTED,
                f"grpc-encoding is {head.encoding[:40]!r}",
                mend=f"Use one of {', '.join(ENCODINGS)}.",
            )
        return method

    async def _answer(self, call: Call, message: Message) -> None:
        """Answer a call of one message."""
        method = call.method.single
        assert method is not None
        try:
            answer = await method(await _plain(message, call.stream.head), call.stream.head.headers)
            content = await _written(answer.content, call.encoding)
        except GoldenloopError as error:
            self._fail(call, error)
        except asyncio.CancelledError:
            self._fail(call, CallError(Status.UNAVAILABLE, "the work was given up", mend="Send it again."))
            raise
        except Exception as error:
            self._report(call, error)
        else:
            if not call.is_over:
                # The call ends before the answer is sent, which ends the stream.
                call.end()
                call.moved_at = self._loop.time()
                self.connection.sender.answer(
                    call.stream, _head_of(answer, call.encoding, content), content, _OK_TRAILERS
                )

    async def _converse(self, call: Call, incoming: Conversing) -> None:
        """Answer a call of many messages."""
        method = call.method.conversation
        assert method is not None
        stream, sender = call.stream, self.connection.sender
        call.room = asyncio.Event()
        try:
            async with contextlib.aclosing(method(incoming, stream.head.headers)) as answers:
                async for content in answers:
                    written = await _written(content, call.encoding)
                    if not call.has_head:
                        call.has_head = True
                        sender.head(stream, _head_of(Answer(b""), call.encoding, b"\1"))
                    sender.data(stream, written)
                    while stream.outgoing is not None and stream.outgoing.size > LARGEST_QUEUE:
                        call.room.clear()
                        await call.room.wait()
        except GoldenloopError as error:
            self._fail(call, error)
        except asyncio.CancelledError:
            self._fail(call, CallError(Status.UNAVAILABLE, "the work was given up", mend="Send it again."))
            raise
        except Exception as error:
            self._report(call, error)
        else:
            if not call.is_over:
                call.end()
                call.moved_at = self._loop.time()
                sender.finish(stream, _OK_TRAILERS if call.has_head else _OK_HEAD + _OK_TRAILERS)

    def _expire(self, call: Call) -> None:
        self._fail(call, CallError(Status.DEADLINE_EXCEEDED, "the call's deadline has passed", mend="Wait longer."))

    def _report(self, call: Call, error: Exception) -> None:
        """A bug of ours: the client is told, and so is the log."""
        self._loop.call_exception_handler({"message": f"the call {call.stream.head.path} failed", "exception": error})
        self._fail(call, CallError(Status.INTERNAL, f"internal error: {type(error).__name__}: {error}"))

    def _fail(self, call: Call, error: GoldenloopError) -> None:
        """End a call with an error, unless it is over."""
        if not call.is_over:
            call.end()
            call.moved_at = self._loop.time()
            self.connection.sender.finish(call.stream, _failure(error, has_head=call.has_head))

    def _refuse(self, stream: Stream, error: GoldenloopError) -> None:
        self.connection.sender.finish(stream, _failure(error, has_head=False))


class Owner(Protocol):
    """What keeps a connection's socket."""

    def begun(self) -> None:
        """A call begins."""

    def close(self) -> None:
        """Close the socket when what was written is out."""


class Call:
    """One call. `message` and `task` of a call of one message come when it has; a conversation has both from its beginning."""

    __slots__ = (
        "encoding", "has_head", "inbox", "incoming", "is_over", "message", "method", "moved_at", "opened_at", "room", "stream",
        "task", "timer",
    )  # fmt: skip

    def __init__(self, stream: Stream, method: Method, inbox: Inbox, now: float) -> None:
        self.stream = stream
        self.method = method
        self.inbox = inbox
        self.opened_at = now
        self.moved_at = now
        self.is_over = False
        self.has_head = False
        self.message: Message | None = None
        self.incoming: Conversing | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.room: asyncio.Event | None = None
        # An answer is compressed as the question says it would be, where the client takes that.
        encoding = stream.head.encoding
        self.encoding = encoding if encoding in stream.head.accepted else "identity"

    def end(self) -> None:
        """Give back all that the call holds, and let go of what holds it; work that goes on for it is cancelled."""
        if self.is_over:
            return
        self.is_over = True
        if self.timer is not None:
            self.timer.cancel()
        task, self.task = self.task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        self.inbox.close()
        if self.message is not None and self.message.reservation is not None:
            self.message.reservation.release()
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            incoming.close()


class _Received:
    """A message of a conversation."""

    __slots__ = ("_conversing", "_message", "content")

    def __init__(self, conversing: Conversing, message: Message, content: Content) -> None:
        self.content = content
        self._conversing = conversing
        self._message = message

    def done(self) -> None:
        """Let the client send more."""
        self._conversing.done(self._message)


class Conversing:
    """The messages of a conversation, in their order. How many may wait is bounded by the stream's window."""

    def __init__(self, connection: Connection, call: Call) -> None:
        self._connection = connection
        self._call = call
        self._waiting: deque[Message] = deque()
        self._taken: dict[int, Message] = {}
        self._has_ended = False
        self._news = asyncio.Event()

    def put(self, messages: list[Message], *, ended: bool) -> None:
        """Take messages that have come."""
        self._waiting.extend(messages)
        self._has_ended = ended
        self._news.set()

    def __aiter__(self) -> AsyncIterator[_Received]:
        return self

    async def __anext__(self) -> _Received:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        message = self._waiting.popleft()
        self._taken[id(message)] = message
        return _Received(self, message, await _plain(message, self._call.stream.head))

    def done(self, message: Message) -> None:
        """A message is answered."""
        self._taken.pop(id(message), None)
        if message.reservation is not None:
            message.reservation.release()
        stream = self._call.stream
        if stream.window < STREAM_WINDOW // 2 and not self._call.is_over:
            self._connection.allow(stream, STREAM_WINDOW)

    def close(self) -> None:
        """Give back what the messages hold."""
        for message in (*self._waiting, *self._taken.values()):
            if message.reservation is not None:
                message.reservation.release()
        self._waiting.clear()
        self._taken.clear()


def _seconds(head: Head) -> float | None:
    try:
        return head.timeout_seconds()
    except ValueError as error:
        raise CallError(
            Status.INVALID_ARGUMENT,
            f"grpc-timeout is {head.timeout!r}",
            mend="Send up to 8 digits and one of H, M, S, m, u, n.",
        ) from error


async def _plain(message: Message, head: Head) -> Content:
    if not message.is_compressed:
        return message.content
    if len(message.content) < SLOW:
        return unpacked(message.content, head.encoding)
    return await asyncio.to_thread(unpacked, message.content, head.encoding)


async def _written(content: bytes, encoding: str) -> bytes:
    if encoding == "identity" or len(content) < SMALLEST_PACKED:
        return framed(content)
    if len(content) < SLOW:
        return packed(content, encoding)
    return await asyncio.to_thread(packed, content, encoding)


def _head_of(answer: Answer, encoding: str, written: bytes) -> bytes:
    block = _OK_HEAD
    if encoding != "identity" and written[0]:
        block += _ENCODED[encoding]
    if answer.prediction:
        block += _PREDICTION + bytes((len(answer.prediction),)) + answer.prediction.encode()
    return block


def _failure(error: GoldenloopError, *, has_head: bool) -> bytes:
    """The header block that ends a failed call."""
    fields = [(b"grpc-status", b"%d" % status_of(error)), (b"grpc-message", quoted(str(error)))]
    return encode(fields if has_head else [*_OK_FIELDS, *fields])
