"""A Python class of the user's own. Its file is read, not run: what it does shows in the process that serves it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Sequence
from pathlib import Path

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.served import ServedForm
from goldenloop.serving.formats.found import LARGEST_DOCUMENT, Found, Made

_OWN_NAME = "model.py"
_METHODS = ("predict", "explain", "preprocess", "postprocess")


def find(folder: Path, names: Sequence[str], *, class_name: str | None = None) -> list[Found]:
    """`model.py`, or the other files with a class that has `predict` (or, as a transformer or an explainer, its method)."""
    files = [name for name in names if name.endswith(".py") and "/" not in name]
    found = [each for each in (_found_in(folder, name, class_name) for name in files) if each is not None]
    own = [each for each in found if each.file == _OWN_NAME]
    return own or found


def make(found: Found, out: Path) -> Made:
    """Keep the folder with everything in it: the class may want any of its files."""
    shutil.copytree(found.folder, out, dirs_exist_ok=True)
    form = ServedForm(
        form="code",
        runtime="process",
        loader="python",
        format=found.format,
        file=found.file,
        class_name=found.class_name,
        batching=found.batching,
    )
    notes: tuple[str, ...] = ()
    if (out / "requirements.txt").is_file():
        notes = ("What requirements.txt names is not installed: the class finds the packages of this installation.",)
    return Made(form=form, notes=notes)


def _found_in(folder: Path, name: str, class_name: str | None) -> Found | None:
    path = folder / name
    if path.stat().st_size > LARGEST_DOCUMENT:
        return None
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if name != _OWN_NAME:
            return None
        raise InvalidSpecError(
            f"not Python: {error}", where=name, mend="Mend the file; `python -m py_compile` shows where."
        ) from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name is not None:
        if class_name in classes:
            return _found(folder, name, classes[class_name], is_told=True)
        if name == _OWN_NAME:
            raise NotFoundError(
                f"there is no class {class_name!r}", where=name, mend=f"It has {', '.join(classes) or 'no class'}."
            )
        return None
    for method in _METHODS:  # a class without predict is a transformer, or an explainer
        chosen = [node for node in classes.values() if method in _defined(node, classes)]
        bases = {base.id for node in chosen for base in node.bases if isinstance(base, ast.Name)}
        chosen = [node for node in chosen if node.name not in bases]
        if len(chosen) == 1:
            return _found(folder, name, chosen[0], is_told=False)
        if chosen:
            raise InvalidSpecError(
                f"there are several classes with {method}: {', '.join(node.name for node in chosen)}",
                where=name,
                mend="Say which one in the variable CLASS, or keep the others in a file of their own.",
            )
    return None


def _found(folder: Path, name: str, node: ast.ClassDef, *, is_told: bool) -> Found:
    inside = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    return Found(
        format="python",
        loader="python",
        folder=folder,
        file=name,
        files=inside,
        class_name=node.name if is_told else None,
        batching=any(_says_batching(entry) for entry in node.body),
        runs_code=True,
    )


def _defined(node: ast.ClassDef, classes: dict[str, ast.ClassDef], depth: int = 0) -> set[str]:
    """The methods of a class, with those of bases in the same file."""
    own = {entry.name for entry in node.body if isinstance(entry, ast.FunctionDef | ast.AsyncFunctionDef)}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id != node.name and depth < 8:
            own |= _defined(classes[base.id], classes, depth + 1)
    return own


def _says_batching(entry: ast.stmt) -> bool:
    targets: list[ast.expr] = []
    if isinstance(entry, ast.Assign):
        targets = entry.targets
    elif isinstance(entry, ast.AnnAssign):
        targets = [entry.target]
    value = getattr(entry, "value", None)
    return (
        any(isinstance(target, ast.Name) and target.id == "batching" for target in targets)
        and isinstance(value, ast.Constant)
        and value.value is True
    )
