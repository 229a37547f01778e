"""Artifacts in a local folder, and in an object store that speaks S3."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.store.artifacts import Artifacts
from goldenloop.testing.artifacts import ArtifactsConformance, every_file, make_folder

_numbers = itertools.count()


class TestFolder(ArtifactsConformance):
    @pytest.fixture
    def location(self, tmp_path: Path) -> str:
        return str(tmp_path / "artifacts")

    def test_its_own_file_is_handed_out(self, artifacts: Artifacts, location: str) -> None:
        assert artifacts.local(artifacts.put_bytes(b"x")).is_relative_to(location)

    def test_a_place_that_is_a_file_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        with pytest.raises(UnavailableError, match="Check the address") as caught:
            Artifacts(str(tmp_path / "taken"), cache=tmp_path / "cache")
        assert caught.value.where == str(tmp_path / "taken")

    def test_a_full_disk_is_explained_and_leaves_nothing(
        self, artifacts: Artifacts, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        folder = make_folder(tmp_path / "given")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_room)
            with pytest.raises(UnavailableError, match="room that is left"):
                artifacts.put_bytes(b"x")
            with pytest.raises(UnavailableError, match="No space left on device"):
                artifacts.put(folder)
        assert every_file(location) == {}
        assert artifacts.exists(artifacts.put(folder)), "and once there is room, it goes on"


class TestObjectStore(ArtifactsConformance):
    """Client options come from the environment, as with every tool that speaks S3."""

    @pytest.fixture
    def location(self, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return f"s3://bucket-{next(_numbers)}/team/prefix"

    def test_it_is_fetched_once(self, artifacts: Artifacts, tmp_path: Path) -> None:
        address = artifacts.put_bytes(b"x")
        first = artifacts.local(address)
        assert first.is_relative_to(tmp_path / "cache")
        assert artifacts.local(address).stat().st_ino == first.stat().st_ino

    def test_a_server_that_is_not_there_is_explained(
        self, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import s3fs

        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9") as caught:
                Artifacts(location, cache=tmp_path / "cache")
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
        assert caught.value.where == location


def test_a_protocol_that_nobody_knows_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="s3://BUCKET/PREFIX"):
        Artifacts("carrier-pigeon://coop", cache=tmp_path)
