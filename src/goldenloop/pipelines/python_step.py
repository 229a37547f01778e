"""KFP's command template for lightweight Python components, recognised so that such a step can run in a pre-imported
interpreter.

The template installs packages with pip, writes the component's source to a file and runs `kfp.dsl.executor_main` on it.
It is matched exactly; a command that differs in anything is run as it is written.
"""

from __future__ import annotations

import ast
import re
import shlex
from importlib import metadata

import msgspec
from packaging.requirements import InvalidRequirement, Requirement

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.pipeline_ir import Container, Pipeline

_INSTALL_HEAD = (
    'if ! [ -x "$(command -v pip)" ]; then python3 -m ensurepip || python3 -m ensurepip --user || '
    "apt-get install python3-pip fi PIP_DISABLE_PIP_VERSION_CHECK=1 "
)
_INSTALL_TAIL = ' && "$0" "$@"'
_INSTALL = "python3 -m pip install --quiet --no-warn-script-location "
_MAIN = (
    'program_path=$(mktemp -d) printf "%s" "$0" > "$program_path/ephemeral_component.py" _KFP_RUNTIME=true python3 -m '
    'kfp.dsl.executor_main --component_module_path "$program_path/ephemeral_component.py" "$@"'
)
_OPTIONS_WITH_VALUE = {"--index-url", "--extra-index-url", "--trusted-host"}
_SPACES = re.compile(r"\s+")


class PythonStep(msgspec.Struct, frozen=True, kw_only=True):
    """A lightweight component: its source, and the packages that it wants."""

    source: str
    requirements: tuple[str, ...]


def match_python_step(command: tuple[str, ...]) -> PythonStep | None:
    """Return what a command line of KFP's template asks for, None for any other command line."""
    requirements: tuple[str, ...] = ()
    if len(command) == 7 and command[:2] == ("sh", "-c"):
        found = _requirements(command[2])
        if found is None:
            return None
        requirements, command = found, command[3:]
    if len(command) == 4 and command[:2] == ("sh", "-ec") and _flat(command[2]) == _MAIN:
        return PythonStep(source=command[3], requirements=requirements)
    return None


def missing_packages(requirements: tuple[str, ...]) -> list[str]:
    """Return those that this installation does not satisfy. kfp itself is always the installation's own."""
    return [text for text in requirements if not _is_there(text)]


def check_packages(pipeline: Pipeline, *, where: str) -> None:
    """Refuse a pipeline with a step whose packages are not here, before anything runs. Raises InvalidSpecError."""
    for component in (pipeline.root, *pipeline.components.values()):
        step = match_python_step(component.container.command) if component.container else None
        missing = missing_packages(step.requirements) if step else []
        if missing:
            raise InvalidSpecError(
                f"component {component.name!r} needs packages that are not installed here: {', '.join(missing)}",
                where=f"{where}.components.{component.name}",
                mend=f"Install them beside goldenloop: pip install {shlex.join(missing)}.",
            )


def is_python_step(container: Container) -> bool:
    """Whether a container is a lightweight Python component."""
    return match_python_step(container.command) is not None


def _requirements(script: str) -> tuple[str, ...] | None:
    flat = _flat(script)
    if not (flat.startswith(_INSTALL_HEAD) and flat.endswith(_INSTALL_TAIL)):
        return None
    found: list[str] = []
    for part in flat[len(_INSTALL_HEAD) : -len(_INSTALL_TAIL)].split(" && "):
        if not part.strip().startswith(_INSTALL):
            return None
        words = iter(re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+", part.strip()[len(_INSTALL) :]))
        for word in words:
            if word in _OPTIONS_WITH_VALUE:
                next(words, None)
            elif word[0] in "'\"":
                text = ast.literal_eval(word)  # the template quotes with Python's repr
                if not text.startswith("--"):
                    found.append(text)
            else:
                return None
    return tuple(found)


def _is_there(text: str) -> bool:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False  # a path, a URL or an option: nobody can say
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name.lower() in ("kfp", "typing-extensions"):
        return True
    if requirement.url is not None:
        return False
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _flat(script: str) -> str:
    return _SPACES.sub(" ", script).strip()
