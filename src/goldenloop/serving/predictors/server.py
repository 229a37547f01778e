"""The loop of a predictor process: takes calls from all its connections and lets the model answer them.

`SerialServer` answers one call after the other in the only thread: nothing that models share is ever entered twice, and no time is lost on
switching. `ConcurrentServer` is for classes whose methods are coroutines, and runs up to `LANES` calls at the same time.

A model may raise, exit, or fork; whatever it does, the loop answers the call with what happened, or the host does when the process is gone.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
import time
import traceback
from typing import Protocol

from goldenloop.serving.predictors.control import OutOfMemory, Ready, ToHost, say
from goldenloop.serving.predictors.messages import (
    WIRE_VERSION,
    Answer,
    Bye,
    Call,
    Failed,
    Hello,
    Method,
    Score,
    ToProcess,
)
from goldenloop.serving.predictors.page import Page
from goldenloop.serving.predictors.peers import Peer
from goldenloop.serving.predictors.wire import Array

LANES = 64  # calls of a class with coroutines at the same time
LONGEST_TEXT = 500  # characters of what a model raised
_FLUSH_SECONDS = 1.0  # for the last answers when the process ends
_TRACEBACK_SECONDS = 1.0  # between two that are printed


class Model(Protocol):
    """A loaded model. It raises whatever it likes."""

    def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:
        """Score rows."""
        ...

    def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:
        """Call a method of a user's class."""
        ...


class ConcurrentModel(Protocol):
    """A loaded class of which some methods are coroutines."""

    async def score(self, rows: int, tensors: dict[str, Array]) -> dict[str, Array]:
        """Score rows."""
        ...

    async def call(self, method: Method, payload: object, headers: dict[str, str]) -> object:
        """Call a method of a user's class."""
        ...


class _Server:
    """What both loops share: connections, the host's word, and the end."""

    lanes = 1

    def __init__(self, listener: socket.socket, control: socket.socket, page: Page, *, instance: int) -> None:
        listener.setblocking(False)
        control.setblocking(False)
        self._listener = listener
        self._control = control
        self._page = page
        self._instance = instance
        self._peers: dict[int, Peer] = {}
        self._accepted = 0
        self._ending = False
        self._forked = False
        self._printed = 0.0
        os.register_at_fork(after_in_child=self._after_fork)

    def _accept(self) -> Peer | None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return None
        self._accepted += 1
        peer = Peer(connection, self._accepted)
        peer.send(Hello(WIRE_VERSION, self._instance, peer.number, self.lanes))
        if not peer.is_open:
            return None
        self._peers[peer.fileno()] = peer
        self._page.connected(len(self._peers))
        return peer

    def _forget(self, descriptor: int) -> None:
        self._peers.pop(descriptor, None)
        self._page.connected(len(self._peers))

    def _listen_to_host(self) -> None:
        try:
            self._control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            pass  # it is gone
        self._ending = True  # whatever it says, or that it is gone, means the end

    def _say(self, message: ToHost) -> None:
        say(self._control, message)

    def _failure(self, call: int, error: BaseException) -> Failed:
        if isinstance(error, MemoryError):
            # What it holds is not known any more: it begins anew.
            self._say(OutOfMemory())
            self._ending = True
            return Failed(call, "memory", "the model ran out of memory")
        now = time.monotonic()
        if now - self._printed > _TRACEBACK_SECONDS:
            self._printed = now
            traceback.print_exception(error)
        return Failed(call, "raised", described(error))

    def _end(self) -> None:
        """Say goodbye, so that workers know that what has no answer was not begun."""
        for peer in self._peers.values():
            if peer.is_open:
                peer.send(Bye())
        end = time.monotonic() + _FLUSH_SECONDS
        while time.monotonic() < end and any(peer.has_outgoing for peer in self._peers.values()):
            for peer in self._peers.values():
                peer.flush()
            time.sleep(0.005)

    def _after_fork(self) -> None:
        """In a child that the model's code forked: connections are not its business."""
        self._forked = True
        for peer in self._peers.values():
            peer.drop()
        for shared in (self._listener, self._control):
            os.close(shared.detach())


