"""Where scikit-learn's trees send a missing value: the converter leaves it out, so that a graph would send all of them to the right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_ATTRIBUTE = "nodes_missing_value_tracks_true"


def carry_missing(graph: ModelProto, estimator: object) -> None:
    """Write it into the graph's tree ensembles, in their order. What does not fit is left alone: the comparison of answers will tell."""
    forests = list(_forests(estimator, set()))
    ensembles = [
        node for node in graph.graph.node if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
    ]
    if len(forests) != len(ensembles):
        return
    for node, forest in zip(ensembles, forests, strict=True):
        attribute = _attribute(node)
        lefts = [int(left) for tree in forest for left in tree.missing_go_to_left]  # type: ignore[attr-defined]
        if attribute is not None and len(attribute) == len(lefts):
            attribute[:] = lefts


def _attribute(node: NodeProto) -> list[int] | None:
    return next((entry.ints for entry in node.attribute if entry.name == _ATTRIBUTE), None)


def _forests(part: object, seen: set[int]) -> Iterator[list[object]]:
    """The trees of each forest, and each tree that stands alone, in the order of the steps."""
    if id(part) in seen or isinstance(part, type):
        return
    seen.add(id(part))
    members = getattr(part, "estimators_", None)
    if isinstance(members, list | np.ndarray):
        flat = np.asarray(members, dtype=object).reshape(-1).tolist()
        if flat and all(hasattr(getattr(each, "tree_", None), "missing_go_to_left") for each in flat):
            yield [each.tree_ for each in flat]
            return
    elif hasattr(getattr(part, "tree_", None), "missing_go_to_left"):
        yield [part.tree_]  # type: ignore[attr-defined]
        return
    for name in ("steps", "transformers_", "estimators_", "best_estimator_", "estimator_", "calibrated_classifiers_"):
        inner = getattr(part, name, None)
        for entry in inner if isinstance(inner, list) else [inner]:
            step = entry[1] if isinstance(entry, tuple) and len(entry) > 1 else entry
            if hasattr(step, "__dict__"):
                yield from _forests(step, seen)
