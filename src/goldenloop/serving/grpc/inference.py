"""The Open Inference Protocol's gRPC service, over the same endpoints as REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.serving.endpoints import Endpoints
from goldenloop.serving.grpc.inbox import Content
from goldenloop.serving.grpc.methods import Answer, Headers, Incoming, Method, Single
from goldenloop.serving.grpc.status import CallError, Status
from goldenloop.standards.open_inference.grpc import (
    GrpcRequest,
    Parameter,
    parameter_of,
    read_infer,
    write_infer,
    write_stream,
    write_stream_error,
)
from goldenloop.standards.open_inference.messages import MESSAGES, REFUSED, SERVICE

_AT_ONCE: Final = 16  # requests of one stream that are under way; their answers go out in the order of the requests
_WANTS_FINAL = "triton_enable_empty_final_response"
_IS_FINAL = "triton_final_response"


class _Asked:
    """Which model, in the requests that name one."""

    name: str
    version: str


class _Index:
    ready: bool


class _Load:
    repository_name: str
    model_name: str
    parameters: Mapping[str, Parameter]


class _LogSettings:
    settings: Mapping[str, Parameter]


class InferenceService:
    """Answers the service's methods. `log_settings` are remembered and given back, as over REST."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._log_settings = endpoints.log_settings

    def methods(self) -> dict[str, Method]:
        """What is served, by path."""
        singles: dict[str, Single] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "LogSettings": self._log,
            **dict.fromkeys(REFUSED, _refuse),
        }
        methods = {f"/{SERVICE}/{name}": Method(single=single) for name, single in singles.items()}
        methods[f"/{SERVICE}/ModelStreamInfer"] = Method(conversation=self._stream)
        return methods

    async def _infer(self, content: Content, headers: Headers) -> Answer:
        request = read_infer(content)
        response = await self._endpoints.infer(request, headers, namespace=self._namespace(headers))
        return Answer(write_infer(response, raw=request.wants_raw), response.prediction)

    async def _stream(self, messages: AsyncIterator[Incoming], headers: Headers) -> AsyncGenerator[bytes, None]:
        """Answer requests in their order, several at a time; what is wrong with one is its answer, and the stream goes on."""
        under_way: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_AT_ONCE)
        loop = asyncio.get_running_loop()

        async def take() -> None:
            try:
                async for message in messages:
                    await under_way.put(loop.create_task(self._answer_one(message, headers)))
            except GoldenloopError:
                await under_way.put(None)
                raise
            await under_way.put(None)

        taking = loop.create_task(take())
        try:
            while (task := await under_way.get()) is not None:
                yield await task
            await taking  # raises what kept it from reading on
        finally:
            taking.cancel()
            while not under_way.empty():
                task = under_way.get_nowait()
                if task is not None:
                    task.cancel()

    async def _answer_one(self, message: Incoming, headers: Headers) -> bytes:
        request: GrpcRequest | None = None
        try:
            request = read_infer(message.content)
            response = await self._endpoints.infer(request, headers, namespace=self._namespace(headers))
            if request.parameters.get(_WANTS_FINAL) is True:
                response.parameters = {**response.parameters, _IS_FINAL: True}
            return write_stream(response, raw=request.wants_raw)
        except GoldenloopError as error:
            return write_stream_error(str(error), request)
        finally:
            message.done()

    async def _server_live(self, _content: Content, _headers: Headers) -> Answer:
        return Answer(MESSAGES.write("ServerLiveResponse", live=True))

    async def _server_ready(self, _content: Content, _headers: Headers) -> Answer:
        return Answer(MESSAGES.write("ServerReadyResponse", ready=self._endpoints.plane.is_ready))

    async def _server_metadata(self, _content: Content, _headers: Headers) -> Answer:
        told = self._endpoints.server()
        return Answer(
            MESSAGES.write("ServerMetadataResponse", name=told.name, version=told.version, extensions=told.extensions)
        )

    async def _model_ready(self, content: Content, headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "ModelReadyRequest", _Asked)
        try:
            is_ready = self._endpoints.is_ready(asked.name, asked.version, namespace=self._namespace(headers))
        except NotFoundError:
            is_ready = False
        return Answer(MESSAGES.write("ModelReadyResponse", ready=is_ready))

    async def _model_metadata(self, content: Content, headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "ModelMetadataRequest", _Asked)
        told = await self._endpoints.metadata(asked.name, asked.version, namespace=self._namespace(headers))
        return Answer(
            MESSAGES.write(
                "ModelMetadataResponse",
                name=told.name,
                versions=told.versions,
                platform=told.platform,
                inputs=[msgspec.structs.asdict(tensor) for tensor in told.inputs],
                outputs=[msgspec.structs.asdict(tensor) for tensor in told.outputs],
            )
        )

    async def _model_config(self, content: Content, headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "ModelConfigRequest", _Asked)
        config = await self._endpoints.config(asked.name, asked.version, namespace=self._namespace(headers))
        return Answer(MESSAGES.write_document("ModelConfigResponse", {"config": config}))

    async def _model_statistics(self, content: Content, headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "ModelStatisticsRequest", _Asked)
        told = self._endpoints.statistics(asked.name, asked.version, namespace=self._namespace(headers))
        return Answer(MESSAGES.write_document("ModelStatisticsResponse", {"model_stats": told}))

    async def _index(self, content: Content, _headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "RepositoryIndexRequest", _Index)
        entries = self._endpoints.index(ready=asked.ready)
        return Answer(
            MESSAGES.write("RepositoryIndexResponse", models=[msgspec.structs.asdict(entry) for entry in entries])
        )

    async def _load(self, content: Content, _headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "RepositoryModelLoadRequest", _Load)
        _check_no_files(list(asked.parameters))
        name = _name_of(asked)
        await self._endpoints.load(name)
        return Answer(MESSAGES.write("RepositoryModelLoadResponse", model_name=name, isLoaded=True))

    async def _unload(self, content: Content, _headers: Headers) -> Answer:
        name = _name_of(MESSAGES.read(content, "RepositoryModelUnloadRequest", _Load))
        await self._endpoints.unload(name)
        return Answer(MESSAGES.write("RepositoryModelUnloadResponse", model_name=name, isUnloaded=True))

    async def _log(self, content: Content, _headers: Headers) -> Answer:
        asked = MESSAGES.read(content, "LogSettingsRequest", _LogSettings)
        for name, value in asked.settings.items():
            field = value.WhichOneof("parameter_choice")
            if name in self._log_settings and field is not None:
                self._log_settings[name] = getattr(value, field)
        settings = {name: _setting_of(value) for name, value in self._log_settings.items()}
        return Answer(MESSAGES.write("LogSettingsResponse", settings=settings))

    def _namespace(self, headers: Headers) -> str | None:
        """The namespace of the service that the call's host means, if it means one."""
        plane = self._endpoints.plane
        if not plane.has_hosts:
            return None
        meant = plane.at_host(headers.get("host", "").partition(":")[0])
        return None if meant is None else meant.namespace


async def _refuse(_content: Content, _headers: Headers) -> Answer:
    raise CallError(
        Status.UNIMPLEMENTED,
        "shared memory and tracing are not served",
        mend="Leave it out: values travel with the request.",
    )


def _name_of(asked: _Load) -> str:
    """KServe's client has the model's name where Triton's has the repository's."""
    name = asked.model_name or asked.repository_name
    if not name:
        raise InvalidSpecError("no model is named", where="model_name", mend="Say which model.")
    return name


def _check_no_files(parameters: Sequence[str]) -> None:
    if any(name.startswith("file:") for name in parameters):
        raise InvalidSpecError(
            "model files do not come with a load request",
            where="parameters",
            mend="Apply an InferenceService with a storageUri.",
        )


def _setting_of(value: object) -> dict[str, object]:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"uint32_param": value}
    return parameter_of(value)
