"""Whatever bytes a model file has: a served form, or an error that says what is wrong. Never a crash of whoever asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import model_files
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import WRITERS, mlflow_folder

from goldenloop.control.jobs import Failure
from goldenloop.control.work.examine import examine
from goldenloop.control.work.main import main
from goldenloop.control.work.records import Examination, Examined, Source
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, RefusedError, UnavailableError
from goldenloop.core.ids import digest_file
from goldenloop.core.served import SERVED_FILE, ServedForm
from goldenloop.serving.formats import recognise
from goldenloop.serving.models import load

_WHOLE: dict[str, bytes] = {}


def whole(file: str, folder: Path) -> bytes:
    if file not in _WHOLE:
        WRITERS[file][2](folder / f"whole.{file}")
        _WHOLE[file] = (folder / f"whole.{file}").read_bytes()
    return _WHOLE[file]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(sorted(WRITERS)),
    of=st.sampled_from(sorted(WRITERS)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8),
    cut=st.floats(0.0, 1.0),
    said=st.sampled_from([None, *sorted({kind for kind, _, _ in WRITERS.values()})]),
)
def test_recognition_of_anything(
    file: str,
    of: str,
    changes: list[tuple[int, int]],
    cut: float,
    said: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(whole(of, tmp_path_factory.getbasetemp()))
    content = content[: max(1, int(len(content) * cut))]
    for place, value in changes:
        content[place % len(content)] = value
    (folder / file).write_bytes(bytes(content))
    trusted = frozenset({digest_file(folder / file)})
    try:
        found = recognise(folder, said=said, trusted=trusted)
    except (InvalidSpecError, RefusedError) as error:
        assert str(error)
    else:
        assert found.file == file


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=400))
def test_any_description_of_mlflow(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "MLmodel").write_text(f"flavors:\n  {text}", encoding="utf-8", errors="replace")
    with pytest.raises((InvalidSpecError, RefusedError)):
        recognise(folder)


# --- the examination, with its second process


def run(tmp_path: Path, source: Path | str, **settings: object) -> Examined:
    folder = tmp_path / "job"
    folder.mkdir()
    return examine(Examination(sources=(Source(uri=str(source)),), **settings), folder)  # type: ignore[arg-type]


def test_from_an_address_to_a_served_form(tmp_path: Path) -> None:
    """As control asks for it: by a folder with the request, in a process of its own."""
    model_files.write_xgboost(tmp_path / "model.bst")
    folder = tmp_path / "job"
    folder.mkdir()
    request = Examination(sources=(Source(uri=f"file://{tmp_path}/model.bst"),), format="xgboost")
    (folder / "request.json").write_bytes(msgspec.json.encode(request))
    command = [sys.executable, "-m", "goldenloop.control.work.main", "examine", str(folder)]
    assert subprocess.run(command, check=False).returncode == 0
    examined = msgspec.json.decode((folder / "response.json").read_bytes(), type=Examined)
    assert (examined.form, examined.runtime, examined.format) == ("table", "onnx", "xgboost")
    assert examined.size_bytes > 0
    assert any("Converted to ONNX" in note for note in examined.notes)
    fetched = examined.source["fetched"][0]  # type: ignore[index]
    assert fetched["files"][0]["sha256"] == digest_file(tmp_path / "model.bst")  # type: ignore[index, call-overload]
    form = msgspec.json.decode((Path(examined.folder) / SERVED_FILE).read_bytes(), type=ServedForm)
    assert form.signature == load(Path(examined.folder)).signature
    assert not (folder / "model").exists()


def test_the_same_model_has_the_same_digest(tmp_path: Path) -> None:
    model_files.write_skops(tmp_path / "model.skops")
    digests = set()
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.add(run(folder, tmp_path / "model.skops").digest)
    assert len(digests) == 1


def test_several_sources(tmp_path: Path) -> None:
    model_files.write_python(tmp_path / "model.py")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.txt").write_text("a")
    folder = tmp_path / "job"
    folder.mkdir()
    sources = (
        Source(uri=str(tmp_path / "words"), folder="data/words"),
        Source(uri=str(tmp_path / "model.py")),
    )
    examined = examine(Examination(sources=sources), folder)
    assert (Path(examined.folder) / "data" / "words" / "a.txt").read_text() == "a"
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidSpecError, match="leads out"):
        examine(Examination(sources=(Source(uri=str(tmp_path), folder="../out"),)), tmp_path / "other")


def test_secrets_stay_in_the_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trusted pickle that looks for them finds none."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from the operator")
    seen = tmp_path / "seen"
    look = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    program = (
        "import os, pickle, sys\n"
        "class Look:\n"
        "    def __reduce__(self):\n"
        f"        return exec, ({look!r},)\n"
        f"pickle.dump(Look(), open({str(tmp_path / 'model.pkl')!r}, 'wb'))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(RefusedError, match="goldenloop trust"):
        run(tmp_path, tmp_path / "model.pkl")
    assert not seen.exists(), "a pickle was loaded that nobody trusts"
    (tmp_path / "again").mkdir()
    trusted = (digest_file(tmp_path / "model.pkl"),)
    with pytest.raises(InvalidSpecError, match="no predict"):
        run(
            tmp_path / "again",
            tmp_path / "model.pkl",
            trusted=trusted,
            environment={"AWS_SESSION_TOKEN": "from the service"},
        )
    assert "PATH" in seen.read_text()
    assert "from the" not in seen.read_text()


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("os.kill(os.getpid(), 11)", InvalidSpecError, "SIGSEGV"),
        ("os._exit(3)", InvalidSpecError, "exit code 3"),
        ("os.kill(os.getpid(), 9)", UnavailableError, "killed"),
        ("(_ for _ in ()).throw(ValueError('boom'))", InvalidSpecError, "boom"),
    ],
)
def test_a_file_that_crashes_its_reader(code: str, error: type[GoldenloopError], said: str, tmp_path: Path) -> None:
    program = (
        "import pickle, os\n"
        "class Crash:\n"
        "    def __reduce__(self):\n"
        f"        return eval, ('[os := __import__(\"os\"), ' + {code!r} + ']',)\n"
        f"pickle.dump(Crash(), open({str(tmp_path / 'model.pkl')!r}, 'wb'))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(error, match=said):
        run(tmp_path, tmp_path / "model.pkl", trusted=(digest_file(tmp_path / "model.pkl"),))


@pytest.mark.parametrize("file", ["model.onnx", "model.skops", "model.bst", "model.json", "model.txt"])
def test_broken_files_end_in_an_error(file: str, tmp_path: Path) -> None:
    """Cut in half, and with bytes changed in the middle: through both processes, since the libraries are other people's C++."""
    WRITERS[file][2](tmp_path / file)
    content = (tmp_path / file).read_bytes()
    generator = np.random.default_rng(1)
    noisy = bytearray(content)
    for place in generator.integers(64, len(content), 40).tolist():
        noisy[place] = int(generator.integers(0, 256))
    for number, broken in enumerate((content[: len(content) // 2], bytes(noisy))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / file).write_bytes(broken)
        with pytest.raises((InvalidSpecError, RefusedError)) as caught:
            run(folder, folder / file)
        # LightGBM aborts the process of some broken files, which is why there is one; an error of Python's own would be ours.
        assert "exit code" not in str(caught.value)


def test_failures_travel(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    request = Examination(sources=(Source(uri="/nowhere/at/all"),))
    (folder / "request.json").write_bytes(msgspec.json.encode(request))
    assert main("examine", folder) == 1
    failure = msgspec.json.decode((folder / "failure.json").read_bytes(), type=Failure)
    assert failure.kind == NotFoundError.__name__


def test_code_from_a_public_place_is_asked_for(tmp_path: Path) -> None:
    import storage_fakes

    program = b"class Model:\n    def predict(self, x):\n        return x\n"
    with storage_fakes.web(storage_fakes.files_of({"model.py": program})) as address:
        with pytest.raises(RefusedError, match="nobody asked to run"):
            run(tmp_path, f"{address}/model.py")
        (tmp_path / "asked").mkdir()
        assert run(tmp_path / "asked", f"{address}/model.py", format="python").form == "code"


def test_mlflow_without_its_package(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path / "m", "  sklearn:\n    pickled_model: model.skops\n")
    model_files.write_skops(folder / "model.skops")
    examined = run(tmp_path, folder)
    assert (examined.format, examined.runtime) == ("mlflow", "onnx")
