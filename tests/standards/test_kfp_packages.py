"""Pipeline packages in every form, and in none."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile

import pytest
import yaml

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards import kfp_packages
from goldenloop.standards.kfp_packages import Package, joined_specification, read_package, split_specification

PIPELINE = {"pipelineInfo": {"name": "p"}, "root": {}, "schemaVersion": "2.1.0"}
PLATFORM = {"platforms": {"kubernetes": {"deploymentSpec": {}}}}
TEXT = yaml.safe_dump_all([PIPELINE, PLATFORM]).encode()


def in_tar(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "."))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def in_zip(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        in_tar(pipeline__yaml=TEXT, other__yaml=b"x: 1"),
        in_tar(mine__yaml=TEXT, README__md=b"read me"),
        in_zip(other__yaml=b"x: 1", pipeline__yaml=TEXT),
        in_zip(mine__yml=TEXT),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_a_package_is_read_by_what_it_holds(content: bytes) -> None:
    assert read_package(content, where="file") == Package(pipeline=PIPELINE, platform=PLATFORM)


def test_json_is_read_too() -> None:
    assert read_package(json.dumps(PIPELINE).encode(), where="file") == Package(pipeline=PIPELINE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"a: [",
        b"just a text",
        b"\x1f\x8b broken",
        b"PK broken",
        gzip.compress(b"no tar"),
        in_tar(),
        in_tar(one__yaml=TEXT, two__yaml=TEXT),
        in_zip(one__yaml=TEXT, two__yaml=TEXT),
        in_zip(README__md=b"read me"),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_what_is_no_package_is_refused_with_its_name(content: bytes) -> None:
    with pytest.raises(InvalidSpecError, match=r"^upload\.yaml"):
        read_package(content, where="upload.yaml")


def test_what_grows_too_large_is_refused_before_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kfp_packages, "LARGEST_PACKAGE", 1 << 20)
    bomb = b"\0" * (8 << 20)
    for packed in (in_tar(pipeline__yaml=bomb), in_zip(pipeline__yaml=bomb)):
        assert len(packed) < 1 << 20
        with pytest.raises(InvalidSpecError, match="unpacked it is larger than 1 MiB"):
            read_package(packed, where="file")
    with pytest.raises(InvalidSpecError, match="larger than 1 MiB"):
        read_package(bomb, where="file")


def test_a_specification_stands_alone_or_beside_its_platform() -> None:
    whole = Package(pipeline=PIPELINE, platform=PLATFORM)
    assert split_specification(joined_specification(whole), where="run") == whole
    alone = Package(pipeline=PIPELINE)
    assert joined_specification(alone) == PIPELINE
    assert split_specification(PIPELINE, where="run") == alone
    assert split_specification({"pipelineSpec": PIPELINE, "platformSpec": {}}, where="run") == alone
    for wrong in (1, {"pipeline_spec": 1}, {"pipeline_spec": PIPELINE, "platform_spec": []}):
        with pytest.raises(InvalidSpecError, match="run"):
            split_specification(wrong, where="run")
