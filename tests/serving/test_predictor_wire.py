"""Frames: what goes in comes out, however it is cut on its way, and what is no frame is said to be none."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from goldenloop.serving.predictors.messages import (
    Answer,
    Bye,
    Call,
    Failed,
    Hello,
    Refused,
    Score,
    ToProcess,
    ToWorker,
    plain_frame,
)
from goldenloop.serving.predictors.page import Page
from goldenloop.serving.predictors.places import End, Place, Status, reachable
from goldenloop.serving.predictors.wire import Codec, FrameError, Incoming

NUMBERS = hnp.arrays(
    st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    ),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
)
TEXTS = hnp.arrays(
    np.dtype(object),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    elements=st.one_of(st.none(), st.text(max_size=5).filter(lambda text: text.isprintable()), st.binary(max_size=5)),
)
DOCUMENTS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text("abc"), NUMBERS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text("ab"), inner, max_size=4)),
    max_leaves=12,
)


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.dtype.newbyteorder("=") == other.dtype and _equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other and type(one) is type(other)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype == object:
        return one.tolist() == other.tolist()
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def frame_of(message: object) -> bytes:
    return b"".join(Codec[object](ToWorker).encode(message))  # type: ignore[arg-type]


@given(st.dictionaries(st.text("abc"), st.one_of(NUMBERS, TEXTS), max_size=5))
def test_arrays_come_as_they_went(arrays: dict[str, object]) -> None:
    message = Codec[Score](ToProcess).decode(memoryview(frame_of(Score(3, 4, 5, 6, arrays))))
    assert (message.call, message.limit_us, message.deadline_us, message.rows) == (3, 4, 5, 6)
    assert same(arrays, message.tensors)


@given(DOCUMENTS)
def test_documents_come_as_they_went(document: object) -> None:
    message = Codec[Call](ToProcess).decode(memoryview(frame_of(Call(1, 2, 3, "predict", document, {"a": "b"}))))
    assert same(document, message.payload)
    assert message.headers == {"a": "b"}


def test_slices_and_views() -> None:
    whole = np.arange(60, dtype=np.float32).reshape(5, 12)
    for part in (whole[::2], whole[:, 3:5], whole.T, np.asfortranarray(whole), whole[::-1]):
        message = Codec[Answer](ToWorker).decode(memoryview(frame_of(Answer(1, part))))
        np.testing.assert_array_equal(message.result, part)


def test_what_libraries_give() -> None:
    pandas = pytest.importorskip("pandas")
    given_ = {
        "scalar": np.float32(1.5),
        "number": np.int64(3),
        "frame": pandas.DataFrame({"a": [1, 2]}),
        "series": pandas.Series(["a", None], dtype=object),
        "dates": np.array(["2026-01-02"], dtype="datetime64[D]"),
        "texts": np.array(["a", "b"]),
    }
    result = Codec[Answer](ToWorker).decode(memoryview(frame_of(Answer(1, given_)))).result
    assert isinstance(result, dict)
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in result.items()}
    assert plain == {
        "scalar": 1.5,
        "number": 3,
        "frame": [[1], [2]],
        "series": ["a", None],
        "dates": ["2026-01-02"],
        "texts": ["a", "b"],
    }


@pytest.mark.parametrize(
    "value", [object(), np.array([1j]), np.zeros(2, dtype="i4,f8"), {1, 2} | {object()}, lambda: 0]
)
def test_what_cannot_be_sent(value: object) -> None:
    codec = Codec[object](ToWorker)
    with pytest.raises(TypeError, match="cannot be sent"):
        codec.encode(Answer(1, value))
    assert codec.decode(memoryview(b"".join(codec.encode(Answer(1, "after"))))) == Answer(1, "after")


def test_large_arrays_are_not_copied() -> None:
    large = np.zeros(1 << 20)
    pieces = Codec[object](ToWorker).encode(Answer(1, large))
    assert any(isinstance(piece, memoryview) and np.shares_memory(np.frombuffer(piece), large) for piece in pieces)
    frame = memoryview(np.frombuffer(b"".join(pieces), dtype=np.uint8).copy()).cast("B")
    result = Codec[Answer](ToWorker).decode(frame).result
    assert np.shares_memory(result, np.frombuffer(frame, dtype=np.uint8))  # type: ignore[arg-type]
    assert result.flags.writeable  # type: ignore[attr-defined]
    assert result.ctypes.data % 8 == 0  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 7, 100, 9_000, 70_000, 200_000]), min_size=1, max_size=6),
    st.lists(st.integers(100, 90_000), min_size=1, max_size=20),
)
def test_frames_survive_being_cut(sizes: list[int], cuts: list[int]) -> None:
    sent = [np.arange(size, dtype=np.uint8 if size < 8 else np.float64) for size in sizes]
    stream = memoryview(b"".join(frame_of(Answer(place, array)) for place, array in enumerate(sent)))
    incoming, codec, found = Incoming(), Codec[Answer](ToWorker), []
    position = turn = 0
    while position < len(stream):
        space = incoming.space()
        count = min(len(space), cuts[turn % len(cuts)], len(stream) - position)
        assert count > 0
        space[:count] = stream[position : position + count]
        found += [codec.decode(frame) for frame in incoming.take(count)]
        position, turn = position + count, turn + 1
    assert [message.call for message in found] == list(range(len(sent)))
    assert all(same(array, message.result) for array, message in zip(sent, found, strict=True))


@given(st.binary(max_size=200))
def test_noise_is_no_frame(noise: bytes) -> None:
    incoming, codec = Incoming(), Codec[object](ToProcess)
    incoming.space()[: len(noise)] = noise
    with contextlib.suppress(FrameError):
        for frame in incoming.take(len(noise)):
            codec.decode(frame)


@given(st.data())
def test_a_frame_with_a_wrong_byte(data: st.DataObject) -> None:
    frame = bytearray(frame_of(Score(1, 2, 3, 4, {"x": np.arange(5.0), "y": np.array(["a", None], dtype=object)})))
    frame[data.draw(st.integers(8, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FrameError):
        Codec[object](ToProcess).decode(memoryview(frame))


def test_plain_messages() -> None:
    for message in (Hello(1, 2, 3, 4), Failed(1, "raised", "no"), Bye(), Refused("why", 2.5)):
        assert Codec[object](ToWorker).decode(memoryview(plain_frame(message))) == message
        assert frame_of(message) == plain_frame(message)


def test_page(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page")
    page.open_for(77)
    seen = Page(tmp_path / "page")
    page.begin(3, 9, 1_000)
    assert (seen.instance, seen.kill_at_ns, seen.is_running(3, 9), seen.is_running(2, 9)) == (77, 1_000, True, False)
    page.end(2_000)
    assert (seen.kill_at_ns, seen.last_work_ns, seen.calls, seen.is_running(3, 9)) == (0, 2_000, 1, False)
    newer = Page.create(tmp_path / "page")
    newer.open_for(78)
    assert seen.instance == 77
    for each in (page, seen, newer):
        each.close()
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(OSError, match="not a page"):
        Page(tmp_path / "short")


def test_status(tmp_path: Path) -> None:
    place = Place(tmp_path, "digest", 2)
    assert place.read_status() is None
    status = Status(state="pausing", failures=3, reason="why", ended=End(instance=5, kind="crashed", reason="why"))
    place.write_status(status)
    assert place.read_status() == status
    place.status.write_bytes(b"{")
    assert place.read_status() is None


def test_long_paths_can_be_bound(tmp_path: Path) -> None:
    import socket

    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    place = Place(deep, "digest", 0)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with reachable(place.socket) as path:
            listener.bind(path)
        listener.listen()
        with reachable(place.socket) as path:
            client.connect(path)
    assert place.socket.is_socket()
