"""A model is fetched whole or not at all, from wherever it lies; what is wrong is said."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import storage_fakes as fakes
from packing import content_of, nothing_is_left, tar_of, write_files, zip_of

from goldenloop.core.errors import (
    ConflictError,
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from goldenloop.serving.storage import Limits, fetch

MODEL = {"iris/model.bst": b"a model " * 50_000, "iris/more/notes.txt": b"read me"}
OBJECTS = {f"models/{name}": content for name, content in MODEL.items()} | {"models/iris-v2/model.bst": b"another"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder in which the target is made, so that what else is left in it is seen."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


# --- this machine


def test_folder_and_file(tmp_path: Path, out: Path) -> None:
    write_files(tmp_path / "source", MODEL)
    fetched = fetch(str(tmp_path / "source"), out / "folder")
    assert content_of(out / "folder") == MODEL
    assert {file.path: (file.sha256, file.size) for file in fetched.files} == {
        name: (sha256(content).hexdigest(), len(content)) for name, content in MODEL.items()
    }
    assert fetched.size == sum(map(len, MODEL.values()))
    fetch(f"file://{tmp_path}/source/iris/model.bst", out / "file")
    assert content_of(out / "file") == {"model.bst": MODEL["iris/model.bst"]}
    with pytest.raises(ConflictError):
        fetch(str(tmp_path / "source"), out / "file")


def test_links_are_followed_once(tmp_path: Path, out: Path) -> None:
    source = write_files(tmp_path / "source", {"model.bst": b"x"})
    (source / "again").symlink_to(source)
    (source / "beside").symlink_to(write_files(tmp_path / "beside", {"weights": b"w"}))
    fetch(str(source), out / "model")
    assert content_of(out / "model") == {"model.bst": b"x", "beside/weights": b"w"}


def test_what_is_no_file(tmp_path: Path, out: Path) -> None:
    source = write_files(tmp_path / "source", {"model.bst": b"x"})
    os.mkfifo(source / "pipe")
    with pytest.raises(InvalidSpecError, match="'pipe' is no file"):
        fetch(str(source), out / "model")
    (source / "pipe").unlink()
    (source / "gone").symlink_to("nowhere")
    with pytest.raises(NotFoundError, match="'gone' leads to nothing"):
        fetch(str(source), out / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSpecError, match="empty"):
        fetch(str(tmp_path / "empty"), out / "model")
    with pytest.raises(NotFoundError):
        fetch(str(tmp_path / "nowhere"), out / "model")
    assert nothing_is_left(out)


def test_claims(tmp_path: Path, out: Path) -> None:
    write_files(tmp_path / "volumes" / "store", MODEL)
    write_files(tmp_path / "secret", {"key": b"k"})
    fetch("pvc://store/iris", out / "model", volumes=tmp_path / "volumes")
    assert content_of(out / "model") == {name.removeprefix("iris/"): content for name, content in MODEL.items()}
    for uri in ("pvc://store/../../secret", "pvc://../secret", "pvc://store/%2e%2e/%2e%2e/secret"):
        with pytest.raises(InvalidSpecError, match="pvc://CLAIM/path"):
            fetch(uri, out / "secret", volumes=tmp_path / "volumes")
    with pytest.raises(NotFoundError, match="mapped to no folder"):
        fetch("pvc://other/iris", out / "other", volumes=tmp_path / "volumes")


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("oci://registry/model:1", RefusedError, "container images"),
        ("hdfs://host/model", RefusedError, "Hadoop"),
        ("https://host/model.git", RefusedError, "git"),
        ("ftp://host/model", InvalidSpecError, "not the address"),
        ("model/iris", InvalidSpecError, "a path begins with '/'"),
        ("", InvalidSpecError, "not the address"),
        ("file://elsewhere/model", InvalidSpecError, "another machine"),
        ("s3://", InvalidSpecError, "no bucket"),
        ("abfs://models", InvalidSpecError, "no account"),
        ("hf://only-one", InvalidSpecError, "hf://ORG/MODEL"),
        ("https:///model", InvalidSpecError, "no host"),
    ],
)
def test_addresses_that_are_none(uri: str, error: type[GoldenloopError], said: str, out: Path) -> None:
    with pytest.raises(error, match=said):
        fetch(uri, out / "model", environment={})
    assert nothing_is_left(out)


# --- object stores


def google_at(address: str) -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": address}


def azure_at(address: str) -> dict[str, str]:
    return {
        "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=account;AccountKey=a2V5;"
        f"BlobEndpoint={address}/account;"
    }


def amazon_at(address: str) -> dict[str, str]:
    return {
        "S3_ENDPOINT": address.removeprefix("http://"),
        "S3_USE_HTTPS": "0",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture(scope="module")
def moto(s3_server: str) -> dict[str, str]:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3_server, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="models")
    for name, content in OBJECTS.items():
        client.put_object(Bucket="models", Key=name.removeprefix("models/"), Body=content)
    client.put_object(Bucket="models", Key="iris/", Body=b"")  # what a console writes for a folder
    client.put_object(Bucket="models", Key="packed/iris.tar.gz", Body=tar_of({"model.bst": b"packed"}))
    return amazon_at(s3_server)


def test_s3(moto: dict[str, str], out: Path) -> None:
    fetched = fetch("s3://models/iris/", out / "folder", environment=moto)
    assert content_of(out / "folder") == {name.removeprefix("iris/"): content for name, content in MODEL.items()}
    assert all(file.etag for file in fetched.files)
    fetch("s3://models/iris/model.bst", out / "file", environment=moto)
    assert content_of(out / "file") == {"model.bst": MODEL["iris/model.bst"]}
    packed = fetch("s3://models/packed", out / "packed", environment=moto)
    assert content_of(out / "packed") == {"model.bst": b"packed"}
    assert packed.archive is not None
    for uri in ("s3://models/iri", "s3://nowhere/iris"):
        with pytest.raises(NotFoundError):
            fetch(uri, out / "none", environment=moto)


def test_s3_by_the_secret_of_kserve(moto: dict[str, str], out: Path) -> None:
    secret = (
        '{"type": "s3", "access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1", '
        f'"endpoint_url": "http://{moto["S3_ENDPOINT"]}"}}'
    )
    fetch("s3://models/iris", out / "model", environment={"STORAGE_CONFIG": secret})
    assert len(content_of(out / "model")) == 2
    with pytest.raises(InvalidSpecError, match="STORAGE_CONFIG"):
        fetch("s3://models/iris", out / "other", environment={"STORAGE_CONFIG": "{"})


@pytest.mark.parametrize(
    ("fake", "scheme", "at"),
    [(fakes.google, "gs", google_at), (fakes.azure, "abfs", azure_at), (fakes.azure, "az", azure_at)],
)
def test_google_and_azure(
    fake: Callable[[Mapping[str, bytes]], fakes.Answer], scheme: str, at: Callable[[str], dict[str, str]], out: Path
) -> None:
    with fakes.web(fake(OBJECTS)) as address:
        environment = at(address)
        fetched = fetch(f"{scheme}://models/iris", out / "folder", environment=environment)
        assert content_of(out / "folder") == {name.removeprefix("iris/"): content for name, content in MODEL.items()}
        assert all(file.etag for file in fetched.files)
        fetch(f"{scheme}://models/iris/model.bst", out / "file", environment=environment)
        assert content_of(out / "file") == {"model.bst": MODEL["iris/model.bst"]}
        with pytest.raises(NotFoundError):
            fetch(f"{scheme}://models/iri", out / "none", environment=environment)


@pytest.mark.parametrize(
    ("fake", "uri", "at"),
    [
        (fakes.google, "gs://models/iris", google_at),
        (fakes.azure, "abfs://models/iris", azure_at),
        (fakes.amazon, "s3://models/iris", amazon_at),
    ],
)
def test_an_object_that_breaks_off_is_no_model(
    fake: Callable[..., fakes.Answer],
    uri: str,
    at: Callable[[str], dict[str, str]],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(_seconds: float) -> None:
        """Google's client waits half a minute between its attempts."""

    monkeypatch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=at_once, TimeoutError=TimeoutError))
    with (
        fakes.web(fake(OBJECTS, cut=1_000)) as address,
        pytest.raises(UnavailableError, match="breaks off|ended after"),
    ):
        fetch(uri, out / "model", environment=at(address))
    assert nothing_is_left(out)


