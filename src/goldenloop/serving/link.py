"""The worker's end of the control socket (messages: `goldenloop.core.wire`). Without control the worker answers on, and tries again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from goldenloop.core.wire import FromWorker, Hello, Nudge, Serving, Settle, Settled, ToWorker

_SHORTEST_PAUSE = 0.05  # seconds between two tries to connect; doubles up to the longest
_LONGEST_PAUSE = 2.0
_LARGEST_LINE = 1 << 20


class ControlLink:
    """Keeps a connection to control. What is sent while there is none is dropped: on connecting, `on_connected` says it anew."""

    def __init__(
        self,
        socket: Path,
        name: str,
        *,
        on_nudge: Callable[[], None],
        on_settle: Callable[[], Awaitable[None]],
        on_connected: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._name = name
        self._on_nudge = on_nudge
        self._on_settle = on_settle
        self._on_connected = on_connected
        self._writer: asyncio.StreamWriter | None = None
        self._decoder = msgspec.json.Decoder[ToWorker](ToWorker)
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether control listens now."""
        return self._writer is not None

    def send(self, message: FromWorker) -> None:
        """Send a message, or drop it where there is no connection."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def run(self) -> None:
        """Stay connected, for ever."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=_LARGEST_LINE)
            except OSError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _SHORTEST_PAUSE
            self._writer = writer
            try:
                self.send(Hello(self._name, os.getpid()))
                self._on_connected()
                await self._listen(reader)
            except (OSError, msgspec.DecodeError, ValueError):
                await asyncio.sleep(pause)  # a line that cannot be read, or a lost connection: begin anew
            finally:
                self._writer = None
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def serving(self, generation: int, failed: dict[str, str]) -> None:
        """Say which table is in force."""
        self.send(Serving(generation, failed))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = self._decoder.decode(line)
            if isinstance(message, Nudge):
                self._on_nudge()
            else:
                task = asyncio.create_task(self._settle(message))
                self._settling.add(task)
                task.add_done_callback(self._settling.discard)

    async def _settle(self, message: Settle) -> None:
        await self._on_settle()
        self.send(Settled(message.number))
