"""A new project: one loop file, some data, and the commands that work when typed as printed."""

from __future__ import annotations

import csv
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.standards.kubernetes import check_name

_ROWS = 1_200
_LOOP = """\
# One file, one loop. Everything that is not said is inferred and shown: goldenloop describe loop {name}
apiVersion: goldenloop.dev/v1alpha1
kind: Loop
metadata: {{name: {name}}}
spec:
  data:
    source: {source}
{label}\
  # pipeline: {{source: pipelines/train.py:train}}   # your own KFP pipeline; without it the platform trains a good plain model
  # labels: {{delay: 1d}}                            # when the truth about an answer is known
  # rollout: {{alpha: 0.05}}                         # the chance, over the loop's whole life, of ever promoting a worse model
"""
_README = """\
# {name}

{commands}

`data/` holds {what}. `loop.yaml` is the whole loop; `goldenloop describe loop {name}` shows what was inferred and why.
"""


@dataclass(frozen=True, slots=True)
class Project:
    """What was made, and what to type next."""

    folder: Path
    commands: tuple[str, ...]

    def lines(self) -> list[str]:
        """What is printed."""
        return [f"made {self.folder}; now type:", "", *(f"  {command}" for command in self.commands)]


def make_project(name: str, data: Path | None) -> Project:
    """Make the folder. Raises ConflictError where it is there already, InvalidSpecError for a name that cannot be one."""
    check_name(name, where="NAME")
    folder = Path(name)
    if folder.exists():
        raise ConflictError("is there already", where=str(folder), mend="Give another name, or remove it.")
    if data is not None and not data.exists():
        raise NotFoundError("there is nothing at this path", where=str(data))
    staged = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    commands = [f"cd {name}", "goldenloop up --detach", "goldenloop apply -f loop.yaml --wait"]
    if data is None:
        (staged / "data").mkdir()
        row = _write_sample(staged / "data" / "loans.csv")
        source, label, what = "data/", "    label: repaid\n", f"{_ROWS} made-up loans; put your own rows there"
        commands += [f"goldenloop predict {name} '{row}'", f"goldenloop describe loop {name}"]
    else:
        source, label, what = str(data.resolve()), "", "nothing yet: the loop reads your file where it is"
        commands += [f"goldenloop describe loop {name}"]
    commands.append("goldenloop down")
    (staged / "loop.yaml").write_text(_LOOP.format(name=name, source=source, label=label))
    listed = "\n".join(["```sh", *commands[1:], "```"])
    (staged / "README.md").write_text(_README.format(name=name, commands=listed, what=what))
    (staged / ".gitignore").write_text(".goldenloop/\n")
    staged.rename(folder)
    return Project(folder, tuple(commands))


def _write_sample(path: Path) -> str:
    """Made-up loans with a rule in them and some noise, the same each time; returns a row to predict, as JSON."""
    generator = random.Random(1)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["amount", "months", "income", "purpose", "employed_years", "repaid"])
        for _ in range(_ROWS):
            amount = round(generator.lognormvariate(8, 0.6))
            months = generator.choice([6, 12, 24, 36, 48])
            income = round(generator.lognormvariate(7.8, 0.4))
            purpose = generator.choice(["car", "furniture", "education", "repairs"])
            years = generator.randint(0, 25)
            burden = amount / months / income
            chance = 1.0 - 4 * burden + 0.01 * years - (0.2 if purpose == "education" else 0.0)
            writer.writerow([amount, months, income, purpose, years, "yes" if generator.random() < chance else "no"])
    return '{"amount": 3000, "months": 24, "income": 2400, "purpose": "car", "employed_years": 4}'
