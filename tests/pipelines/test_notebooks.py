"""Notebooks become pipelines that do what the notebook does, and what cannot is refused with its cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from notebook_files import Cells, run_converted, run_from_top, write_notebook
from small_pipelines import World
from typer.testing import CliRunner

from goldenloop.cli.main import app
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.pipelines.compilation import compile_source
from goldenloop.pipelines.notebooks import convert_notebook
from goldenloop.pipelines.runs import outputs

TREES: Cells = [
    ("imports", "import numpy as np\nimport pandas as pd\nfrom math import sqrt as root"),
    ("functions", "FACTOR = 2\n\n# doubles\ndef scale(values):\n    return values * FACTOR + offset"),
    (
        "",
        """class Mean:
    def __init__(self, value):
        self.value = value

    def guess(self):
        return self.value + shift()""",
    ),
    (
        "pipeline-parameters",
        "rows = 8\nrate = 0.5\nname = 'forest'\nloud = True\ndepths = [1, 2]\nmore = {'a': 1}",
    ),
    (
        "step:load",
        '''df = pd.DataFrame({"x": np.arange(rows), "y": ["a", "b"] * (rows // 2)})
offset = 10
note = """two
    lines"""''',
    ),
    ("", "matrix = np.ones((rows, 2))\nlabels, _spare = list(range(3)), {'k': {1, 2}}"),
    ("skip", "%matplotlib inline\ndf.plot()"),
    (
        "step:clean prev:load",
        """df["x"] = scale(df["x"])
display(df.head())
def shift():
    return offset * rate""",
    ),
    (
        "block:fit prev:clean limit:nvidia.com/gpu:1",
        "model = Mean(float(df['x'].mean()))\nsquare = lambda value: value ** 2",
    ),
    (
        "step:count prev:clean",
        """from collections import Counter
counted = Counter(df['y'])
labels.append(len(counted))
X_size = len(labels)""",
    ),
    (
        "step:judge prev:fit prev:count",
        """guess = root(square(model.guess()))
