"""The inference worker's gRPC: the Open Inference Protocol, health and reflection."""

from __future__ import annotations

from collections.abc import Sequence

from goldenloop.serving.endpoints import Endpoints
from goldenloop.serving.grpc.health import HealthService
from goldenloop.serving.grpc.inference import InferenceService
from goldenloop.serving.grpc.listening import MethodServer
from goldenloop.serving.grpc.methods import Methods
from goldenloop.serving.grpc.reflection import ReflectionService
from goldenloop.serving.watching import Watcher, watched_methods
from goldenloop.standards.grpc_services import HEALTH, REFLECTIONS
from goldenloop.standards.open_inference.messages import MESSAGES


class GrpcServer(MethodServer):
    """Serves the Open Inference Protocol, health and reflection."""

    def __init__(self, endpoints: Endpoints, *, watchers: Sequence[Watcher] = ()) -> None:
        methods = _methods(endpoints)
        super().__init__(watched_methods(methods, watchers) if watchers else methods, begun=endpoints.plane.begin)


def _methods(endpoints: Endpoints) -> Methods:
    """Everything that is served, by path."""
    described = (MESSAGES, HEALTH, *REFLECTIONS)
    services = frozenset(name for messages in described for name in messages.services)
    methods = {**InferenceService(endpoints).methods(), **HealthService(endpoints.plane, services).methods()}
    for reflection in REFLECTIONS:
        methods |= ReflectionService(reflection, described).methods()
    return methods