def test_objects_that_change_meanwhile(out: Path) -> None:
    contents = dict(OBJECTS)
    whole = fakes.google(contents)

    def changing(path: str, query: dict[str, list[str]], headers: Mapping[str, str]) -> fakes.Said:
        said = whole(path, query, headers)
        if path.startswith("/download"):
            contents["models/iris/late.bst"] = b"put there meanwhile"
        return said

    with fakes.web(changing) as address, pytest.raises(UnavailableError, match="changed while it was read"):
        fetch("gs://models/iris", out / "model", environment=google_at(address))
    assert nothing_is_left(out)


# --- the web


def test_files_and_archives(out: Path) -> None:
    inside = {"model.bst": b"x" * 100, "deep/er/notes": b"n"}
    contents = {
        "plain.bst": b"plain",
        "a.zip": zip_of(inside),
        "a.tar.gz": tar_of(inside),
        "a.tgz": tar_of(inside),
        "a.tar": tar_of(inside, "w"),
        "a.tar.xz": tar_of(inside, "w:xz"),
        "a.tar.bz2": tar_of(inside, "w:bz2"),
    }
    with fakes.web(fakes.files_of(contents)) as address:
        for name in contents:
            fetched = fetch(f"{address}/{name}", out / name)
            if name == "plain.bst":
                assert content_of(out / name) == {name: b"plain"}
            else:
                assert content_of(out / name) == inside
                assert fetched.archive is not None
                assert fetched.archive.sha256 == sha256(contents[name]).hexdigest()


