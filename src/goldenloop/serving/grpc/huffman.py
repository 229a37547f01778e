"""The Huffman code of header texts (RFC 7541, appendix B).

The code is canonical: symbols in the order of (length, symbol) have consecutive codes, so the lengths say it all. It is decoded byte by
byte with steps that are worked out when they are first needed: at most 256 inner nodes × 256 bytes.
"""

from __future__ import annotations

from typing import Final

from goldenloop.serving.grpc.frames import Code, ConnectionFault

END_OF_STRING: Final = 256
# Symbols by the length of their code in bits; `-` stands for all that are between two numbers.
_SYMBOLS_BY_LENGTH: Final = {
    5: "48-50 97 99 101 105 111 115-116",
    6: "32 37 45-47 51-57 61 65 95 98 100 102-104 108-110 112 114 117",
    7: "58 66-87 89 106-107 113 118-122",
    8: "38 42 44 59 88 90",
    10: "33-34 40-41 63",
    11: "39 43 124",
    12: "35 62",
    13: "0 36 64 91 93 126",
    14: "94 125",
    15: "60 96 123",
    19: "92 195 208",
    20: "128 130-131 162 184 194 224 226",
    21: "153 161 167 172 176-177 179 209 216-217 227 229-230",
    22: "129 132-134 136 146 154 156 160 163-164 169-170 173 178 181 185-187 189-190 196 198 228 232-233",
    23: "1 135 137-141 143 147 149-152 155 157-158 165-166 168 174-175 180 182-183 188 191 197 231 239",
    24: "9 142 144-145 148 159 171 206 215 225 236-237",
    25: "199 207 234-235",
    26: "192-193 200-202 205 210 213 218-219 238 240 242-243 255",
    27: "203-204 211-212 214 221-223 241 244-248 250-254",
    28: "2-8 11-12 14-21 23-31 127 220 249",
    30: "10 13 22 256",
}  # fmt: skip


def _symbols(text: str) -> list[int]:
    symbols: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        symbols += range(int(first), int(last or first) + 1)
    return symbols


def codes() -> dict[int, tuple[int, int]]:
    """Return the code of each symbol: its bits as a number, and how many they are."""
    made: dict[int, tuple[int, int]] = {}
    code = length_before = 0
    for length, text in _SYMBOLS_BY_LENGTH.items():
        code <<= length - length_before
        for symbol in _symbols(text):
            made[symbol] = (code, length)
            code += 1
        length_before = length
    return made


def _tree() -> list[list[int]]:
    """Return the inner nodes, the root first: where 0 and 1 lead. A leaf is written -1 - symbol."""
    nodes = [[0, 0]]
    for symbol, (code, length) in codes().items():
        node = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[node][bit]:
                nodes.append([0, 0])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][code & 1] = -1 - symbol
    return nodes


_NODES = _tree()
_STEPS: dict[int, tuple[int, bytes]] = {}  # node and byte → the node that it leads to, and the symbols on the way


def _padding_ends() -> frozenset[int]:
    """The nodes at which a text may end: the root, and what at most seven ones lead to from there."""
    ends = [0]
    for _ in range(7):
        ends.append(_NODES[ends[-1]][1])
    return frozenset(ends)


_ENDS = _padding_ends()


def _step(node: int, byte: int) -> tuple[int, bytes]:
    key = node << 8 | byte
    symbols = bytearray()
    for place in range(7, -1, -1):
        node = _NODES[node][byte >> place & 1]
        if node < 0:
            symbol = -1 - node
            if symbol == END_OF_STRING:
                raise ConnectionFault(Code.COMPRESSION_ERROR, "a header's text holds the code for its end")
            symbols.append(symbol)
            node = 0
    step = _STEPS[key] = (node, bytes(symbols))
    return step


def decode(data: bytes) -> bytes:
    """Return the text that was encoded. Raises ConnectionFault.

    >>> decode(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"))
    b'www.example.com'
    """
    node = 0
    parts: list[bytes] = []
    for byte in data:
        node, symbols = _STEPS.get(node << 8 | byte) or _step(node, byte)
        parts.append(symbols)
    if node not in _ENDS:
        raise ConnectionFault(Code.COMPRESSION_ERROR, "a header's text is not padded with ones")
    return b"".join(parts)
