"""The process in which a user's pipeline file is imported and compiled: FILE FUNCTION OUTPUT PROBLEM."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType

import msgspec

from goldenloop.pipelines.compilation import Failure


class _NoPipelineError(Exception):
    """The file has no such pipeline."""


def main() -> None:
    """Compile, or write down why not and end with 1."""
    path, function, output, problem = sys.argv[1:]
    warnings.simplefilter("ignore", FutureWarning)
    sys.path.insert(0, str(Path(path).parent))
    try:
        module = _load(path)
        _compile(module, function, output)
    except SystemExit as ending:
        _fail(problem, Failure(what=f"the file ends the program when it is imported ({ending.code})", file=path))
    except Exception as error:
        _fail(problem, Failure(what=_describe(error), file=path, line=_line_in(error, path)))


def _load(path: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _compile(module: ModuleType, function: str, output: str) -> None:
    from kfp import compiler
    from kfp.dsl.graph_component import GraphComponent

    found = {name: member for name, member in vars(module).items() if isinstance(member, GraphComponent)}
    if function:
        chosen = getattr(module, function, None)
        if chosen is None:
            raise _NoPipelineError(f"there is no function {function!r}; its pipelines are {', '.join(found) or 'none'}")
        if not hasattr(chosen, "pipeline_spec"):
            raise _NoPipelineError(f"{function!r} is not a pipeline; decorate it with @dsl.pipeline")
    elif len(found) == 1:
        chosen = next(iter(found.values()))
    else:
        raise _NoPipelineError(f"it has {len(found)} pipelines ({', '.join(found)}); say which with FILE.py:FUNCTION")
    compiler.Compiler().compile(chosen, output)


def _describe(error: Exception) -> str:
    if isinstance(error, _NoPipelineError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}"
    return f"{type(error).__name__}: {error}"


def _line_in(error: Exception, path: str) -> int:
    """The last line of the user's file that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else 0


def _fail(problem: str, failure: Failure) -> None:
    Path(problem).write_bytes(msgspec.json.encode(failure))
    sys.exit(1)


if __name__ == "__main__":
    main()
