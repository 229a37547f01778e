"""Requests on their way to a version: read, and laid out when it is known who will score them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from goldenloop.core.errors import InvalidSpecError
from goldenloop.serving.graphs import arrays_of, work_of
from goldenloop.serving.scorers import Scorer
from goldenloop.serving.work import CodeWork, Work
from goldenloop.standards.open_inference.records import InferRequest
from goldenloop.standards.open_inference.rest import V1Request, tensors_of_v1
from goldenloop.standards.open_inference.table import check_outputs, rows_of_v1, rows_of_v2
from goldenloop.standards.open_inference.tensors import untyped

Headers: TypeAlias = Mapping[str, str]  # names in lower case


class V2Question:
    """See `goldenloop.serving.dataplane.Question`."""

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


class V1Question:
    """See `goldenloop.serving.dataplane.Question`."""

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