lines = len(note.splitlines()) + note.count(' ')
total = guess + sum(depths) + more['a'] + X_size + len(_spare['k'])""",
    ),
    ("", "kept = float(matrix.sum()) if loud else 0.0\nfor i in range(3):\n    kept += i"),
    ("pipeline-metrics", "print(guess)\ntotal\nprint(kept)\nprint(lines)\nprint(rows)"),
]
METRICS = ("guess", "total", "kept", "lines", "rows")


def test_the_pipeline_gives_what_the_notebook_gives(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "trees.ipynb", TREES)
    expected = run_from_top(TREES)
    converted = convert_notebook(path)
    assert run_converted(converted, tmp_path) == {name: float(expected[name]) for name in METRICS}  # type: ignore[arg-type]
    assert converted.steps == ("load", "clean", "fit", "count", "judge", "pipeline_metrics")
    assert converted.notes == (
        "cell 9: limit:nvidia.com/gpu:1 is not acted on; set it on the task in the file that is written",
    )


def test_it_runs_on_the_engine(world: World, tmp_path: Path) -> None:
    before = write_notebook(tmp_path / "trees.ipynb", TREES, name="Trees and more").read_bytes()
    converted = convert_notebook(tmp_path / "trees.ipynb")
    compiled = compile_source(converted.source)
    run = world.go(compiled.ir, parameters={"rows": 4, "rate": 0.25})
    assert world.run(run).error is None
    with world.database.read() as transaction:
        found = {output.port: output for output in outputs(transaction, run)}
    expected = run_from_top(
        [(tags, source.replace("rows = 8\nrate = 0.5", "rows = 4\nrate = 0.25")) for tags, source in TREES]
    )
    assert found["metrics"].properties == {name: float(expected[name]) for name in METRICS}  # type: ignore[arg-type]
    assert found["df_out"].properties["type"] == "pandas.DataFrame"
    assert found["matrix_out"].properties["type"] == "numpy.ndarray"
    assert (tmp_path / "trees.ipynb").read_bytes() == before


def test_parameters_have_types_and_defaults(tmp_path: Path) -> None:
    converted = convert_notebook(write_notebook(tmp_path / "trees.ipynb", TREES))
    root = compile_source(converted.source).ir["root"]
    assert isinstance(root, dict)
    kinds = {name: spec["parameterType"] for name, spec in root["inputDefinitions"]["parameters"].items()}
    assert kinds == {
        "rows": "NUMBER_INTEGER",
        "rate": "NUMBER_DOUBLE",
        "name": "STRING",
        "loud": "BOOLEAN",
        "depths": "LIST",
        "more": "STRUCT",
    }


def test_a_step_imports_and_installs_what_it_needs_only(tmp_path: Path) -> None:
    cells: Cells = [
        ("imports", "import json\nimport pandas as pd\nfrom sklearn.tree import DecisionTreeClassifier\nimport yaml"),
        ("step:one", "total = json.loads('3')"),
        ("step:two prev:one", "frame = pd.DataFrame({'x': [total]})\nDecisionTreeClassifier"),
    ]
    text = convert_notebook(write_notebook(tmp_path / "n.ipynb", cells)).file.read_text()
    one, two = text.split("def two(")
    assert 'packages_to_install=["pyyaml"]' in one, "nobody reads it, so it is there for its effect"
    assert "import pandas" not in one.split("def one(")[1].split("@dsl")[0]
    assert 'packages_to_install=["pandas", "pyarrow", "pyyaml", "scikit-learn"]' in one
    assert "import json" not in two


def test_a_name_that_a_step_uses_comes_from_that_step(tmp_path: Path) -> None:
    """It may have been altered in place, by means that cannot be read off."""
    cells: Cells = [
        ("step:make", "bag = []\nother = 1"),
        ("step:fill prev:make", "def put(where):\n    where.append(7)\nput(bag)"),
        ("step:look prev:fill", "size = len(bag) + other"),
        ("pipeline-metrics", "print(size)"),
    ]
    converted = convert_notebook(write_notebook(tmp_path / "n.ipynb", cells))
    text = converted.file.read_text()
    assert 'bag_in=fill_task.outputs["bag_out"]' in text
    assert 'other_in=make_task.outputs["other_out"]' in text
    assert run_converted(converted, tmp_path) == {"size": 2.0}


def test_a_name_without_a_tag_to_it_is_found_and_told(tmp_path: Path) -> None:
    cells: Cells = [("step:a", "x = 2"), ("step:b", "y = x * 3"), ("pipeline-metrics", "y")]
    converted = convert_notebook(write_notebook(tmp_path / "n.ipynb", cells))
    assert run_converted(converted, tmp_path) == {"y": 6.0}
    assert converted.notes == ("step b reads x of step a, to which no prev: tag leads; it comes after it",)


def test_names_that_python_or_the_file_needs_are_no_functions(tmp_path: Path) -> None:
    cells: Cells = [
        ("pipeline-parameters", "train = 2"),
        ("step:eval", "x_in = eval('1 + 1')\nx: int = 4"),
        ("step:train prev:eval", "y = x + x_in + train"),
        ("pipeline-metrics", "y"),
    ]
    converted = convert_notebook(write_notebook(tmp_path / "2 ideas.ipynb", cells))
    assert run_converted(converted, tmp_path) == {"y": 8.0}
    assert converted.function == "notebook_2_ideas"
    assert "def eval_step(" in converted.file.read_text()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([("step:a", "x = 1\n%time y = 2")], r"cell 1, line 2: '%time y = 2' is for IPython.*tag the cell skip"),
        ([("step:a", "!pip install x")], r"cell 1, line 1: '!pip install x' is for IPython"),
        ([("step:a", "files = !ls")], r"cell 1, line 1: 'files = !ls' is for IPython"),
        ([("step:a", "get_ipython().system('ls')")], r"cell 1, line 1: get_ipython is for IPython"),
        ([("step:a", "x = 1"), ("", "y = (")], r"cell 2, line 1: '\(' was never closed"),
        ([("step:a", "return 3")], r"cell 1, line 1: 'return' outside function"),
        ([("step:a", "await go()")], r"cell 1, line 1: 'await' outside function"),
        ([("imports", "from os import *"), ("step:a", "x = 1")], r"cell 1, line 1: 'from os import \*' hides"),
        ([("step:a prev:b", "x = 1"), ("step:b prev:a", "y = 1")], r"cell 1: the steps go round: a after b after a"),
        ([("step:a prev:a", "x = 1")], r"the steps go round: a after a"),
        ([("step:a", "x = 1"), ("step:b prev:c", "y = 1")], r"cell 2: prev:c names no step. The steps are a, b"),
        ([("prev:a", "x = 1")], r"cell 1: it has prev: without step:"),
        ([("step:a step:b", "x = 1")], r"cell 1: it is tagged step:a and step:b"),
        ([("imports step:a", "x = 1")], r"cell 1: it is tagged imports and step:a"),
        ([("step:a-b", "x = 1")], r"cell 1: 'a-b' is no name of a step"),
        ([("imports", "x = 1")], r"no cell is tagged step:NAME"),
        (
            [("step:a", "x = 1"), ("step:b prev:a", "\ny = z + x")],
            r"cell 2, line 2: step b reads z, and nothing before",
        ),
        ([("step:a", "x = 1"), ("pipeline-metrics", "print(y)")], r"pipeline_metrics needs y, and nothing before"),
        ([("step:a", "x = 1"), ("pipeline-metrics", "print(x + 1)")], r"cell 2, line 1: metrics are names"),
        ([("pipeline-parameters", "x = f(1)"), ("step:a", "x")], r"cell 1, line 1: the parameter x is not a constant"),
        ([("pipeline-parameters", "x = None"), ("step:a", "x")], r"the parameter x is None, which has no type in KFP"),
        ([("pipeline-parameters", "x, y = 1, 2"), ("step:a", "x")], r"set in another way than NAME = constant"),
        (
            [
                ("step:a", "x = 1"),
                ("step:b prev:a", "x = 2"),
                ("step:c prev:a", "x = 3"),
                ("step:d prev:b prev:c", "y = x"),
            ],
            r"cell 4: b and c both change x, and d reads it",
        ),
        ([("step:a", "import beside\nbeside.f()")], r"step a imports beside, which lies beside the notebook"),
    ],
)
def test_what_cannot_be_a_pipeline_is_refused_with_its_cell(tmp_path: Path, cells: Cells, message: str) -> None:
    (tmp_path / "beside.py").write_text("")
    path = write_notebook(tmp_path / "n.ipynb", cells)
    with pytest.raises(InvalidSpecError, match=message):
        convert_notebook(path)
    assert not (tmp_path / "n.py").exists()


def test_files_that_are_no_notebooks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be read"):
        convert_notebook(tmp_path / "none.ipynb")
    for text, message in (
        ("{", "this is no notebook"),
        ("[]", "it has no cells"),
        ('{"worksheets": []}', "of a format before 4"),
    ):
        (tmp_path / "n.ipynb").write_text(text)
        with pytest.raises(InvalidSpecError, match=message):
            convert_notebook(tmp_path / "n.ipynb")


def test_a_file_of_somebodys_own_is_not_replaced(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", [("step:a", "x = 1")])
    (tmp_path / "n.py").write_text("precious = 1\n")
    with pytest.raises(ConflictError, match="somebody's own"):
        convert_notebook(path)
    assert (tmp_path / "n.py").read_text() == "precious = 1\n"
    converted = convert_notebook(path, out=tmp_path / "other.py")
    assert convert_notebook(path, out=tmp_path / "other.py") == converted, "its own it does replace"
    with pytest.raises(InvalidSpecError, match="a pipeline is a Python file"):
        convert_notebook(path, out=tmp_path / "n.yaml")


def test_the_verb_tells_what_it_wrote(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", [("", "x = 0"), ("step:a papermill", "x = 1")])
    done = CliRunner().invoke(app, ["convert", str(path), "--output", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "pipeline": f"{tmp_path / 'n.py'}:n",
        "steps": ["a"],
        "notes": ["cell 1 is before the first tag and is left out", "cell 2: the tag papermill means nothing here"],
    }
    refused = CliRunner().invoke(
        app, ["convert", str(path), "--run", "--home", str(tmp_path / "nowhere"), "--out", str(tmp_path / "m.py")]
    )
    assert refused.exit_code == 1
    assert not (tmp_path / "m.py").exists(), "nothing is written where it could not be run"


# Small programs over a few names: some set, some alter in place, some read; each line is right whatever came before.
_LINES = some.sampled_from(
    [
        "a = [1]",
        "b = {'n': len(a)}",
        "a.append(c)",
        "a = a + [c]",
        "c += 1",
        "c = len(a) + b['n']",
        "b['n'] = c",
        "b['m'] = b",
        "for c in range(len(a)): b['n'] += c",
        "if c > 3: a = [c]",
        "if c % 2: d = c",
        "def f(): return len(a) + c",
        "def f(): return d * 2",
        "c = f()",
        "f = lambda: b['n']",
        "class D: size = 3",
        "c = D.size + c % 7",
        "e = [c + i for i in range(2) if (d := i + c)]",
        "c = e[-1] % 11",
        "try:\n    d = a[9]\nexcept IndexError as error:\n    d = c",
        "with __import__('contextlib').suppress(KeyError):\n    d = b['x']",
        "del e\ne = [d]",
        "d, *e = [c, d, d]",
    ]
)
_FIRST = "a = []\nb = {'n': 0}\nc = 1\nd = 2\ne = [0]\ndef f(): return 5\nclass D: size = 1"
_LAST = "size = len(a) + sum(a)\nfound = b['n'] + c * 3 + d * 5 + e[-1] * 7 + f() + D.size"


@settings(
    max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=some.lists(some.lists(_LINES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_steps_in_a_row_do_what_the_cells_do(tmp_path: Path, steps: list[list[str]]) -> None:
    sources = [_FIRST, *("\n".join(lines) for lines in steps), _LAST]
    cells: Cells = [
        (f"step:s{place}" + (f" prev:s{place - 1}" if place else ""), source) for place, source in enumerate(sources)
    ]
    cells.append(("pipeline-metrics", "print(size)\nprint(found)"))
    expected = run_from_top(cells)
    converted = convert_notebook(write_notebook(tmp_path / "n.ipynb", cells))
    found = run_converted(converted, tmp_path)
    assert found == {name: float(expected[name]) for name in ("size", "found")}  # type: ignore[arg-type]
