"""What a fork of the zygote becomes: a process of its own with its group, folder, limits and output, that runs one
step's program and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import resource
import runpy
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from goldenloop.pipelines.executor import Limits
from goldenloop.pipelines.zygote_protocol import CommandProgram, ModuleProgram, PythonProgram, Start

STEP_VARIABLE = "GOLDENLOOP_STEP"  # in the environment of a step's processes: which step they are of
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_CPU_GRACE_SECONDS = 5  # between the signal that says CPU time is over and the one that cannot be caught
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def thread_variables(threads: int) -> dict[str, str]:
    """The environment in which numeric libraries start so many threads.

    Steps run side by side, so each computes with one thread unless it asks for more processors.
    """
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def become_step(start: Start, *, output: int, parent: int) -> NoReturn:
    """In the child, with nothing of the zygote's left open: run the step and end the process, whatever happens."""
    code = 1
    try:
        os.setpgid(0, 0)
        _die_with(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, max(nothing, output) + 1)
        os.chdir(start.folder)
        _limit(start.limits)
        if start.threads != 1:
            _use_threads(start.threads)
        os.environ.update(start.environment)
        os.environ["TMPDIR"] = start.folder
        os.environ[STEP_VARIABLE] = start.id
        match start.program:
            case PythonProgram():
                code = run_component(start.program, Path(start.folder))
            case ModuleProgram():
                code = _run_module(start.program.words)
            case CommandProgram():
                _execute(start.program, Path(start.folder))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run_component(program: PythonProgram, folder: Path) -> int:
    """Do what KFP's command template does, in this process; return the exit code."""
    file = folder / "ephemeral_component.py"
    file.write_text(program.source)
    sys.argv = ["executor_main", "--component_module_path", str(file), *program.args]
    return _run_in_process(lambda: importlib.import_module("kfp.dsl.executor_main").executor_main())


def _run_module(words: tuple[str, ...]) -> int:
    """Do what `python -m MODULE` does, in this process, where most of what it imports is there already."""
    sys.argv = list(words)
    os.environ.pop("_KFP_RUNTIME", None)
    return _run_in_process(lambda: runpy.run_module(words[0], run_name="__main__", alter_sys=True))


def _run_in_process(program: Callable[[], object]) -> int:
    """Run a program as an interpreter of its own would: fresh streams, its exit code, its threads awaited."""
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    logging.root.handlers.clear()
    code = 0
    try:
        program()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # What an interpreter does at its end: executors that nobody closed are told, and threads that are no daemons are awaited.
    threading._shutdown()  # type: ignore[attr-defined]  # there is no other way to it but to end the interpreter
    return code


def _execute(program: CommandProgram, folder: Path) -> NoReturn:
    if not program.words:
        _stop("the step has no command, and an image's own entry point cannot be run without the image", _NOT_FOUND)
    os.environ.pop("_KFP_RUNTIME", None)
    os.environ.update(_own_packages(folder))
    name = program.words[0]
    try:
        if program.behind and shutil.which(name) is None:
            raise FileNotFoundError(name)
        words = (*program.behind, *program.words)
        os.execvp(words[0], words)
    except FileNotFoundError:
        where = "at that path" if "/" in name else f"on PATH ({os.environ.get('PATH', '')})"
        _stop(f"there is no command {name!r} {where}", _NOT_FOUND)
    except OSError as error:
        _stop(f"{name!r} cannot be run: {error.strerror}", _NOT_EXECUTABLE)


def _stop(why: str, code: int) -> NoReturn:
    print(why, file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)


def _own_packages(folder: Path) -> dict[str, str]:
    """What a script installs with pip goes into the step's own folder, where it finds it, and not into the interpreter
    that everybody shares.
    """
    packages = str(folder / "packages")
    return {
        "PIP_TARGET": packages,
        "PYTHONPATH": os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH")))),
        "PATH": os.pathsep.join(filter(None, (os.environ.get("PATH"), f"{packages}/bin"))),
    }


def _limit(limits: Limits) -> None:
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.processor_seconds is not None:
        _bound(resource.RLIMIT_CPU, limits.processor_seconds, grace=_CPU_GRACE_SECONDS)
    if limits.memory_bytes is not None:
        # The zygote looks at what is really used; this stops a single allocation that would be far beyond it.
        _bound(resource.RLIMIT_DATA, _data_bytes() + 2 * limits.memory_bytes)


def _bound(kind: int, bound: int, *, grace: int = 0) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    last = allowed + grace if hard == resource.RLIM_INFINITY else min(allowed + grace, hard)
    resource.setrlimit(kind, (allowed, last))


def _data_bytes() -> int:
    """The writable memory that this process has from its parent."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _use_threads(threads: int) -> None:
    os.environ.update(thread_variables(threads))
    with contextlib.suppress(ImportError):  # for libraries that are loaded already, and have read the environment
        importlib.import_module("threadpoolctl").threadpool_limits(threads)


def _die_with(parent: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
