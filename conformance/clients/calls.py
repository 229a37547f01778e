"""What the programs of one client each share: they run in an environment of the client's, so nothing of ours is imported here.

A program makes calls one after the other, prints one JSON object a line for each, and ends with 1 if one of them was not as it should be.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable

ROW = [5.1, 3.5, 1.4, 0.2]  # a flower; the model says class 0
SETTLE_SECONDS = 30.0


class Calls:
    """Makes calls and writes down what came of them."""

    def __init__(self) -> None:
        self.client = ""
        self.is_well = True

    def call(self, name: str, made: Callable[[], object]) -> None:
        """Make a call; `made` raises where the answer is not as it should be."""
        try:
            made()
        except Exception as error:
            self._note(name, error)
        else:
            self._note(name, None)

    async def awaited(self, name: str, made: Callable[[], Awaitable[object]]) -> None:
        """As `call`, for calls that are awaited."""
        try:
            await asyncio.wait_for(made(), SETTLE_SECONDS)
        except Exception as error:
            self._note(name, error)
        else:
            self._note(name, None)

    def end(self) -> None:
        """Leave, with 1 if something was wrong."""
        sys.exit(0 if self.is_well else 1)

    def _note(self, name: str, error: Exception | None) -> None:
        told = ""
        if error is not None:
            self.is_well = False
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"[:400]
        print(json.dumps({"client": self.client, "call": name, "ok": error is None, "told": told}), flush=True)


def refused(error: Exception, *, words: str) -> None:
    """Check that what a client raised tells in words that something is not served."""
    assert words in str(error), f"the error does not say {words!r}: {error}"


def expect_refusal(made: Callable[[], object], *, words: str) -> None:
    """Check that a call is refused, and says why."""
    try:
        made()
    except Exception as error:
        refused(error, words=words)
        return
    raise AssertionError("it was not refused")


async def expect_awaited_refusal(made: Callable[[], Awaitable[object]], *, words: str) -> None:
    """As `expect_refusal`, for calls that are awaited."""
    try:
        await made()
    except Exception as error:
        refused(error, words=words)
        return
    raise AssertionError("it was not refused")
