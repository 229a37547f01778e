"""InferenceGraph: several services behind one name (KServe `v1alpha1`), routed in the worker.

Semantics are those of KServe's router. A sequence hands each step the request, or with `$response` what the step before answered, and ends
early where a condition on that does not hold. A switch asks the first step whose condition holds for the request. An ensemble asks all at
the same time and gives their answers by step name. A splitter asks one, by weight. A `Hard` step's failure is the node's answer; a
`Soft` step's failure is passed over.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.core.routing import Graph, Node, Step
from goldenloop.serving.outgoing import Poster
from goldenloop.serving.statuses import status_of
from goldenloop.standards import gjson
from goldenloop.standards.open_inference.rest import read_v1, read_v2, write_v2

if TYPE_CHECKING:
    from goldenloop.serving.endpoints import Endpoints
    from goldenloop.serving.questions import Headers

DEEPEST = 16  # nodes in nodes
_ELSEWHERE_SECONDS = 60.0
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def route(endpoints: Endpoints, graph: Graph, body: bytes, headers: Headers) -> tuple[int, bytes]:
    """Send a request through a graph; return the status and the body of what comes out."""
    _json(body)
    walk = _Walk(endpoints, graph, headers)
    try:
        async with asyncio.timeout(graph.timeout_seconds):
            reply = await walk.node("root", body, depth=0)
    except TimeoutError:
        reply = _failure(504, f"graph {graph.name!r} gave no answer within {graph.timeout_seconds:g} s")
    return reply.status, reply.body


class _Walk:
    """One request on its way through a graph."""

    def __init__(self, endpoints: Endpoints, graph: Graph, headers: Headers) -> None:
        self._endpoints = endpoints
        self._graph = graph
        self._headers = headers

    async def node(self, name: str, body: bytes, *, depth: int) -> _Reply:
        node = self._graph.nodes.get(name)
        if node is None or depth > DEEPEST:
            return _failure(500, f"graph {self._graph.name!r} has no way through node {name!r}")
        match node.router_type:
            case "Sequence":
                return await self._sequence(node, body, depth)
            case "Switch":
                return await self._switch(node, body, depth)
            case "Ensemble":
                return await self._ensemble(node, body, depth)
            case "Splitter":
                weights = [step.weight or 0 for step in node.steps]
                return await self._step(random.choices(node.steps, weights)[0], body, depth)

    async def _sequence(self, node: Node, body: bytes, depth: int) -> _Reply:
        reply = _Reply(200, body)
        for place, step in enumerate(node.steps):
            if step.condition and not gjson.exists(_json(reply.body), step.condition):
                return reply
            given = reply.body if step.data == "$response" and place > 0 else body
            if step.predictions_to_instances:
                given = _as_instances(given)
            answered = await self._step(step, given, depth)
            if not answered.is_success and step.dependency == "Hard":
                return answered
            reply = answered
        return reply

    async def _switch(self, node: Node, body: bytes, depth: int) -> _Reply:
        document = _json(body)
        for step in node.steps:
            if not step.condition or gjson.exists(document, step.condition):
                return await self._step(step, body, depth)
        return _failure(404, "no condition of the switch holds for this request")

    async def _ensemble(self, node: Node, body: bytes, depth: int) -> _Reply:
        replies = await asyncio.gather(*[self._step(step, body, depth) for step in node.steps])
        merged: dict[str, object] = {}
        for place, (step, reply) in enumerate(zip(node.steps, replies, strict=True)):
            if not reply.is_success and step.dependency == "Hard":
                return reply
            merged[step.name or str(place)] = _json(reply.body)
        return _Reply(200, _encode(merged))

    async def _step(self, step: Step, body: bytes, depth: int) -> _Reply:
        try:
            if step.node is not None:
                return await self.node(step.node, body, depth=depth + 1)
            if step.service is not None:
                return await self._service(step.service, body)
            assert step.url is not None  # control sees to it that one of the three is there
            headers = {"content-type": "application/json"}
            status, content = await asyncio.to_thread(
                _poster().post, step.url, body, headers, seconds=self._graph.timeout_seconds or _ELSEWHERE_SECONDS
            )
            return _Reply(status, content)
        except GoldenloopError as error:
            return _failure(status_of(error), str(error))

    async def _service(self, name: str, body: bytes) -> _Reply:
        """Ask a service of the graph's namespace in the protocol that the body is in."""
        document = _json(body)
        namespace = self._graph.namespace
        if self._endpoints.plane.graph(namespace, name) is not None:
            raise UnavailableError(f"{name!r} is a graph", mend="Use a node of this graph instead.")
        inputs = document.get("inputs") if isinstance(document, dict) else None
        if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict) and "datatype" in inputs[0]:
            request = read_v2(body, model=name)
            content, _ = write_v2(request, await self._endpoints.infer(request, self._headers, namespace=namespace))
            return _Reply(200, content)
        predicted = await self._endpoints.predict(name, read_v1(body), self._headers, namespace=namespace)
        return _Reply(200, _encode(predicted.document or {"predictions": predicted.predictions}))


@cache
def _poster() -> Poster:
    """One for all graphs, made when the first step lies elsewhere."""
    return Poster(connections=16)


def _as_instances(body: bytes) -> bytes:
    """The body with its `predictions` as `instances`, so that one model's answer is the next one's question."""
    document = _json(body)
    if not isinstance(document, dict) or "predictions" not in document:
        return body
    return _encode(
        {
            "instances": document["predictions"],
            **{name: value for name, value in document.items() if name != "predictions"},
        }
    )


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidSpecError(f"not JSON: {error}", where="body", mend="Send JSON through a graph.") from error


def _failure(status: int, text: str) -> _Reply:
    return _Reply(status, _encode({"error": text}))
