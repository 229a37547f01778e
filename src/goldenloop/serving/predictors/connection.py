"""One connection of a worker to a predictor process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from goldenloop.serving.predictors.messages import WIRE_VERSION, Answer, Bye, Failed, Hello, Refused, ToWorker
from goldenloop.serving.predictors.page import Page
from goldenloop.serving.predictors.wire import Codec, FrameError, Incoming

if TYPE_CHECKING:
    from goldenloop.serving.predictors.link import Asked, PredictorLink

_JOINED = 1 << 16  # a frame up to this size is written in one piece


class Connection(asyncio.BufferedProtocol):
    """Sends calls and takes answers. `outcome` is set once: None when the model is ready, else why not (empty: the connection ended)."""

    def __init__(self, link: PredictorLink, replica: int) -> None:
        self.replica = replica
        self.outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.in_flight: dict[int, Asked] = {}
        self.page: Page | None = None
        self.instance = 0
        self.lanes = 1
        self._link = link
        self._number = 0
        self._said_bye = False
        self.is_lost = False
        self._transport: asyncio.Transport | None = None
        self._incoming = Incoming()
        self._codec: Codec[ToWorker] = Codec(ToWorker)

    def send(self, asked: Asked) -> None:
        """Send a call. Raises TypeError where it cannot be put into a frame."""
        pieces = self._codec.encode(asked.message)
        assert self._transport is not None
        asked.was_sent = True
        self.in_flight[asked.message.call] = asked
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif sum(map(len, pieces)) <= _JOINED:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def had_begun(self, call: int) -> bool:
        """Whether the process, which has ended, may have begun this call."""
        if self._said_bye:
            return False
        if self.lanes > 1 or self.page is None or self.page.instance != self.instance:
            return True
        return self.page.is_running(self._number, call)

    def close(self) -> None:
        """Let go of it."""
        if self._transport is not None:
            self._transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have no common parent with asyncio's

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._incoming.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frame in self._incoming.take(nbytes):
                self._take(self._codec.decode(frame))
        except FrameError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.outcome.done():
            self.outcome.set_result("")
        self._lose()

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._link.lost(self)

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Answer | Failed):
            self._link.answered(self, message)
        elif isinstance(message, Hello):
            if message.wire != WIRE_VERSION:
                raise FrameError(f"the process speaks version {message.wire} of the wire, this worker {WIRE_VERSION}")
            self.instance, self._number, self.lanes = message.instance, message.connection, message.lanes
            if not self.outcome.done():
                self.outcome.set_result(None)
        elif isinstance(message, Refused):
            if not self.outcome.done():
                self.outcome.set_result(message.reason)
        elif isinstance(message, Bye):
            self._said_bye = True
            self.close()
            self._lose()
