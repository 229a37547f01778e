"""What every place for artifacts must do. Inherit `ArtifactsConformance` and give the fixture `location`.

class TestMine(ArtifactsConformance):
    @pytest.fixture
    def location(self, tmp_path):
        return "myprotocol://fresh-and-empty"
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import fsspec
import pytest

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.ids import digest_bytes
from goldenloop.store.artifacts import Artifacts


def every_file(location: str) -> dict[str, bytes]:
    """All that lies in a place, by path: to see what was really written."""
    files, root = fsspec.core.url_to_fs(location, use_listings_cache=False)
    return {path: files.cat_file(path) for path in files.find(root)}


def make_folder(folder: Path) -> Path:
    """A folder with files on two levels."""
    (folder / "inner" / "deep").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "inner" / "deep" / "table.csv").write_bytes(b"a,b\n1,2\n")
    (folder / "empty.txt").write_bytes(b"")
    return folder


class ArtifactsConformance:
    """The rules of `goldenloop.store.artifacts.Artifacts`, as tests."""

    @pytest.fixture
    def location(self) -> str:
        """Where a fresh, empty store may be made."""
        raise NotImplementedError("a suite that inherits this one says where")

    @pytest.fixture
    def artifacts(self, location: str, tmp_path: Path) -> Artifacts:
        """The store under test."""
        return Artifacts(location, cache=tmp_path / "cache")

    def test_a_file_comes_back_as_it_was(self, artifacts: Artifacts, tmp_path: Path) -> None:
        file = tmp_path / "rows.parquet"
        file.write_bytes(bytes(range(256)) * 100)
        address = artifacts.put(file)
        assert address == f"artifact:{digest_bytes(file.read_bytes())}"
        assert artifacts.exists(address)
        assert artifacts.local(address).read_bytes() == file.read_bytes()
        assert artifacts.read_bytes(address) == file.read_bytes()
        assert file.exists(), "the original stays"

    def test_bytes_come_back_as_they_were(self, artifacts: Artifacts) -> None:
        for content in (b"", b"x", b"\x00\xff" * 1_000):
            address = artifacts.put_bytes(content)
            assert address == f"artifact:{digest_bytes(content)}"
            assert artifacts.read_bytes(address) == content

    def test_a_folder_comes_back_as_it_was(self, artifacts: Artifacts, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "given")
        address = artifacts.put(folder)
        assert address.endswith("/")
        found = artifacts.local(address)
        for path in folder.rglob("*"):
            if path.is_file():
                assert (found / path.relative_to(folder)).read_bytes() == path.read_bytes()
        visible = {path.relative_to(found).as_posix() for path in found.rglob("[!.]*") if path.is_file()}
        assert visible == {"model.onnx", "inner/deep/table.csv", "empty.txt"}

    def test_an_empty_folder_is_one(self, artifacts: Artifacts, tmp_path: Path) -> None:
        (tmp_path / "nothing").mkdir()
        address = artifacts.put(tmp_path / "nothing")
        assert artifacts.exists(address)
        assert artifacts.local(address).is_dir()

    def test_the_same_content_is_kept_once(self, artifacts: Artifacts, location: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"same")
        (tmp_path / "b").write_bytes(b"same")
        addresses = {artifacts.put(tmp_path / "a"), artifacts.put(tmp_path / "b"), artifacts.put_bytes(b"same")}
        folders = {artifacts.put(make_folder(tmp_path / "one")), artifacts.put(make_folder(tmp_path / "two"))}
        assert len(addresses) == 1
        assert len(folders) == 1
        contents = list(every_file(location).values())
        assert contents.count(b"same") == 1
        assert contents.count(b"graph") == 1

    def test_what_differs_in_name_or_content_has_another_address(self, artifacts: Artifacts, tmp_path: Path) -> None:
        first = artifacts.put(make_folder(tmp_path / "first"))
        renamed = make_folder(tmp_path / "renamed")
        os.rename(renamed / "model.onnx", renamed / "other.onnx")
        changed = make_folder(tmp_path / "changed")
        (changed / "model.onnx").write_bytes(b"another graph")
        assert len({first, artifacts.put(renamed), artifacts.put(changed)}) == 3

    def test_a_second_store_at_the_same_place_sees_it(
        self, artifacts: Artifacts, location: str, tmp_path: Path
    ) -> None:
        other = Artifacts(location, cache=tmp_path / "other-cache")
        address = "artifact:" + digest_bytes(b"told")
        assert not other.exists(address), "asked for before it is there, so that a cached answer would show"
        assert artifacts.put_bytes(b"told") == address
        assert other.read_bytes(address) == b"told"
        folder = artifacts.put(make_folder(tmp_path / "given"))
        assert (other.local(folder) / "model.onnx").read_bytes() == b"graph"

    def test_part_of_a_folder_is_no_folder(self, artifacts: Artifacts, location: str, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "given")
        address = artifacts.put(folder)
        files, _ = fsspec.core.url_to_fs(location, use_listings_cache=False)
        manifests = [path for path in every_file(location) if path.endswith(".manifest.json")]
        assert len(manifests) == 1
        files.rm_file(manifests[0])  # what a writer leaves that dies before the last file
        assert not artifacts.exists(address)
        with pytest.raises(NotFoundError):
            Artifacts(location, cache=tmp_path / "fresh-cache").local(address)
        assert artifacts.put(folder) == address, "and the next writer makes it whole"
        assert artifacts.exists(address)
        assert (artifacts.local(address) / "model.onnx").read_bytes() == b"graph"

    def test_nothing_is_left_of_writing_but_the_content(
        self, artifacts: Artifacts, location: str, tmp_path: Path
    ) -> None:
        artifacts.put_bytes(b"x")
        artifacts.put(make_folder(tmp_path / "given"))
        assert sorted(path.rpartition("/")[2] for path in every_file(location)) == sorted(
            [".manifest.json", "empty.txt", "model.onnx", "table.csv", digest_bytes(b"x")]
        )

    def test_what_is_not_there_is_not_found(self, artifacts: Artifacts, tmp_path: Path) -> None:
        for address in ("artifact:" + "0" * 64, "artifact:" + "0" * 64 + "/"):
            assert not artifacts.exists(address)
            with pytest.raises(NotFoundError, match="gone"):
                artifacts.local(address)
        with pytest.raises(NotFoundError, match="no file or folder"):
            artifacts.put(tmp_path / "never-made")

    @pytest.mark.parametrize(
        "address",
        ["", "artifact:", "s3://b/k", "artifact:" + "g" * 64, "artifact:" + "../" * 21 + "a", "artifact:" + "0" * 63],
    )
    def test_an_address_is_checked(self, artifacts: Artifacts, address: str) -> None:
        with pytest.raises(InvalidSpecError, match="artifact:SHA256"):
            artifacts.local(address)

    def test_links_are_refused(self, artifacts: Artifacts, location: str, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        folder = make_folder(tmp_path / "given")
        (folder / "inner" / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(InvalidSpecError, match="link") as caught:
            artifacts.put(folder)
        assert "inner/link" in caught.value.where
        assert every_file(location) == {}, "nothing was written"

    def test_the_name_of_the_manifest_is_taken(self, artifacts: Artifacts, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "given")
        (folder / ".manifest.json").write_text("{}")
        with pytest.raises(InvalidSpecError, match="taken"):
            artifacts.put(folder)

    def test_what_is_handed_out_is_read_only(self, artifacts: Artifacts, tmp_path: Path) -> None:
        file = artifacts.local(artifacts.put_bytes(b"x"))
        folder = artifacts.local(artifacts.put(make_folder(tmp_path / "given")))
        for path in (file, folder / "model.onnx", folder / "inner" / "deep" / "table.csv"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0, path

    def test_many_writers_of_the_same_content(self, artifacts: Artifacts, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "given")
        addresses: list[str] = []
        errors: list[BaseException] = []

        def put() -> None:
            try:
                addresses.extend([artifacts.put(folder), artifacts.put_bytes(b"shared" * 10_000)])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=put) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(set(addresses)) == 2
        assert all(artifacts.exists(address) for address in addresses)
