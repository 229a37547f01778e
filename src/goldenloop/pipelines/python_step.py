"""KFP's command template for lightweight Python components, recognised so that such a step can run in a pre-imported
interpreter.

The template installs packages with pip, writes the component's source to a file and runs `kfp.dsl.executor_main` on it.
It is matched exactly; a command that differs in anything is run as it is written.
"""

from __future__ import annotations

import re

import msgspec

_INSTALL_HEAD = (
    'if ! [ -x "$(command -v pip)" ]; then python3 -m ensurepip || python3 -m ensurepip --user || '
    "apt-get install python3-pip fi PIP_DISABLE_PIP_VERSION_CHECK=1 "
)
_INSTALL_TAIL = ' && "$0" "$@"'
# One `pip install`, whose words are options with plain values, and requirements quoted as Python quotes them.
_INSTALLING = re.compile(
    r"python3 -m pip install --quiet --no-warn-script-location"
    r"(?: (?:--(?:index-url|extra-index-url|trusted-host) \S+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))* ?"
)
# What comes before the last of them where the component asks for a virtual environment; here it has one anyway.
_VENV = (
    'export PIP_DISABLE_PIP_VERSION_CHECK=1 tmp=$(mktemp -d) python3 -m venv "$tmp/venv" --system-site-packages '
    '. "$tmp/venv/bin/activate" '
)
_MAIN = (
    'program_path=$(mktemp -d) printf "%s" "$0" > "$program_path/ephemeral_component.py" _KFP_RUNTIME=true python3 -m '
    'kfp.dsl.executor_main --component_module_path "$program_path/ephemeral_component.py" "$@"'
)
_SPACES = re.compile(r"\s+")


class PythonStep(msgspec.Struct, frozen=True, kw_only=True):
    """A lightweight component: its source. `environments.packages_of` has the packages that it wants."""

    source: str


def match_python_step(command: tuple[str, ...]) -> PythonStep | None:
    """Return what a command line of KFP's template asks for, None for any other command line."""
    if len(command) == 7 and command[:2] == ("sh", "-c") and _installs_only(command[2]):
        command = command[3:]
    if len(command) == 4 and command[:2] == ("sh", "-ec") and _flat(command[2]) == _MAIN:
        return PythonStep(source=command[3])
    return None


def _installs_only(script: str) -> bool:
    """Whether the first half of the template does nothing but install packages."""
    flat = _flat(script)
    if not (flat.startswith(_INSTALL_HEAD) and flat.endswith(_INSTALL_TAIL)):
        return False
    parts = flat[len(_INSTALL_HEAD) : -len(_INSTALL_TAIL)].split(" && ")
    return all(_INSTALLING.fullmatch(part.strip().removeprefix(_VENV)) for part in parts)


def _flat(script: str) -> str:
    return _SPACES.sub(" ", script).strip()
