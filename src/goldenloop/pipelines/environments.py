"""Which packages a step needs, and the environments that have them: one for each set of packages, built once, shared.

An environment is a virtual environment of this interpreter's Python with what its requirements ask for and nothing else,
as in the container that the pipeline was written for; below it lies only what the step runtime itself needs (kfp,
msgspec, typing_extensions, goldenloop). A set that asks for goldenloop gets this installation's own packages below.

In the folder of environments:

    KEY/lock        held shared by whoever uses the environment, and alone by whoever builds or removes it
    KEY/current     a link to the build that is whole; it appears with one rename, so there is never half an environment
    KEY/build-…/    a build; one without a link to it is what a crash left, and goes with the next build
    KEY/build.log   what uv or pip printed

The key is a digest of Python, the runtime, the requirements and the options. What a requirement leaves open is fixed when
the environment is built, and stays; remove its folder to have it built anew.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import platform
import re
import shutil
import sys
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from goldenloop.core.ids import digest_text

RUNTIME = ("kfp", "msgspec", "typing_extensions", "pip", "goldenloop")  # modules; of these, pip may be missing
_OWN = ("goldenloop",)
_MOST_KEPT = 24  # environments on the disk; of more, those go that were used least lately and that nobody uses now
_INSTALL = re.compile(r"python3 -m pip install --quiet --no-warn-script-location (.*?) ?(?:&&|$)", re.S)
_WORD = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+")
_WITH_VALUE = frozenset(
    {"--index-url", "-i", "--extra-index-url", "--trusted-host", "--find-links", "-f", "--constraint", "-c"}
)


class PackageSet(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment is made from: requirements in the order of their names, and pip's options as they are."""

    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()
    over_ours: bool = False  # whether this installation's own packages lie below

    @property
    def key(self) -> str:
        """The name of its environment."""
        parts = (platform.python_version(), sys.implementation.cache_tag, sys.base_prefix, sys.prefix, *_runtime())
        return digest_text(*map(str, parts), str(self.over_ours), *self.options, "", *self.requirements)[:16]

    def describe(self) -> str:
        """Its requirements, for a person."""
        return ", ".join(self.requirements)


def packages_of(command: tuple[str, ...]) -> tuple[str, ...]:
    """The words after `pip install` in the command of a lightweight KFP component, without KFP's own runtime, which is
    always the installation's; nothing for any other command.

    >>> script = "python3 -m pip install --quiet --no-warn-script-location --index-url https://a.example/simple 'pandas==2.0' && x"
    >>> packages_of(("sh", "-c", script, "sh", "-ec", "main", "source"))
    ('--index-url', 'https://a.example/simple', 'pandas==2.0')
    """
    if len(command) != 7 or command[:2] != ("sh", "-c"):
        return ()
    words: list[str] = []
    for found in _INSTALL.finditer(re.sub(r"\s+", " ", command[2])):
        part = [_unquoted(word) for word in _WORD.findall(found[1])]
        if "--no-deps" not in part:  # the template installs kfp itself in this way
            words += part
    return tuple(words)


@lru_cache(maxsize=256)
def wanted(words: tuple[str, ...]) -> PackageSet | None:
    """The environment that a step with these words for pip needs; none where this interpreter satisfies them all."""
    requirements: list[str] = []
    options: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            options += (word, next(rest, ""))
        elif word.startswith("-"):
            options.append(word)
        else:
            requirements.append(word)
    if all(map(is_satisfied, requirements)):
        return None
    ours = {text for text in requirements if _names_ours(text) and is_satisfied(text)}
    return PackageSet(requirements=tuple(sorted({*requirements} - ours)), options=tuple(options), over_ours=bool(ours))


def is_satisfied(text: str) -> bool:
    """Whether this interpreter has what a requirement asks for, with its extras; never for a path or an address."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    return _is_satisfied(requirement)


class Environments:
    """The environments in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def use(self, wanted: PackageSet) -> Environment | None:
        """The environment of a set, held until it is given back; none where it is not built yet."""
        place = self.folder / wanted.key
        if not (place / "current").exists():
            return None
        held = lock(place, shared=True)
        if held is None or not (place / "current" / "bin" / "python").exists():
            if held is not None:
                os.close(held)
            return None
        os.utime(place / "lock")
        return Environment(key=wanted.key, folder=(place / "current").resolve(), held=held)

    def place(self, wanted: PackageSet) -> Path:
        """The folder of a set, made."""
        place = self.folder / wanted.key
        place.mkdir(parents=True, exist_ok=True)
        return place

    def prune(self) -> None:
        """Remove the environments that are too many."""
        places = [place for place in self.folder.glob("*/") if (place / "lock").exists()]
        places.sort(key=lambda place: (place / "lock").stat().st_mtime, reverse=True)
        for place in places[_MOST_KEPT:]:
            held = lock(place, wait=False)
            if held is not None:
                with contextlib.suppress(FileNotFoundError):
                    (place / "current").unlink()
                shutil.rmtree(place, ignore_errors=True)
                os.close(held)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A built environment in use. `held` is the lock that keeps it from being removed."""

    key: str
    folder: Path
    held: int

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def give_back(self) -> None:
        """Say that it is not used any more."""
        os.close(self.held)


def lock(place: Path, *, shared: bool = False, wait: bool = True) -> int | None:
    """Hold the lock of an environment until the descriptor is closed; none where another has it and we do not wait, or
    where the environment was removed.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait and not shared else fcntl.LOCK_NB)
    try:
        descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def runtime_files() -> list[Path]:
    """The files and folders of this installation that the step runtime is made of."""
    found: list[Path] = []
    for name in RUNTIME:
        specification = util.find_spec(name)
        if specification is None or specification.origin is None:
            continue
        origin = Path(specification.origin)
        found.append(origin.parent if specification.submodule_search_locations else origin)
    return found


@lru_cache(maxsize=1)
def _runtime() -> tuple[str, ...]:
    """What the runtime is, so that another version of it gets environments of its own."""
    return tuple(f"{path} {path.stat().st_mtime_ns if path.is_file() else ''}" for path in runtime_files()) + tuple(
        f"{name} {metadata.version(name)}" for name in ("kfp", "msgspec")
    )


def _is_satisfied(requirement: Requirement, *, depth: int = 4) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.url is not None:
        return False
    try:
        installed = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(installed.version, prereleases=True):
        return False
    for extra in requirement.extras:
        for text in installed.requires or ():
            of_extra = Requirement(text)
            if of_extra.marker is None or of_extra.marker.evaluate({"extra": ""}):
                continue
            if of_extra.marker.evaluate({"extra": extra}):
                of_extra.marker = None
                if depth == 0 or not _is_satisfied(of_extra, depth=depth - 1):
                    return False
    return True


def _names_ours(text: str) -> bool:
    try:
        return canonicalize_name(Requirement(text).name) in _OWN
    except InvalidRequirement:
        return False


def _unquoted(word: str) -> str:
    return str(ast.literal_eval(word)) if word[0] in "'\"" else word  # the template quotes with Python's repr
