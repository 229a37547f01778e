"""Environments: which packages a step needs, that each set is built once, whole or not at all, and what goes wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kfp import dsl

from goldenloop.pipelines import environment_build, local
from goldenloop.pipelines.environment_build import uv_options
from goldenloop.pipelines.environments import Environments, PackageSet, is_satisfied, packages_of, wanted
from goldenloop.pipelines.executor import Outcome, StepRequest
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.testing.executors import results_of, shell


def wheel(folder: Path, name: str, version: str = "1.0", *, requires: str = "") -> Path:
    """Write a wheel with one module, which says the version."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{information}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else ""))
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> tuple[str, ...]:
    """The options that say where the wheels of these tests are."""
    folder = tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        wheel(folder, "gl_first", version)
    wheel(folder, "gl_second", requires="gl_first<2")
    return ("--no-index", "--find-links", str(folder))


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(preimported=(), environments=tmp_path / "environments")
    yield executor
    executor.close()


def asks(folder: Path, script: str, *packages: str) -> StepRequest:
    return msgspec.structs.replace(shell(folder, script), packages=packages)


def python(code: str) -> str:
    return f'python3 -c "{code}"'


def builds(folder: Path) -> list[Path]:
    return [path for path in (folder / "environments").glob("*/build-*") if path.is_dir()]


@dsl.component(
    base_image="python:3.11",
    packages_to_install=["gl_first==1.0", "gl-second"],
    pip_index_urls=["https://index.example/simple"],
)
def needs_packages():  # type: ignore[no-untyped-def]  # kfp reads annotations, and these are texts here
    print("x")


@dsl.component(base_image="python:3.11")
def needs_nothing():  # type: ignore[no-untyped-def]  # kfp reads annotations, and these are texts here
    print("x")


def command_of(component: object) -> tuple[str, ...]:
    container = component.component_spec.implementation.container  # type: ignore[attr-defined]
    return tuple(container.command)


def test_the_words_for_pip_are_read_from_a_component() -> None:
    index = "https://index.example/simple"
    words = packages_of(command_of(needs_packages))
    assert words == ("--index-url", index, "--trusted-host", index, "gl_first==1.0", "gl-second")
    assert packages_of(command_of(needs_nothing)) == ()
    assert packages_of(("sh", "-c", "pip install much")) == ()


def test_what_is_here_needs_no_environment() -> None:
    assert wanted(()) is None
    assert wanted(("numpy", "pandas>=1", "kfp", 'gl_first; python_version < "3"')) is None
    needs = wanted(("numpy", "gl_second", "--index-url", "https://index.example", "gl_first==1.0"))
    assert needs == PackageSet(
        requirements=("gl_first==1.0", "gl_second", "numpy"), options=("--index-url", "https://index.example")
    )
    over = wanted(("goldenloop", "gl_first"))
    assert over == PackageSet(requirements=("gl_first",), over_ours=True)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("numpy>=1", True),
        ("numpy<1", False),
        ("gl_nobody", False),
        ("./folder", False),
        ("numpy @ https://index.example/numpy.whl", False),
        ("kfp[all]", False),
    ],
)
def test_is_satisfied(text: str, there: bool) -> None:
    assert is_satisfied(text) is there


def test_the_key_knows_order_from_difference() -> None:
    one, other = wanted(("gl_a", "gl_b")), wanted(("gl_b", "gl_a"))
    assert one is not None
    assert other is not None
    assert one.key == other.key
    different = [
        wanted(("gl_a",)),
        wanted(("gl_a", "gl_b==1")),
        wanted(("gl_a", "gl_b", "--pre")),
        wanted(("gl_agl_b",)),
    ]
    assert len({one.key, *(each.key for each in different if each is not None)}) == 5


