"""A predictor process: loads one model and answers calls. Started by the host, with its descriptors and paths on the command line.

Foreign code runs in here. What it prints goes to the host, which keeps it; what it takes is limited (`limits`); when it ends, the host
starts it again. Nothing is imported but what the model needs: a process that is ready sooner is missed for less long.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import socket
import sys
import traceback
from pathlib import Path

from goldenloop.serving.predictors.control import CLOSED, ENDED, LOAD_FAILED, LoadFailed, OutOfMemory, say
from goldenloop.serving.predictors.limits import confine
from goldenloop.serving.predictors.page import Page
from goldenloop.serving.predictors.server import ConcurrentServer, SerialServer, described, flush_streams


def main(arguments: list[str]) -> int:
    """Be a predictor; return the exit code."""
    given = _parser().parse_args(arguments)
    confine(memory_bytes=given.memory, host=given.host)
    listener = socket.socket(fileno=given.listen)
    control = socket.socket(fileno=given.control)
    for shared in (listener, control):
        shared.set_inheritable(False)
    page = Page(given.page, writable=True)
    page.open_for(given.instance)
    faulthandler.enable(all_threads=False)
    try:
        server = _server(given, listener, control, page)
    except MemoryError:
        say(control, OutOfMemory())
        return LOAD_FAILED
    except BaseException as error:  # its own code may raise anything, and may try to exit
        traceback.print_exc()
        from goldenloop.core.errors import GoldenloopError

        say(control, LoadFailed(str(error) if isinstance(error, GoldenloopError) else described(error)))
        return LOAD_FAILED
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not look at it again
    try:
        if isinstance(server, SerialServer):
            server.serve()
        else:
            import asyncio

            asyncio.run(server.serve())
    except (OSError, ValueError):  # a descriptor that the loop needs is gone
        traceback.print_exc()
        return CLOSED
    return ENDED


def _server(
    given: argparse.Namespace, listener: socket.socket, control: socket.socket, page: Page
) -> SerialServer | ConcurrentServer:
    import inspect

    from goldenloop.serving.predictors.forms import read_served_form
    from goldenloop.serving.predictors.loaders import load

    form = read_served_form(given.folder)
    model = load(given.folder, form, name=given.name, threads=given.threads)
    if inspect.iscoroutinefunction(model.score):
        return ConcurrentServer(listener, control, page, model, instance=given.instance)  # type: ignore[arg-type]
    return SerialServer(listener, control, page, model, instance=given.instance)  # type: ignore[arg-type]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="goldenloop.serving.predictors.process", description="A predictor process.")
    parser.add_argument("--listen", required=True, type=int, help="the descriptor of the listening socket")
    parser.add_argument("--control", required=True, type=int, help="the descriptor of the socket to the host")
    parser.add_argument("--page", required=True, type=Path, help="the file of the page")
    parser.add_argument("--instance", required=True, type=int, help="the number of this start")
    parser.add_argument("--folder", required=True, type=Path, help="the served form")
    parser.add_argument("--name", required=True, help="the service's name")
    parser.add_argument("--memory", required=True, type=int, help="bytes that the model may use")
    parser.add_argument("--threads", required=True, type=int, help="threads of one call")
    parser.add_argument("--host", required=True, type=int, help="the host's process id, 0 where it is not the parent")
    return parser


if __name__ == "__main__":
    _code = main(sys.argv[1:])
    flush_streams()
    os._exit(_code)  # threads that the model's code started do not hold it up