def test_what_the_server_says_of_it(out: Path) -> None:
    def answer(path: str, _query: dict[str, list[str]], headers: Mapping[str, str]) -> fakes.Said:
        if path == "/download":
            return fakes.Said(zip_of({"model.bst": b"z"}), headers={"Content-Type": "application/zip", "ETag": '"v1"'})
        if path == "/model.skops":  # is a zip, and is no archive
            return fakes.Said(zip_of({"schema.json": b"{}"}), headers={"Content-Type": "application/zip"})
        if path == "/guarded":
            return fakes.Said(b"in", 200 if headers.get("X-Key") == "k" else 403)
        if path == "/away":
            return fakes.Said(status=302, headers={"Location": f"{other}/seen"})
        return fakes.Said(b"no", 404)

    seen: list[Mapping[str, str]] = []

    def elsewhere(_path: str, _query: dict[str, list[str]], headers: Mapping[str, str]) -> fakes.Said:
        seen.append(headers)
        return fakes.Said(b"moved")

    with fakes.web(elsewhere) as other, fakes.web(answer) as address:
        assert fetch(f"{address}/download?token=secret", out / "zip").version == "v1"
        assert content_of(out / "zip") == {"model.bst": b"z"}
        fetch(f"{address}/model.skops", out / "skops")
        assert list(content_of(out / "skops")) == ["model.skops"]
        with pytest.raises(RefusedError, match="403"):
            fetch(f"{address}/guarded", out / "guarded", environment={})
        keys = {"127.0.0.1-headers": '{"X-Key": "k", "Authorization": "Bearer b"}'}
        fetch(f"{address}/guarded", out / "guarded", environment=keys)
        fetch(f"{address}/away", out / "away", environment=keys)
        assert content_of(out / "away") == {"away": b"moved"}
        assert not {"x-key", "authorization"} & {name.lower() for name in seen[0]}, "secrets went to another host"
        with pytest.raises(NotFoundError) as caught:
            fetch(f"{address}/nowhere?token=secret", out / "none")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_breaks_off_is_no_model(chunked: bool, out: Path) -> None:
    asked = []

    def answer(path: str, _query: dict[str, list[str]], _headers: Mapping[str, str]) -> fakes.Said:
        asked.append(path)
        heals = path == "/heals" and len(asked) == 3
        return fakes.Said(b"x" * 100_000, cut=None if heals else 40_000, chunked=chunked)

    with fakes.web(answer) as address:
        fetch(f"{address}/heals", out / "model")
        assert (out / "model" / "heals").stat().st_size == 100_000
        with pytest.raises(UnavailableError, match="breaks off"):
            fetch(f"{address}/broken", out / "broken")
    assert [path.name for path in out.iterdir()] == ["model"]


