"""Trees that scikit-learn fitted, as plain arrays: they can be stored as JSON and scored without scikit-learn.

Nodes are numbered so that a right child follows its left one: the next node is `child + (value > threshold)`, which
costs one comparison and no branch. A leaf is its own child and is never left, because nothing exceeds infinity.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

_CELLS = 1_000_000  # rows times trees walked at once; bounds the memory


class FittedTree(Protocol):
    """What is read of scikit-learn's `tree_`."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    children_left: NDArray[np.int64]
    children_right: NDArray[np.int64]
    n_node_samples: NDArray[np.int64]
    max_depth: int


class Trees(msgspec.Struct, frozen=True, kw_only=True):
    """Some trees in one row of nodes. `leaf_values` has a number a node, of which only those of leaves are used.

    A leaf's threshold is None, since JSON has no infinity.
    """

    roots: tuple[int, ...]
    features: tuple[int, ...]
    thresholds: tuple[float | None, ...]
    children: tuple[int, ...]
    leaf_values: tuple[float, ...]
    depth: int


class Walk:
    """Trees as arrays, ready to find leaves."""

    def __init__(self, trees: Trees) -> None:
        self.roots = np.array(trees.roots, dtype=np.intp)
        self.features = np.array(trees.features, dtype=np.intp)
        self.thresholds = np.array(
            [math.inf if threshold is None else threshold for threshold in trees.thresholds], dtype=np.float64
        )
        self.children = np.array(trees.children, dtype=np.intp)
        self.leaf_values = np.array(trees.leaf_values, dtype=np.float64)
        self.depth = trees.depth

    def leaves(self, matrix: NDArray[np.float64]) -> NDArray[np.intp]:
        """The leaf of each row in each tree, rows by trees. NaN must have been filled before: it goes left.

        Values are rounded to 32 bits as scikit-learn does, so that leaves are the same. Cost: O(rows * trees * depth),
        about 8 ns a step.
        """
        # Rows are given back to 64 bits, because mixing precisions in a comparison copies.
        rounded = matrix.astype(np.float32).astype(np.float64)
        count, columns = rounded.shape
        nodes = np.repeat(self.roots[None, :], count, axis=0)
        step = max(1, _CELLS // max(self.roots.size, 1))
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            flat = rounded[rows].ravel()
            offsets = (np.arange(rows.stop - rows.start, dtype=np.intp) * columns)[:, None]
            at = nodes[rows]
            for _ in range(self.depth):
                values = flat.take(self.features.take(at) + offsets)
                at = self.children.take(at) + (values > self.thresholds.take(at))
            nodes[rows] = at
        return nodes


def export_trees(fitted: list[FittedTree], values: list[NDArray[np.float64]]) -> Trees:
    """The trees of an estimator, with a value for each of their nodes (in scikit-learn's numbering).

    `values` must be finite. Cost: O(nodes).
    """
    roots: list[int] = []
    features: list[int] = []
    thresholds: list[float | None] = []
    children: list[int] = []
    leaf_values: list[float] = []
    for tree, numbers in zip(fitted, values, strict=True):
        first = len(features)
        roots.append(first)
        order = [0]  # scikit-learn's number of each node, in ours
        for place, node in enumerate(order):  # grows while it is read: breadth first, children side by side
            leaf = int(tree.children_left[node]) < 0
            features.append(0 if leaf else int(tree.feature[node]))
            thresholds.append(None if leaf else float(tree.threshold[node]))
            children.append(first + place if leaf else first + len(order))
            leaf_values.append(float(numbers[node]))
            if not leaf:
                order += [int(tree.children_left[node]), int(tree.children_right[node])]
    return Trees(
        roots=tuple(roots),
        features=tuple(features),
        thresholds=tuple(thresholds),
        children=tuple(children),
        leaf_values=tuple(leaf_values),
        depth=max((int(tree.max_depth) for tree in fitted), default=0),
    )
