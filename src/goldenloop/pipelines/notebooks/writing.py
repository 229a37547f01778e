"""Writing the plan of a notebook as a KFP pipeline in Python that a person can read and go on with.

A step's cells stand in its component as they stood in the notebook. Their names are declared global there, so that functions see them as
in the notebook, and classes can be pickled by name.
"""

from __future__ import annotations

import ast
import builtins
import functools
import keyword
import re
import sys
import textwrap
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from goldenloop.core.errors import InvalidSpecError
from goldenloop.pipelines.notebooks.cells import Notebook
from goldenloop.pipelines.notebooks.flow import METRICS_STEP, Plan, PlannedStep, Statement
from goldenloop.pipelines.notebooks.names import names_of

MARK = "# Converted by goldenloop from "
_WIDTH = 118
_INDENT = "    "
_TAKEN = {*dir(builtins), *keyword.kwlist, "dsl", "Artifact", "Dataset", "Input", "Metrics", "Model", "Output"}
# Where the module's name is not the package's, and the package may not be installed here.
_PACKAGES = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "skimage": "scikit-image",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
}

_HELPERS = '''
def _keep_value(name, value, artifact):
    """Keep a value for later steps: a data frame as Parquet, an array as .npy, where nothing is lost; else as a pickle."""
    import pickle

    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    artifact.metadata["type"] = kind
    if kind == "pandas.DataFrame":
        try:
            import pandas

            value.to_parquet(artifact.path)
            pandas.testing.assert_frame_equal(pandas.read_parquet(artifact.path), value, check_exact=True)
            return
        except Exception:  # something in it has no form in Parquet, or another one
            pass
    if kind == "numpy.ndarray" and not value.dtype.hasobject:
        import numpy

        with open(artifact.path, "wb") as file:
            numpy.save(file, value, allow_pickle=False)
        return
    try:
        content = pickle.dumps(value)
    except Exception as error:
        raise TypeError(f"{name} cannot be passed to another step: {error}") from error
    with open(artifact.path, "wb") as file:
        file.write(content)


def _read_value(artifact):
    """Read what a step before kept. Only for artifacts of the same run: a pickle can do anything when it is read."""
    import pickle

    with open(artifact.path, "rb") as file:
        content = file.read(6)
    if content[:4] == b"PAR1":
        import pandas

        return pandas.read_parquet(artifact.path)
    if content == b"\\x93NUMPY":
        import numpy

        return numpy.load(artifact.path, allow_pickle=False)
    with open(artifact.path, "rb") as file:
        return pickle.load(file)
'''


def write(notebook: Notebook, plan: Plan, source: Path) -> tuple[str, str]:
    """The file, and the name of its pipeline function. Raises InvalidSpecError for modules that lie beside the notebook."""
    functions = _function_names(notebook, plan)
    pipeline = _identifier(notebook.name)
    while pipeline in {*functions.values(), *_TAKEN, *(parameter.name for parameter in notebook.parameters)}:
        pipeline += "_pipeline"
    passes = any(planned.outputs for planned in plan.steps)
    parts = [
        f'"""The pipeline of {source.name}.\n\nConvert the notebook again when it changes, or go on from this file.\n"""\n',
        f"{MARK}{source.name}\n",
        "from kfp import dsl",
        "from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output\n",
        _HELPERS if passes else "",
    ]
    image = notebook.image or f"python:{sys.version_info.major}.{sys.version_info.minor}"
    parts += [
        _component(planned, functions, image=image, folder=source.parent, source=source) for planned in plan.steps
    ]
    parts.append(_pipeline(notebook, plan, functions, name=pipeline))
    text = "\n".join(part for part in parts if part)
    return re.sub(r"\n{4,}", "\n\n\n", text), pipeline


