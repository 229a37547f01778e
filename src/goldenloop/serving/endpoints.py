"""The Open Inference Protocol without a transport: what REST and gRPC both answer with.

Names come from the caller and are looked up in the table; labels of metrics come from the table only, so that they stay bounded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec

from goldenloop import __version__
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.ids import uuid7
from goldenloop.core.routing import Graph
from goldenloop.core.served import TensorSpec
from goldenloop.serving.dataplane import Answered, DataPlane, Deployed
from goldenloop.serving.explanations.answering import EXPLAINER_SUFFIX, explain_v1, explain_v2, explainer_metadata
from goldenloop.serving.notices import Notices
from goldenloop.serving.questions import Headers, V1Question, V2Question
from goldenloop.serving.replies import Predicted, listed, outputs_of_answer, picked, predicted_of, tensors_of
from goldenloop.serving.statuses import status_of
from goldenloop.serving.transforming import Transformer
from goldenloop.standards.cloudevents import REQUEST_TYPE, RESPONSE_TYPE, inference_notice
from goldenloop.standards.open_inference.records import InferRequest, InferResponse, ModelMetadata
from goldenloop.standards.open_inference.rest import (
    V1Request,
    event_time_of,
    json_of_request,
    json_of_response,
)
from goldenloop.standards.open_inference.table import (
    metadata_of,
)
from goldenloop.standards.open_inference.tensors import Tensor

EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "model_repository(unload_dependents)",
    "parameters", "statistics", "logging",
)  # fmt: skip

LARGEST_REFUSED = 64 * 1024  # bytes of a request that could not be read which its notice carries


class ServerMetadata(msgspec.Struct, frozen=True):
    """What `GET /v2` answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


