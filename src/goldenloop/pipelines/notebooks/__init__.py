"""From a notebook with tagged cells to a KFP pipeline in Python. The notebook is only ever read; its code is not run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.pipelines.notebooks.cells import read_notebook
from goldenloop.pipelines.notebooks.flow import plan
from goldenloop.pipelines.notebooks.writing import MARK, write


@dataclass(frozen=True, slots=True)
class Converted:
    """The file, the function in it, its steps in order, and what a person should know."""

    file: Path
    function: str
    steps: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def source(self) -> str:
        """As `goldenloop run` takes it."""
        return f"{self.file}:{self.function}"


def convert_notebook(path: Path, *, out: Path | None = None) -> Converted:
    """Write the pipeline of a notebook, by default beside it with the suffix .py.

    The file is replaced whole. Raises NotFoundError, InvalidSpecError with the number of the cell that is wrong (nothing is written
    then), and ConflictError where the file is there and was not written by this.
    """
    notebook = read_notebook(path)
    planned = plan(notebook, path)
    text, function = write(notebook, planned, path)
    file = out or path.with_suffix(".py")
    if file.suffix != ".py":
        raise InvalidSpecError("a pipeline is a Python file", where=str(file), mend="Give --out FILE.py.")
    _replace(file, text)
    steps = tuple(step.name for step in planned.steps)
    return Converted(file=file, function=function, steps=steps, notes=(*notebook.notes, *planned.notes))


def _replace(file: Path, text: str) -> None:
    try:
        if file.exists() and MARK not in file.read_text(errors="replace"):
            raise ConflictError("this file is there and is somebody's own", where=str(file), mend="Give --out FILE.py.")
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_text(text)
        os.replace(partial, file)
    except OSError as error:
        raise NotFoundError(
            f"cannot be written: {error.strerror}", where=str(file), mend="Give --out FILE.py."
        ) from error