def _component(planned: PlannedStep, functions: dict[str, str], *, image: str, folder: Path, source: Path) -> str:
    needs_values = bool(planned.inputs or planned.outputs)
    packages = _packages(planned, folder, source)
    options = [f'base_image="{image}"']
    if packages:
        options.append(f"packages_to_install={_listed(packages)}")
    if needs_values:
        options.append("additional_funcs=[_keep_value, _read_value]")
    reads, keeps = _ports(planned)
    arguments = [f"{reads[name]}: Input[{_kind(name)}]" for name in planned.inputs]
    arguments += [f"{keeps[name]}: Output[{_kind(name)}]" for name in planned.outputs]
    if planned.name == METRICS_STEP:
        arguments.append("metrics: Output[Metrics]")
    arguments += [f"{parameter.name}: {parameter.kind}" for parameter in planned.parameters]
    lines = [
        _call("@dsl.component", options),
        _call(f"def {functions[planned.name]}", arguments) + ":",
        f'{_INDENT}"""{_described(planned)}"""',
    ]
    prelude = [statement for statement in planned.prelude if not _waits(statement, planned)]
    waiting = [statement for statement in planned.prelude if _waits(statement, planned)]
    shared = sorted(_shared(planned))
    lines += _globals(shared)
    if any("display" in names_of([statement.node]).touched for statement in (*planned.prelude, *planned.statements)):
        lines.append(f"{_INDENT}display = print  # there is no notebook to show it in")
    lines += _apart(prelude)
    lines += [f"{_INDENT}{name} = _read_value({reads[name]})" for name in planned.inputs]
    lines += _apart(waiting)
    if planned.name == METRICS_STEP:
        lines += [f'{_INDENT}metrics.log_metric("{name}", float({name}))' for name in planned.names.required]
    for cell in planned.step.cells:
        lines += ["", f"{_INDENT}# cell {cell.number}", _indented(cell.source)]
    if planned.outputs:
        lines.append("")
    lines += [f'{_INDENT}_keep_value("{name}", {name}, {keeps[name]})' for name in planned.outputs]
    return "\n\n" + "\n".join(lines) + "\n"


def _pipeline(notebook: Notebook, plan: Plan, functions: dict[str, str], *, name: str) -> str:
    title = re.sub(r"[^a-z0-9]+", "-", notebook.name.lower()).strip("-") or "notebook"
    options = [f"name={title!r}".replace("'", '"')]
    if notebook.description:
        options.append(f"description={notebook.description!r}")
    arguments = [f"{parameter.name}: {parameter.kind} = {parameter.default!r}" for parameter in notebook.parameters]
    lines = ["", "", _call("@dsl.pipeline", options), _call(f"def {name}", arguments) + ":"]
    lines.append(f'{_INDENT}"""The steps of the notebook, and what they pass to each other."""')
    variables = {planned.name: f"{functions[planned.name]}_task" for planned in plan.steps}
    for planned in plan.steps:
        reads, _ = _ports(planned)
        given = [
            f'{reads[each]}={variables[giver]}.outputs["{_ports(_named(plan, giver))[1][each]}"]'
            for each, giver in planned.inputs.items()
        ]
        given += [f"{parameter.name}={parameter.name}" for parameter in planned.parameters]
        lines.append(textwrap.indent(_call(f"{variables[planned.name]} = {functions[planned.name]}", given), _INDENT))
        if planned.after:
            waits = ", ".join(variables[before] for before in planned.after)
            lines.append(f"{_INDENT}{variables[planned.name]}.after({waits})")
    return "\n".join(lines) + "\n"


def _named(plan: Plan, name: str) -> PlannedStep:
    return next(planned for planned in plan.steps if planned.name == name)


def _ports(planned: PlannedStep) -> tuple[dict[str, str], dict[str, str]]:
    """What the artifacts that a step reads and keeps are called: `x_in` and `x_out`, and longer where the notebook uses that name."""
    used = set(planned.names.touched)
    for statement in planned.prelude:
        used |= names_of([statement.node]).touched
    used |= {parameter.name for parameter in planned.parameters} | set(planned.inputs)

    def free(name: str) -> str:
        while name in used:
            name += "_"
        return name

    return (
        {name: free(f"{name.lstrip('_')}_in") for name in planned.inputs},
        {name: free(f"{name.lstrip('_')}_out") for name in planned.outputs},
    )


def _kind(name: str) -> str:
    """The artifact type that a name suggests."""
    words = name.lower().split("_")
    if any(word.startswith("model") for word in words):
        return "Model"
    if any(word.startswith(("data", "df", "frame")) or word == "table" for word in words):
        return "Dataset"
    return "Artifact"


