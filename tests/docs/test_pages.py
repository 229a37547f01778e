"""Every verb, field, metric, route, error, kind and state is written down, and nothing is that is not there."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from typer.main import get_command

from goldenloop.api.errors import STATUS
from goldenloop.api.platform import PlatformRoutes
from goldenloop.api.resources import ResourceRoutes
from goldenloop.cli.main import app
from goldenloop.core import errors
from goldenloop.core.phases import RolloutPhase, RunState, Verdict, VersionState
from goldenloop.standards.kubernetes import KINDS
from goldenloop.standards.loop import json_schema

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "goldenloop"
METRIC_MAKERS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "GaugeMetricFamily": "gauge"}


def rows(page: str, *, after: str = "") -> Iterator[tuple[str, ...]]:
    """The cells of each row of the tables of a page, from a text on; heads and rules are left out."""
    text = (DOCS / page).read_text()
    assert after in text, f"{page} has no {after!r}"
    lines = text[text.index(after) :].splitlines()
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---"):
            yield tuple(cell.strip() for cell in line.strip("|").split(" | "))


def code(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]*)`", cell)


def script(name: str) -> ModuleType:
    """A module of `scripts/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# verbs


def test_the_page_of_verbs_is_what_the_program_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "TERMINAL_WIDTH", "NO_COLOR"):  # the script sets them; they shall not stay
        monkeypatch.setenv(name, "x")
    assert (DOCS / "cli.md").read_text() == script("write_docs").page(), "run: make docs"


def test_the_readme_names_every_verb() -> None:
    verbs = set(get_command(app).commands)
    text = (ROOT / "README.md").read_text()
    table = text[text.index("## The verbs") : text.index("## What is here today")]
    named = {words.split()[0] for words in code(table)}
    assert named == verbs


def test_every_option_of_every_verb_says_what_it_is() -> None:
    for name, verb in get_command(app).commands.items():
        assert verb.help, name
        silent = [option.name for option in verb.params if option.name != "help" and not getattr(option, "help", None)]
        assert silent == [], name


# a Loop


def fields_of_a_loop() -> dict[str, str]:
    """Path → default as the page writes it, from the schema."""
    schema = json.loads(json.dumps(json_schema()))
    definitions = schema["$defs"]
    found: dict[str, str] = {}

    def walk(definition: dict, prefix: str) -> None:
        required = definition.get("required", [])
        for name, field in definition["properties"].items():
            path = f"{prefix}{name}"
            options = [field, *field.get("anyOf", [])]
            inner = [definitions[option["$ref"].split("/")[-1]] for option in options if "$ref" in option]
            members = [one for o in options if "items" in o for one in (o["items"], *o["items"].get("anyOf", []))]
            items = [definitions[one["$ref"].split("/")[-1]] for one in members if "$ref" in one]
            if name in required:
                found[path] = "required"
            elif not inner or "anyOf" in field:
                default = field["default"]
                is_text = isinstance(default, str) and default
                found[path] = default if is_text else json.dumps(default, separators=(",", ":"))
            for each in inner:
                walk(each, f"{path}.")
            for each in items:
                walk(each, f"{path}[].")

    walk(definitions["LoopSpec"], "")
    return {path: "none" if default == "null" else default for path, default in found.items()}


def test_every_field_of_a_loop_is_there_with_its_default() -> None:
    documented = {}
    for cells in rows("loop.md"):
        assert len(cells) == 3, cells
        assert cells[2], cells
        [path] = code(cells[0])
        assert path not in documented, path
        documented[path] = cells[1].strip("`")
    assert documented == fields_of_a_loop()


# metrics


def families_of_the_code() -> dict[str, tuple[str, list[str]]]:
    """Family → type and labels, read off the calls that make them."""
    found: dict[str, tuple[str, list[str]]] = {}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        lists = {
            target.id: ast.literal_eval(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
            for target in node.targets
            if isinstance(target, ast.Name) and all(isinstance(each, ast.Constant) for each in node.value.elts)
        }

        def labels_of(node: ast.expr, lists: dict[str, list[str]] = lists) -> list[str]:
            if isinstance(node, ast.Name):
                return lists[node.id]
            assert isinstance(node, ast.List)
            gathered: list[str] = []
            for each in node.elts:
                gathered += labels_of(each.value) if isinstance(each, ast.Starred) else [ast.literal_eval(each)]
            return gathered

        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in METRIC_MAKERS):
                continue
            if not (node.args and isinstance(node.args[0], ast.Constant)):
                continue
            labels = [keyword.value for keyword in node.keywords if keyword.arg in ("labels", "labelnames")]
            labels += node.args[2:3]
            name = str(node.args[0].value)
            assert name.startswith("goldenloop_"), f"{path.name}: {name}"
            found[name] = (METRIC_MAKERS[node.func.id], labels_of(labels[0]) if labels else [])
    return found


