"""Reading a notebook whose cells are tagged as Kale tags them, into what its cells are for.

| tag | means |
|---|---|
| `imports`, `functions` | goes before every step that needs it |
| `pipeline-parameters` | assignments of constants: the parameters of the pipeline |
| `step:NAME` (once `block:NAME`) | the cell is this step, or belongs to it |
| `prev:NAME` | the step comes after that one; may be given several times |
| `pipeline-metrics` | `print(NAME)` or `NAME` a line: metrics of the run |
| `skip` | is left out |

A cell without a tag belongs to the cell before it that is not skipped. What is before the first tag is left out. `limit:`, `label:` and
`annotation:` are reported as not acted on, and so are tags that mean nothing here.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ROLES = ("imports", "functions", "pipeline-parameters", "pipeline-metrics", "skip")
_NOT_ACTED_ON = ("limit:", "label:", "annotation:")
_TYPES: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell: its number counts all cells of the notebook from 1, as they stand on the page."""

    number: int
    source: str
    tree: ast.Module


@dataclass(slots=True)
class NotebookStep:
    """A step: its cells in order, and the steps that its tags name as coming before it."""

    name: str
    cells: list[Cell] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> str:
        """Its cells in words, for people."""
        return f"cell{'s' if len(self.cells) > 1 else ''} {', '.join(str(cell.number) for cell in self.cells)}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the pipeline, of one of the types that KFP knows."""

    name: str
    kind: str
    default: Json


@dataclass(frozen=True, slots=True)
class Notebook:
    """A notebook by what its cells are for. `notes` are what a person should know."""

    name: str
    description: str
    image: str
    prelude: tuple[Cell, ...]
    steps: dict[str, NotebookStep]
    parameters: tuple[Parameter, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...]