def _shared(planned: PlannedStep) -> set[str]:
    """The names that a step declares global: all that it binds or reads, but its arguments."""
    names = planned.names.bound | set(planned.inputs)
    annotated = set(planned.names.annotated)
    for statement in planned.prelude:
        found = names_of([statement.node])
        names |= found.bound
        annotated |= found.annotated
    return names - annotated - {parameter.name for parameter in planned.parameters}


def _waits(statement: Statement, planned: PlannedStep) -> bool:
    """Whether a statement before the step reads a value that the step takes from another."""
    return bool(set(names_of([statement.node]).required) & set(planned.inputs))


def _globals(names: list[str]) -> list[str]:
    lines = textwrap.wrap(", ".join(names), width=_WIDTH - len(_INDENT) - len("global "))
    return [f"{_INDENT}global {line.rstrip(',')}" for line in lines]


def _described(planned: PlannedStep) -> str:
    if planned.name == METRICS_STEP:
        return "The metrics of the notebook."
    return planned.step.numbers[0].upper() + planned.step.numbers[1:] + " of the notebook."


def _source(statement: Statement) -> str:
    """A statement as it stands in its cell, with the comments right above it."""
    node, lines = statement.node, statement.cell.source.splitlines()
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    last = node.end_lineno or node.lineno
    beside = [other for other in statement.cell.tree.body if other is not node and _overlaps(other, first, last)]
    if beside:  # several statements on one line
        return ast.unparse(node)
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    return "\n".join(lines[first - 1 : last])


def _apart(statements: list[Statement]) -> list[str]:
    """Statements one level deeper, with an empty line around functions and classes."""
    lines: list[str] = []
    was_block = False
    for statement in statements:
        is_block = isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if is_block or was_block:
            lines.append("")
        lines.append(_indented(_source(statement)))
        was_block = is_block
    return [*lines, ""] if was_block else lines


def _overlaps(node: ast.stmt, first: int, last: int) -> bool:
    return node.lineno <= last and (node.end_lineno or node.lineno) >= first


def _indented(source: str) -> str:
    """The source one level deeper; lines inside texts of several lines stay, since there a space is part of the text."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        )
        if is_text and isinstance(node, ast.expr) and node.end_lineno is not None:
            inside |= set(range(node.lineno + 1, node.end_lineno + 1))
    lines = source.rstrip().splitlines()
    return "\n".join(
        line if number in inside or not line.strip() else _INDENT + line for number, line in enumerate(lines, 1)
    )


def _call(head: str, arguments: list[str]) -> str:
    line = f"{head}({', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{head}(", *(f"{_INDENT}{argument}," for argument in arguments), ")"])


def _listed(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def _function_names(notebook: Notebook, plan: Plan) -> dict[str, str]:
    """What the component of each step is called: as the step, unless Python or the file needs the name."""
    taken = {*_TAKEN, *(parameter.name for parameter in notebook.parameters)}
    return {planned.name: f"{planned.name}_step" if planned.name in taken else planned.name for planned in plan.steps}


def _identifier(name: str) -> str:
    word = re.sub(r"\W+", "_", name.lower()).strip("_") or "notebook"
    return f"notebook_{word}" if word[0].isdigit() else word


def _packages(planned: PlannedStep, folder: Path, source: Path) -> list[str]:
    """The packages of the modules that a step imports, or that what it reads is made of."""
    found: set[str] = set()
    for module in planned.modules:
        if module in sys.stdlib_module_names:
            continue
        if (folder / f"{module}.py").is_file() or (folder / module / "__init__.py").is_file():
            raise InvalidSpecError(
                f"step {planned.name} imports {module}, which lies beside the notebook and not in its steps",
                where=str(source),
                mend="Put its functions into a cell tagged functions, or install it as a package.",
            )
        found.add(_package(module))
    if "pandas" in found and (planned.inputs or planned.outputs):
        found.add("pyarrow")
    return sorted(found, key=str.lower)


@functools.cache
def _package(module: str) -> str:
    """The package that brings a module: as it is installed here, else by its customary name."""
    try:
        return _PACKAGES.get(module) or metadata.distribution(module).name
    except metadata.PackageNotFoundError:
        # Where the names differ every installed package must be looked into, which takes seconds.
        return metadata.packages_distributions().get(module, [module])[0]
