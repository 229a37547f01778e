"""InferenceGraph, `serving.kserve.io/v1alpha1`: several services behind one name.

A request begins at the node `root`. Checked when it is applied: every step asks exactly one thing, every node that is named exists, no
node leads back to itself, and the weights of a Splitter add up to 100.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.routing import Node, RouterType, Step
from goldenloop.standards.documents import convert, near_miss
from goldenloop.standards.inference_service.fields import Fields, not_acted_on
from goldenloop.standards.inference_service.records import Count, without_nulls

VERSION = "v1alpha1"
ROOT = "root"
MAXIMUM_NODES = 100
_DATA = ("$request", "$response")


class GraphStep(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str = ""
    service_name: str = ""
    service_url: str = ""
    node_name: str = ""
    data: str = ""
    condition: str = ""
    weight: Count | None = None
    dependency: Literal["", "Soft", "Hard"] = ""
    map_predictions_to_instances: bool = False

    @property
    def targets(self) -> list[str]:
        return [target for target in (self.service_name, self.node_name, self.service_url) if target]


class GraphNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    router_type: RouterType
    steps: tuple[GraphStep, ...] = ()


class InferenceGraphSpec(msgspec.Struct, frozen=True, kw_only=True):
    nodes: dict[str, GraphNode]
    timeout: Count | None = None

    @property
    def services(self) -> list[str]:
        """The services that its steps name."""
        return sorted({step.service_name for node in self.nodes.values() for step in node.steps if step.service_name})


_STEP = Fields({field.encode_name: None for field in msgspec.structs.fields(GraphStep)})
_NOT_ACTED_ON = """affinity maxReplicas minReplicas nodeName nodeSelector resources routerTimeouts scaleMetric scaleTarget
serviceAccountName tolerations"""
GRAPH = Fields({"nodes": None, "timeout": None}, frozenset(_NOT_ACTED_ON.split()))


def read_graph(document: object, *, where: str = "spec") -> InferenceGraphSpec:
    """Read a spec. Raises InvalidSpecError."""
    spec = convert(without_nulls(document), InferenceGraphSpec, where=where)
    if ROOT not in spec.nodes:
        raise InvalidSpecError(
            "there is no node named root", where=f"{where}.nodes", mend="A request begins at the node root: add it."
        )
    if len(spec.nodes) > MAXIMUM_NODES:
        raise InvalidSpecError(
            f"there are {len(spec.nodes)} nodes", where=f"{where}.nodes", mend=f"Have {MAXIMUM_NODES} at most."
        )
    for name, node in spec.nodes.items():
        _check_node(spec, node, f"{where}.nodes.{name}")
    _check_cycles(spec, where)
    return spec


def graph_fields_not_acted_on(document: JsonObject) -> list[str]:
    """The paths of the fields that are kept but change nothing."""
    found = not_acted_on(document, GRAPH)
    nodes = document.get("nodes")
    for name, node in nodes.items() if isinstance(nodes, dict) else ():
        steps = node.get("steps") if isinstance(node, dict) else None
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            here = f"nodes.{name}.steps[{index}]"
            if isinstance(step, dict):
                found += [f"{here}.{path}" for path in not_acted_on(step, _STEP)]
                if step.get("data") not in (None, "", *_DATA):
                    found.append(f"{here}.data")
    return sorted(found)


def nodes_of(spec: InferenceGraphSpec) -> dict[str, Node]:
    """The nodes as the routing table has them. As in KServe, a step is a soft dependency unless it is said to be a hard one."""
    return {
        name: Node(router_type=node.router_type, steps=tuple(map(_step, node.steps)))
        for name, node in spec.nodes.items()
    }


def _step(step: GraphStep) -> Step:
    return Step(
        name=step.name,
        service=step.service_name or None,
        node=step.node_name or None,
        url=step.service_url or None,
        data=step.data if step.data in _DATA else _DATA[0],
        predictions_to_instances=step.map_predictions_to_instances,
        condition=step.condition or None,
        weight=step.weight,
        dependency=step.dependency or "Soft",
    )


def _check_node(spec: InferenceGraphSpec, node: GraphNode, where: str) -> None:
    if not node.steps:
        raise InvalidSpecError("the node has no steps", where=f"{where}.steps", mend="Add one, or remove the node.")
    names: set[str] = set()
    for index, step in enumerate(node.steps):
        here = f"{where}.steps[{index}]"
        if len(step.targets) != 1:
            raise InvalidSpecError(
                f"the step asks {len(step.targets)} things instead of one",
                where=here,
                mend="Give one of serviceName, nodeName and serviceUrl.",
            )
        if step.node_name and step.node_name not in spec.nodes:
            raise InvalidSpecError(
                f"there is no node {step.node_name!r}",
                where=f"{here}.nodeName",
                mend=near_miss(step.node_name, list(spec.nodes)) or f"The nodes are {', '.join(spec.nodes)}.",
            )
        if step.name and step.name in names:
            raise InvalidSpecError(
                f"the name {step.name!r} stands twice in the node", where=f"{here}.name", mend="Give each step its own."
            )
        names.add(step.name)
        if node.router_type == "Switch" and not step.condition:
            raise InvalidSpecError(
                "a step of a Switch has no condition and would never be chosen",
                where=f"{here}.condition",
                mend="Give a condition; one that always holds is @this.",
            )
        if node.router_type == "Splitter" and step.weight is None:
            raise InvalidSpecError(
                "a step of a Splitter has no weight", where=f"{here}.weight", mend="Give its part of 100."
            )
    if node.router_type == "Splitter" and (total := sum(step.weight or 0 for step in node.steps)) != 100:
        raise InvalidSpecError(
            f"the weights add up to {total}", where=f"{where}.steps", mend="Make them add up to 100."
        )


def _check_cycles(spec: InferenceGraphSpec, where: str) -> None:
    """Nodes are left behind once everything below them is known to end; one that is met again on the way to it does not."""
    ended: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            circle = " → ".join((*way[way.index(name) :], name))
            raise InvalidSpecError(
                f"the nodes lead in a circle: {circle}", where=f"{where}.nodes.{name}", mend="Let one of them end."
            )
        if name not in ended:
            for step in spec.nodes[name].steps:
                if step.node_name:
                    follow(step.node_name, (*way, name))
            ended.add(name)

    for name in spec.nodes:
        follow(name, ())