def test_a_step_gets_its_packages_and_only_them(
    executor: LocalExecutor, tmp_path: Path, wheels: tuple[str, ...]
) -> None:
    first = asks(tmp_path, python("import gl_first; print('version', gl_first.VERSION)"), *wheels, "gl_first==1.0")
    again = asks(tmp_path, python("import gl_second, gl_first; print(gl_first.VERSION)"), *wheels, "gl_second")
    ours = asks(tmp_path, python("import numpy"), *wheels, "gl_first==1.0")
    runtime = asks(tmp_path, "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --help", *wheels, "gl_first==1.0")
    for request in (first, again, ours, runtime):
        executor.submit(request)
    results = results_of(executor, 4)
    assert results[first.id].succeeded
    assert "version 1.0" in Path(first.log).read_text()
    assert results[again.id].succeeded, "what a package needs is there too"
    assert "ModuleNotFoundError" in Path(ours.log).read_text(), "as in the container that it was written for"
    assert results[runtime.id].succeeded, Path(runtime.log).read_text()
    assert len(builds(tmp_path)) == 2, "one environment for each set"


def test_an_environment_is_built_once_and_kept(
    executor: LocalExecutor, tmp_path: Path, wheels: tuple[str, ...]
) -> None:
    other = LocalExecutor(preimported=(), environments=tmp_path / "environments")
    try:
        requests = [asks(tmp_path, python("import gl_first"), *wheels, "gl_first") for _ in range(4)]
        for request in requests[:2]:
            executor.submit(request)
        for request in requests[2:]:
            other.submit(request)
        assert all(result.succeeded for each in (executor, other) for result in results_of(each, 2).values())
    finally:
        other.close()
    [build] = builds(tmp_path)
    before = build.stat().st_mtime_ns
    later = asks(tmp_path, python("import gl_first"), *wheels, "gl_first")
    executor.submit(later)
    assert results_of(executor, 1)[later.id].succeeded
    assert [(path, path.stat().st_mtime_ns) for path in builds(tmp_path)] == [(build, before)]
    assert Path(later.log).read_text() == "", "a log says only what a person has to know"


def test_what_cannot_be_installed_is_said(executor: LocalExecutor, tmp_path: Path, wheels: tuple[str, ...]) -> None:
    request = asks(tmp_path, "true", *wheels, "gl_first==3.0")
    executor.submit(request)
    result = results_of(executor, 1)[request.id]
    assert result.outcome is Outcome.REFUSED
    assert "gl_first==3.0" in result.describe()
    assert "could not be installed" in result.describe()
    assert "could not be installed" in Path(request.log).read_text()
    good = asks(tmp_path, "true", *wheels, "gl_first==2.0")
    executor.submit(good)
    assert results_of(executor, 1)[good.id].succeeded