def test_every_metric_is_there_with_its_labels() -> None:
    documented = {code(cells[0])[0]: (cells[1], code(cells[2])) for cells in rows("metrics.md")}
    assert len(documented) >= 10
    assert documented == families_of_the_code()


# routes


def test_every_route_of_control_is_there() -> None:
    platform = SimpleNamespace(database=None)
    served: dict[str, set[str]] = {}
    for route in [*PlatformRoutes(platform).routes(), *ResourceRoutes(platform).routes()]:  # type: ignore[arg-type]
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        for kind in KINDS:
            path = path.replace(f"/{kind.group}/{kind.version}", "/{group}/{version}")
            path = re.sub(rf"/{kind.plural}(?=/|$)", "/{plural}", path) if path.startswith("/apis/") else path
        served.setdefault(path, set()).update(set(route.methods or ()) - {"HEAD"})
    served["/metrics"] = {"GET"}
    documented: dict[str, set[str]] = {}
    text = (DOCS / "http.md").read_text()
    control = len(list(rows("http.md"))) - len(list(rows("http.md", after="## Inference")))
    for cells in list(rows("http.md"))[:control]:
        documented[code(cells[0])[0]] = set(cells[1].split(", "))
    assert "## Inference" in text
    assert documented == served


# errors, kinds, states


def test_every_error_is_there_with_its_status() -> None:
    table = {
        name: (int(cells[1]), code(cells[2])[0])
        for cells in rows("errors.md")
        for name in code(cells[0])
        if len(cells) == 4
    }
    assert table == {kind.__name__: (status, reason) for kind, status, reason in STATUS}
    tree = {
        each.__name__
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.GoldenloopError)
    }
    assert tree == set(table)


def test_every_kind_is_there() -> None:
    table = {
        (code(cells[0])[0], code(cells[1])[0], tuple(code(cells[2]))) for cells in rows("kinds.md") if len(cells) == 5
    }
    assert table == {(kind.kind, kind.api_version, (kind.plural, *kind.short)) for kind in KINDS}


@pytest.mark.parametrize(
    ("row", "states"),
    [
        ("a run or a task", RunState),
        ("a model version", VersionState),
        ("a rollout", RolloutPhase),
        ("a measurement (verdict)", Verdict),
    ],
)
def test_every_state_is_there(row: str, states: type[StrEnum]) -> None:
    [cells] = [cells for cells in rows("kinds.md", after="## States") if cells[0] == row]
    assert code(cells[1]) == [state.value for state in states]


# architecture


def test_the_floors_are_those_of_the_contract() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"testing", "components"}
    named = [code(cells[1])[0] for cells in rows("architecture.md", after="## The floors") if len(cells) == 4]
    named = [name for name in named if "/" not in name]
    assert sorted(named) == sorted(packages)


def test_the_files_that_the_docs_name_are_there() -> None:
    missing = []
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = page.read_text()
        named = [ROOT / name for name in re.findall(r"`((?:tests|src|docs|examples|scripts)/[\w/.-]+\.\w+)`", text)]
        if page.name == "architecture.md":
            modules = re.findall(r"`((?!tests|src|docs|scripts|examples)[a-z]+/[\w/]+\.py)`", text)
            assert len(modules) >= 10
            named += [SOURCE / name for name in modules]
        missing += [f"{page.name}: {path.relative_to(ROOT)}" for path in named if not path.exists()]
    assert missing == []


def test_every_decision_is_in_the_list() -> None:
    listed = (DOCS / "adr" / "README.md").read_text()
    pages = sorted((DOCS / "adr").glob("0*.md"))
    assert [page.name for page in pages if page.name not in listed] == []
    for page in pages:
        text = page.read_text()
        assert re.findall(r"^## (\w+)$", text, re.M) == ["Context", "Decision", "Rejected", "Consequences"], page.name
        assert len(text.splitlines()) <= 50, f"{page.name} is longer than a page"
