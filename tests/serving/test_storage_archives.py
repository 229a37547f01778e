"""Archives from strangers: what is in them comes out whole and inside, or nothing does."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import content_of, nothing_is_left, tar_of, zip_of

from goldenloop.core.errors import InvalidSpecError
from goldenloop.serving.storage import Limits, fetch
from goldenloop.serving.storage.purse import inner_path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder in which the target is made, so that what else is left in it is seen."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def entry_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry, io.BytesIO(b""))
    return stream.getvalue()


def linked_zip(name: str, target: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, target)
    return stream.getvalue()


def twice() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("model"), io.BytesIO(b""))
    return stream.getvalue()


EVIL = {
    "absolute.tar": entry_of("/etc/model"),
    "above.tar": entry_of("../model"),
    "above.zip": zip_of({"../model": b"x"}),
    "inside-above.zip": zip_of({"a/../../model": b"x"}),
    "backslash.tar": entry_of("..\\model"),
    "control.tar": entry_of("mod\nel"),
    "link-out.tar": entry_of("model", tarfile.SYMTYPE, "/etc/passwd"),
    "link-above.tar": entry_of("model", tarfile.SYMTYPE, "../secret"),
    "hard-link-out.tar": entry_of("model", tarfile.LNKTYPE, "/etc/passwd"),
    "link-loop.tar": entry_of("model", tarfile.SYMTYPE, "model"),
    "link-out.zip": linked_zip("model", "/etc/passwd"),
    "device.tar": entry_of("model", tarfile.CHRTYPE),
    "pipe.tar": entry_of("model", tarfile.FIFOTYPE),
    "twice.tar": twice(),
    "folder-and-file.zip": zip_of({"a": b"x", "a/b": b"y"}),
    "long.zip": zip_of({"x" * 300: b"x"}),
    "empty.zip": zip_of({}),
    "nothing.tar": b"",
    "no.zip": b"not a zip",
    "no.tar.gz": b"not a tar",
}


@pytest.mark.parametrize("name", EVIL)
def test_evil_archives(name: str, tmp_path: Path, out: Path) -> None:
    (tmp_path / name).write_bytes(EVIL[name])
    with pytest.raises(InvalidSpecError):
        fetch(str(tmp_path / name), out / "model")
    assert nothing_is_left(out)
    assert {path.name for path in tmp_path.iterdir()} == {name, "out"}


def test_links_inside_become_files(tmp_path: Path, out: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, link in (
            ("snapshot/model", tarfile.SYMTYPE, "../blobs/1"),
            ("again", tarfile.LNKTYPE, "blobs/1"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)
        entry = tarfile.TarInfo("blobs/1")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    (tmp_path / "model.tar").write_bytes(stream.getvalue())
    fetch(str(tmp_path / "model.tar"), out / "model")
    assert content_of(out / "model") == {"blobs/1": b"abc", "snapshot/model": b"abc", "again": b"abc"}
    assert not any(path.is_symlink() for path in (out / "model").rglob("*"))


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_an_archive_cut_anywhere_is_no_model(kind: str, tmp_path: Path, out: Path) -> None:
    contents = {f"part-{number}": os.urandom(600) for number in range(3)}
    modes = {"a.tar": "w", "a.tar.gz": "w:gz", "a.tar.xz": "w:xz"}
    whole = zip_of(contents) if kind == "a.zip" else tar_of(contents, modes[kind])
    end = len(whole.rstrip(b"\0")) if kind == "a.tar" else len(whole)  # empty blocks at the end say nothing
    for cut in {1, 100, 511, 512, 1_024, 1_536, end // 2, end - 1}:
        (tmp_path / kind).write_bytes(whole[:cut])
        with pytest.raises(InvalidSpecError):
            fetch(str(tmp_path / kind), out / "model")
        assert nothing_is_left(out), cut


def test_bombs(tmp_path: Path, out: Path) -> None:
    for name, content in (
        ("a.zip", zip_of({"zeros": bytes(1 << 22)})),
        ("a.tar.gz", tar_of({"zeros": bytes(1 << 22)})),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidSpecError, match="larger than 100000 bytes"):
            fetch(str(tmp_path / name), out / "model", limits=Limits(bytes=100_000))
    (tmp_path / "many.zip").write_bytes(zip_of({f"file-{number}": b"" for number in range(50)}))
    with pytest.raises(InvalidSpecError, match="more than 20 files"):
        fetch(str(tmp_path / "many.zip"), out / "model", limits=Limits(files=20))
    header = bytearray(entry_of("x", tarfile.XHDTYPE))
    header[124:136] = b"77777777777\0"  # a header that says it is 8 GiB long
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "header.tar").write_bytes(bytes(header))
    with pytest.raises(InvalidSpecError, match="broken"):
        fetch(str(tmp_path / "header.tar"), out / "model")
    assert nothing_is_left(out)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"]),
    changes=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=20),
    noise=st.binary(max_size=200),
)
def test_any_bytes_are_an_archive_or_an_error(
    kind: str, changes: list[tuple[int, int]], noise: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    contents = {"model/graph.onnx": b"graph" * 50, "notes": b"n"}
    modes = {"a.tar": "w", "a.tar.gz": "w:gz", "a.tar.xz": "w:xz", "a.tar.bz2": "w:bz2"}
    content = bytearray(zip_of(contents) if kind == "a.zip" else tar_of(contents, modes[kind]))
    for place, value in changes:
        content[place % len(content)] = value
    (folder / kind).write_bytes(bytes(content) + noise if changes else noise)
    try:
        fetch(str(folder / kind), folder / "out" / "model")
    except InvalidSpecError:
        assert nothing_is_left(folder / "out")
    else:
        assert all(path.is_relative_to(folder / "out") for path in (folder / "out").rglob("*"))


@given(st.text(min_size=1, max_size=300))
def test_a_name_stays_inside_or_is_refused(name: str) -> None:
    try:
        inside = inner_path(name, where="")
    except InvalidSpecError:
        return
    assert not inside.is_absolute()
    assert ".." not in inside.parts
    assert str(inside) == name
