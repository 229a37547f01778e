"""Header compression: the examples of RFC 7541 (appendix C), round trips with a client that uses all it may, and what cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.serving.grpc import huffman
from goldenloop.serving.grpc.frames import Code, ConnectionFault
from goldenloop.serving.grpc.heads import HeadReader
from goldenloop.serving.grpc.hpack import STATIC_TABLE, TABLE_SIZE, Decoder, Field, encode

FIRST: list[Field] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
SECOND: list[Field] = [*FIRST, (b"cache-control", b"no-cache")]
THIRD: list[Field] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
    ids=["plain", "huffman"],
)
def test_the_examples_of_the_standard(blocks: tuple[str, ...]) -> None:
    decoder = Decoder(largest_list=4096)
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == [FIRST, SECOND, THIRD]


def test_the_static_table_has_its_landmarks() -> None:
    assert len(STATIC_TABLE) == 62
    landmarks = {
        1: b":authority",
        8: b":status",
        15: b"accept-charset",
        31: b"content-type",
        58: b"user-agent",
        61: b"www-authenticate",
    }
    assert {place: STATIC_TABLE[place][0] for place in landmarks} == landmarks
    assert STATIC_TABLE[16] == (b"accept-encoding", b"gzip, deflate")


def packed(text: bytes) -> bytes:
    """Huffman code of a text, padded with ones."""
    codes = huffman.codes()
    number = length = 0
    for byte in text:
        code, size = codes[byte]
        number = number << size | code
        length += size
    padding = -length % 8
    return ((number << padding) | ((1 << padding) - 1)).to_bytes((length + padding) // 8) if text else b""


def prefixed(first: int, most: int, number: int) -> bytes:
    if number < most:
        return bytes((first | number,))
    made = bytearray((first | most,))
    number -= most
    while number > 0x7F:
        made.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes((*made, number))


def text_of(text: bytes, *, is_packed: bool) -> bytes:
    content = packed(text) if is_packed else text
    return prefixed(0x80 if is_packed else 0, 0x7F, len(content)) + content


class Encoder:
    """A client that puts fields into the table and refers to them, as it is told; the table is kept as the standard says."""

    def __init__(self) -> None:
        self.table: list[Field] = []

    def encode(self, field: Field, *, form: str, is_packed: bool) -> bytes:
        entries = [*STATIC_TABLE[1:], *self.table]
        if field in entries and form == "known":
            return prefixed(0x80, 0x7F, entries.index(field) + 1)
        names = [name for name, _ in entries]
        number = names.index(field[0]) + 1 if field[0] in names else 0
        first, most = {"kept": (0x40, 0x3F), "known": (0x40, 0x3F), "passing": (0x00, 0x0F), "secret": (0x10, 0x0F)}[
            form
        ]
        name = b"" if number else text_of(field[0], is_packed=is_packed)
        if first == 0x40:
            self.table.insert(0, field)
            while sum(len(n) + len(v) + 32 for n, v in self.table) > TABLE_SIZE:
                self.table.pop()
        return prefixed(first, most, number) + name + text_of(field[1], is_packed=is_packed)


names = st.one_of(
    st.sampled_from([b":path", b"content-type", b"x-request-id", b"a"]), st.binary(min_size=1, max_size=12)
)
values = st.one_of(st.sampled_from([b"", b"1", b"application/grpc"]), st.binary(max_size=60), st.just(b"v" * 900))
steps = st.tuples(names, values, st.sampled_from(["kept", "known", "passing", "secret"]), st.booleans())


@given(st.lists(st.lists(steps, max_size=8), max_size=8))
def test_blocks_of_any_client_are_read(blocks: list[list[tuple[bytes, bytes, str, bool]]]) -> None:
    encoder, decoder = Encoder(), Decoder(largest_list=100_000)
    for block in blocks:
        written = b"".join(
            encoder.encode((name, value), form=form, is_packed=is_packed) for name, value, form, is_packed in block
        )
        assert decoder.decode(written) == [(name, value) for name, value, _, _ in block]


@given(st.lists(st.tuples(names, values), max_size=8))
def test_what_we_write_is_read_again_and_leaves_the_table(fields: list[Field]) -> None:
    decoder = Decoder(largest_list=100_000)
    assert decoder.decode(encode(fields)) == fields
    assert decoder.changes == 0


@given(st.binary(max_size=80))
def test_texts_are_decoded(text: bytes) -> None:
    assert huffman.decode(packed(text)) == text


@given(st.binary(max_size=60))
def test_no_block_does_anything_but_being_read_or_refused(block: bytes) -> None:
    try:
        Decoder(largest_list=4096).decode(block)
    except ConnectionFault as fault:
        assert fault.code == Code.COMPRESSION_ERROR


@pytest.mark.parametrize(
    "block",
    [
        "80",
        "be",
        "ff",
        "7f",
        "40",
        "4005",
        "400161",
        "3fe21f",
        "8220",
        "4081000161",
        "4081ff",
        "00823fff00",
        "ffffffffffff7f",
    ],
)
def test_what_cannot_be_read(block: str) -> None:
    with pytest.raises(ConnectionFault) as caught:
        Decoder(largest_list=4096).decode(bytes.fromhex(block))
    assert caught.value.code == Code.COMPRESSION_ERROR


def test_a_list_that_is_too_large_leaves_the_table_right() -> None:
    encoder, decoder = Encoder(), Decoder(largest_list=500)
    large = b"".join(encoder.encode((b"x%d" % place, b"v" * 100), form="kept", is_packed=False) for place in range(10))
    assert decoder.decode(large) is None
    assert decoder.decode(encoder.encode((b"x9", b"v" * 100), form="known", is_packed=False)) == [(b"x9", b"v" * 100)]


def test_the_table_shrinks_when_the_client_says_so() -> None:
    encoder, decoder = Encoder(), Decoder(largest_list=4096)
    decoder.decode(encoder.encode((b"a", b"1"), form="kept", is_packed=False))
    assert decoder.decode(b"\x20\x82") == [(b":method", b"GET")]
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")


HEAD: list[Field] = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")]


def test_a_block_is_known_until_the_table_changes() -> None:
    encoder, reader = Encoder(), HeadReader()
    kept = encode(HEAD) + encoder.encode((b"x", b"1"), form="kept", is_packed=False)
    assert reader.read(kept).headers["x"] == "1"
    block = encode(HEAD) + encoder.encode((b"x", b"1"), form="known", is_packed=False)
    head = reader.read(block)
    assert reader.read(block) is head
    reader.read(encode(HEAD) + encoder.encode((b"x", b"2"), form="kept", is_packed=False))
    assert reader.read(block).headers["x"] == "2"  # the same number means another field now


def test_fields_of_one_name_are_joined() -> None:
    head = HeadReader().read(encode([*HEAD, (b"m", b"1"), (b"m", b"2"), (b":authority", b"late")]))
    assert head.malformed is not None
    head = HeadReader().read(encode([*HEAD, (b":authority", b"elec.default.example.com"), (b"m", b"1"), (b"m", b"2")]))
    assert head.malformed is None
    assert head.headers == {"host": "elec.default.example.com", "m": "1,2"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("2H", 7200), ("3M", 180), ("4S", 4), ("1500m", 1.5), ("20u", 2e-5), ("7n", 7e-9), ("0S", 0)]
)
def test_timeouts(text: str, seconds: float) -> None:
    head = HeadReader().read(encode([*HEAD, (b"grpc-timeout", text.encode())]))
    assert head.timeout_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "123456789S", "-1S", "1.5S", "1s"])
def test_what_is_no_timeout(text: str) -> None:
    with pytest.raises(ValueError):
        HeadReader().read(encode([*HEAD, (b"grpc-timeout", text.encode())])).timeout_seconds()
