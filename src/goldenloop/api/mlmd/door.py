"""The methods of ML Metadata's service on a gRPC server: which thread works on a call, in which transaction, and how errors are answered.

A call is one transaction. Calls that write stand in line for one thread, because the database takes one writer at a time; those that read
have a few threads of their own. What a client gave up on is not begun.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from goldenloop.api.mlmd.batches import batch_calls
from goldenloop.api.mlmd.calls import Asked, Call, Request, Response, failed
from goldenloop.api.mlmd.lineage import lineage_calls
from goldenloop.api.mlmd.links import link_calls
from goldenloop.api.mlmd.nodes import node_calls
from goldenloop.api.mlmd.types import type_calls
from goldenloop.core.clock import Clock
from goldenloop.core.errors import GoldenloopError
from goldenloop.serving.grpc.inbox import Content
from goldenloop.serving.grpc.methods import Answer, Headers, Method, Methods, Single
from goldenloop.serving.grpc.reflection import ReflectionService
from goldenloop.standards.grpc_services import REFLECTIONS
from goldenloop.standards.mlmd.messages import MESSAGES
from goldenloop.store.database import Database

READERS: Final = 4  # threads that answer calls that only read

CALLS: Final[dict[str, Call]] = {
    call.name: call for calls in (type_calls, node_calls, link_calls, batch_calls, lineage_calls) for call in calls()
}


class MlmdDoor:
    """Answers ML Metadata's clients from a database. `close` it when no call is under way."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlmd-write")
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="mlmd-read")

    def methods(self) -> Methods:
        """What is served, by path; reflection with it, for tools that ask."""
        methods = {f"/{MESSAGES.services[0]}/{call.name}": Method(single=self._single(call)) for call in CALLS.values()}
        for reflection in REFLECTIONS:
            methods |= ReflectionService(reflection, (MESSAGES, *REFLECTIONS)).methods()
        return methods

    def close(self) -> None:
        """End the threads when they have finished what they have."""
        self._writer.shutdown()
        self._readers.shutdown()

    def answer(self, call: Call, content: Content) -> bytes:
        """Answer a call, in the thread of who asks. Raises GoldenloopError as the service answers it."""
        try:
            return self._answered(call, content)
        except GoldenloopError as error:
            raise failed(error) from error

    def _answered(self, call: Call, content: Content) -> bytes:
        request = MESSAGES.read(content, f"{call.name}Request", Request)
        response = MESSAGES.new(f"{call.name}Response", Response)
        transactions = self._database.write if call.writes else self._database.read
        with transactions() as transaction:
            call.answer(Asked(request=request, response=response, transaction=transaction, now_us=self._clock.now_us()))
        written: bytes = response.SerializeToString()
        return written

    def _single(self, call: Call) -> Single:
        threads = self._writer if call.writes else self._readers

        async def answer(content: Content, _headers: Headers) -> Answer:
            loop = asyncio.get_running_loop()
            return Answer(await loop.run_in_executor(threads, self.answer, call, content))

        return answer
