"""From bytes to messages: prefixes, budgets, compression, the table of statuses."""

from __future__ import annotations

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import (
    ConflictError,
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from goldenloop.serving.grpc import inbox
from goldenloop.serving.grpc.coding import framed, packed, unpacked
from goldenloop.serving.grpc.inbox import LARGEST_MESSAGE, Budget, Budgets, Inbox, Message
from goldenloop.serving.grpc.status import CallError, Status, quoted, status_of
from goldenloop.serving.predictors import PredictorTimeoutError
from goldenloop.serving.queues import TimedOutError, TooManyError


def made(budgets: Budgets | None = None) -> tuple[Inbox, list[int]]:
    allowed: list[int] = []
    return Inbox(budgets or Budgets(), allowed.append), allowed


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(0, 2000), max_size=10))
def test_messages_come_out_however_their_bytes_are_cut(contents: list[bytes], cuts: list[int]) -> None:
    budgets = Budgets()
    box, _ = made(budgets)
    whole = b"".join(framed(content) for content in contents)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    found: list[Message] = []
    for begin, end in itertools.pairwise(places):
        found += box.take(memoryview(whole)[begin:end], 0.0)
    assert [bytes(message.content) for message in found] == contents
    assert box.is_empty
    assert box.due is None
    for message in found:
        if message.reservation is not None:
            message.reservation.release()
    assert budgets.small.left == inbox.SMALL_BUDGET


def prefix(size: int, flag: int = 0) -> bytes:
    return bytes((flag,)) + size.to_bytes(4)


def test_a_large_message_is_let_in_by_its_length() -> None:
    box, allowed = made()
    assert box.take(prefix(10_000_000) + b"x" * 100, 0.0) == []
    assert allowed == [10_000_000 - 100]


def test_who_asks_beyond_the_budget_waits_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LARGEST_BUDGET", 250_000)
    budgets = Budgets()
    boxes = [made(budgets) for _ in range(4)]
    for box, _ in boxes:
        box.take(prefix(100_000) + b"x", 0.0)
    assert [len(allowed) for _, allowed in boxes] == [1, 1, 0, 0]
    (message,) = boxes[0][0].take(b"x" * 99_999, 0.0)
    assert [len(allowed) for _, allowed in boxes] == [1, 1, 0, 0]  # it is held until it is answered
    assert message.reservation is not None
    message.reservation.release()
    message.reservation.release()
    assert [len(allowed) for _, allowed in boxes] == [1, 1, 1, 0]
    boxes[3][0].close()  # gives up waiting
    boxes[1][0].close()
    boxes[2][0].close()
    assert budgets.large.left == 250_000


def test_small_messages_do_not_wait_behind_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LARGEST_BUDGET", 100_000)
    budgets = Budgets()
    for _ in range(2):
        made(budgets)[0].take(prefix(100_000) + b"x", 0.0)
    box, allowed = made(budgets)
    box.take(prefix(1000) + b"x", 0.0)
    assert allowed == [999]


def test_too_many_that_wait_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MOST_WAITING", 2)
    budget = Budget(10)
    budget.reserve(10, lambda: None)
    budget.reserve(10, lambda: None)
    budget.reserve(10, lambda: None)
    with pytest.raises(CallError) as caught:
        budget.reserve(10, lambda: None)
    assert caught.value.status == Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("sent", "status"), [(prefix(LARGEST_MESSAGE + 1), 8), (prefix(2**32 - 1), 8), (prefix(3, flag=2), 13)]
)
def test_what_no_message_may_be(sent: bytes, status: int) -> None:
    with pytest.raises(CallError) as caught:
        made()[0].take(sent, 0.0)
    assert caught.value.status == status


def test_a_message_has_its_time() -> None:
    box, _ = made()
    box.take(b"\0", 100.0)
    assert box.due == 160.0
    box.take(prefix(2 * 1024 * 1024)[1:] + b"x", 110.0)
    assert box.due == 172.0


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@given(content=st.binary(max_size=2000))
def test_compression_goes_both_ways(encoding: str, content: bytes) -> None:
    written = packed(content, encoding)
    assert written[:5] == prefix(len(written) - 5, flag=1)
    assert unpacked(written[5:], encoding) == content
    assert (gzip.decompress if encoding == "gzip" else zlib.decompress)(written[5:]) == content


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (b"what is not compressed", "gzip", 13),
        (gzip.compress(b"cut", mtime=0)[:-3], "gzip", 13),
        (gzip.compress(b"one", mtime=0) + b"more", "gzip", 13),
        (gzip.compress(b"a", mtime=0), "deflate", 13),
        (b"", "gzip", 13),
        (b"x", "identity", 13),
        (b"x", "br", 12),
    ],
)
def test_what_cannot_be_unpacked(content: bytes, encoding: str, status: int) -> None:
    with pytest.raises(CallError) as caught:
        unpacked(content, encoding)
    assert caught.value.status == status


def test_a_bomb_is_not_blown_up() -> None:
    bomb = gzip.compress(bytes(LARGEST_MESSAGE + 1), 9)
    assert len(bomb) < 100_000
    with pytest.raises(CallError) as caught:
        unpacked(bomb, "gzip")
    assert caught.value.status == Status.RESOURCE_EXHAUSTED
    assert len(unpacked(gzip.compress(bytes(1000), 9), "gzip")) == 1000


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (InvalidSpecError, Status.INVALID_ARGUMENT),
        (NotFoundError, Status.NOT_FOUND),
        (TooManyError, Status.RESOURCE_EXHAUSTED),
        (TimedOutError, Status.DEADLINE_EXCEEDED),
        (PredictorTimeoutError, Status.DEADLINE_EXCEEDED),
        (UnavailableError, Status.UNAVAILABLE),
        (ConflictError, Status.ABORTED),
        (RefusedError, Status.PERMISSION_DENIED),
        (GoldenloopError, Status.INTERNAL),
    ],
)
def test_statuses(kind: type[GoldenloopError], status: Status) -> None:
    assert status_of(kind("it went wrong")) == status


@given(st.text(max_size=400))
def test_texts_of_statuses_are_plain_and_can_be_read_again(text: str) -> None:
    from urllib.parse import unquote

    written = quoted(text)
    assert all(0x20 <= byte < 0x7F for byte in written)
    assert unquote(written.decode()) == text.encode(errors="replace").decode()
