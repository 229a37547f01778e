"""The Open Inference Protocol without a transport: what REST and gRPC both answer with.

Names come from the caller and are looked up in the table; labels of metrics come from the table only, so that they stay bounded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec
import numpy as np

from goldenloop import __version__
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.ids import uuid7
from goldenloop.core.routing import Graph
from goldenloop.core.served import TensorSpec
from goldenloop.serving.classification import classified
from goldenloop.serving.dataplane import Answered, DataPlane, Deployed
from goldenloop.serving.explanations.answering import EXPLAINER_SUFFIX, explain_v1, explain_v2, explainer_metadata
from goldenloop.serving.graphs import arrays_of, work_of
from goldenloop.serving.notices import Notices
from goldenloop.serving.scorers import RemoteScorer, Scorer
from goldenloop.serving.statuses import status_of
from goldenloop.serving.work import CodeWork, Document, Work
from goldenloop.standards.cloudevents import REQUEST_TYPE, RESPONSE_TYPE, inference_notice
from goldenloop.standards.open_inference.records import InferRequest, InferResponse, ModelMetadata
from goldenloop.standards.open_inference.rest import (
    V1Request,
    event_time_of,
    json_of_request,
    json_of_response,
    tensors_of_v1,
)
from goldenloop.standards.open_inference.table import (
    check_outputs,
    labels_of,
    metadata_of,
    outputs_of,
    rows_of_v1,
    rows_of_v2,
)
from goldenloop.standards.open_inference.tensors import Tensor, untyped

EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "model_repository(unload_dependents)",
    "parameters", "statistics", "logging",
)  # fmt: skip

LARGEST_REFUSED = 64 * 1024  # bytes of a request that could not be read which its notice carries
Headers = Mapping[str, str]  # names in lower case


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


class Predicted(msgspec.Struct, frozen=True, eq=False):
    """The answer to a V1 request."""

    predictions: object
    answered: Answered
    document: Mapping[str, object] | None = None  # where the model gave a whole document


class _V2Question:
    __slots__ = ("_headers", "_request", "alias")

    def __init__(self, request: InferRequest, headers: Headers) -> None:
        self._request = request
        self._headers = headers
        self.alias = request.id or None

    def work(self, scorer: Scorer, also: frozenset[str]) -> Work:
        if scorer.layout is not None:
            if self._request.outputs:
                check_outputs(self._request, scorer.layout.signature)
            return rows_of_v2(self._request, scorer.layout, also=also)
        arrays = arrays_of(self._request)
        if scorer.form.form == "tensors" or scorer.form.batching:
            return work_of(scorer.form, arrays, batching=scorer.form.batching)
        inputs = [
            {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": arrays[tensor.name]}
            for tensor in self._request.inputs
        ]
        document = {"id": self._request.id, "parameters": dict(self._request.parameters), "inputs": inputs}
        return CodeWork(1, "v2", document, self._headers)


class _V1Question:
    __slots__ = ("_headers", "_request", "alias")

    def __init__(self, request: V1Request, headers: Headers) -> None:
        self._request = request
        self._headers = headers
        self.alias = request.id or None

    def work(self, scorer: Scorer, also: frozenset[str]) -> Work:
        if scorer.layout is not None:
            return rows_of_v1(self._request, scorer.layout, also=also)
        if scorer.form.form == "tensors":
            wanted = {spec.name: spec.datatype for spec in scorer.form.inputs}
            if not wanted:
                raise InvalidSpecError(
                    "the model does not say what it takes", where="body", mend="Ask it by /v2/models/NAME/infer."
                )
            tensors = tensors_of_v1(self._request, wanted)
            return work_of(
                scorer.form, {tensor.name: tensor.array() for tensor in tensors}, batching=scorer.form.batching
            )
        content = untyped(self._request.content, self._request.where)
        document = {self._request.where: content}
        if self._request.parameters:
            document["parameters"] = self._request.parameters
        if scorer.form.batching:
            return work_of(scorer.form, {self._request.where: np.asarray(content)}, batching=True)
        return CodeWork(len(content) if isinstance(content, list) else 1, "v1", document, self._headers)


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

    async def infer(self, request: InferRequest, headers: Headers, *, namespace: str | None = None) -> InferResponse:
        """Answer a V2 request. Raises as `DataPlane.answer`."""
        deployed: Deployed | None = None
        try:
            deployed = self._found(request.model, namespace)
            if deployed is None:
                return await self._explained(request, headers, namespace)
            if deployed.service.transformer is not None:
                answered, outputs = await self._transformed(deployed, request, headers)
            else:
                answered = await self._ask(
                    deployed, _V2Question(request, headers), request.parameters, request.version, headers
                )
                outputs = _outputs(answered, request)
        except GoldenloopError as error:
            self._count(deployed, error)
            if deployed is not None and deployed.service.logger is not None:
                self._tell(deployed, json_of_request(request), headers, error=error)
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
            if deployed.service.transformer is not None:
                request = await self._preprocessed_v1(deployed, request, headers)
            answered = await self._ask(deployed, _V1Question(request, headers), request.parameters, None, headers)
            predicted = _predicted(answered)
            if deployed.service.transformer is not None:
                predicted = await self._postprocessed_v1(deployed, predicted, headers)
        except GoldenloopError as error:
            self._count(deployed, error)
            if deployed is not None and deployed.service.logger is not None:
                self._tell(deployed, b'{"%s":%s}' % (given.where.encode(), bytes(given.content)), headers, error=error)
            raise
        self._count_answer(deployed, answered)
        if deployed.service.logger is not None:
            told = msgspec.json.encode(predicted.document or {"predictions": predicted.predictions}, enc_hook=_listed)
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
            request = await self._preprocessed_v1(deployed, request, headers)
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
            made if isinstance(made, list) and isinstance(next(iter(made), None), Tensor) else _tensors(made, "outputs")
        )
        return InferResponse(
            model_name=request.model,
            model_version=version,
            id=request.id or identity,
            outputs=outputs if request.outputs is None else _picked(outputs, [each.name for each in request.outputs]),
            prediction=identity,
        )

    async def route(self, graph: Graph, body: bytes, headers: Headers) -> tuple[int, bytes]:
        """Send a request through a graph; return the status and the body of what comes out."""
        from goldenloop.serving.inference_graphs import route

        return await route(self, graph, body, headers)

    async def _ask(
        self,
        deployed: Deployed,
        question: _V1Question | _V2Question,
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

    async def _transformed(
        self, deployed: Deployed, request: InferRequest, headers: Headers
    ) -> tuple[Answered, list[Tensor]]:
        """Through the transformer, the predictor and the transformer again."""
        transformer = await self._transformer(deployed)
        inputs = [
            {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": tensor.array()}
            for tensor in request.inputs
        ]
        document = {"id": request.id, "parameters": dict(request.parameters), "inputs": inputs}
        seconds = deployed.service.timeout_seconds
        made = await transformer.link.call("preprocess", document, dict(headers), timeout_seconds=seconds)
        inner = InferRequest(
            model=request.model,
            version=request.version,
            id=request.id,
            parameters=request.parameters,
            inputs=_tensors(made, "inputs"),
            outputs=request.outputs,
        )
        answered = await self._ask(deployed, _V2Question(inner, headers), request.parameters, request.version, headers)
        outputs = [
            {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": tensor.array()}
            for tensor in _outputs(answered, inner)
        ]
        given = {"model_name": deployed.name, "id": request.id, "outputs": outputs}
        return answered, _tensors(
            await transformer.link.call("postprocess", given, dict(headers), timeout_seconds=seconds), "outputs"
        )

    async def _preprocessed_v1(self, deployed: Deployed, request: V1Request, headers: Headers) -> V1Request:
        transformer = await self._transformer(deployed)
        document: dict[str, object] = {request.where: untyped(request.content, request.where)}
        if request.parameters:
            document["parameters"] = request.parameters
        made = await transformer.link.call(
            "preprocess", document, dict(headers), timeout_seconds=deployed.service.timeout_seconds
        )
        if not isinstance(made, dict):
            made = {"instances": made}
        from goldenloop.standards.open_inference.rest import read_v1

        body = msgspec.json.encode({**made, "id": request.id, "parameters": request.parameters}, enc_hook=_listed)
        return read_v1(body)

    async def _postprocessed_v1(self, deployed: Deployed, predicted: Predicted, headers: Headers) -> Predicted:
        transformer = await self._transformer(deployed)
        made = await transformer.link.call(
            "postprocess",
            {"predictions": predicted.predictions},
            dict(headers),
            timeout_seconds=deployed.service.timeout_seconds,
        )
        document = made if isinstance(made, dict) and "predictions" in made else {"predictions": made}
        return Predicted(document["predictions"], predicted.answered, document)

    async def _transformer(self, deployed: Deployed) -> RemoteScorer:
        deployed = await self.plane.resident(deployed)
        if not isinstance(deployed.transformer, RemoteScorer):
            raise UnavailableError(f"the transformer of {deployed.name!r} is not there", where=deployed.name)
        return deployed.transformer

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


def _outputs(answered: Answered, request: InferRequest) -> list[Tensor]:
    """The outputs that a request asks for, or all. Raises InvalidSpecError for one that there is not."""
    result, scorer = answered.result, answered.scorer
    asked = None if request.outputs is None else [output.name for output in request.outputs]
    if scorer.signature is not None:
        assert isinstance(result, tuple)
        outputs = outputs_of(result, scorer.signature, asked)
    else:
        if isinstance(result, Document):
            made = _tensors(result.content, "outputs")
        else:
            assert not isinstance(result, tuple)
            made = [Tensor.of_array(name, array) for name, array in result.items()]
        outputs = made if asked is None else _picked(made, asked)
    if request.outputs is not None and any("classification" in output.parameters for output in request.outputs):
        return classified(outputs, request.outputs, scorer.signature)
    return outputs


def _picked(made: list[Tensor], asked: list[str]) -> list[Tensor]:
    by_name = {tensor.name: tensor for tensor in made}
    for name in asked:
        if name not in by_name:
            raise InvalidSpecError(
                "there is no such output", where=f"outputs.{name}", mend=f"The model gives {', '.join(by_name)}."
            )
    return [by_name[name] for name in asked]


def _predicted(answered: Answered) -> Predicted:
    result, scorer = answered.result, answered.scorer
    if scorer.signature is not None:
        assert isinstance(result, tuple)
        return Predicted(labels_of(result, scorer.signature), answered)
    if isinstance(result, Document):
        content = result.content
        if isinstance(content, Mapping) and "predictions" in content:
            return Predicted(content["predictions"], answered, content)
        return Predicted(content, answered)
    assert not isinstance(result, tuple)
    plain = {name: _json_of(name, array) for name, array in result.items()}
    if len(plain) == 1:
        return Predicted(next(iter(plain.values())), answered)
    if not scorer.form.batching:
        return Predicted(plain, answered)
    return Predicted([dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)], answered)


def _json_of(name: str, array: np.ndarray) -> list[object]:
    """An array as nested lists; texts as text."""
    if array.dtype.kind == "O":
        array = np.array(Tensor.of_array(name, array).json(), dtype=object).reshape(array.shape)
    nested: list[object] = array.tolist()
    return nested


def _tensors(content: object, key: str) -> list[Tensor]:
    """Tensors of what a user's class gave: a document with `inputs` or `outputs`, arrays by name, or one array-like.

    Raises UnavailableError where they are none.
    """
    try:
        if isinstance(content, Mapping) and key in content:
            return [
                Tensor.of_array(each["name"], np.asarray(each["data"]).reshape(each.get("shape", -1)))
                if each.get("datatype") != "BYTES"
                else Tensor.of_array(
                    each["name"], np.asarray(each["data"], dtype=object).reshape(each.get("shape", -1))
                )
                for each in content[key]
            ]
        if isinstance(content, Mapping):
            if key == "outputs" and "predictions" in content:
                return [Tensor.of_array("output-0", np.asarray(content["predictions"]))]
            return [Tensor.of_array(str(name), np.asarray(value)) for name, value in content.items()]
        return [Tensor.of_array("output-0" if key == "outputs" else "input-0", np.asarray(content))]
    except (GoldenloopError, KeyError, TypeError, ValueError) as error:
        raise UnavailableError(
            f"the class gave no tensors: {error}", mend="Return a dict of name → array, or one array."
        ) from error


def _config_of(spec: TensorSpec) -> dict[str, object]:
    datatype = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": datatype, "dims": list(spec.shape)}


def _listed(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
