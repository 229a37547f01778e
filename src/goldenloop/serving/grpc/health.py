"""gRPC's health service: whether this worker answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from goldenloop.core.errors import NotFoundError
from goldenloop.serving.dataplane import DataPlane
from goldenloop.serving.grpc.inbox import Content
from goldenloop.serving.grpc.methods import Answer, Headers, Incoming, Method
from goldenloop.standards.grpc_services import HEALTH

WATCH_SECONDS: Final = 1.0  # between two looks for those who watch
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3


class _Asked:
    service: str


class HealthService:
    """Answers for the server as a whole (the empty name) and for each of its services."""

    def __init__(self, plane: DataPlane, services: frozenset[str]) -> None:
        self._plane = plane
        self._services = services | {""}

    def methods(self) -> dict[str, Method]:
        """What is served, by path."""
        path = f"/{HEALTH.services[0]}/"
        return {f"{path}Check": Method(single=self._check), f"{path}Watch": Method(conversation=self._watch)}

    async def _check(self, content: Content, _headers: Headers) -> Answer:
        service = HEALTH.read(content, "HealthCheckRequest", _Asked).service
        if service not in self._services:
            raise NotFoundError(
                f"there is no service {service[:200]!r}", mend="Ask for the empty name: the whole server."
            )
        return Answer(self._answer(service))

    async def _watch(self, messages: AsyncIterator[Incoming], _headers: Headers) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            service = HEALTH.read(message.content, "HealthCheckRequest", _Asked).service
            told = b""
            while True:
                answer = self._answer(service)
                if answer != told:
                    told = answer
                    yield answer
                await asyncio.sleep(WATCH_SECONDS)

    def _answer(self, service: str) -> bytes:
        status = _SERVING if self._plane.is_ready else _NOT_SERVING
        return HEALTH.write("HealthCheckResponse", status=status if service in self._services else _UNKNOWN)
