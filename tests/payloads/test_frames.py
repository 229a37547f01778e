"""Damage is seen, named and stepped over; nothing wrong is ever given as data."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenloop.payloads import frames
from goldenloop.payloads.records import Label

SEED = frames.seed_of("worker-0000000000001-000000.log")
labels = st.builds(
    Label,
    prediction=st.text(min_size=1, max_size=20),
    row=st.integers(0, 5),
    label=st.one_of(st.none(), st.text(max_size=30), st.integers(-9, 9), st.booleans()),
    observed_us=st.none(),
    arrival_us=st.integers(0, 10**15),
)


def encoded(records: list[Label]) -> list[bytes]:
    return [msgspec.msgpack.encode(record) for record in records]


def bodies_of(content: bytes, *, whole: bool = True) -> list[bytes]:
    found = frames.pieces(memoryview(content), 0, seed=SEED, whole=whole)
    return [bytes(piece.body) for piece in found if piece.body is not None]


@given(st.lists(labels, max_size=6))
def test_what_was_framed_is_found(records: list[Label]) -> None:
    bodies = encoded(records)
    assert bodies_of(b"".join(frames.frame(body, seed=SEED) for body in bodies)) == bodies


@settings(max_examples=300)
@given(st.lists(labels, min_size=1, max_size=6), st.data())
def test_a_flipped_byte_costs_one_record(records: list[Label], data: st.DataObject) -> None:
    bodies = encoded(records)
    framed = [frames.frame(body, seed=SEED) for body in bodies]
    content = bytearray(b"".join(framed))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    hit = next(i for i in range(len(framed)) if place < sum(map(len, framed[: i + 1])))
    assert bodies_of(bytes(content)) == bodies[:hit] + bodies[hit + 1 :]
    pieces = list(frames.pieces(memoryview(bytes(content)), 0, seed=SEED, whole=True))
    assert [piece.offset for piece in pieces if piece.body is None] == [sum(map(len, framed[:hit]))]
    assert all(piece.reason for piece in pieces if piece.body is None)


@given(st.lists(labels, min_size=1, max_size=6), st.data())
def test_a_torn_tail_gives_what_was_before_it(records: list[Label], data: st.DataObject) -> None:
    bodies = encoded(records)
    framed = [frames.frame(body, seed=SEED) for body in bodies]
    content = b"".join(framed)
    cut = data.draw(st.integers(0, len(content)))
    intact = [body for i, body in enumerate(bodies) if sum(map(len, framed[: i + 1])) <= cut]
    assert bodies_of(content[:cut], whole=False) == intact
    assert bodies_of(content[:cut], whole=True) == intact


@given(st.binary(max_size=400))
def test_noise_is_no_record(noise: bytes) -> None:
    assert bodies_of(noise) == []


def test_a_frame_inside_a_damaged_one_is_not_taken() -> None:
    """A client may send a text that looks like a frame: with any checksum but that of the segment."""
    forged = msgspec.msgpack.encode(Label("victim", 0, "UP", None, 1))
    inner = frames.frame(forged, seed=frames.seed_of("another segment"))
    body = msgspec.msgpack.encode(["l", inner, 0, None, None, 1])
    content = bytearray(frames.frame(body, seed=SEED))
    content[9] ^= 1
    assert bodies_of(bytes(content)) == []


def test_a_length_that_no_frame_has() -> None:
    good = frames.frame(encoded([Label("a", 0, 1, None, 1)])[0], seed=SEED)
    piece = next(iter(frames.pieces(memoryview(b"\xff" * 8 + good), 0, seed=SEED, whole=False)))
    assert (piece.offset, piece.end, piece.body) == (0, 8, None)
    assert "which none has" in piece.reason
