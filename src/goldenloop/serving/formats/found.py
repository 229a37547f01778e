"""What recognition finds and what a format makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from goldenloop.core.served import Loader, ServedForm, TensorSpec

LARGEST_DOCUMENT = 4 << 20  # bytes of a text that is read whole: a Python file, an MLmodel


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model in a folder. `file` is its file or folder, relative to `folder`; `files` are all that belong to it.

    `pickles` are those of them that run code when they are loaded. `columns` are the names that the columns have if the model itself
    does not name them; `inputs` and `outputs` what is known of tensors without loading it.
    """

    format: str
    loader: Loader
    folder: Path
    file: str
    files: tuple[str, ...]
    pickles: tuple[str, ...] = ()
    also: str = ""  # what a user may call it too: the flavour of an MLflow folder
    framework_version: str = ""
    columns: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    class_name: str | None = None
    batching: bool = False
    runs_code: bool = False  # is a program of somebody's, in plain sight

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.file

    @property
    def called(self) -> str:
        """For sentences."""
        return f"{self.file} ({self.format})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The served form that was made of it, and sentences for the user."""

    form: ServedForm
    notes: tuple[str, ...] = ()


class Finder(Protocol):
    """Finds the models of one format among files of a folder, by their names and first bytes; nothing is loaded."""

    def __call__(self, folder: Path, names: Sequence[str]) -> list[Found]:
        """Return what is found. Raises InvalidSpecError or RefusedError only where a file can be nothing but this format, and is wrong."""
        ...


def head(path: Path, count: int = 512) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(count)


def ends(name: str, *endings: str) -> bool:
    """Whether the name has one of the endings, in any case."""
    return name.lower().endswith(endings)