class IndexEntry(msgspec.Struct, frozen=True):
    """One model version of the repository's index."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class Endpoints:
    """Everything a client of the protocol may ask. `want` passes on that a service is to be loaded or unloaded, and waits until it is."""

    def __init__(
        self,
        plane: DataPlane,
        *,
        want: Callable[[Deployed, bool], Awaitable[None]] | None = None,
        notices: Notices | None = None,
    ) -> None:
        self.plane = plane
        self._want = want
        self._notices = notices
        # What clients set of the protocol's log is remembered and given back; our own logs are the platform's.
        self.log_settings: dict[str, object] = {
            "log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default",
        }  # fmt: skip

    async def infer(self, request: InferRequest, headers: Headers, *, namespace: str | None = None) -> InferResponse:
        """Answer a V2 request. Raises as `DataPlane.answer`."""
        deployed: Deployed | None = None
        try:
            deployed = self._found(request.model, namespace)
            if deployed is None:
                return await self._explained(request, headers, namespace)
            transformer = None
            inner = request
            if deployed.service.transformer is not None:
                transformer = await Transformer.of(self.plane, deployed, headers)
                inner = await transformer.before_v2(request)
            question = V2Question(inner, headers)
            answered = await self._ask(deployed, question, request.parameters, request.version, headers)
            outputs = outputs_of_answer(answered, inner)
            if transformer is not None:
                outputs = await transformer.after_v2(request, outputs)
        except GoldenloopError as error:
            self._count(deployed, error)
            if deployed is not None and deployed.service.logger is not None:
                self._tell(deployed, _readable(request), headers, error=error)
            raise
        self._count_answer(deployed, answered)
        response = InferResponse(
            model_name=deployed.name,
            model_version=answered.version,
            id=request.id or answered.identity,
            outputs=outputs,
            prediction=answered.identity,
        )
        if deployed.service.logger is not None:
            told = json_of_response(response)
            self._tell(deployed, json_of_request(request), headers, answer=told, answered=answered)
        return response

    async def predict(
        self, name: str, request: V1Request, headers: Headers, *, namespace: str | None = None
    ) -> Predicted:
        """Answer a V1 request. Raises as `DataPlane.answer`."""
        given = request
        deployed: Deployed | None = None
        try:
            deployed = self.plane.find(name, namespace)
            transformer = None
            if deployed.service.transformer is not None:
                transformer = await Transformer.of(self.plane, deployed, headers)
                request = await transformer.before_v1(request)
            answered = await self._ask(deployed, V1Question(request, headers), request.parameters, None, headers)
            predicted = predicted_of(answered)
            if transformer is not None:
                predicted = await transformer.after_v1(predicted)
        except GoldenloopError as error:
            self._count(deployed, error)
            if deployed is not None and deployed.service.logger is not None:
                self._tell(deployed, b'{"%s":%s}' % (given.where.encode(), bytes(given.content)), headers, error=error)
            raise
        self._count_answer(deployed, answered)
        if deployed.service.logger is not None:
            told = msgspec.json.encode(predicted.document or {"predictions": predicted.predictions}, enc_hook=listed)
            body = b'{"%s":%s}' % (given.where.encode(), bytes(given.content))
            self._tell(deployed, body, headers, answer=told, answered=answered)
        return predicted

    def refused(
        self, name: str, body: bytes, headers: Headers, error: GoldenloopError, *, namespace: str | None
    ) -> None:
        """Take note of a request that could not even be read."""
        try:
            deployed: Deployed | None = self.plane.find(name, namespace)
        except GoldenloopError:
            deployed = None
        self._count(deployed, error)
        if deployed is not None and deployed.service.logger is not None:
            self._tell(deployed, body[:LARGEST_REFUSED], headers, error=error)

    async def metadata(self, name: str, version: str = "", *, namespace: str | None = None) -> ModelMetadata:
        """What a model takes and gives. Raises NotFoundError, UnavailableError."""
        if self._found(name, namespace) is None:
            explained = name.removesuffix(EXPLAINER_SUFFIX)
            predictor = await self.metadata(explained, version, namespace=namespace)
            return explainer_metadata(await self.plane.resident(self.plane.find(explained, namespace)), predictor)
        deployed = await self.plane.resident(self.plane.find(name, namespace))
        chosen, _ = deployed.choose(asked=version or deployed.service.champion, identity="", route_key=None)
        scorer = deployed.models[chosen]
        versions = (chosen,) if version else tuple(deployed.models)
        platform = "onnxruntime_onnx" if scorer.form.runtime == "onnx" else f"{scorer.form.format or 'python'}_process"
        if scorer.signature is not None:
            return metadata_of(scorer.signature, name=deployed.name, versions=versions, platform=platform)
        return ModelMetadata(deployed.name, versions, platform, scorer.form.inputs, scorer.form.outputs)

    async def config(self, name: str, version: str = "", *, namespace: str | None = None) -> dict[str, object]:
        """A model's configuration in the form of the model configuration extension. Raises NotFoundError, UnavailableError."""
        told = await self.metadata(name, version, namespace=namespace)
        deployed = await self.plane.resident(self.plane.find(name, namespace))
        service = deployed.service
        batcher = service.batcher
        config: dict[str, object] = {
            "name": told.name,
            "platform": told.platform,
            "backend": told.platform.partition("_")[0],
            "version_policy": {"specific": {"versions": [int(each) for each in told.versions if each.isdigit()]}},
            "max_batch_size": batcher.max_batch_size if batcher is not None else 0,
            "input": [_config_of(spec) for spec in told.inputs],
            "output": [_config_of(spec) for spec in told.outputs],
            "instance_group": [{"name": told.name, "kind": "KIND_CPU", "count": max(1, service.max_replicas)}],
            "default_model_filename": deployed.models[deployed.service.champion].form.file,
            "parameters": {},
        }
        if deployed.is_batching:
            config["dynamic_batching"] = {
                "max_queue_delay_microseconds": batcher.max_latency_ms * 1000 if batcher is not None else 0
            }
        return config

    def statistics(self, name: str = "", version: str = "", *, namespace: str | None = None) -> list[dict[str, object]]:
        """The counts of one model version, of one model, or of all. Raises NotFoundError."""
        chosen = [self.plane.find(name, namespace)] if name else self.plane.services
        told = []
        for deployed in chosen:
            names = tuple(served.version for served in deployed.service.versions)
            if version and version not in names:
                raise NotFoundError(
                    f"version {version!r} of {name!r} is not served", mend=f"Served are {', '.join(names)}."
                )
            told += [
                self.plane.metrics.statistics(deployed.namespace, deployed.name, each)
                for each in ((version,) if version else names)
            ]
        return told

    def server(self) -> ServerMetadata:
        """What this server is."""
        return ServerMetadata("goldenloop", __version__, EXTENSIONS)

    def is_ready(self, name: str, version: str = "", *, namespace: str | None = None) -> bool:
        """Whether a model version answers. Raises NotFoundError for a model there is not."""
        with contextlib.suppress(UnavailableError):
            deployed = self._found(name, namespace) or self.plane.find(name.removesuffix(EXPLAINER_SUFFIX), namespace)
            if version:
                deployed.choose(asked=version, identity="", route_key=None)
            return True
        return False

    def index(self, *, ready: bool = False) -> list[IndexEntry]:
        """The repository: every version of every service."""
        entries = []
        for deployed in self.plane.services:
            for served in deployed.service.versions:
                is_there = deployed.service.loaded
                if is_there or not ready:
                    state: Literal["READY", "UNAVAILABLE"] = "READY" if is_there else "UNAVAILABLE"
                    entries.append(IndexEntry(deployed.name, served.version, state, "" if is_there else "unloaded"))
        for failed, reason in () if ready else self.plane.failed.items():
            _, name, version = failed.split("/", 2)
            entries.append(IndexEntry(name, version, "UNAVAILABLE", reason))
        return entries

    async def load(self, name: str) -> None:
        """Load a service that was unloaded, on all workers. Raises NotFoundError, UnavailableError."""
        await self._wanted(name, loaded=True)

    async def unload(self, name: str) -> None:
        """Unload a service, on all workers. Raises NotFoundError, UnavailableError."""
        await self._wanted(name, loaded=False)

    async def _wanted(self, name: str, *, loaded: bool) -> None:
        found = [deployed for deployed in self.plane.services if deployed.name == name]
        if not found:
            self.plane.find(name)  # says what is wrong
        if self._want is None:
            raise UnavailableError("there is no control to ask", mend="Start the platform with `up`.")
        await self._want(found[0], loaded)

    async def explain(self, name: str, request: V1Request, headers: Headers, *, namespace: str | None = None) -> object:
        """Explain what a model answers, by its explainer. Raises NotFoundError, InvalidSpecError, UnavailableError."""
        deployed = await self.plane.resident(self.plane.find(name, namespace))
        if deployed.service.transformer is not None:
            request = await (await Transformer.of(self.plane, deployed, headers)).before_v1(request)
        return await explain_v1(deployed, request, headers)

    def _found(self, name: str, namespace: str | None) -> Deployed | None:
        """The service of this name; None where the name means the explanations of one. Raises NotFoundError, UnavailableError."""
        try:
            return self.plane.find(name, namespace)
        except NotFoundError:
            if not name.endswith(EXPLAINER_SUFFIX):
                raise
            self.plane.find(name.removesuffix(EXPLAINER_SUFFIX), namespace)
            return None

    async def _explained(self, request: InferRequest, headers: Headers, namespace: str | None) -> InferResponse:
        """Answer a request to `NAME-explainer`."""
        found = self.plane.find(request.model.removesuffix(EXPLAINER_SUFFIX), namespace)
        version, made = await explain_v2(await self.plane.resident(found), request, headers)
        identity = uuid7()
        outputs = (
            made
            if isinstance(made, list) and isinstance(next(iter(made), None), Tensor)
            else tensors_of(made, "outputs")
        )
        return InferResponse(
            model_name=request.model,
            model_version=version,
            id=request.id or identity,
            outputs=outputs if request.outputs is None else picked(outputs, [each.name for each in request.outputs]),
            prediction=identity,
        )

    async def route(self, graph: Graph, body: bytes, headers: Headers) -> tuple[int, bytes]:
        """Send a request through a graph; return the status and the body of what comes out."""
        from goldenloop.serving.inference_graphs import route

        return await route(self, graph, body, headers)

    async def _ask(
        self,
        deployed: Deployed,
        question: V1Question | V2Question,
        parameters: Mapping[str, object],
        version: str | None,
        headers: Headers,
    ) -> Answered:
        event_time = headers.get("x-event-time")
        has_time = event_time is not None or "event_time" in parameters
        given_us = event_time_of(parameters, event_time) if has_time else None
        return await self.plane.answer(
            deployed, question, asked=version, route_key=headers.get("x-route-key"), given_event_us=given_us
        )

    def _tell(
        self,
        deployed: Deployed,
        body: bytes,
        headers: Headers,
        *,
        answer: bytes = b"",
        answered: Answered | None = None,
        error: GoldenloopError | None = None,
    ) -> None:
        """Send the notices that a service's logger wants."""
        logger = deployed.service.logger
        if logger is None or self._notices is None:
            return
        common = {
            "url": logger.url,
            "identity": uuid7() if answered is None else answered.identity,
            "at_us": time.time_ns() // 1_000,
            "namespace": deployed.namespace,
            "service": deployed.name,
            "version": "" if answered is None else answered.version,
            "metadata": {
                name: value for name in logger.metadata_headers if (value := headers.get(name.lower())) is not None
            },
        }
        if logger.mode != "response":
            self._notices.offer(inference_notice(kind=REQUEST_TYPE, body=body, **common))  # type: ignore[arg-type]
        if logger.mode != "request":
            content = answer if error is None else msgspec.json.encode({"error": str(error)})
            status = 200 if error is None else status_of(error)
            self._notices.offer(inference_notice(kind=RESPONSE_TYPE, body=content, status=status, **common))  # type: ignore[arg-type]

    def _count(self, deployed: Deployed | None, error: GoldenloopError) -> None:
        namespace, service = ("", "") if deployed is None else (deployed.namespace, deployed.name)
        self.plane.metrics.request(namespace=namespace, service=service, version="", code=status_of(error))

    def _count_answer(self, deployed: Deployed, answered: Answered) -> None:
        self.plane.metrics.request(
            namespace=deployed.namespace,
            service=deployed.name,
            version=answered.version,
            code=200,
            latency_us=answered.latency_us,
        )


def _config_of(spec: TensorSpec) -> dict[str, object]:
    datatype = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": datatype, "dims": list(spec.shape)}


def _readable(request: InferRequest) -> bytes:
    """A request as JSON, or nothing where its tensors cannot be read."""
    try:
        return json_of_request(request)
    except InvalidSpecError:
        return b"{}"
