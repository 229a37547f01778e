"""gRPC's reflection service: what is served, for tools that ask (grpcurl, Postman)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from goldenloop.serving.grpc.methods import Headers, Incoming, Method
from goldenloop.serving.grpc.status import Status
from goldenloop.standards.protobuf import Messages


class _Asked:
    file_by_filename: str
    file_containing_symbol: str

    def WhichOneof(self, group: str) -> str | None:  # the library's name
        """The field that is set."""
        raise NotImplementedError


class ReflectionService:
    """Describes the files of these messages, in the words of one version of the service."""

    def __init__(self, reflection: Messages, described: Sequence[Messages]) -> None:
        self._reflection = reflection
        self._described = described

    def methods(self) -> dict[str, Method]:
        """What is served, by path."""
        return {f"/{self._reflection.services[0]}/ServerReflectionInfo": Method(conversation=self._answer)}

    async def _answer(self, messages: AsyncIterator[Incoming], _headers: Headers) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            asked = self._reflection.read(message.content, "ServerReflectionRequest", _Asked)
            yield self._reflection.write("ServerReflectionResponse", **self._told(asked))
            message.done()

    def _told(self, asked: _Asked) -> dict[str, object]:
        question = asked.WhichOneof("message_request")
        if question == "list_services":
            names = sorted(name for messages in self._described for name in messages.services)
            return {"list_services_response": {"service": [{"name": name} for name in names]}}
        for messages in self._described:
            if question == "file_by_filename" and messages.file == asked.file_by_filename:
                return _file(messages)
            if question == "file_containing_symbol" and messages.has(asked.file_containing_symbol):
                return _file(messages)
        return {"error_response": {"error_code": Status.NOT_FOUND, "error_message": "there is no such thing here"}}


def _file(messages: Messages) -> dict[str, object]:
    return {"file_descriptor_response": {"file_descriptor_proto": [messages.description]}}
