"""A graph that is applied can be walked: every step asks one thing, every node is there, and no way leads back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.routing import Step
from goldenloop.standards.inference_service.graph import (
    MAXIMUM_NODES,
    graph_fields_not_acted_on,
    nodes_of,
    read_graph,
)


def node(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"routerType": kind, "steps": list(steps)}


def test_every_kind_of_node_reaches_the_table() -> None:
    spec = read_graph(
        {
            "nodes": {
                "root": node("Sequence", {"nodeName": "pick"}, {"serviceName": "b", "data": "$response", "dependency": "Hard"}),
                "pick": node("Switch", {"nodeName": "all", "condition": "a.#(x>1)"}, {"serviceUrl": "http://c/", "condition": "@this"}),
                "all": node("Ensemble", {"nodeName": "some", "name": "first"}, {"serviceName": "e", "mapPredictionsToInstances": True}),
                "some": node("Splitter", {"serviceName": "f", "weight": 30}, {"serviceName": "g", "weight": 70}),
            }
        }
    )  # fmt: skip
    nodes = nodes_of(spec)
    assert nodes["root"].steps == (
        Step(node="pick", dependency="Soft"),
        Step(service="b", data="$response", dependency="Hard"),
    )
    assert nodes["pick"].steps[1] == Step(url="http://c/", condition="@this", dependency="Soft")
    assert nodes["all"].steps[1].predictions_to_instances
    assert [step.weight for step in nodes["some"].steps] == [30, 70]
    assert spec.services == ["b", "e", "f", "g"]


@pytest.mark.parametrize(
    ("nodes", "place", "words"),
    [
        ({"first": node("Sequence", {"serviceName": "a"})}, "spec.nodes", "root"),
        ({"root": node("Sequence")}, "spec.nodes.root.steps", "no steps"),
        ({"root": node("Sequence", {})}, "spec.nodes.root.steps[0]", "0 things"),
        ({"root": node("Sequence", {"serviceName": "a", "nodeName": "root"})}, "spec.nodes.root.steps[0]", "2 things"),
        ({"root": node("Sequence", {"nodeName": "rot"})}, "spec.nodes.root.steps[0].nodeName", "Did you mean 'root'?"),
        (
            {"root": node("Ensemble", {"serviceName": "a", "name": "x"}, {"serviceName": "b", "name": "x"})},
            "spec.nodes.root.steps[1].name",
            "twice",
        ),
        ({"root": node("Switch", {"serviceName": "a"})}, "spec.nodes.root.steps[0].condition", "never be chosen"),
        ({"root": node("Splitter", {"serviceName": "a"})}, "spec.nodes.root.steps[0].weight", "no weight"),
        ({"root": node("Splitter", {"serviceName": "a", "weight": 99})}, "spec.nodes.root.steps", "add up to 99"),
        ({"root": node("Sequence", {"nodeName": "root"})}, "spec.nodes.root", "root → root"),
        (
            {
                "root": node("Sequence", {"nodeName": "a"}),
                "a": node("Sequence", {"nodeName": "b"}),
                "b": node("Sequence", {"nodeName": "a"}),
            },
            "spec.nodes.a",
            "a → b → a",
        ),
        ({"root": node("Shuffle", {"serviceName": "a"})}, "spec.nodes[...].routerType", "Shuffle"),
        (
            {"root": node("Sequence", {"serviceName": "a", "dependency": "Firm"})},
            "spec.nodes[...].steps[0].dependency",
            "Firm",
        ),
    ],
)
def test_what_could_not_be_walked_is_refused(nodes: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_graph({"nodes": nodes})
    assert caught.value.where == place
    assert words in str(caught.value)


@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=8))
def test_a_graph_that_is_taken_has_no_way_back(ways: list[list[int]]) -> None:
    """A walk through the nodes of a graph that was taken ends."""
    names = ["root", *(f"n{number}" for number in range(1, len(ways)))]
    nodes = {
        name: node(
            "Ensemble", *({"nodeName": names[way]} if way < len(names) else {"serviceName": "s"} for way in goes)
        )
        for name, goes in zip(names, ways, strict=True)
    }
    try:
        taken = nodes_of(read_graph({"nodes": nodes}))
    except InvalidSpecError as error:
        assert "circle" in error.what
        return
    depth = {name: 0 for name, each in taken.items() if not any(step.node for step in each.steps)}
    for _ in names:
        for name, each in taken.items():
            below = [step.node for step in each.steps if step.node is not None]
            if all(inner in depth for inner in below):
                depth[name] = 1 + max((depth[inner] for inner in below), default=-1)
    assert set(depth) == set(names)


def test_a_graph_has_a_bound() -> None:
    names = ["root", *(f"n{number}" for number in range(1, MAXIMUM_NODES + 1))]
    chain = {name: node("Sequence", {"nodeName": after}) for name, after in itertools.pairwise(names)}
    chain[names[-1]] = node("Sequence", {"serviceName": "s"})
    with pytest.raises(InvalidSpecError):
        read_graph({"nodes": chain})
    del chain["n1"]
    chain["root"] = node("Sequence", {"nodeName": "n2"})
    assert len(read_graph({"nodes": chain}).nodes) == MAXIMUM_NODES


def test_what_changes_nothing_is_named() -> None:
    spec: JsonObject = {
        "nodes": {"root": node("Sequence", {"serviceName": "a", "data": "$response.predictions", "wieght": 3})},
        "minReplicas": 2,
        "timeout": 5,
    }
    assert graph_fields_not_acted_on(spec) == [
        "minReplicas",
        "nodes.root.steps[0].data",
        "nodes.root.steps[0].wieght (unknown: did you mean 'weight'?)",
    ]
