"""Logs that are read while they grow."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from goldenloop.api.log_parts import read_part


def files(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_attempts_follow_each_other(tmp_path: Path) -> None:
    paths = [*files(tmp_path, b"one\n", b"", b"three\n"), tmp_path / "not there yet"]
    whole = read_part(paths, after=0, limit=100, whole=False)
    assert (whole.text, whole.next, whole.is_last) == ("one\nthree\n", 10, True)
    assert read_part(paths, after=6, limit=100, whole=False).text == "ree\n"
    assert read_part(paths, after=10, limit=100, whole=True).text == ""
    assert read_part([], after=0, limit=100, whole=True).is_last


def test_a_character_that_is_half_there_waits(tmp_path: Path) -> None:
    euro = "€".encode()
    [path] = files(tmp_path, b"1" + euro[:2])
    part = read_part([path], after=0, limit=100, whole=False)
    assert (part.text, part.next) == ("1", 1)
    assert read_part([path], after=1, limit=100, whole=True).text == "\N{REPLACEMENT CHARACTER}", "it never came"
    path.write_bytes(b"1" + euro)
    assert read_part([path], after=1, limit=100, whole=False).text == "€"


@given(st.text(max_size=40), st.integers(4, 9))
def test_the_parts_are_the_whole(tmp_path_factory: object, text: str, limit: int) -> None:
    folder = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]
    content = text.encode()
    paths = files(folder, content[: len(content) // 2], content[len(content) // 2 :])
    position, read = 0, ""
    for _ in range(len(content) + 2):
        part = read_part(paths, after=position, limit=limit, whole=True)
        read, position = read + part.text, part.next
        if part.is_last:
            break
    assert (read, position) == (text, len(content))
