"""From a user's pipeline file to its specification and code version. This runs on the user's side: the server never
imports it.

The file is imported and compiled in a process of its own, so that what it does on import stays there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.ids import digest_file, digest_text
from goldenloop.core.json import JsonObject
from goldenloop.standards.pipeline_ir import read_documents, read_pipeline

_COMPILE_SECONDS = 120.0
_GIT_SECONDS = 10.0
_MOST_FILES = 1_000  # of source, in the digest of a folder
_SOURCE_SUFFIXES = (".py", ".yaml", ".yml", ".toml", ".txt", ".sql")
_HOW = "Name it as FILE.py:FUNCTION, or give a compiled pipeline as .yaml."


class CompiledPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as it is sent to the server: specification, platform specification, and code version."""

    ir: JsonObject
    platform: JsonObject | None
    code: JsonObject


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why the user's file did not compile; the line is of that file, 0 where it is not known."""

    what: str
    file: str
    line: int = 0


def compile_source(source: str, *, folder: Path | None = None) -> CompiledPipeline:
    """Compile `FILE.py:FUNCTION` (the function may be left out where the file has one pipeline) or read `FILE.yaml`.

    Relative paths are seen from `folder`, the current one by default. Raises NotFoundError where the file is not there,
    and InvalidSpecError with the user's file and line where it does not compile or asks for what is not supported.
    """
    name, _, function = source.partition(":")
    path = (folder or Path.cwd()) / name
    if not path.is_file():
        raise NotFoundError("there is no such pipeline file", where=str(path), mend=_HOW)
    if path.suffix in (".yaml", ".yml", ".json"):
        text = path.read_text()
    elif path.suffix == ".py":
        text = _compile(path.resolve(), function)
    else:
        raise InvalidSpecError("this is neither Python nor YAML", where=str(path), mend=_HOW)
    documents = read_documents(text, where=str(path))
    read_pipeline(documents.pipeline, where=str(path))
    return CompiledPipeline(ir=documents.pipeline, platform=documents.platform, code=code_version(path, source=source))


def code_version(path: Path, *, source: str) -> JsonObject:
    """The version of the code in a file's folder: git commit, whether files there differ from it, and a digest of the
    sources.

    Without git, or outside a repository, the commit is null and the digest alone says which code it is.
    """
    folder = path.resolve().parent
    files: dict[str, str] = {}
    for member in sorted(folder.rglob("*")):
        inside = member.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if member.suffix in _SOURCE_SUFFIXES and member.is_file() and not hidden:
            files[inside.as_posix()] = digest_file(member)
        if len(files) >= _MOST_FILES:
            break
    files[path.name] = digest_file(path)
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--", ".") if commit else None
    return {
        "source": source,
        "commit": commit,
        "dirty": bool(changed) if commit else None,
        "digest": digest_text(*(word for pair in sorted(files.items()) for word in pair)),
        "files": len(files),
    }


def _git(folder: Path, *words: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _compile(path: Path, function: str) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "pipeline.yaml"
        problem = Path(scratch) / "problem.json"
        command = [sys.executable, "-m", "goldenloop.pipelines.compile_program"]
        try:
            done = subprocess.run(
                [*command, str(path), function, str(output), str(problem)],
                cwd=path.parent,
                capture_output=True,
                text=True,
                timeout=_COMPILE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InvalidSpecError(
                f"importing it took longer than {_COMPILE_SECONDS:g} s",
                where=str(path),
                mend="Do the work inside components, not where the file is imported.",
            ) from None
        if output.is_file() and done.returncode == 0:
            return output.read_text()
        if problem.is_file():
            failure = msgspec.json.decode(problem.read_bytes(), type=Failure)
            where = f"{failure.file}, line {failure.line}" if failure.line else failure.file
            raise InvalidSpecError(f"the pipeline does not compile: {failure.what}", where=where, mend="Mend it there.")
        said = " ".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}"
        raise InvalidSpecError(f"the pipeline does not compile: {said}", where=str(path), mend="Mend it there.")
