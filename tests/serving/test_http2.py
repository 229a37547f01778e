"""One HTTP/2 connection without a socket: what RFC 9113 asks of a server, windows both ways, floods, and random bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.http2_bench import BEGIN, BLOCK, REQUEST, Recorder, begun, data, fields_of, frames_of, headers

from goldenloop.serving.grpc import connection as limits
from goldenloop.serving.grpc import frames
from goldenloop.serving.grpc.frames import Code, frame, window_update
from goldenloop.serving.grpc.heads import LARGEST_BLOCK
from goldenloop.serving.grpc.hpack import Field, encode

LAST = frames.END_HEADERS | frames.END_STREAM


def kinds(recorder: Recorder, sent: bytes) -> list[int]:
    return [each.kind for each in recorder.take(sent)]


def test_settings_are_said_and_answered() -> None:
    said = Recorder().take(BEGIN)
    assert [(each.kind, each.flags) for each in said] == [
        (frames.SETTINGS, 0),
        (frames.WINDOW_UPDATE, 0),
        (frames.SETTINGS, frames.ACK),
    ]
    told = dict(frames.read_settings(said[0].payload))
    assert told[frames.MAX_CONCURRENT_STREAMS] == limits.MAX_STREAMS


def test_a_request_comes_whole_and_its_answer_goes_out() -> None:
    recorder = begun(echo=True)
    answer = recorder.take(headers(1) + data(1, b"hello"))
    assert recorder.events[0][:3] == ("opened", 1, "/a.B/C")
    assert recorder.events[1] == ("ended", 1, b"hello")
    assert [(each.kind, each.flags, each.payload) for each in answer][1] == (frames.DATA, 0, b"hello")
    assert [each.kind for each in answer] == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert answer[2].flags == LAST
    assert not recorder.connection.streams


def padded(payload: bytes, padding: int) -> bytes:
    return bytes((padding,)) + payload + bytes(padding)


WHOLE = b"".join(
    (
        BEGIN,
        headers(1),
        data(1, b"a" * 300, 0),
        frame(frames.PING, 0, 0, b"12345678"),
        data(1, padded(b"tail", 9), frames.END_STREAM | frames.PADDED),
        frame(frames.HEADERS, frames.END_STREAM, 3, BLOCK[:7]),
        frame(frames.CONTINUATION, 0, 3, BLOCK[7:20]),
        frame(frames.CONTINUATION, frames.END_HEADERS, 3, BLOCK[20:]),
        frame(frames.HEADERS, LAST | frames.PADDED | frames.HAS_PRIORITY, 5, padded(b"\0\0\0\1\7" + BLOCK, 3)),
        frame(frames.PRIORITY, 0, 5, b"\0\0\0\1\7"),
        frame(0x42, 0xFF, 77, b"what is not known means nothing"),
        headers(7),
        data(7, b"x", 0),
        headers(7, encode([(b"trailer", b"1")]), LAST),
    )
)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_it_does_not_matter_how_bytes_are_cut(cuts: list[int]) -> None:
    whole, cut = Recorder(echo=True), Recorder(echo=True)
    whole.take(WHOLE)
    places = [0, *sorted(cuts), len(WHOLE)]
    for begin, end in itertools.pairwise(places):
        cut.take(WHOLE[begin:end])
    assert cut.events == whole.events
    assert cut.out == whole.out
    assert [event[:2] for event in whole.events if event[0] == "ended"] == [
        ("ended", number) for number in (1, 3, 5, 7)
    ]
    assert whole.events[1] == ("ended", 1, b"a" * 300 + b"tail")


def test_byte_by_byte() -> None:
    recorder = Recorder(echo=True)
    for place in range(len(WHOLE)):
        recorder.connection.receive(WHOLE[place : place + 1])
    assert sum(event[0] == "ended" for event in recorder.events) == 4
    assert not recorder.is_closed


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (headers(2), Code.PROTOCOL_ERROR),
        (headers(0), Code.PROTOCOL_ERROR),
        (data(1, b"x"), Code.PROTOCOL_ERROR),
        (data(0, b"x"), Code.PROTOCOL_ERROR),
        (headers(3) + data(1, b"x"), Code.STREAM_CLOSED),
        (headers(1, b"\x88\xff\xff\xff\xff\xff\xff"), Code.COMPRESSION_ERROR),
        (headers(1, b"\xc0"), Code.COMPRESSION_ERROR),
        (headers(1, b"\x3f\xff\xff\x7f"), Code.COMPRESSION_ERROR),
        (frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.CONTINUATION, 4, 3, b""), Code.PROTOCOL_ERROR),
        (frame(frames.CONTINUATION, 4, 1, BLOCK), Code.PROTOCOL_ERROR),
        (frame(frames.HEADERS, 4 | frames.PADDED, 1, b"\xff" + BLOCK), Code.PROTOCOL_ERROR),
        (frame(frames.HEADERS, 4 | frames.PADDED, 1), Code.FRAME_SIZE_ERROR),
        (headers(1) + frame(frames.DATA, frames.PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
        (headers(1) + frame(frames.DATA, frames.PADDED, 1), Code.PROTOCOL_ERROR),
        (frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2"), Code.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 0, b"short"), Code.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(frames.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        (frame(frames.SETTINGS, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, frames.ACK, 0, b"123456"), Code.FRAME_SIZE_ERROR),
        (frames.settings({frames.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 16_383}), Code.PROTOCOL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 2**24}), Code.PROTOCOL_ERROR),
        (window_update(0, 0), Code.PROTOCOL_ERROR),
        (window_update(1, 5), Code.PROTOCOL_ERROR),
        (window_update(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
        (frame(frames.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
        (frames.frame_head(frames.DATA, 0, 1, limits.LARGEST_FRAME + 1), Code.FRAME_SIZE_ERROR),
        (frames.frame_head(frames.HEADERS, 0, 1, LARGEST_BLOCK + 1), Code.ENHANCE_YOUR_CALM),
    ],
)
def test_a_broken_connection_is_told_why_and_ended(sent: bytes, code: Code) -> None:
    recorder = begun()
    answer = recorder.take(sent)
    if code == Code.STREAM_CLOSED:  # of one stream only: its data may have been on the way
        assert (answer[-1].kind, answer[-1].code) == (frames.RST_STREAM, code)
        return
    assert (answer[-1].kind, answer[-1].code) == (frames.GOAWAY, code)
    assert recorder.is_closed
    assert recorder.take(headers(9)) == []
    assert all(event[0] == "lost" for event in recorder.events[1:])


@pytest.mark.parametrize(
    "fields",
    [
        REQUEST[1:],
        [*REQUEST, (b":method", b"GET")],
        [*REQUEST[1:], (b"x", b"1"), REQUEST[0]],
        [*REQUEST, (b":unknown", b"1")],
        [*REQUEST, (b"Upper", b"1")],
        [*REQUEST, (b"connection", b"close")],
        [*REQUEST, (b"transfer-encoding", b"chunked")],
        [*REQUEST, (b"te", b"gzip")],
        [*REQUEST, (b"x", b"a\nb")],
        [*REQUEST, (b"x", b" a")],
        [*REQUEST, (b"", b"a")],
        [*REQUEST, (b"content-length", b"many")],
    ],
)
def test_a_malformed_head_ends_its_stream_only(fields: list[Field]) -> None:
    recorder = begun(echo=True)
    answer = recorder.take(headers(1, encode(fields)) + headers(3) + data(3, b"x"))
    assert (answer[0].kind, answer[0].stream, answer[0].code) == (frames.RST_STREAM, 1, Code.PROTOCOL_ERROR)
    assert [event[:2] for event in recorder.events] == [("opened", 3), ("ended", 3)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (headers(1) + window_update(1, 0), Code.PROTOCOL_ERROR),
        (headers(1) + window_update(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        (headers(1) + headers(1, encode([(b"t", b"1")])), Code.PROTOCOL_ERROR),
        (headers(1) + headers(1, BLOCK, LAST), Code.PROTOCOL_ERROR),
        (headers(1) + data(1, b"") + headers(1, encode([(b"t", b"1")]), LAST), Code.STREAM_CLOSED),
        (headers(1) + data(1, b"") + data(1, b"more"), Code.STREAM_CLOSED),
        (headers(1, encode([*REQUEST, (b"content-length", b"3")])) + data(1, b"four"), Code.PROTOCOL_ERROR),
        (headers(1) + b"".join(data(1, bytes(16_384), 0) for _ in range(4)), Code.FLOW_CONTROL_ERROR),
    ],
)
def test_a_fault_of_a_stream_ends_that_stream(sent: bytes, code: Code) -> None:
    recorder = begun()
    answer = recorder.take(sent)
    assert (answer[-1].kind, answer[-1].stream, answer[-1].code) == (frames.RST_STREAM, 1, code)
    assert recorder.events[-1] == ("lost", 1)
    assert not recorder.connection.streams
    recorder.take(headers(3))
    assert recorder.events[-1][:2] == ("opened", 3)


def test_what_is_no_http2() -> None:
    recorder = Recorder()
    recorder.connection.receive(b"GET /v2 HTTP/1.1\r\n\r\n")
    assert recorder.out.startswith(b"HTTP/1.1 505 ")
    assert recorder.is_closed
    other = Recorder()
    assert other.take(b"\x16\x03\x01 a greeting of TLS")[0].code == Code.PROTOCOL_ERROR
    late = Recorder()
    assert late.take(frames.PREFACE + headers(1))[-1].code == Code.PROTOCOL_ERROR


def test_a_large_answer_keeps_to_the_windows() -> None:
    recorder = begun(echo=True)
    body = bytes(range(256)) * 1024  # 256 KiB
    recorder.take(headers(1))
    stream = recorder.connection.streams[1]
    recorder.connection.allow(stream, len(body))
    got = bytearray()
    answer = recorder.take(
        b"".join(data(1, body[at : at + 65_536], 0) for at in range(0, len(body), 65_536)) + data(1, b"")
    )

    def collect(found: list) -> bool:
        for each in found:
            if each.kind == frames.DATA:
                assert len(each.payload) <= frames.DEFAULT_FRAME
                got.extend(each.payload)
        return bool(found) and found[-1].flags == LAST

    assert not collect(answer)
    assert len(got) == frames.DEFAULT_WINDOW
    assert not collect(recorder.take(window_update(1, 1_000_000)))  # the connection's window is used up too
    assert len(got) == frames.DEFAULT_WINDOW
    assert not collect(recorder.take(window_update(0, 10)))
    assert len(got) == frames.DEFAULT_WINDOW + 10
    assert collect(recorder.take(window_update(0, 1_000_000)))
    assert got == body


def test_a_window_may_become_negative_by_a_setting() -> None:
    recorder = begun(echo=True)
    recorder.take(headers(1))
    recorder.take(data(1, bytes(60_000), 0) + data(1, bytes(5_000)))
    assert not recorder.connection.streams
    recorder.take(window_update(0, 1_000_000) + headers(3) + data(3, bytes(60_000), 0))
    recorder.take(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
    assert sum(len(f.payload) for f in recorder.take(data(3, b"")) if f.kind == frames.DATA) == 10
    recorder.take(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))  # now -10
    assert kinds(recorder, window_update(3, 10)) == []
    assert [len(f.payload) for f in recorder.take(window_update(3, 1)) if f.kind == frames.DATA] == [1]


def test_streams_take_turns() -> None:
    recorder = begun(echo=True)
    recorder.take(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    for number in (1, 3):
        recorder.take(headers(number) + data(number, bytes(40_000)))
    recorder.connection.sender.is_paused = True
    recorder.take(window_update(1, 100_000) + window_update(3, 100_000))
    recorder.connection.sender.is_paused = False
    before = len(recorder.out)
    recorder.connection.sender.pump()
    sent = [each.stream for each in frames_of(bytes(recorder.out[before:])) if each.kind == frames.DATA]
    assert sent[:4] == [1, 3, 1, 3]


def test_more_streams_than_may_be_are_refused_and_the_others_go_on() -> None:
    recorder = begun()
    many = b"".join(headers(2 * place + 1) for place in range(limits.MAX_STREAMS + 3))
    answer = recorder.take(many)
    assert [(each.kind, each.code) for each in answer] == [(frames.RST_STREAM, Code.REFUSED_STREAM)] * 3
    assert len(recorder.connection.streams) == limits.MAX_STREAMS
    recorder.take(data(answer[0].stream, b"what was on the way"))  # let pass
    recorder.take(data(1, b"x"))
    assert recorder.events[-1] == ("ended", 1, b"x")


FLOODS = {
    "pings": lambda _place: frame(frames.PING, 0, 0, bytes(8)),
    "settings": lambda _place: frames.settings({}),
    "resets": lambda place: headers(2 * place + 1) + frames.reset(2 * place + 1, Code.CANCEL),
    "empty data": lambda place: (headers(1) if place == 0 else b"") + data(1, b"", 0),
    "priorities": lambda _place: frame(frames.PRIORITY, 0, 1, bytes(5)),
    "what is not known": lambda _place: frame(0x99, 0, 0),
    "windows": lambda _place: window_update(0, 1),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection(name: str) -> None:
    recorder = begun()
    for place in range(limits.MOST_IDLE_FRAMES + 10):
        recorder.connection.receive(FLOODS[name](place))
        if recorder.is_closed:
            break
    last = frames_of(bytes(recorder.out))[-1]
    assert (last.kind, last.code) == (frames.GOAWAY, Code.ENHANCE_YOUR_CALM)
    assert not recorder.connection.streams


def test_frames_that_answers_pay_for_are_no_flood() -> None:
    recorder = begun(echo=True)
    for place in range(limits.MOST_IDLE_FRAMES):
        number = 2 * place + 1
        recorder.connection.receive(
            headers(number)
            + data(number, b"x")
            + frame(frames.PING, 0, 0, bytes(8))
            + window_update(0, 1)
            + window_update(number, 1)
        )
    assert not recorder.is_closed


def test_a_header_block_in_too_many_pieces() -> None:
    recorder = begun()
    recorder.take(frame(frames.HEADERS, 0, 1, BLOCK))
    answer = []
    for _ in range(200):
        answer += recorder.take(frame(frames.CONTINUATION, 0, 1, b""))
    assert answer[-1].code == Code.ENHANCE_YOUR_CALM
    large = begun()
    large.take(frame(frames.HEADERS, 0, 1, bytes(LARGEST_BLOCK)))
    assert large.take(frame(frames.CONTINUATION, 0, 1, b"x"))[-1].code == Code.ENHANCE_YOUR_CALM


def test_a_reset_by_the_client_is_heard_and_nothing_is_sent_after() -> None:
    recorder = begun()
    recorder.take(headers(1) + data(1, b"x"))
    stream = recorder.connection.streams[1]
    recorder.connection.sender.data(stream, bytes(100_000))  # more than the window
    recorder.take(frames.reset(1, Code.CANCEL))
    assert recorder.events[-1] == ("lost", 1)
    assert kinds(recorder, window_update(0, 100_000)) == []
    assert not recorder.connection.sender.is_waiting


def test_draining_finishes_what_was_begun() -> None:
    recorder = begun(echo=True)
    recorder.take(headers(1))
    before = len(recorder.out)
    recorder.connection.drain()
    notice, ping = frames_of(bytes(recorder.out[before:]))
    assert (notice.kind, int.from_bytes(notice.payload[:4])) == (frames.GOAWAY, 2**31 - 1)
    recorder.take(headers(3))  # sent before the client had seen it
    last = recorder.take(frame(frames.PING, frames.ACK, 0, ping.payload))[-1]
    assert (last.kind, int.from_bytes(last.payload[:4]), last.code) == (frames.GOAWAY, 3, Code.NO_ERROR)
    assert recorder.take(headers(5))[0].code == Code.REFUSED_STREAM
    recorder.take(data(1, b"a"))
    assert not recorder.is_closed
    recorder.take(data(3, b"b"))
    assert recorder.is_closed


def test_a_half_closed_connection_is_answered_and_then_closed() -> None:
    recorder = begun()
    recorder.take(headers(1) + data(1, b"whole") + headers(3) + data(3, b"half", 0))
    recorder.connection.half_close()
    assert recorder.events[-1] == ("lost", 3)
    assert not recorder.is_closed
    recorder.connection.sender.answer(recorder.connection.streams[1], BLOCK, b"answer", BLOCK)
    assert recorder.is_closed


def test_an_early_answer_lets_the_rest_of_the_request_pass() -> None:
    recorder = begun()
    recorder.take(headers(1) + data(1, b"x", 0))
    before = len(recorder.out)
    recorder.connection.sender.finish(recorder.connection.streams[1], encode([(b":status", b"415")]))
    last, reset = frames_of(bytes(recorder.out[before:]))
    assert fields_of(last.payload) == {b":status": b"415"}
    assert (reset.kind, reset.code) == (frames.RST_STREAM, Code.NO_ERROR)
    assert kinds(recorder, data(1, b"on the way", 0) + headers(1, encode([(b"t", b"1")]), LAST)) == []


def test_the_connection_window_is_given_back() -> None:
    recorder = begun(echo=True)
    increments = 0
    for place in range(300):
        number = 2 * place + 1
        sent = recorder.take(headers(number) + data(number, bytes(60_000)))
        increments += sum(int.from_bytes(f.payload) for f in sent if f.kind == frames.WINDOW_UPDATE and f.stream == 0)
        recorder.take(frames.reset(number, Code.CANCEL))
    assert not recorder.is_closed
    assert increments > 300 * 60_000 - limits.CONNECTION_WINDOW


frame_bytes = st.builds(
    frame,
    st.sampled_from([*range(11), 0x99]),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
    st.sampled_from([0, 1, 3, 5, 7, 2, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.just(BLOCK),
        st.sampled_from([bytes(4), bytes(5), bytes(8), b"\0\0\0\1", b"\0\3\0\0\0\1\0\4\0\0\0\7", b"\0\0\0\0\5hello"]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(frame_bytes, st.binary(max_size=30)), max_size=30), st.booleans())
def test_no_bytes_make_it_raise_or_grow(parts: list[bytes], echo: bool) -> None:
    recorder = begun(echo=echo)
    for part in parts:
        recorder.connection.receive(part)
        assert len(recorder.connection.streams) <= limits.MAX_STREAMS
        assert len(recorder.connection._rest) <= LARGEST_BLOCK + frames.HEAD_SIZE
    opened = {event[1] for event in recorder.events if event[0] == "opened"}
    assert set(recorder.connection.streams) <= opened
    frames_of(bytes(recorder.out))  # what was said are whole frames
    if recorder.is_closed:
        assert not recorder.connection.streams
        size = len(recorder.out)
        recorder.connection.receive(headers(9))
        assert len(recorder.out) == size


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_a_wrong_place_in_what_is_right(place: int, wrong: bytes) -> None:
    recorder = Recorder(echo=True)
    recorder.connection.receive(WHOLE[:place] + wrong + WHOLE[place + len(wrong) :])
    assert len(recorder.connection.streams) <= 5
