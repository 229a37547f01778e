"""The classification extension: instead of a tensor of scores, the best classes of each row as texts `SCORE:INDEX[:LABEL]`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Signature
from goldenloop.standards.open_inference.records import AskedOutput
from goldenloop.standards.open_inference.tensors import Tensor


def classified(outputs: Sequence[Tensor], asked: Sequence[AskedOutput], signature: Signature | None) -> list[Tensor]:
    """Turn those outputs into classes that are asked for so. Raises InvalidSpecError where an output holds no scores."""
    wanted = {output.name: output.parameters.get("classification") for output in asked}
    return [
        tensor if wanted.get(tensor.name) is None else _best(tensor, wanted[tensor.name], signature)
        for tensor in outputs
    ]


def _best(tensor: Tensor, count: object, signature: Signature | None) -> Tensor:
    where = f"outputs.{tensor.name}"
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidSpecError(f"{count!r} is no number of classes", where=where, mend="Ask for 1 or more.")
    scores = tensor.array()
    if scores.dtype.kind not in "fiu" or scores.ndim == 0:
        raise InvalidSpecError("the output holds no scores", where=where, mend="Ask for the output as it is.")
    flat = scores.reshape(-1, scores.shape[-1])
    names = signature.classes if signature is not None and len(signature.classes) == flat.shape[1] else ()
    best = np.argsort(-flat.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = np.empty(best.shape, dtype=object)
    for row, places in enumerate(best):
        for column, place in enumerate(places):
            label = f":{names[place]}" if names else ""
            texts[row, column] = f"{float(flat[row, place]):f}:{place}{label}".encode()
    return Tensor(tensor.name, "BYTES", (*scores.shape[:-1], best.shape[1]), texts)
