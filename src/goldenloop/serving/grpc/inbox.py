"""From the bytes of a stream to messages, within a budget of memory.

Each message has five bytes before it: whether it is compressed, and its length. So what it will need is known before it has come: a message
that is not there at once reserves its length, and only then may the client send more than the stream's first window. Reservations are
granted in their order and kept until the message is answered. Since whoever has one can go on, nobody waits for ever; who is slow is sent
away (`Inbox.due`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from goldenloop.serving.grpc.status import CallError, Status

LARGEST_MESSAGE: Final = 64 * 1024 * 1024
LARGEST_BUDGET: Final = 4 * LARGEST_MESSAGE  # bytes of messages in one worker that did not come at once
SMALL_BUDGET: Final = LARGEST_MESSAGE  # the same for small messages, so that they need not wait behind large ones
SMALL: Final = 64 * 1024
MOST_WAITING: Final = 1024  # messages that wait for a reservation; each has at most a stream's first window of bytes
PATIENCE_SECONDS: Final = 60.0  # for a message to come, and a second more for each
BYTES_PER_SECOND: Final = 1024 * 1024
_PREFIX: Final = 5

Content: TypeAlias = bytes | bytearray


class Message(NamedTuple):
    """A message as it came. `reservation` is released when it has been answered."""

    is_compressed: bool
    content: Content
    reservation: Reservation | None


class Reservation:
    """A part of a budget, granted now or later."""

    __slots__ = ("_budget", "_on_granted", "is_granted", "size")

    def __init__(self, budget: Budget, size: int, on_granted: Callable[[], None]) -> None:
        self.size = size
        self.is_granted = False
        self._budget: Budget | None = budget
        self._on_granted = on_granted

    def grant(self) -> None:
        """Called by the budget."""
        self.is_granted = True
        self._on_granted()

    def release(self) -> None:
        """Give the part back. May be called again, and does nothing then."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(self)


class Budget:
    """So many bytes, for those who ask in their order."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._waiting: deque[Reservation] = deque()

    def reserve(self, size: int, on_granted: Callable[[], None]) -> Reservation:
        """Ask for bytes; `on_granted` is called at once or when others have given back enough. Raises CallError where too many wait."""
        reservation = Reservation(self, size, on_granted)
        if not self._waiting and size <= self.left:
            self.left -= size
            reservation.grant()
        elif len(self._waiting) >= MOST_WAITING:
            raise CallError(
                Status.RESOURCE_EXHAUSTED, "too many messages are on their way", mend="Send it again later."
            )
        else:
            self._waiting.append(reservation)
        return reservation

    def give_back(self, reservation: Reservation) -> None:
        """Take back what was reserved, and grant what fits now."""
        if not reservation.is_granted:
            self._waiting.remove(reservation)
        else:
            self.left += reservation.size
        while self._waiting and self._waiting[0].size <= self.left:
            first = self._waiting.popleft()
            self.left -= first.size
            first.grant()


class Budgets:
    """The budgets of one worker."""

    def __init__(self) -> None:
        self.large = Budget(LARGEST_BUDGET)
        self.small = Budget(SMALL_BUDGET)

    def of(self, size: int) -> Budget:
        """The budget that a message of this size draws on."""
        return self.small if size <= SMALL else self.large


class Inbox:
    """The messages of one stream, as their bytes come. `allow` lets the client send so many bytes more on the stream."""

    __slots__ = ("_allow", "_budgets", "_bytes", "_reservation", "_wanted", "due")

    def __init__(self, budgets: Budgets, allow: Callable[[int], None]) -> None:
        self.due: float | None = (
            None  # when the message that is coming must be there, counted from `now` of the byte that began it
        )
        self._budgets = budgets
        self._allow = allow
        self._bytes = bytearray()
        self._wanted = 0  # bytes of the message that is coming with its prefix, or 0 before the prefix is there
        self._reservation: Reservation | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a message has come."""
        return not self._bytes

    def take(self, data: bytes | memoryview, now: float) -> list[Message]:
        """Take bytes; return the messages that are complete with them. Raises CallError."""
        if not self._bytes:
            whole = _whole(data)
            if whole is not None:
                return [whole]
        self._bytes += data
        messages: list[Message] = []
        while len(self._bytes) >= _PREFIX:
            if not self._wanted:
                self._begin(now)
            if len(self._bytes) < self._wanted:
                break
            messages.append(self._finish())
        if self._bytes and self.due is None:
            self.due = now + PATIENCE_SECONDS
        return messages

    def close(self) -> None:
        """Give back what is reserved."""
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None

    def _begin(self, now: float) -> None:
        size = _size(self._bytes)
        self._wanted = size + _PREFIX
        if len(self._bytes) < self._wanted:
            self.due = now + PATIENCE_SECONDS + size / BYTES_PER_SECOND
            self._reservation = self._budgets.of(size).reserve(size, self._granted)

    def _granted(self) -> None:
        self._allow(self._wanted - len(self._bytes))

    def _finish(self) -> Message:
        is_compressed = self._bytes[0] == 1
        if len(self._bytes) == self._wanted:
            content, self._bytes = self._bytes, bytearray()
            del content[:_PREFIX]
        else:
            content = self._bytes[_PREFIX : self._wanted]
            del self._bytes[: self._wanted]
        message = Message(is_compressed, content, self._reservation)
        self._wanted = 0
        self._reservation = None
        self.due = None
        return message


def _whole(data: bytes | memoryview) -> Message | None:
    """The message that these bytes are, no more and no less; nearly all requests."""
    size = len(data) - _PREFIX
    if size < 0 or data[0] > 1 or int.from_bytes(data[1:_PREFIX]) != size or size > LARGEST_MESSAGE:
        return None
    return Message(data[0] == 1, bytes(data[_PREFIX:]), None)


def _size(prefix: bytearray) -> int:
    """The length that a message's prefix says. Raises CallError."""
    if prefix[0] > 1:
        raise CallError(
            Status.INTERNAL, "a message is neither compressed nor not", mend="Put a 0 or a 1 and its length before it."
        )
    size = int.from_bytes(prefix[1:_PREFIX])
    if size > LARGEST_MESSAGE:
        raise CallError(
            Status.RESOURCE_EXHAUSTED,
            f"the message has {size} bytes",
            mend=f"Send at most {LARGEST_MESSAGE}; split the rows.",
        )
    return size
