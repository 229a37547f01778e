"""Steps in this very process, one after the other, with its terminal: for a person who debugs.

Nothing is isolated or limited here, and a step's output goes to the terminal instead of its log. A step that fails on a
terminal is left open in the debugger, at the line that raised.
"""

from __future__ import annotations

import bdb
import contextlib
import importlib
import os
import pdb
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenloop.pipelines.environments import wanted
from goldenloop.pipelines.executor import Outcome, StepRequest, StepResult
from goldenloop.pipelines.python_step import PythonStep, match_python_step

_NOT_FOUND = 127


class InProcessExecutor:
    """See the module and `Executor`. A step runs while its result is polled for.

    `was_left`: the person left the debugger, and wants nothing more to run.
    """

    def __init__(self, *, on_start: Callable[[str], None] = lambda _folder: None) -> None:
        self._on_start = on_start
        self._waiting: deque[StepRequest] = deque()
        self._results: list[StepResult] = []
        self.was_left = False

    def submit(self, request: StepRequest) -> None:
        self._waiting.append(request)

    def poll(self) -> list[StepResult]:
        if self._waiting and not self.was_left:
            request = self._waiting.popleft()
            self._results.append(self._run(request))
        results, self._results = self._results, []
        return results

    def wait(self, seconds: float) -> None:
        """Whatever there is to poll is there already."""
        del seconds

    def wake(self) -> None:
        """Nothing ever waits."""

    def cancel(self, step: str) -> None:
        for request in [each for each in self._waiting if each.id == step]:
            self._waiting.remove(request)
            self._results.append(StepResult(id=step, outcome=Outcome.CANCELED))

    def close(self) -> None:
        self._waiting.clear()

    def _run(self, request: StepRequest) -> StepResult:
        missing = wanted(request.packages)
        if missing is not None:
            reason = (
                f"it needs {missing.describe()}, and this interpreter, in which it is debugged, has not all of that"
            )
            return StepResult(id=request.id, outcome=Outcome.REFUSED, reason=reason)
        self._on_start(request.folder)
        component = match_python_step(request.command)
        with _inside(request):
            code = self._component(component, request) if component is not None else _command(request)
        outcome = Outcome.CANCELED if self.was_left else Outcome.EXITED
        return StepResult(id=request.id, outcome=outcome, code=code)

    def _component(self, component: PythonStep, request: StepRequest) -> int:
        file = Path(request.folder) / "ephemeral_component.py"
        file.write_text(component.source)
        sys.argv = ["executor_main", "--component_module_path", str(file), *request.args]
        try:
            importlib.import_module("kfp.dsl.executor_main").executor_main()
        except bdb.BdbQuit:
            self.was_left = True
            return 1
        except SystemExit as ending:
            if isinstance(ending.code, str):
                print(ending.code, file=sys.stderr)
            return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        except Exception as error:
            traceback.print_exception(error)
            with open(request.log, "a") as log:  # for what is said of the run
                traceback.print_exception(error, file=log)
            if sys.stdin.isatty():
                pdb.post_mortem(error.__traceback__)
            return 1
        return 0


@contextlib.contextmanager
def _inside(request: StepRequest) -> Iterator[None]:
    """The step's folder, environment and arguments, put back afterwards."""
    folder, environment, arguments = os.getcwd(), dict(os.environ), sys.argv
    os.chdir(request.folder)
    os.environ.update(request.environment, TMPDIR=request.folder, _KFP_RUNTIME="true")
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = arguments


def _command(request: StepRequest) -> int:
    words = (*request.command, *request.args)
    environment = {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}
    try:
        return subprocess.run(words, check=False, env=environment).returncode
    except (OSError, IndexError) as error:
        print(f"{words[0] if words else 'the step'!r} cannot be run: {error}", file=sys.stderr)
        return _NOT_FOUND