def read_notebook(path: Path) -> Notebook:
    """Read a notebook. Raises NotFoundError, and InvalidSpecError with the number of the cell that is wrong."""
    document = _document(path)
    cells = document["cells"]
    assert isinstance(cells, list)
    reading = _Reading(path)
    for number, cell in enumerate(cells, start=1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            reading.take(number, _source(cell), _tags(cell, path, number))
    if not reading.steps:
        raise InvalidSpecError(
            "no cell is tagged step:NAME", where=str(path), mend="Tag the cells that are the steps of the pipeline."
        )
    _check_order(reading.steps, path)
    settings = document.get("metadata")
    settings = settings.get("kubeflow_notebook") if isinstance(settings, dict) else None
    settings = settings if isinstance(settings, dict) else {}
    return Notebook(
        name=str(settings.get("pipeline_name") or path.stem),
        description=str(settings.get("pipeline_description") or ""),
        image=str(settings.get("docker_image") or settings.get("base_image") or ""),
        prelude=(*reading.imports, *reading.functions),
        steps=reading.steps,
        parameters=tuple(_parameter(node, cell, path) for cell in reading.parameters for node in _statements(cell)),
        metrics=tuple(name for cell in reading.metrics for name in _metrics(cell, path)),
        notes=tuple(reading.notes),
    )


class _Reading:
    """What was found so far, and where the next cell without a tag belongs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._current: list[Cell] | None = None
        self.imports: list[Cell] = []
        self.functions: list[Cell] = []
        self.parameters: list[Cell] = []
        self.metrics: list[Cell] = []
        self.steps: dict[str, NotebookStep] = {}
        self.notes: list[str] = []

    def take(self, number: int, source: str, tags: list[str]) -> None:
        """Put a cell where it belongs."""
        where = f"{self._path}, cell {number}"
        tags = [tag.strip() for tag in tags]
        roles = [tag.removeprefix("block:") for tag in tags if tag.removeprefix("block:") in _ROLES]
        if "skip" in roles:
            return
        names = [
            name
            for tag in tags
            for word, _, name in [tag.partition(":")]
            if word in ("step", "block") and name not in ("", *_ROLES)
        ]
        previous = [name for tag in tags for word, _, name in [tag.partition(":")] if word == "prev" and name]
        self._note_others(number, tags)
        if len({*roles, *names}) > 1:
            raise InvalidSpecError(
                f"it is tagged {' and '.join([*roles, *(f'step:{name}' for name in names)])}",
                where=where,
                mend="Give it one of them.",
            )
        for name in (*names, *previous):
            if not _NAME.fullmatch(name):
                raise InvalidSpecError(f"{name!r} is no name of a step", where=where, mend="Use letters, digits and _.")
        if previous and not names:
            raise InvalidSpecError("it has prev: without step:", where=where, mend="Tag it step:NAME too.")
        if roles:
            self._current = {
                "imports": self.imports,
                "functions": self.functions,
                "pipeline-parameters": self.parameters,
                "pipeline-metrics": self.metrics,
            }[roles[0]]
        elif names:
            step = self.steps.setdefault(names[0], NotebookStep(names[0]))
            step.previous += [name for name in previous if name not in step.previous]
            self._current = step.cells
        if self._current is None:
            if source.strip():
                self.notes.append(f"cell {number} is before the first tag and is left out")
        elif source.strip() or names:
            self._current.append(Cell(number, source, _parsed(source, where)))

    def _note_others(self, number: int, tags: list[str]) -> None:
        for tag in tags:
            if tag.startswith(_NOT_ACTED_ON):
                self.notes.append(
                    f"cell {number}: {tag} is not acted on; set it on the task in the file that is written"
                )
            elif tag.partition(":")[0] not in ("step", "block", "prev") and tag not in _ROLES:
                self.notes.append(f"cell {number}: the tag {tag} means nothing here")


def _document(path: Path) -> JsonObject:
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=str(path), mend="Give a .ipynb file.") from error
    except msgspec.DecodeError as error:
        raise InvalidSpecError(f"this is no notebook: {error}", where=str(path), mend="Give a .ipynb file.") from error
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        old = isinstance(document, dict) and "worksheets" in document
        what = "this notebook is of a format before 4" if old else "this is no notebook: it has no cells"
        raise InvalidSpecError(what, where=str(path), mend="Save it with a current Jupyter.")
    return document


def _source(cell: JsonObject) -> str:
    source = cell.get("source", "")
    return "".join(str(line) for line in source) if isinstance(source, list) else str(source)


def _tags(cell: JsonObject, path: Path, number: int) -> list[str]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    if tags is None:
        return []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidSpecError("its tags are not a list of texts", where=f"{path}, cell {number}", mend="Tag it again.")
    return [str(tag) for tag in tags]


def _parsed(source: str, where: str) -> ast.Module:
    """The cell as Python. Raises InvalidSpecError with the line for what is not."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        line = source.splitlines()[error.lineno - 1].strip() if error.lineno and source.strip() else ""
        at = f"{where}, line {error.lineno}"
        if line.startswith(("%", "!", "?")) or line.endswith("?") or re.match(r"\w+ *= *[%!]", line):
            raise InvalidSpecError(
                f"{line!r} is for IPython, and a step is plain Python",
                where=at,
                mend="Write it in Python, or tag the cell skip.",
            ) from None
        raise InvalidSpecError(f"{error.msg}: {line!r}", where=at, mend="Mend the cell.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            raise InvalidSpecError(
                f"'from {node.module} import *' hides which names it brings",
                where=f"{where}, line {node.lineno}",
                mend="Name what is imported.",
            )
        if isinstance(node, ast.Name) and node.id == "get_ipython":
            raise InvalidSpecError(
                "get_ipython is for IPython, and a step is plain Python",
                where=f"{where}, line {node.lineno}",
                mend="Write it in Python, or tag the cell skip.",
            )
    try:
        compile(tree, where, "exec", dont_inherit=True)
    except SyntaxError as error:  # what parses and still is no program: return, await or yield outside of a function
        raise InvalidSpecError(f"{error.msg}", where=f"{where}, line {error.lineno}", mend="Mend the cell.") from None
    return tree


def _statements(cell: Cell) -> list[ast.stmt]:
    """The statements of a cell without texts that stand alone."""
    return [
        node
        for node in cell.tree.body
        if not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
    ]


def _parameter(node: ast.stmt, cell: Cell, path: Path) -> Parameter:
    where = f"{path}, cell {cell.number}, line {node.lineno}"
    mend = "Write NAME = a number, a text, True or False, a list or an object, one to a line."
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if len(targets) != 1 or not isinstance(targets[0], ast.Name) or value is None:
        raise InvalidSpecError("a parameter is set in another way than NAME = constant", where=where, mend=mend)
    name = targets[0].id
    try:
        default = ast.literal_eval(value)
    except ValueError:
        raise InvalidSpecError(f"the parameter {name} is not a constant", where=where, mend=mend) from None
    if type(default) not in _TYPES:
        raise InvalidSpecError(f"the parameter {name} is {default!r}, which has no type in KFP", where=where, mend=mend)
    return Parameter(name, _TYPES[type(default)], default)


def _metrics(cell: Cell, path: Path) -> list[str]:
    names = []
    for node in _statements(cell):
        value = node.value if isinstance(node, ast.Expr) else None
        is_print = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print"
        if isinstance(value, ast.Call) and is_print and len(value.args) == 1 and not value.keywords:
            value = value.args[0]
        if not isinstance(value, ast.Name):
            raise InvalidSpecError(
                "metrics are names",
                where=f"{path}, cell {cell.number}, line {node.lineno}",
                mend="Write print(NAME) a line.",
            )
        names.append(value.id)
    return list(dict.fromkeys(names))


def _check_order(steps: dict[str, NotebookStep], path: Path) -> None:
    """Every step before another must exist, and none comes before itself."""
    for step in steps.values():
        for name in step.previous:
            if name not in steps:
                raise InvalidSpecError(
                    f"prev:{name} names no step",
                    where=f"{path}, {step.numbers}",
                    mend=f"The steps are {', '.join(steps)}.",
                )
    done: set[str] = set()
    for name in steps:
        _walk(name, steps, done, [], path)


def _walk(name: str, steps: dict[str, NotebookStep], done: set[str], trail: list[str], path: Path) -> None:
    if name in trail:
        ring = [*trail[trail.index(name) :], name]
        raise InvalidSpecError(
            f"the steps go round: {' after '.join(ring)}",
            where=f"{path}, {steps[name].numbers}",
            mend="Take one of these prev: tags away.",
        )
    if name in done:
        return
    for before in steps[name].previous:
        _walk(before, steps, done, [*trail, name], path)
    done.add(name)
