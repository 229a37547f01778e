"""What is committed works elsewhere: links lead somewhere, and nothing names this machine or a registry's host."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "examples").rglob("*.md"))
REGISTRY = re.compile(r"files\.pythonhosted\.org|\bpypi\.org|registry\.npmjs|^--(?:extra-)?index-url", re.M)
MACHINE = re.compile(r"(?<![\w./}*-])/(?:work|farm|home|Users|root)/\w")
DATA = (".csv", ".parquet", ".png", ".ico", ".woff2")


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def committed() -> list[Path]:
    """The files that are, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_no_file_names_a_registry_or_this_machine() -> None:
    found = []
    for path in committed():
        if path.suffix in DATA or path == Path(__file__):  # this file holds what it looks for
            continue
        text = path.read_text(errors="replace")
        for what in (REGISTRY, MACHINE):
            found += [f"{path.relative_to(ROOT)}: {match.group(0)}" for match in what.finditer(text)]
    assert found == []


def test_the_lock_pins_everything_and_names_no_host() -> None:
    lines = (ROOT / "requirements" / "dev.lock").read_text().split("\n")
    assert [line for line in lines if line and line != "-e ." and not re.fullmatch(r"[a-z0-9._-]+==\S+", line)] == []
    assert "-e ." in lines
    pinned = {line.split("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    asked += [line for line in (ROOT / "requirements" / "dev.in").read_text().split() if not line.startswith("-e")]
    names = {re.match(r"-?e? ?[A-Za-z0-9_.-]+", each).group(0).lower().replace("_", "-") for each in asked} - {"."}  # type: ignore[union-attr]
    # Lanes of their own, which the everyday environment does without.
    assert {name for name in names if name not in pinned and not name.startswith(".")} == {
        "torch",
        "deltalake",
        "pyiceberg",
    }


@pytest.mark.parametrize("name", [".ci/run", "scripts/install_debian.sh"])
def test_what_is_run_can_be_run(name: str) -> None:
    path = ROOT / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_target_of_make_that_is_named_is_there() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set()
    for page in [*PAGES, ROOT / ".ci" / "run"]:
        named |= set(re.findall(r"(?:`|^|: )make ([a-z]+)", page.read_text(), re.M))
    assert named >= {"demo", "test"}
    assert named - made == set()
    assert {"venv", "demo", "test", "lint", "format", "soak", "bench", "conformance", "clean"} <= made


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