def test_a_body_without_an_end_is_refused(out: Path) -> None:
    endless = fakes.web(lambda *_: fakes.Said(b"x" * 100, without_length=True))
    with endless as address, pytest.raises(InvalidSpecError, match="how long"):
        fetch(f"{address}/model.bst", out / "model")
    assert nothing_is_left(out)


def test_a_server_that_says_nothing(out: Path) -> None:
    silent = threading.Event()
    with fakes.web(lambda *_: fakes.Said(b"x" * 100, cut=50, waits=silent)) as address:
        try:
            with pytest.raises(UnavailableError, match="timed out"):
                fetch(f"{address}/model.bst", out / "model", limits=Limits(silence_seconds=0.1))
        finally:
            silent.set()
    with pytest.raises(UnavailableError, match="refused"):
        fetch(f"{address}/model.bst", out / "model")
    assert nothing_is_left(out)


def test_hub(out: Path) -> None:
    contents = {"config.json": b"{}", "onnx/model.onnx": b"graph" * 100}
    large = {"onnx/model.onnx": {"lfs": {"sha256": sha256(contents["onnx/model.onnx"]).hexdigest()}}}
    with fakes.web(fakes.hub("org/model", contents, listed=large, token="t")) as address:
        environment = {"HF_ENDPOINT": address, "HF_TOKEN": "t"}
        for number, uri in enumerate(("hf://org/model", "hf://org/model:v1", "hf://org/model@v1")):
            fetched = fetch(uri, out / f"model-{number}", environment=environment)
            assert content_of(out / f"model-{number}") == contents
            assert fetched.version == "c0ffee"
        with pytest.raises(RefusedError, match="401"):
            fetch("hf://org/model", out / "none", environment={"HF_ENDPOINT": address})
        with pytest.raises(NotFoundError):
            fetch("hf://org/other", out / "none", environment=environment)


@pytest.mark.parametrize("wrong", [{"lfs": {"sha256": "0" * 64}}, {"size": 7}, {"rfilename": "../out"}])
def test_hub_that_lists_other_files(wrong: dict[str, object], out: Path) -> None:
    lying = fakes.web(fakes.hub("org/model", {"model.onnx": b"graph"}, listed={"model.onnx": wrong}))
    said = "not the file that the hub lists|not the name"
    with lying as address, pytest.raises((UnavailableError, InvalidSpecError), match=said):
        fetch("hf://org/model", out / "model", environment={"HF_ENDPOINT": address})
    assert nothing_is_left(out)


# --- killed, and no room


def test_killed_in_the_middle(out: Path) -> None:
    never = threading.Event()
    half = fakes.Said(b"x" * 3_000_000, cut=2_000_000, waits=never)
    with fakes.web(lambda path, *_: half if path == "/model.bst" else fakes.Said(b"whole")) as address:
        program = (
            "import sys; from pathlib import Path; from goldenloop.serving.storage import fetch; "
            "fetch(sys.argv[1], Path(sys.argv[2]))"
        )
        child = subprocess.Popen([sys.executable, "-c", program, f"{address}/model.bst", str(out / "model")])
        try:
            patience = time.monotonic() + 30
            while not any(path.stat().st_size > 0 for path in out.rglob("* fetched")) and time.monotonic() < patience:
                time.sleep(0.02)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
            never.set()
        assert [path.name.partition(".partial-")[0] for path in out.iterdir()] == [".model"], "nothing was under way"
        fetch(f"{address}/whole", out / "model")
    assert [path.name for path in out.iterdir()] == ["model"]
    assert content_of(out / "model") == {"whole": b"whole"}


def test_no_room(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_files(tmp_path / "source", MODEL)
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, bounds[1]))
    try:
        with pytest.raises(UnavailableError, match="no room"):
            fetch(str(source), out / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
    assert nothing_is_left(out)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space left"):
        fetch(str(source), out / "model")
    assert nothing_is_left(out)


def test_out_of_time(out: Path, tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", MODEL)
    with pytest.raises(UnavailableError, match="longer than"):
        fetch(str(source), out / "model", limits=Limits(seconds=0.0))
    assert nothing_is_left(out)