def test_a_killed_build_leaves_nothing_half_done(
    tmp_path: Path, wheels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer that hangs is killed with its owner; the next one builds anew and clears away."""
    slow = tmp_path / "slow"
    slow.mkdir()
    program = (
        f"#!/bin/sh\nmkdir -p {tmp_path}/begun; case $1 in venv) for l; do :; done; mkdir -p $l;; esac; sleep 60\n"
    )
    (slow / "uv").write_text(program)
    (slow / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    first = LocalExecutor(
        preimported=("goldenloop.pipelines.environment_build",), environments=tmp_path / "environments"
    )
    request = asks(tmp_path, python("import gl_first"), *wheels, "gl_first")
    if environment_build.uv_program() != str(slow / "uv"):
        pytest.skip("there is a uv beside this interpreter, which goes first")
    first.submit(request)
    deadline = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        assert first.poll() == []
        time.sleep(0.02)
    first.cancel(request.id)
    assert results_of(first, 1)[request.id].outcome is Outcome.CANCELED
    os.kill(first._zygote.pid, signal.SIGKILL)
    first.close()
    assert not list((tmp_path / "environments").glob("*/current"))
    left = builds(tmp_path)
    (slow / "uv").unlink()
    second = LocalExecutor(preimported=(), environments=tmp_path / "environments")
    try:
        second.submit(again := asks(tmp_path, python("import gl_first"), *wheels, "gl_first"))
        assert results_of(second, 1)[again.id].succeeded
    finally:
        second.close()
    assert len(builds(tmp_path)) == 1
    assert not any(path.exists() for path in left)


def test_few_interpreters_serve_many_environments(
    executor: LocalExecutor, tmp_path: Path, wheels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_MOST_INTERPRETERS", 1)
    sets = [("gl_first==1.0",), ("gl_first==2.0",), ("gl_second",)]
    requests = [asks(tmp_path, python("import gl_first"), *wheels, *words) for words in sets * 2]
    for request in requests:
        executor.submit(request)
    assert all(result.succeeded for result in results_of(executor, len(requests)).values())
    assert len(executor._others) == 1


def test_environments_that_nobody_uses_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldenloop.pipelines.environments._MOST_KEPT", 1)
    kept = Environments(tmp_path)
    used = []
    for number, name in enumerate(("a", "b", "c")):
        needs = PackageSet(requirements=(name,))
        place = kept.place(needs)
        (place / "build-1" / "bin").mkdir(parents=True)
        (place / "build-1" / "bin" / "python").touch()
        (place / "current").symlink_to("build-1")
        (place / "lock").touch()
        os.utime(place / "lock", (number, number))
        used.append(needs)
    held = kept.use(used[0])
    assert held is not None
    os.utime(tmp_path / used[0].key / "lock", (0, 0))
    kept.prune()
    assert [kept.use(needs) is not None for needs in used] == [True, False, True], "in use; too old; new"
    held.give_back()


def test_pip_builds_where_there_is_no_uv(
    tmp_path: Path, wheels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_build, "uv_program", lambda: None)
    needs = wanted((*wheels, "gl_second"))
    assert needs is not None
    kept = Environments(tmp_path / "environments")
    arguments = ["environment_build", str(kept.place(needs)), msgspec.json.encode(needs).decode()]
    monkeypatch.setattr("sys.argv", arguments)
    environment_build.main()
    environment = kept.use(needs)
    assert environment is not None
    found = next((environment.folder / "lib").glob("python*/site-packages/gl_first.py"))
    assert "1.0" in found.read_text()
    environment.give_back()


def test_builders_wait_for_each_other(tmp_path: Path, wheels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    needs = wanted((*wheels, "gl_first"))
    assert needs is not None
    installed: list[Path] = []

    def install(folder: Path, _wanted: PackageSet) -> None:
        installed.append(folder)
        time.sleep(0.2)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()
        (folder / "lib" / "python3" / "site-packages").mkdir(parents=True)

    monkeypatch.setattr(environment_build, "_install", install)
    place = Environments(tmp_path).place(needs)
    monkeypatch.setattr("sys.argv", ["x", str(place), msgspec.json.encode(needs).decode()])
    threads = [threading.Thread(target=environment_build.main) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(installed) == 1
    assert (place / "current").resolve() == installed[0].resolve()


def test_uv_is_told_what_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nfind-links = /wheels\n  /more\nno-index = true\ntimeout = 3\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert uv_options(()) == []
    monkeypatch.setattr(environment_build, "_configuration_files", lambda: [configuration])
    assert uv_options(()) == ["--find-links", "/wheels", "--find-links", "/more", "--no-index"]
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "/other")
    assert uv_options(()) == ["--find-links", "/other"]
    index = "https://index.example/simple"
    assert uv_options(("-i", index, "--trusted-host", index, "--only-binary=:all:")) == [
        *("--find-links", "/other", "--default-index", index),
        *("--allow-insecure-host", "index.example", "--only-binary=:all:"),
    ]


def test_passwords_do_not_get_into_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    environment_build._call("true", "--index", "https://user:secret@index.example/simple")
    said = capfd.readouterr().out
    assert "index.example/simple" in said
    assert "secret" not in said