class SerialServer(_Server):
    """One call after the other."""

    def __init__(
        self, listener: socket.socket, control: socket.socket, page: Page, model: Model, *, instance: int
    ) -> None:
        super().__init__(listener, control, page, instance=instance)
        self._model = model
        self._poll = select.epoll()

    def serve(self) -> None:
        """Answer until the host says that it is enough, or is gone."""
        poll = self._poll
        poll.register(self._listener, select.EPOLLIN)
        poll.register(self._control, select.EPOLLIN)
        self._say(Ready(lanes=1))
        listener, control = self._listener.fileno(), self._control.fileno()
        while not self._ending:
            for descriptor, events in poll.poll():
                if descriptor == listener:
                    if (peer := self._accept()) is not None:
                        poll.register(peer.fileno(), select.EPOLLIN)
                elif descriptor == control:
                    self._listen_to_host()
                elif (peer := self._peers.get(descriptor)) is not None:
                    self._serve(descriptor, peer, events)
        self._end()

    def _serve(self, descriptor: int, peer: Peer, events: int) -> None:
        had_outgoing = peer.has_outgoing
        if events & select.EPOLLOUT:
            peer.flush()
        if events & ~select.EPOLLOUT:
            for message in peer.receive():
                self._answer(peer, message)
                if self._ending:
                    return
        if not peer.is_open:
            self._forget(descriptor)  # a closed descriptor leaves the poll by itself
        elif had_outgoing or peer.has_outgoing:
            wanted = (0 if peer.is_choked else select.EPOLLIN) | (select.EPOLLOUT if peer.has_outgoing else 0)
            self._poll.modify(descriptor, wanted)

    def _answer(self, peer: Peer, message: ToProcess) -> None:
        call = message.call
        now_ns = time.monotonic_ns()
        if now_ns > message.deadline_us * 1_000:
            peer.send(Failed(call, "late", "its time was over before the model came to it"))
            return
        page = self._page
        page.begin(peer.number, call, now_ns + message.limit_us * 1_000)
        try:
            if isinstance(message, Score):
                result: object = self._model.score(message.rows, message.tensors)  # type: ignore[arg-type]
            else:
                result = self._model.call(message.method, message.payload, message.headers)
            if self._forked:
                os._exit(0)  # a child that came back out of the model
            peer.send(Answer(call, result))
        except BaseException as error:  # also what would end the process: it is the host that decides that
            if self._forked:
                os._exit(1)
            peer.send(self._failure(call, error))
        page.end(time.monotonic_ns())


class ConcurrentServer(_Server):
    """Many calls at the same time, on an event loop."""

    lanes = LANES

    def __init__(
        self, listener: socket.socket, control: socket.socket, page: Page, model: ConcurrentModel, *, instance: int
    ) -> None:
        super().__init__(listener, control, page, instance=instance)
        self._model = model
        self._running: dict[asyncio.Task[None], int] = {}  # → when it may be killed
        self._stopped = asyncio.Event()

    async def serve(self) -> None:
        """Answer until the host says that it is enough, or is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listener, self._take_peer)
        loop.add_reader(self._control, self._take_word)
        self._say(Ready(lanes=self.lanes))
        await self._stopped.wait()
        loop.remove_reader(self._listener)
        for descriptor in self._peers:
            loop.remove_reader(descriptor)
        if self._running:  # what has begun is finished; the host's patience is the limit
            await asyncio.wait(self._running)
        self._end()

    def _take_peer(self) -> None:
        if (peer := self._accept()) is not None:
            descriptor = peer.fileno()
            asyncio.get_running_loop().add_reader(descriptor, self._take_calls, descriptor, peer)

    def _take_word(self) -> None:
        self._listen_to_host()
        if self._ending:
            asyncio.get_running_loop().remove_reader(self._control)
            self._stopped.set()

    def _take_calls(self, descriptor: int, peer: Peer) -> None:
        for message in peer.receive():
            now_ns = time.monotonic_ns()
            if now_ns > message.deadline_us * 1_000:
                peer.send(Failed(message.call, "late", "its time was over before the model came to it"))
                continue
            task = asyncio.get_running_loop().create_task(self._answer(peer, message))
            self._running[task] = now_ns + message.limit_us * 1_000
            task.add_done_callback(self._ended)
        self._page.running(min(self._running.values(), default=0))
        self._mind(descriptor, peer)

    async def _answer(self, peer: Peer, message: ToProcess) -> None:
        reply: Answer | Failed
        try:
            async with asyncio.timeout(message.limit_us / 1e6):
                if isinstance(message, Call):
                    result: object = await self._model.call(message.method, message.payload, message.headers)
                else:
                    result = await self._model.score(message.rows, message.tensors)  # type: ignore[arg-type]
            reply = Answer(message.call, result)
        except TimeoutError as error:
            seconds = message.limit_us / 1e6
            late = time.monotonic_ns() >= message.deadline_us * 1_000
            reply = (
                Failed(message.call, "late", f"the model did not answer in {seconds:g} s")
                if late
                else self._failure(message.call, error)
            )
        except BaseException as error:
            reply = self._failure(message.call, error)
        if self._forked:
            os._exit(0)
        descriptor = peer.fileno()
        try:
            peer.send(reply)
        except (TypeError, ValueError, OverflowError) as error:
            peer.send(self._failure(message.call, error))
        if self._ending:
            self._stopped.set()
        self._mind(descriptor, peer)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._page.worked(time.monotonic_ns())
        self._page.running(min(self._running.values(), default=0))

    def _mind(self, descriptor: int, peer: Peer) -> None:
        """Read and write this connection as it can be."""
        loop = asyncio.get_running_loop()
        if not peer.is_open:
            if descriptor in self._peers and self._peers[descriptor] is peer:
                loop.remove_reader(descriptor)
                loop.remove_writer(descriptor)
                self._forget(descriptor)
        elif peer.has_outgoing:
            loop.add_writer(descriptor, self._make_room, descriptor, peer)
            if peer.is_choked:
                loop.remove_reader(descriptor)

    def _make_room(self, descriptor: int, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        peer.flush()
        if peer.is_open and not peer.has_outgoing:
            loop.remove_writer(descriptor)
            loop.add_reader(descriptor, self._take_calls, descriptor, peer)
        self._mind(descriptor, peer)


def described(error: BaseException) -> str:
    """What a model raised, in one line."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:LONGEST_TEXT]


def flush_streams() -> None:
    """Bring what was printed to its reader."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the model's code closed or replaced it
            continue
