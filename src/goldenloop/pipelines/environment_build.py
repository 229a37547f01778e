"""The program that builds an environment: FOLDER and its package set as JSON. It runs as a step of the executor, so that
it ends when its owner does; what it prints is the build's log.

uv makes it where there is one, pip otherwise. What tells pip where packages come from (its variables PIP_… and its
configuration files: indexes, links to wheels, hosts, certificates, constraints) is told to uv too.
"""

from __future__ import annotations

import configparser
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
import venv
from pathlib import Path

import msgspec

from goldenloop.pipelines.environments import Environments, PackageSet, lock, runtime_files

_USAGE = 2  # uv's exit code for options that it does not know
_SITE = "goldenloop-runtime.pth"
# pip's settings that say where packages come from, and uv's option for each; True for those that take no value.
_SETTINGS = {
    "index-url": ("--default-index", False),
    "extra-index-url": ("--index", False),
    "find-links": ("--find-links", False),
    "constraint": ("--constraints", False),
    "trusted-host": ("--allow-insecure-host", False),
    "no-index": ("--no-index", True),
    "pre": ("--prerelease=allow", True),
}
_SEVERAL = frozenset({"extra-index-url", "find-links", "constraint", "trusted-host"})
_PASSWORD = re.compile(r"//[^/@\s']+@")
_FALSE = frozenset({"", "0", "false", "no", "off", "n", "f"})


def main() -> None:
    """Build, unless another did while we waited for the lock. The exit code is that of what failed."""
    place, wanted = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=PackageSet)
    held = lock(place)
    if held is None:
        sys.exit(f"the environment's folder {place} was removed")
    try:
        if (place / "current" / "bin" / "python").exists():
            print("it is there: another built it")
            return
        _build(place, wanted)
    finally:
        os.close(held)
    Environments(place.parent).prune()


def _build(place: Path, wanted: PackageSet) -> None:
    """Build aside; the last act puts the link."""
    for left in place.glob("build-*/"):
        shutil.rmtree(left, ignore_errors=True)
    began = time.monotonic()
    folder = place / f"build-{uuid.uuid4().hex[:12]}"
    _install(folder, wanted)
    _lay_below(folder, over_ours=wanted.over_ours)
    link = place / "next"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(place / "current")
    print(f"built in {time.monotonic() - began:.1f} s: {wanted.describe()}")


def uv_program() -> str | None:
    """uv, beside this interpreter or on the PATH."""
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")


def uv_options(words: tuple[str, ...]) -> list[str]:
    """The words that tell uv what pip's options, variables and configuration files say.

    >>> uv_options(("--index-url", "https://a.example/simple"))[-2:]
    ['--default-index', 'https://a.example/simple']
    """
    told: list[str] = []
    rest = iter(words)
    given = {word for word in words if word.startswith("-")}
    for name, value in _pip_settings():
        option, is_flag = _SETTINGS[name]
        if f"--{name}" in given and name not in _SEVERAL:
            continue  # the command line goes first
        told += [option] if is_flag else [word for part in value.split() for word in (option, part)]
    for word in rest:
        name = {"-i": "index-url", "-f": "find-links", "-c": "constraint"}.get(word, word.removeprefix("--"))
        option, is_flag = _SETTINGS.get(name, (word, True))
        told += [option] if is_flag else [option, _uv_value(name, next(rest, ""))]
    return told


def _install(folder: Path, wanted: PackageSet) -> None:
    uv = uv_program()
    if uv is not None:
        _run(uv, "venv", "--quiet", "--no-project", "--python", _base_python(), str(folder))
        options = ("--index-strategy", "unsafe-best-match", *uv_options(wanted.options))
        into = ("--python", str(folder / "bin" / "python"))
        code = _call(uv, "pip", "install", *into, *options, *wanted.requirements)
        if code == 0:
            return
        if code != _USAGE:
            sys.exit(code)
        print("uv does not know these options; pip installs")
        shutil.rmtree(folder)
    own_pip = importlib.util.find_spec("pip") is not None
    venv.EnvBuilder(symlinks=True, with_pip=not own_pip).create(folder)
    python = str(folder / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", python) if own_pip else (python, "-m", "pip")
    _run(*pip, "install", "--disable-pip-version-check", "--no-input", *wanted.options, *wanted.requirements)


def _lay_below(folder: Path, *, over_ours: bool) -> None:
    """Put the step runtime, or all that this installation has, behind the environment's own packages."""
    site = next((folder / "lib").glob("python*/site-packages"))
    if over_ours:
        ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    else:
        runtime = folder / "runtime"
        runtime.mkdir()
        for file in runtime_files():
            (runtime / file.name).symlink_to(file)
        lines = [str(runtime)]
    (site / _SITE).write_text("\n".join(lines) + "\n")


def _pip_settings() -> list[tuple[str, str]]:
    """What pip's configuration files and variables say, the stronger last. A variable replaces what files say."""
    found: dict[str, str] = {}
    for file in _configuration_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    for variable, value in os.environ.items():
        if variable.startswith("PIP_"):
            found[variable.removeprefix("PIP_").lower().replace("_", "-")] = value
    return [
        (name, value)
        for name, value in found.items()
        if name in _SETTINGS and not (_SETTINGS[name][1] and value.strip().lower() in _FALSE) and value.strip()
    ]


def _configuration_files() -> list[Path]:
    """Where pip looks, the weaker first."""
    given = os.environ.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return []
    home = Path.home()
    configured = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip" / "pip.conf"]
    files += [configured / "pip" / "pip.conf", Path(sys.prefix) / "pip.conf"]
    return [*files, *([Path(given)] if given else [])]


def _uv_value(name: str, value: str) -> str:
    """KFP trusts an index by its whole address; uv wants the host."""
    return value.split("//")[-1].split("/")[0] if name == "trusted-host" else value


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def _run(*words: str) -> None:
    code = _call(*words)
    if code != 0:
        sys.exit(code)


def _call(*words: str) -> int:
    print("$", _PASSWORD.sub("//***@", shlex.join(words)), flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_INSTALLERS}
    certificates = environment.get("PIP_CERT")
    if certificates:
        environment.setdefault("SSL_CERT_FILE", certificates)
    return subprocess.run(words, check=False, env=environment).returncode


_NOT_FOR_INSTALLERS = frozenset({"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_REQUIRE_VIRTUALENV"})

if __name__ == "__main__":
    main()
